"""A trial by itself, from its first update to its last, its state never leaving memory: what every other way must give.

The stage tree, packs, checkpoints, replays and watchers are ways to the same rows; here is the plain one. It is what an
audit compares with, and what "alone" means in tests and benchmarks. Criteria are asked after each check; the engine's
own watching is not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.config import TrialConfig
from core.lineage import Link, links, watch
from core.observation import evaluation_steps, measurement_steps
from core.pack import initial_state
from core.segments import Segment
from core.train import train_segments
from core.watch import Check, ending

Rows = list[dict[str, Any]]


@dataclass(kw_only=True)
class Alone:
    """What a trial gave; rows as the store has them."""

    status: str
    """``ok`` or ``diverged``."""
    ended: tuple[int, ...]
    """By criterion, the step at which it ended its stage."""
    chain: tuple[Link, ...]
    metrics: Rows = field(default_factory=list)
    curvature: Rows = field(default_factory=list)
    curves: Rows = field(default_factory=list)
    spectra: Rows = field(default_factory=list)
    surfaces: Rows = field(default_factory=list)
    events: Rows = field(default_factory=list)
    checks: Rows = field(default_factory=list)


def train_alone(config: TrialConfig, *, device: str = "cpu") -> Alone:
    """Trains a trial from step 0 to its end, or to where it diverges.

    Args:
        config: the trial.
        device: ``cpu`` or ``cuda``.

    Returns:
        Its rows, each with its lineage: metrics and curvature at the steps that the trial asks for, all checks.
    """
    ended: tuple[int, ...] = ()
    chain, waits = links(config), watch(config)
    done = Alone(status="ok", ended=ended, chain=chain)
    state, index, seen = initial_state(config), 0, dict[int, Check]()
    while done.status == "ok" and state.step < config.train.steps:
        link = chain[index]
        watched = waits is not None and link.stage == waits.stage
        grid = tuple(waits.criterion.grid(waits.start)) if waits is not None and watched else ()
        end = min([step for step in (*grid, link.end) if step > state.step])
        segment = Segment(
            config=config,
            chain=chain[: index + 1],
            start=state.step,
            end=end,
            # Where the stage will end is not known before: all checks are evaluated, and sorted out below.
            evaluate=_inside({*evaluation_steps(config, chain), *grid}, state.step, end),
            measure=_inside(set(measurement_steps(config)), state.step, end),
            check=_inside(set(grid), state.step, end),
        )
        (result,) = train_segments([segment], [state], device=device)
        state, done.status = result.state, result.status
        for rows, found in (
            (done.metrics, result.metrics),
            (done.curvature, result.curvature),
            (done.curves, result.curves),
            (done.spectra, result.spectra),
            (done.surfaces, result.surfaces),
            (done.events, result.events),
            (done.checks, result.checks),
        ):
            rows += [{"lineage": link.lineage, **row} for row in found]
        seen |= {row["step"]: Check(**{k: v for k, v in row.items() if k != "step"}) for row in result.checks}
        if done.status == "ok" and waits is not None and watched:
            step = ending(waits.criterion, waits.start, seen) if end in grid or end == waits.criterion.latest else None
            if step is not None and step <= end:
                ended = (*ended, step)
                chain, waits, seen = links(config, ended), watch(config, ended), {}
        if end == chain[index].end:
            index += 1
    done.ended, done.chain = ended, chain
    asked = set(evaluation_steps(config, chain))
    done.metrics = [row for row in done.metrics if row["step"] in asked]
    return done


def _inside(steps: set[int], start: int, end: int) -> tuple[int, ...]:
    return tuple(sorted(step for step in steps if start < step <= end or step == start == 0))
