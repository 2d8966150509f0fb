"""Measures what a study asks and nobody recorded at states that lie on disk, without training.

A quantity that is added to a study, or a step at which it is asked, is measured where the state is kept; what has no
state is replayed by `run`. The rows are those that training would have written: a segment of no updates holds them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from core.errors import LoopsweepError, StoreError
from core.lineage import pack_shape
from core.observation import Asked, with_measure
from studies.coverage import Coverage, asked_of
from studies.expand import Trial
from studies.keys import probe_observed
from studies.store import Store
from sweeps.executor import Committed, Executor, Finished, LaneOutcome, Lost
from sweeps.observer import Notes, Observer
from sweeps.round import POLL_SECONDS, Limits
from sweeps.tables import plural
from sweeps.unit_rows import host, measured_rows, segment_row, state_of, unsound
from sweeps.units import Bundle, Lane, Unit, unit
from sweeps.worker import Context, Done

WORK = "sweeps.measuring:measure_unit"
PACK = 8
"""States of one unit: beyond, a measurement gains nothing on a CPU, and a lost one costs more."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What a study asks to measure and nobody recorded."""

    kept: tuple[Lane, ...]
    """At states that are there: one lane each, whose `measure` holds what is missing there."""
    gone: int
    """(lineage, step) that have none: training passes there again when the study is run."""


@dataclass(frozen=True, kw_only=True)
class MeasureResult:
    """How measuring ended."""

    measured: int
    """States that were measured."""
    lost: tuple[str, ...]
    """Reasons of those that were not, one line each."""
    gone: int
    """(lineage, step) that have no state on disk."""
    seconds: float


def missing(trials: Sequence[Trial], store: Store, coverage: Coverage | None = None) -> Missing:
    """What some trials ask to measure on recorded pasts, and is not recorded.

    Args:
        trials: with their criteria ended as the store's rows decide.
        store: what is recorded, and which states lie there.
        coverage: what is recorded, where that has been read already.
    """
    if not any(trial.config.measure.quantities for trial in trials):
        return Missing(kept=(), gone=0)
    coverage, states = Coverage(store.read("segments")) if coverage is None else coverage, store.states()
    kept: dict[tuple[str, int], Lane] = {}
    gone: set[tuple[str, int]] = set()
    for trial in trials:
        observation = trial.config.measure
        if not observation.quantities:
            continue
        for index, (link, asked) in enumerate(zip(trial.links, asked_of(trial), strict=True)):
            passed = coverage.passed(link)
            steps = [step for step in asked.measure if step <= passed]
            for step, quantities in coverage.unmeasured(link, steps, observation).items():
                there = step == 0 or states.has(link.lineage, step)
                if not there:
                    gone.add((link.lineage, step))
                    continue
                known = kept.get((link.lineage, step))
                before = () if known is None else known.config.measure.quantities
                names = tuple(dict.fromkeys((*before, *quantities)))
                kept[link.lineage, step] = Lane(
                    config=with_measure(trial.config, replace(observation, quantities=names)),
                    chain=trial.links[: index + 1],
                    start=step,
                    end=step,
                    asked=Asked(measure=(step,)),
                )
    return Missing(kept=tuple(kept.values()), gone=len(gone))


def measure_kept(
    found: Missing,
    executor: Executor,
    *,
    limits: Limits,
    observer: Observer,
    draining: Callable[[], bool] = lambda: False,
    at_once: Callable[[], bool] = lambda: False,
) -> MeasureResult:
    """Measures at the states that are there; what a worker loses is halved, and alone tried as often as `limits` say.

    Args:
        found: what to measure.
        executor: what runs it; it is not closed.
        limits: device, attempts, time-outs.
        observer: is told how far it is.
        draining: asked often: let running units end, begin no other?
        at_once: asked often: kill what runs?

    Raises:
        StoreError: rows could not be written.
    """
    begun, done, serial = time.monotonic(), 0, 0
    lost: list[str] = []
    notes = Notes(observer)
    open_: dict[str, Unit] = {}
    todo = _units(found.kept)
    if todo:
        observer.said(f"measuring curvature at {plural(len(found.kept), 'kept state')}")
    told = False
    while open_ or (todo and not draining()):
        if at_once():
            executor.stop(drain=False)
            break
        if draining() and not told:
            told = True
            observer.said("ending in good order: what is being measured ends; once more ends at once")
        while todo and not draining() and len(open_) < 2 * executor.slots:
            bundle = Bundle(
                id=f"m{(serial := serial + 1)}",
                units=(todo.pop(0),),
                device=limits.device,
                unit_timeout_s=limits.unit_timeout_s,
                work=WORK,
            )
            open_[bundle.id] = bundle.units[0]
            executor.submit(bundle)
        for event in executor.poll(POLL_SECONDS):
            if isinstance(event, Committed):
                done += sum(len(outcome.lanes) for outcome in event.outcomes)
                for outcome in event.outcomes:
                    notes.tell(outcome)
                observer.said(f"measured {done:,} of {plural(len(found.kept), 'kept state')}")
            elif isinstance(event, Finished):
                open_.pop(event.bundle, None)
            elif isinstance(event, Lost):
                todo += _again(open_.pop(event.bundle), event, limits, lost)
    return MeasureResult(measured=done, lost=tuple(lost), gone=found.gone, seconds=time.monotonic() - begun)


def _units(lanes: Sequence[Lane]) -> list[Unit]:
    """Packs: lanes of one shape, step and measurement."""
    alike: dict[object, list[Lane]] = defaultdict(list)
    for lane in lanes:
        alike[pack_shape(lane.config, lane.where), lane.start, probe_observed(lane.config.measure)].append(lane)
    return [unit(some[low : low + PACK]) for some in alike.values() for low in range(0, len(some), PACK)]


def _again(lost_unit: Unit, event: Lost, limits: Limits, lost: list[str]) -> list[Unit]:
    """What of a lost unit is tried again; what is given up is noted in `lost`."""
    if event.kind == "store":
        raise StoreError(event.reason)
    if len(lost_unit.lanes) > 1:
        return lost_unit.split()
    if lost_unit.attempt < limits.attempts:
        return [replace(lost_unit, attempt=lost_unit.attempt + 1)]
    lane = lost_unit.lanes[0]
    lost.append(f"state {lane.lineage} at step {lane.start} could not be measured: {event.reason}")
    return []


# --- in a worker ---------------------------------------------------------------------------------------------------


def measure_unit(lanes: Unit, context: Context) -> Done:
    """Measures the states of a unit; rows as training writes them, in a segment of no updates.

    Raises:
        LoopsweepError: a state is gone or damaged; it is removed, so that the next run replays it.
    """
    from core.curvature import Measured
    from core.remeasure import measure_states

    started_at, begun = datetime.now(UTC), time.monotonic()
    measured = []
    for lane in lanes.lanes:
        state = state_of(lane, context.store)
        if state is None:
            raise LoopsweepError(f"the state of {lane.lineage} at step {lane.start} is gone or damaged; run the study")
        measured.append(Measured(config=lane.config, chain=lane.chain, state=state))
    rows = measure_states(measured, device=context.device)
    seconds = (time.monotonic() - begun) / len(rows)
    tables: dict[str, list[dict[str, object]]] = defaultdict(list)
    for lane, found in zip(lanes.lanes, rows, strict=True):
        own = measured_rows(
            lane, curvature=[found.curvature], curves=found.curves, spectra=found.spectra, surfaces=found.surfaces
        )
        for table, more in own.items():
            tables[table] += more
        tables["segments"].append(
            segment_row(
                lane,
                status="ok",
                end=lane.end,
                reached=lane.end,
                measured=[lane.end],
                measured_s=seconds,
                attempts=lanes.attempt,
                pack_size=len(rows),
                spent_s=seconds,
                started_at=started_at,
                finished_at=datetime.now(UTC),
                error=None,
                **host(context.device),
            )
        )
    outcomes = tuple(LaneOutcome(status="ok", reached=lane.end) for lane in lanes.lanes)
    return Done(lanes=outcomes, rows=tables, notes=unsound(tables["curvature"]))
