"""Several drivers on one store: each says what it runs, and leaves what others run for later.

A driver publishes one small file (`sweeps.hold`): what it runs, and what it has recorded in the last `RAN_S`, for who
planned before that does not know it. It is overwritten whenever that changes and at the latest after `RENEW_S`, and
removed when the driver ends. Nothing rests on it: results are recorded exactly once whoever runs what, so a hold
that is wrong, torn, foreign or stale costs repeated work or a bounded wait, and never a result.

Whether a holder lives is judged without comparing clocks. An observer notes when, by its own monotonic clock, it first
saw the content that is there; what stays the same for `EXPIRE_S` has expired, and is removed. A holder on the
observer's machine whose process is gone has expired at once. However often it is renewed, a stretch counts for
`LONGEST_S` at most: a unit ends long before.

A driver holds what its executor has, never what it waits for: so two can't wait for each other. Of two that publish
one stretch in the same moment, the one with the lesser name keeps it.

Files cost requests where the store is far away: they are written and looked at in a tenth of the driver's time at
most. What is begun beyond that is announced late, and may be repeated.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType

from core.errors import StoreError
from studies.store import Store
from sweeps.hold import TIME, Hold, Stretches, by_lineage, hold_bytes, host_name, process_space, read_hold
from sweeps.units import Lane

RENEW_S = 30.0
EXPIRE_S = 120.0
LONGEST_S = 4 * 3600.0
SHARE = 0.1
BURST_S = 1.0
"""Files of holds take this share of a driver's time at most, and so many seconds at once."""
LOOK_S = 5.0
"""After so long a driver looks at what others hold, though it has nothing to begin."""
RAN_S = 60.0
RAN_MOST = 20_000
"""So long, and so many of the last, what was recorded is told: several times as long as others take to look."""
SHOWN_S = 300.0


Running = Callable[[], Iterable[Lane]]
"""Asked only where a file is written: there may be many."""

Key = tuple[str, int, int]
"""A stretch of a lineage: (lineage, start, end)."""


@dataclass(slots=True)
class _Seen:
    """What an observer has seen of one file."""

    data: bytes
    hold: Hold | None
    at: float
    """When this content was first seen, by the observer's clock."""
    runs: Mapping[Key, float]
    """When each stretch that runs was first seen in this driver's hold."""
    ran: Mapping[Key, float]
    """Likewise those that were recorded."""


class Holds:
    """What one driver holds, and its view of the others. Use as a context: at the end nothing is held any more."""

    def __init__(
        self,
        store: Store,
        *,
        driver: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        renew_s: float = RENEW_S,
        expire_s: float = EXPIRE_S,
    ) -> None:
        """Nothing is held, nothing has been seen yet.

        Args:
            store: that the drivers share.
            driver: this one's name, 16 hexadecimal digits; default: drawn.
            clock: monotonic, in seconds.
            pause: lets so many seconds of it pass, where there is nothing to do but to wait for others.
            renew_s: after which an unchanged hold is written again.
            expire_s: after which the unchanged hold of another driver counts no more; several times `renew_s`.
        """
        self.driver = driver or secrets.token_hex(8)
        self._store = store
        self._clock = clock
        self.pause = pause
        self._renew_s = renew_s
        self._expire_s = expire_s
        self._since = _now()
        self._beat = 0
        self._written = -float("inf")
        self._dirty = False
        self._spent, self._filled = 0.0, clock()
        self._ran: deque[tuple[float, Key]] = deque(maxlen=RAN_MOST)
        self._seen: dict[str, _Seen] = {}
        self._live: tuple[Hold, ...] = ()
        self._planned = -float("inf")
        self._news: set[Key] = set()
        self._news_of: Stretches = {}
        self._looked = -float("inf")
        self._behind = False

    def __enter__(self) -> Holds:
        """The holds of a driver that begins."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Releases all that is held."""
        if self._beat:
            with suppress(StoreError):  # it expires by itself
                self._store.remove_hold(self.driver)

    # --- what this driver holds ---

    def changed(self) -> None:
        """What this driver runs is not what it has published any more."""
        self._dirty = True

    def recorded(self, lane: Lane, reached: int) -> None:
        """A lane has been recorded as far as a step."""
        self._ran.append((self._clock(), (lane.lineage, lane.start, reached)))
        self._dirty = True

    def planning(self) -> None:
        """This driver is about to read from the store what is recorded: it need not be told any more."""
        self._planned, self._news, self._behind = self._clock(), set(), False
        self._news_of = {}

    def agree(self, wanted: Sequence[Lane], running: Running, needs: Collection[str]) -> list[Lane]:
        """Of lanes that this driver would run, those that others hold, or have recorded since it planned.

        The rest is held from now on.

        Args:
            wanted: lanes.
            running: gives those that its executor has.
            needs: lineages with passing states from which it is to begin.
        """
        self._dirty = True
        if not self._affordable:
            return [lane for lane in wanted if self._theirs(lane)]
        with self._timed():
            self._look()
            left = [lane for lane in wanted if self._theirs(lane)]
            theirs = {id(lane) for lane in left}
            mine = [lane for lane in wanted if id(lane) not in theirs]
            if mine:
                self._publish([*running(), *mine], needs)
                self._look()  # of two that have published in one moment, at least one sees the other
                late = [lane for lane in mine if self.other(lane, before=self.driver) is not None]
                self._dirty = bool(late)
                left += late
            return left

    def renew(self, running: Running, needs: Collection[str]) -> None:
        """Publishes what this driver runs, where that has changed or has been said too long ago; see `agree`."""
        late = self._clock() - self._written >= self._renew_s
        if self._affordable and (self._dirty or late):
            with self._timed():
                self._publish(running(), needs)

    def _publish(self, lanes: Iterable[Lane], needs: Collection[str]) -> None:
        self._beat += 1
        while self._ran and self._clock() - self._ran[0][0] >= RAN_S:
            self._ran.popleft()
        hold = Hold(
            driver=self.driver,
            host=host_name(),
            space=process_space(),
            pid=os.getpid(),
            since=self._since,
            at=_now(),
            beat=self._beat,
            runs=by_lineage((lane.lineage, lane.start, lane.end) for lane in lanes),
            ran=by_lineage(key for _, key in self._ran),
            needs=frozenset(needs),
        )
        self._store.write_hold(self.driver, hold_bytes(hold))
        self._written, self._dirty = self._clock(), False

    # --- what others hold ---

    def look(self, *, every: float = 0.0) -> None:
        """Looks at what others hold, unless that has cost too much time: then what was seen last stands.

        Args:
            every: seconds that must have passed since the last look.
        """
        if self._affordable and self._clock() - self._looked >= every:
            with self._timed():
                self._look()

    def _look(self) -> None:
        found = self._store.holds()
        now, last = self._clock(), max(self._looked, self._planned)
        self._looked = now
        live, before = [], {hold.driver for hold in self._live}
        self._seen = {name: self._see(name, data, now) for name, data in found.items() if name != self.driver}
        for name, seen in self._seen.items():
            if now - seen.at >= self._expire_s or (seen.hold is not None and seen.hold.gone):
                self._store.remove_hold(name)
                before.discard(name)
            elif seen.hold is not None:
                live.append(seen.hold)
        self._live = tuple(sorted(live, key=lambda hold: hold.driver))
        self._behind |= not before <= {hold.driver for hold in live} or (bool(live) and now - last >= RAN_S)
        self._news.update(
            key for seen in self._seen.values() for key, first in seen.ran.items() if first >= self._planned
        )
        self._news_of = by_lineage(self._news)

    def _see(self, name: str, data: bytes, now: float) -> _Seen:
        before = self._seen.get(name)
        if before is not None and before.data == data:
            return before
        hold = read_hold(name, data)
        if hold is None:
            return _Seen(data, None, now, {}, {})
        runs, ran = ({}, {}) if before is None else (before.runs, before.ran)
        return _Seen(data, hold, now, _first_seen(hold.runs, runs, now), _first_seen(hold.ran, ran, now))

    @property
    def behind(self) -> bool:
        """Whether others may have recorded, since this driver planned, what they don't tell any more."""
        return self._behind

    def _theirs(self, lane: Lane) -> bool:
        """Whether another driver runs a part of a lane, or has recorded one since this one planned."""
        news = self._news_of.get(lane.lineage, ())
        return self.other(lane) is not None or any(start < lane.end and lane.start < end for start, end in news)

    def other(self, lane: Lane, *, before: str | None = None) -> Hold | None:
        """The live hold of another driver on a part of a lane, as last seen; None where nobody holds it.

        Args:
            lane: that this driver would run.
            before: only of drivers with lesser names.
        """
        for hold in self._live:
            if before is not None and hold.driver >= before:
                return None
            if hold.holds(lane.lineage, lane.start, lane.end) and not self._too_long(hold, lane):
                return hold
        return None

    def _too_long(self, hold: Hold, lane: Lane) -> bool:
        """Whether what a hold says of a lane was seen for longer than any unit runs."""
        first, now = self._seen[hold.driver].runs, self._clock()
        touched = [s for s in hold.runs[lane.lineage] if s[0] < lane.end and lane.start < s[1]]
        return all(now - first[lane.lineage, start, end] >= LONGEST_S for start, end in touched)

    @property
    def shared(self) -> bool:
        """Whether another driver was there when last looked."""
        return bool(self._live)

    @property
    def needed(self) -> set[str]:
        """Lineages whose passing states others may begin from, or save: they are left to them."""
        return {lineage for hold in self._live for lineage in (*hold.needs, *hold.runs)}

    def needs(self, lineage: str) -> bool:
        """Whether a lineage is among those."""
        return any(lineage in hold.needs or lineage in hold.runs for hold in self._live)

    # --- cost ---

    @property
    def _affordable(self) -> bool:
        """Whether files have taken less than `SHARE` of the time, but for `BURST_S`: one slow answer is no reason."""
        return self._spent - SHARE * (self._clock() - self._filled) < BURST_S

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = self._clock()
        yield
        ended = self._clock()
        self._spent = max(0.0, self._spent - SHARE * (begun - self._filled)) + ended - begun
        self._filled = ended


def _first_seen(found: Stretches, known: Mapping[Key, float], now: float) -> dict[Key, float]:
    keys = ((lineage, start, end) for lineage, stretches in found.items() for start, end in stretches)
    return {key: known.get(key, now) for key in keys}


def current(store: Store, *, now: datetime) -> list[Hold]:
    """What drivers run now, for people: as far as their clocks and ours agree to `SHOWN_S`.

    Args:
        store: of the drivers.
        now: the time, UTC.
    """
    found = (read_hold(driver, data) for driver, data in store.holds().items())
    live = (hold for hold in found if hold is not None and not hold.gone)
    return [hold for hold in live if abs((now - hold.written).total_seconds()) <= SHOWN_S]


def _now() -> str:
    return datetime.now(UTC).strftime(TIME)
