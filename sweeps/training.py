"""The work function that trains a unit: its lanes in one pack, their states saved, their rows given back.

What a trial does (diverge) is a result. Of a lane that was stopped the rows so far are recorded, and its state is kept
so that another unit goes on from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from studies.store import Store
from sweeps.executor import LaneOutcome
from sweeps.unit_rows import host, measured_rows, segment_row, state_of, unsound
from sweeps.units import Lane, Unit
from sweeps.worker import Context, Done, Rows

if TYPE_CHECKING:
    from core.checkpoint import TrialState
    from core.segments import LaneResult


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
    end = lane.end if result.status == "diverged" else result.reached
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
    unmeasured = {"metrics": result.metrics, "events": result.events, "checks": result.checks}
    return {
        "segments": [segment],
        **{table: [{"lineage": lane.lineage, **row} for row in found] for table, found in unmeasured.items()},
        **measured_rows(
            lane,
            curvature=result.curvature,
            curves=result.curves,
            spectra=result.spectra,
            surfaces=result.surfaces,
        ),
    }
