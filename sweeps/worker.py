"""The worker function: runs the units of a bundle one after the other and commits what they found in groups.

Both executors call `run_bundle`, in a process of theirs that has called `prepare_process` first. Finished means
committed: a unit is reported only when its rows are durable. What a trial does (diverge) is a result; what goes wrong
with a unit (an exception, no memory) ends the bundle with `Lost`, after everything before it is committed. torch is
imported here only, when the first unit trains.

What one unit does is a *work function* ``(Unit, Context) -> Done``, named in the bundle: `train_unit` trains it.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core.errors import StoreError
from core.numerics import Engine
from studies.keys import observed, probe_observed
from studies.store import Store
from sweeps.executor import Committed, Emit, Finished, LaneOutcome, Lost, LostKind, Outcome, Progress, Started
from sweeps.units import Bundle, Lane, Unit

if TYPE_CHECKING:
    from core.checkpoint import TrialState
    from core.segments import LaneResult

COMMIT_UNITS = 64
COMMIT_SECONDS = 0.5
"""A record is published when so many units, or so much work, have piled up."""
AWAITED_SECONDS = 0.05
"""Likewise where others are to begin from what was finished."""
PROGRESS_SECONDS = 0.25
"""Least time between two `Progress` events of a worker."""

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows to commit, by table."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a work function gives back for one unit."""

    lanes: tuple[LaneOutcome, ...]
    """One per lane, in order."""
    rows: Rows
    notes: tuple[str, ...] = ()
    """For the driver; see `sweeps.executor.Outcome`."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a work function may use besides its unit."""

    store: Store
    device: str
    engine: Engine
    stop: Callable[[int], bool]
    """Asked with the step between blocks of steps: end the unit here?"""
    progress: Callable[[int, Sequence[float | None]], None]
    """Told, as often as it likes, the step and the training loss of each lane of the unit; None: it has none."""


Work = Callable[[Unit, Context], Done]


@dataclass
class _Pile:
    """Finished units whose rows are not committed yet."""

    store: Store
    bundle: str
    emit: Emit
    since: float
    outcomes: list[Outcome] = field(default_factory=list)
    tables: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def add(self, outcome: Outcome, rows: Rows, *, awaited: bool) -> None:
        self.outcomes.append(outcome)
        for table, more in rows.items():
            self.tables.setdefault(table, []).extend(more)
        seconds = time.monotonic() - self.since
        if len(self.outcomes) >= COMMIT_UNITS or seconds >= (AWAITED_SECONDS if awaited else COMMIT_SECONDS):
            self.flush()

    def flush(self) -> None:
        if any(self.tables.values()):
            self.store.commit({table: rows for table, rows in self.tables.items() if rows})
        if self.outcomes:
            self.emit(Committed(bundle=self.bundle, outcomes=tuple(self.outcomes)))
        self.outcomes, self.tables, self.since = [], {}, time.monotonic()


def prepare_process() -> None:
    """Pins the process to one thread and imports torch; before anything else in a worker process imports it."""
    from core.numerics import pin_threads

    pin_threads()
    importlib.import_module("core.train")


def run_bundle(bundle: Bundle, store: Path | str, emit: Emit, *, drain: Callable[[], bool] = lambda: False) -> None:
    """Runs the units of a bundle, in order, and commits what they found.

    Args:
        bundle: what to run.
        store: directory or address of the store, which exists.
        emit: takes the events: `Started`, `Progress`, `Committed`, and at the end one of `Finished` and `Lost`.
        drain: asked between blocks of steps; once true, the running unit ends there, is committed, and no other begins.
    """
    try:
        opened = Store.open(store)
        work = resolve(bundle.work)
        pile = _Pile(opened, bundle.id, emit, time.monotonic())
        for unit in bundle.units:
            if drain():
                break
            emit(Started(bundle=bundle.id, unit=unit.id))
            begun = time.monotonic()
            try:
                done = work(unit, _context(bundle, unit, opened, emit, drain))
            except StoreError:
                raise
            except Exception as error:
                pile.flush()
                emit(Lost(bundle=bundle.id, kind=kind_of(error), reason=reason_of(error)))
                return
            seconds = time.monotonic() - begun
            awaited = any(lane.watches or (lane.checkpoint and not lane.keep) for lane in unit.lanes)
            outcome = Outcome(unit=unit.id, lanes=done.lanes, wall_s=seconds, notes=done.notes)
            pile.add(outcome, done.rows, awaited=awaited)
        pile.flush()
    except (StoreError, OSError) as error:
        emit(Lost(bundle=bundle.id, kind="store", reason=reason_of(error)))
        return
    emit(Finished(bundle=bundle.id))


def resolve(name: str) -> Work:
    """The work function ``module:function``."""
    module, _, function = name.partition(":")
    return cast(Work, getattr(importlib.import_module(module), function))


def kind_of(error: BaseException) -> LostKind:
    """``oom`` for whatever says that memory ran out, on the host or on a device; else ``failed``."""
    text = str(error).lower()
    out = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return "oom" if out or "out of memory" in text or "can't allocate memory" in text else "failed"


def reason_of(error: BaseException) -> str:
    """An exception in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _context(bundle: Bundle, unit: Unit, store: Store, emit: Emit, drain: Callable[[], bool]) -> Context:
    deadline = time.monotonic() + bundle.checkpoint_seconds
    last = time.monotonic()

    def stop(_step: int) -> bool:
        return drain() or time.monotonic() >= deadline

    def progress(step: int, losses: Sequence[float | None]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last = now
            emit(Progress(bundle=bundle.id, unit=unit.id, step=step, losses=tuple(losses)))

    return Context(store=store, device=bundle.device, engine=bundle.engine, stop=stop, progress=progress)


# --- training --------------------------------------------------------------------------------------------------------


def train_unit(unit: Unit, context: Context) -> Done:
    """Trains the lanes of a unit in one pack; saves the states that are asked for, gives back the rows.

    A lane whose state to begin from is gone does not begin: its outcome has `reached` at its start.
    """
    from core.segments import Segment
    from core.train import train_segments

    started_at, begun = datetime.now(UTC), time.monotonic()
    states = [state_of(lane, context.store) for lane in unit.lanes]
    ready = [(lane, state) for lane, state in zip(unit.lanes, states, strict=True) if state is not None]
    if not ready:
        return Done(lanes=tuple(LaneOutcome(status="ok", reached=lane.start) for lane in unit.lanes), rows={})
    segments = [
        Segment(
            config=lane.config,
            chain=lane.chain,
            start=lane.start,
            end=lane.end,
            evaluate=lane.asked.evaluate,
            measure=lane.asked.measure,
            check=lane.asked.check,
            watches=lane.watches,
            seen=lane.seen,
            needed=lane.end if lane.needed else lane.start,
        )
        for lane, _ in ready
    ]

    def keep(index: int, state: TrialState) -> None:
        lane = ready[index][0]
        if state.step == lane.end and (lane.checkpoint or lane.end == lane.config.train.steps):
            return  # saved as the lane's end, or nothing comes after it
        context.store.save_state(state, passing=lane.config.train.keep != "all")

    def progress(step: int, losses: Sequence[float | None]) -> None:
        of_ready = iter(losses)
        context.progress(step, [None if state is None else next(of_ready) for state in states])

    results = iter(
        train_segments(
            segments,
            [state for _, state in ready],
            device=context.device,
            engine=context.engine,
            stop=context.stop,
            progress=progress,
            keep=keep,
        )
    )
    facts = {
        "attempts": unit.attempt,
        "pack_size": len(ready),
        "spent_s": (time.monotonic() - begun) / len(ready),
        "started_at": started_at,
        "finished_at": datetime.now(UTC),
        "error": None,
        **host(context.device, context.engine),
    }
    tables: dict[str, list[Mapping[str, Any]]] = {}
    outcomes = []
    for lane, state in zip(unit.lanes, states, strict=True):
        if state is None:
            outcomes.append(LaneOutcome(status="ok", reached=lane.start))
            continue
        result = next(results)
        _save(lane, result, context.store)
        if lane.record:
            for table, rows in _rows(lane, result, facts).items():
                tables.setdefault(table, []).extend(rows)
        outcomes.append(LaneOutcome(status=_status(result), reached=result.reached))
    return Done(lanes=tuple(outcomes), rows=tables, notes=unsound(tables.get("curvature", ())))


def unsound(curvature: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One line for each measurement that gave no number at all, as where Hessian products are wrong."""
    return tuple(
        f"curvature of {row['lineage']} at step {row['step']} has no numbers: {next(iter(row['method'].values()))}"
        for row in curvature
        if row["method"] and all(" failed: " in method for method in row["method"].values())
    )


def state_of(lane: Lane, store: Store) -> TrialState | None:
    """The state a lane begins from; None where the store has none, or only a damaged one."""
    from core.train import initial_state

    return initial_state(lane.config) if lane.origin is None else store.load_state(*lane.origin)


def _save(lane: Lane, result: LaneResult, store: Store) -> None:
    """Saves the state that somebody begins from: the end where that is asked, or wherever the lane was stopped."""
    if result.status != "ok":
        return
    if lane.start < result.reached < lane.end:
        store.save_state(result.state, passing=True)
    elif result.reached == lane.end and lane.checkpoint:
        store.save_state(result.state, passing=not lane.keep)


def _status(result: LaneResult) -> Any:
    return "diverged" if result.status == "diverged" else "ok"


def _rows(lane: Lane, result: LaneResult, facts: Mapping[str, Any]) -> Rows:
    """The rows of one lane; none where it was stopped before its first step."""
    if result.status == "ok" and result.reached == lane.start:
        return {}
    lineage = lane.lineage
    end = lane.end if result.status == "diverged" else result.reached
    probe = probe_observed(lane.config.measure)
    segment = segment_row(
        lane,
        status=result.status,
        end=end,
        reached=result.reached,
        evaluated=[row["step"] for row in result.metrics],
        measured=[row["step"] for row in result.curvature],
        checked=[row["step"] for row in result.checks],
        measured_s=result.measured_s,
        **facts,
    )
    return {
        "segments": [segment],
        "metrics": [{"lineage": lineage, **row} for row in result.metrics],
        "curvature": [{"lineage": lineage, "observed": probe, **row} for row in result.curvature],
        "curves": [{"lineage": lineage, "observed": probe, **row} for row in result.curves],
        "spectra": [{"lineage": lineage, "observed": probe, **row} for row in result.spectra],
        "surfaces": [{"lineage": lineage, "observed": probe, **row} for row in result.surfaces],
        "events": [{"lineage": lineage, **row} for row in result.events],
        "checks": [{"lineage": lineage, **row} for row in result.checks],
    }


def segment_row(
    lane: Lane,
    *,
    status: str,
    end: int,
    reached: int,
    evaluated: Sequence[int] = (),
    measured: Sequence[int] = (),
    checked: Sequence[int] = (),
    **facts: Any,
) -> dict[str, Any]:
    """The row of table segments for a lane that ended at `end` with `status`; `facts` are its execution columns."""
    return {
        "lineage": lane.lineage,
        "start": lane.start,
        "end": end,
        "observed": observed(lane.asked.within(0, end), lane.config.measure),
        "reached": reached,
        "status": status,
        "evaluated": list(evaluated),
        "measured": list(measured),
        "checked": list(checked),
        "generation": lane.generation,
        **facts,
    }


@cache
def host(device: str, engine: Engine = "eager") -> dict[str, Any]:
    """What is the same for all rows of this process."""
    from core.numerics import numerics_class, provenance

    return {
        "numerics_class": numerics_class(device, engine),
        "provenance": json.dumps(provenance(device), sort_keys=True),
    }
