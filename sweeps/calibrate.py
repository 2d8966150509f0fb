"""Measures how long a step of a pack takes, by pack size: the work function behind ``--pack auto``.

A unit of n lanes is not trained but timed: as packs of 1, 2, 4, … of its lanes, for a fraction of a second each. Packs
grow until a trial was dearer twice in a row. The time at size 1 is always measured: cost alone is stated from it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from core.numerics import Engine
from studies.keys import shape_key
from sweeps.executor import LaneOutcome
from sweeps.packs import GAIN, PACK_SIZES
from sweeps.units import Lane, Unit
from sweeps.worker import Context, Done

WORK = "sweeps.calibrate:calibrate"
MEASURE_SECONDS = 0.1
"""Least time that one pack size is timed for, unless that is one step."""
REPEATS = 5
"""Readings of one pack size at most, of which the shortest counts, where one takes less than that."""
BUDGET_SECONDS = {"eager": 10.0, "compiled": 300.0}
"""No larger pack is tried once an engine has spent so much; each size is compiled first, for 5 to 50 s."""


def calibrate(unit: Unit, context: Context) -> Done:
    """Times packs of the unit's first lane, of 1, 2, 4, … up to the unit's number of lanes.

    Returns:
        No outcome of lanes, since nothing was trained; rows of the table calibrations.
    """
    from core.numerics import numerics_class

    lane, begun = unit.lanes[0], time.monotonic()
    rows, best, worse = [], float("inf"), 0
    for size in (size for size in PACK_SIZES if size <= len(unit.lanes)):
        try:
            step_s = _step_seconds([lane] * size, context.device, context.engine)
        except (MemoryError, RuntimeError):
            if size == 1:
                raise
            break  # out of memory: the sizes measured so far stand
        rows.append(
            {
                "shape": shape_key(lane.config, lane.where),
                "loops": lane.where.loops,
                "numerics_class": numerics_class(context.device, context.engine),
                "pack": size,
                "step_s": step_s,
                "memory_bytes": _peak_memory(context.device),
            }
        )
        per_trial = step_s / size
        worse = worse + 1 if per_trial > best / GAIN else 0  # one bad reading ends nothing: machines are noisy
        if worse == 2 or time.monotonic() - begun > BUDGET_SECONDS[context.engine] or context.stop(0):
            break
        best = min(best, per_trial)
    return Done(lanes=(LaneOutcome(status="ok", reached=lane.start),) * len(unit.lanes), rows={"calibrations": rows})


def _step_seconds(lanes: Sequence[Lane], device: str, engine: Engine) -> float:
    """Seconds of one step of a pack of these lanes, without what is done once per unit."""
    where = lanes[0].where
    _timed(lanes, where.start + 1, device, engine)  # the first step alone brings data and kernels into memory
    best, spent = float("inf"), 0.0
    for _ in range(REPEATS):  # of a short trial one reading is of few steps
        steps, seconds = _timed(lanes, where.end, device, engine)
        best, spent = min(best, seconds / steps), spent + seconds
        if spent >= MEASURE_SECONDS:
            break
    return best


def _timed(lanes: Sequence[Lane], end: int, device: str, engine: Engine) -> tuple[int, float]:
    """Steps and seconds of one training of a pack up to a step; without its first step where there are more."""
    from core.pack import initial_state
    from core.segments import Segment
    from core.train import train_segments

    config, chain, start = lanes[0].config, lanes[0].chain, lanes[0].where.start
    stamps: list[tuple[int, float]] = []

    def stop(step: int) -> bool:
        stamps.append((step, time.perf_counter()))
        return len(stamps) > 1 and stamps[-1][1] - stamps[0][1] > MEASURE_SECONDS

    # Giving back a state ends a block: the first step is one of its own, in short trials too.
    segment = Segment(config=config, chain=chain, start=start, end=end, evaluate=(), states=(start + 1,))
    state = replace(initial_state(config), step=start)
    begun = time.perf_counter()
    results = train_segments([segment] * len(lanes), [state] * len(lanes), device=device, engine=engine, stop=stop)
    total = time.perf_counter() - begun
    if len(stamps) > 1:
        (first, t0), (last, t1) = stamps[0], stamps[-1]
        return last - first, t1 - t0
    return max(1, max(result.reached for result in results) - start), total


def _peak_memory(device: str) -> int:
    """Bytes that this process, or its device, has held at most so far."""
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
