"""The worker function: runs the units of a bundle one after the other and commits what they found in groups.

Both executors call `run_bundle`, in a process of theirs that has called `prepare_process` first. Finished means
committed: a unit is reported only when its rows are durable. What a trial does (diverge) is a result; what goes wrong
with a unit (an exception, no memory) ends the bundle with `Lost`, after everything before it is committed. No torch:
work functions import it when they are called, and `prepare_process` does beforehand.

What one unit does is a *work function* ``(Unit, Context) -> Done``, named in the bundle: `sweeps.training.train_unit`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core.errors import StoreError
from core.numerics import Engine
from studies.store import Store
from sweeps.executor import Committed, Emit, Finished, LaneOutcome, Lost, LostKind, Outcome, Progress, Started
from sweeps.units import Bundle, Unit

if TYPE_CHECKING:
    pass

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
