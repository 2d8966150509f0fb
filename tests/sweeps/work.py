"""Work functions for tests of executors and the driver: what a unit may do to its worker.

A lane's seed says what happens: `POISON` is the trial that goes wrong.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.config import TrainConfig, TrialConfig
from core.lineage import links, trial_id, watch
from core.observation import Asked
from core.schedule_terms import ScheduleConfig
from studies.expand import Trial
from sweeps.executor import LaneOutcome
from sweeps.training import train_unit
from sweeps.unit_rows import segment_row
from sweeps.units import Bundle, Lane, Unit, unit
from sweeps.worker import Context, Done

POISON = 13


def config(seed: int = 0, *, steps: int = 20, kind: str = "single", switch: float = 0.5, **train: Any) -> TrialConfig:
    from core.config import ModelConfig
    from core.task_terms import MarkovTask

    return TrialConfig(
        task=MarkovTask(states=4, chains=2, length=8, train_size=64, val_size=16),
        model=ModelConfig(width=8, loops=2),
        train=TrainConfig(**{"steps": steps, "batch": 4, "evaluate_every": 10, **train}),
        schedule=ScheduleConfig(kind=kind, switch=switch),  # type: ignore[arg-type]
        seed=seed,
    )


def trial(seed: int = 0, *, arm: str | None = None, **terms: Any) -> Trial:
    return of_config(config(seed, **terms), arm)


def of_config(made: TrialConfig, arm: str | None = None) -> Trial:
    """The trial of a configuration, nothing of it decided yet."""
    return Trial(
        study="test",
        arm=arm or made.schedule.kind,
        role="compare",
        config=made,
        trial_id=trial_id(made),
        links=links(made),
        varied={},
        watch=watch(made),
    )


def lane(seed: int = 0, *, start: int = 0, end: int | None = None, **terms: Any) -> Lane:
    made = config(seed, **terms)
    last = made.train.steps if end is None else end
    steps = tuple(step for step in range(0, last + 1, 10) if step > start or step == start == 0)
    return Lane(
        config=made, chain=links(made)[:1], start=start, end=last, asked=Asked(steps), checkpoint=True, keep=True
    )


def bundle(name: str, *packs: Sequence[Lane], work: str = "noop", **terms: Any) -> Bundle:
    return Bundle(id=name, units=tuple(unit(lanes) for lanes in packs), work=f"tests.sweeps.work:{work}", **terms)


# --- what runs in workers ---------------------------------------------------------------------------------------------


def noop(unit: Unit, context: Context) -> Done:
    """Records every lane as ended ok, with made-up numbers."""
    return _done(unit, [lane.end for lane in unit.lanes])


def tells_process(unit: Unit, context: Context) -> Done:
    """Leaves a mark of the process that it runs in."""
    (Path(context.store.scratch("processes")) / str(os.getpid())).touch()
    return noop(unit, context)


def killed(unit: Unit, context: Context) -> Done:
    """The poisoned trial takes its worker with it."""
    if any(lane.config.seed == POISON for lane in unit.lanes):
        os.kill(os.getpid(), signal.SIGKILL)
    return noop(unit, context)


def killed_once(unit: Unit, context: Context) -> Done:
    """The poisoned trial takes its worker with it, the first time only."""
    mark = Path(context.store.scratch("killed-once")) / "mark"
    if not mark.exists():
        mark.touch()
        return killed(unit, context)
    return noop(unit, context)


def raises(unit: Unit, context: Context) -> Done:
    """The poisoned trial raises."""
    if any(lane.config.seed == POISON for lane in unit.lanes):
        raise ValueError("poisoned\ntrial")
    return noop(unit, context)


def greedy(unit: Unit, context: Context) -> Done:
    """Memory holds two lanes."""
    if len(unit.lanes) > 2:
        raise MemoryError
    return noop(unit, context)


def sleeps(unit: Unit, context: Context) -> Done:
    """The poisoned trial hangs."""
    if any(lane.config.seed == POISON for lane in unit.lanes):
        time.sleep(3600)
    return noop(unit, context)


def patient(unit: Unit, context: Context) -> Done:
    """Goes step by step until it is told to stop."""
    (Path(context.store.scratch("patient")) / unit.id).touch()
    step = unit.lanes[0].start
    while step < unit.lanes[0].end:
        time.sleep(0.02)
        step += 1
        context.progress(step, [float(step)] * len(unit.lanes))
        if context.stop(step):
            break
    return _done(unit, [step] * len(unit.lanes))


def diverges(unit: Unit, context: Context) -> Done:
    """The poisoned trial diverges after its first step."""
    poisoned = [lane.config.seed == POISON for lane in unit.lanes]
    reached = [lane.start + 1 if bad else lane.end for lane, bad in zip(unit.lanes, poisoned, strict=True)]
    return _done(unit, reached, ["diverged" if bad else "ok" for bad in poisoned])


def _done(unit: Unit, reached: Sequence[int], statuses: Sequence[str] | None = None) -> Done:
    now = datetime.now(UTC)
    rows = []
    statuses = statuses or ["ok"] * len(unit.lanes)
    for lane, last, status in zip(unit.lanes, reached, statuses, strict=True):
        rows.append(
            segment_row(
                lane,
                status=status,
                end=lane.end if status == "diverged" else last,
                reached=last,
                evaluated=[step for step in lane.asked.evaluate if step <= last],
                attempts=unit.attempt,
                error=None,
                pack_size=len(unit.lanes),
                started_at=now,
                finished_at=now,
            )
        )
    outcomes = tuple(
        LaneOutcome(status=status, reached=last)  # type: ignore[arg-type]
        for last, status in zip(reached, statuses, strict=True)
    )
    return Done(lanes=outcomes, rows={"segments": rows})


def stuck(unit: Unit, context: Context) -> Done:
    """Never begins, as if its state were gone for ever."""
    return Done(lanes=tuple(LaneOutcome(status="ok", reached=lane.start) for lane in unit.lanes), rows={})


def fails_at_32(unit: Unit, context: Context) -> Done:
    """Trains, but no lane beyond step 32."""
    if any(lane.end > 32 for lane in unit.lanes if lane.watches):
        raise ValueError("beyond step 32")
    return train_unit(unit, context)
