"""What runs bundles: the protocol that every executor keeps, and the events it reports.

An executor takes bundles, gives each to one worker that calls `sweeps.worker.run_bundle`, and hands back events in the
order of each bundle. It keeps no durable state: what counts is what workers have committed to the store. Exactly one of
`Finished` and `Lost` ends a bundle. An executor never retries by itself: attempts are the driver's to count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from sweeps.units import Bundle

LostKind = Literal["failed", "timeout", "oom", "store"]
"""``store``: rows could not be written; no attempt counts, the run ends."""
Status = Literal["ok", "diverged", "failed", "timeout", "oom"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneOutcome:
    """How one lane ended.

    ``ok`` with `reached` short of its end: it was stopped and the rest is still to do; with `reached` at its start:
    it never began, since the state it was to begin from is gone and must be replayed.
    """

    status: Status
    reached: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A unit that was run and whose rows are durable."""

    unit: str
    lanes: tuple[LaneOutcome, ...]
    """One per lane of the unit, in order."""
    wall_s: float
    """Seconds the unit took."""
    notes: tuple[str, ...] = ()
    """What its work function has to say to the driver, for instance where an audit found other bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A worker begins a unit."""

    bundle: str
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A unit reached a step; sent at most a few times a second."""

    bundle: str
    unit: str
    step: int
    losses: tuple[float | None, ...]
    """Training loss by lane, None where a lane has diverged or has none yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """Units whose rows are durable in the store."""

    bundle: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The bundle ended: all that was run is committed. Units without an outcome were left alone (drained)."""

    bundle: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """The bundle ended early: its worker died, ran out of time or memory, or its work raised.

    The unit that was running (the last one `Started` without an outcome) pays an attempt; the others do not.
    """

    bundle: str
    kind: LostKind
    reason: str
    """One line."""


Event = Started | Progress | Committed | Finished | Lost
Emit = Callable[[Event], None]


class Executor(Protocol):
    """Runs bundles on workers; as a context manager it is closed at the end."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    @property
    def slots(self) -> int:
        """Bundles it can run at once."""

    def submit(self, bundle: Bundle) -> None:
        """Takes a bundle; returns at once, also where all workers are busy."""

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to `timeout` seconds for at least one."""

    def stop(self, *, drain: bool) -> None:
        """No new units begin. With `drain`, running units end at their next block and commit; else workers are killed.

        After a drain each bundle still ends with `Finished` or `Lost`; bundles that no worker had begun end with
        `Finished` and no outcome.
        """

    def close(self) -> None:
        """Ends the workers and frees everything; safe to call twice, and after `stop`."""
