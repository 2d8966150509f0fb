"""What is recorded: for a stretch of a lineage, and for the whole chain of a trial.

The table segments alone tells it. A stretch is *complete* where segments lead without a gap from its beginning to
its end (or to the step at which one diverged) and every step asked for was evaluated, checked, or measured with the
settings asked for. A failure counts only where rows are missing, and only if no later generation was tried there.

Most stretches match one segment exactly; that is looked up first, so that 10^5 chains take about a second.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from core.config import MeasureConfig
from core.lineage import Link
from core.observation import Asked, evaluation_grid, measurement_grid
from core.quantities import settings
from core.schedule import Watch
from studies.records import first_step
from studies.schemas import FAILURES

if TYPE_CHECKING:
    from studies.expand import Trial

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """What is recorded of a stretch of a lineage."""

    status: str | None
    """None where something asked is missing; else ok, diverged, failed, timeout or oom."""
    covered: int
    """Last step up to which all that is asked is recorded; the stretch's start where nothing is."""
    reached: int
    """Last step that segments lead to without a gap, whatever was observed on the way."""
    last: int
    """Last step that must be passed again (or at all): the stretch's end where training has not ended, else the last
    step at which something asked is missing; the stretch's start where nothing is."""
    generation: int
    """Highest generation among `rows`, 0 without any."""
    rows: tuple[int, ...]
    """Indices into the table of segments: those that lie on the stretch, in order of their start."""


class Coverage:
    """Answers from one reading of the table segments."""

    def __init__(self, segments: pa.Table, *, assumed: Mapping[str, Collection[int]] | None = None) -> None:
        """Of the rows of the table segments, in any order.

        Args:
            segments: the rows.
            assumed: by lineage, steps that count as measured whatever is recorded, since their states are there to be.
        """
        self._assumed = assumed or {}
        self._table = segments
        order = np.argsort(segments["start"].to_numpy(), kind="stable")
        self._start: list[int] = segments["start"].to_pylist()
        self._end: list[int] = segments["end"].to_pylist()
        self._reached: list[int] = segments["reached"].to_pylist()
        self._status: list[str] = segments["status"].to_pylist()
        self._generation: list[int] = [g or 0 for g in segments["generation"].to_pylist()]
        self._observed: list[str] = segments["observed"].to_pylist()
        self._evaluated = _step_sets(segments["evaluated"])
        self._measured = _step_sets(segments["measured"])
        self._checked = _step_sets(segments["checked"])
        self._of: dict[str, list[int]] = {}
        self._lineage: list[str] = segments["lineage"].to_pylist()
        for row in order.tolist():
            self._of.setdefault(self._lineage[row], []).append(row)

    # --- a stretch of a lineage ---

    def link(self, link: Link, asked: Asked, observation: MeasureConfig | None = None) -> LinkState:
        """What is recorded of a link, or of any stretch cut from one.

        Args:
            link: the stretch: rows of the steps in (start, end] are its own, and of step 0 where it starts there.
            asked: steps at which something is asked; those outside the stretch are left out.
            observation: the quantities and their settings that ``asked.measure`` asks for; None asks for none.
        """
        rows = self._of.get(link.lineage)
        if rows is None:
            return _nothing(link)
        evaluate = _within(asked.evaluate, link.start, link.end)
        probed = _within(asked.measure, link.start, link.end) if observation is not None else frozenset()
        checks = _within(asked.check, link.start, link.end)
        if len(rows) == 1 and not probed and not checks:
            row = rows[0]
            exact = self._start[row] == link.start and self._end[row] == self._reached[row] == link.end
            if exact and self._status[row] == "ok" and evaluate <= self._evaluated[row]:
                return LinkState(
                    status="ok",
                    covered=link.end,
                    reached=link.end,
                    last=link.start,
                    generation=self._generation[row],
                    rows=(row,),
                )
        return self._link(link, rows, (evaluate, probed, checks), observation)

    def _link(
        self,
        link: Link,
        rows: Sequence[int],
        asked: tuple[frozenset[int], frozenset[int], frozenset[int]],
        observation: MeasureConfig | None,
    ) -> LinkState:
        """The general case of `link`."""
        rows = [row for row in rows if self._touches(row, link)]
        live = [row for row in rows if not self._superseded(row, rows)]
        reached = link.start
        for row in live:
            if self._status[row] not in FAILURES and self._start[row] <= reached:
                reached = max(reached, self._reached[row])
        diverged = any(
            self._status[row] == "diverged" and self._start[row] <= reached == self._reached[row] for row in live
        )
        reached = min(reached, link.end)
        missing = self._missing(rows, asked, observation)
        passed = [step for step in missing if step <= reached]
        first = min(passed, default=None)
        last = max(passed, default=link.start) if diverged or reached == link.end else link.end
        covered = reached
        if first is not None:
            covered = max(link.start, first - 1)
        status: str | None = None
        if first is None and reached == link.end:
            status = "ok"
        elif first is None and diverged:
            status = "diverged"
        else:
            wanted = covered + 1 if first is None else first  # step 0 belongs to a segment that starts there
            failures = (row for row in live if self._status[row] in FAILURES)
            failed = [r for r in failures if first_step(self._start[r], self._end[r]) <= wanted <= self._end[r]]
            if failed:
                status = self._status[max(failed, key=lambda row: self._generation[row])]
        generation = max((self._generation[row] for row in rows), default=0)
        return LinkState(
            status=status, covered=covered, reached=reached, last=last, generation=generation, rows=tuple(rows)
        )

    def _touches(self, row: int, link: Link) -> bool:
        """Whether a segment shares steps with a stretch; one of no updates (a later measurement) has its one step."""
        return first_step(self._start[row], self._end[row]) <= link.end and self._end[row] >= first_step(
            link.start, link.end
        )

    def _superseded(self, row: int, rows: Iterable[int]) -> bool:
        """Whether a later generation was tried where this segment did not end ok."""
        if self._status[row] == "ok":
            return False
        start, end, generation = self._start[row], self._end[row], self._generation[row]
        return any(
            self._generation[other] > generation and self._start[other] < end and self._end[other] > start
            for other in rows
        )

    def _missing(
        self,
        rows: Iterable[int],
        asked: tuple[frozenset[int], frozenset[int], frozenset[int]],
        observation: MeasureConfig | None,
    ) -> set[int]:
        """Steps asked for at which no row was written."""
        rows = list(rows)
        evaluate, probed, checks = asked
        missing = set(evaluate)
        for row in rows:
            missing -= self._evaluated[row]
        missing |= checks.difference(*(self._checked[row] for row in rows))
        if observation is not None and probed:
            for quantity in observation.quantities:
                wanted = settings(observation, quantity)
                there: set[int] = set()
                for row in rows:
                    there.update(self._assumed.get(self._lineage[row], ()))
                    if _settings(self._observed[row]).get(quantity) == wanted:
                        there |= self._measured[row]
                missing |= probed - there
        return missing

    def passed(self, link: Link) -> int:
        """The last step to which training has come on a link; -1 where it has not begun."""
        rows = (row for row in self._of.get(link.lineage, ()) if self._touches(row, link))
        return max((self._reached[row] for row in rows if self._status[row] not in FAILURES), default=-1)

    def unmeasured(self, link: Link, steps: Iterable[int], observation: MeasureConfig) -> dict[int, tuple[str, ...]]:
        """Of some steps on a link: by step, the quantities that are not recorded there; no entry where all are."""
        rows = [row for row in self._of.get(link.lineage, ()) if self._touches(row, link)]
        asked: tuple[frozenset[int], frozenset[int], frozenset[int]] = (frozenset(), frozenset(steps), frozenset())
        found: dict[int, list[str]] = {}
        for name in observation.quantities:
            for step in self._missing(rows, asked, replace(observation, quantities=(name,))):
                found.setdefault(step, []).append(name)
        return {step: tuple(names) for step, names in sorted(found.items())}

    # --- the chain of a trial ---

    def chain(self, trial: Trial, *, measured: bool = True) -> ChainState:
        """What is recorded of a whole trial: ok only if every link is; else how the first that is not ok ended.

        Args:
            trial: with as many criteria ended as rows decide.
            measured: whether what it asks to measure counts; False looks at its training alone.
        """
        if not any(link.lineage in self._of for link in trial.links):
            return ChainState(coverage=self, status=None, links=tuple(map(_nothing, trial.links)))
        observation = trial.config.measure if measured and trial.config.measure.quantities else None
        states: list[LinkState] = []
        status: str | None = "ok"
        for link, asked in zip(trial.links, asked_of(trial), strict=True):
            state = self.link(link, asked, observation)
            states.append(state)
            if status == "ok":
                status = state.status
        if status == "ok" and trial.watch is not None:  # what comes after is not known yet
            status = None
        return ChainState(coverage=self, status=status, links=tuple(states))

    def lacks_measurements(self, trial: Trial) -> bool:
        """Whether a trial is trained and evaluated, and lacks nothing but measurements."""
        if not trial.config.measure.quantities or self.chain(trial).status is not None:
            return False
        return self.chain(trial, measured=False).status in ("ok", "diverged")

    def used(self, rows: Sequence[int], asked: Asked) -> tuple[int, ...]:
        """Of segments on a stretch, those that serve it, in the order in which they were run.

        One that was run later over updates that were made before serves by what it observed first among what is
        asked; another study may have wanted it, and then it is none of this one's cost. Failures are.
        """
        if len(rows) < 2:
            return tuple(rows)
        found = []
        reached, seen = -1, set[Any]()
        for row in sorted(rows, key=lambda row: (self._generation[row], self.value("started_at", row) or 0, row)):
            brings: set[Any] = {("evaluate", step) for step in self._evaluated[row].intersection(asked.evaluate)}
            brings |= {("check", step) for step in self._checked[row].intersection(asked.check)}
            brings |= {(self._observed[row], step) for step in self._measured[row].intersection(asked.measure)}
            if self._reached[row] > reached or not brings <= seen or self._status[row] in FAILURES:
                found.append(row)
            reached, seen = max(reached, self._reached[row]), seen | brings
        return tuple(found)

    def value(self, column: str, row: int) -> Any:
        """A value of the table segments."""
        return self._column(column)[row]

    def _column(self, name: str) -> list[Any]:
        column = self._columns.get(name)
        if column is None:
            values = self._table[name]
            if pa.types.is_timestamp(values.type):
                values = values.cast(pa.int64())
            column = self._columns[name] = values.to_pylist()
        return column

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {}


@dataclass(frozen=True, kw_only=True)
class ChainState:
    """What is recorded of a trial's chain, link by link."""

    coverage: Coverage
    status: str | None
    """None where something is missing; else ok, diverged, failed, timeout or oom."""
    links: tuple[LinkState, ...]

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Indices of all segments on the chain."""
        return tuple(row for link in self.links for row in link.rows)

    @property
    def covered(self) -> int:
        """Last step of the trial up to which all that is asked is recorded."""
        covered = 0
        for link in self.links:
            covered = link.covered
            if link.status != "ok":
                break
        return covered

    @property
    def reached(self) -> int:
        """Last step of the trial to which segments lead without a gap."""
        reached = 0
        for link in self.links:
            reached = max(reached, link.reached)
            if link.status != "ok":
                break
        return reached

    @property
    def error(self) -> str | None:
        """The reason of the failure that the status names."""
        if self.status not in FAILURES:
            return None
        values = (self.coverage.value("error", r) for r in self.rows if self.coverage.value("status", r) == self.status)
        return next((value for value in values if value), None)

    @property
    def attempts(self) -> int:
        """The most tries that any part of the chain took; 0 where nothing is recorded."""
        return max((self.coverage.value("attempts", row) or 1 for row in self.rows), default=0)

    @property
    def numerics_classes(self) -> tuple[str, ...]:
        """The numerics classes in which it ran, sorted; one where all is well."""
        values = {self.coverage.value("numerics_class", row) for row in self.rows}
        return tuple(sorted(value for value in values if value))

    @property
    def started_at(self) -> datetime | None:
        """When the first unit that it needed began."""
        return _instant(min, (self.coverage.value("started_at", row) for row in self.rows))

    @property
    def finished_at(self) -> datetime | None:
        """When the last unit that it needed ended."""
        return _instant(max, (self.coverage.value("finished_at", row) for row in self.rows))


def _nothing(link: Link) -> LinkState:
    """Of a stretch of which nothing is recorded."""
    return LinkState(status=None, covered=link.start, reached=link.start, last=link.end, generation=0, rows=())


def _instant(choose: Any, micros: Iterable[int | None]) -> datetime | None:
    known = [value for value in micros if value is not None]
    return _EPOCH + timedelta(microseconds=choose(known)) if known else None


def asked_of(trial: Trial) -> tuple[Asked, ...]:
    """By link of a trial: what it asks for there."""
    spans = tuple([(link.start, link.end) for link in trial.links])
    config = trial.config
    return _asked(spans, config.train.steps, config.train.evaluate_every, config.measure, trial.watch)


@lru_cache(maxsize=4096)
def _asked(
    spans: tuple[tuple[int, int], ...], steps: int, every: int, measure: MeasureConfig, watch: Watch | None
) -> tuple[Asked, ...]:
    """By all that decides them, which most trials of a grid share."""
    whole = Asked(
        tuple(evaluation_grid(steps, every, [end for _, end in spans])),
        tuple(measurement_grid(steps, measure)),
        () if watch is None else tuple(watch.criterion.grid(watch.start)),
    )
    return tuple(whole.within(first_step(start, end), end) for start, end in spans)


@lru_cache(maxsize=65536)
def _within(steps: tuple[int, ...], start: int, end: int) -> frozenset[int]:
    """The steps whose rows belong to a stretch."""
    first = first_step(start, end)
    return frozenset(step for step in steps if first <= step <= end)


@lru_cache(maxsize=4096)
def _settings(observed: str) -> Mapping[str, Mapping[str, Any]]:
    """By quantity, the settings with which a segment measured it, from its column `observed`."""
    measured: dict[str, dict[str, Any]] = json.loads(observed).get("measured", {})
    return measured


def _step_sets(column: Any) -> list[frozenset[int]]:
    """Lists of steps as sets; equal lists are one set, since the lineages of a grid look alike."""
    lists = column.combine_chunks()
    values = lists.values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_pylist()
    known: dict[bytes, frozenset[int]] = {}
    sets = []
    for low, high in pairwise(offsets):
        key = values[low:high].tobytes()
        found = known.get(key)
        if found is None:
            found = known[key] = frozenset(values[low:high].tolist())
        sets.append(found)
    return sets
