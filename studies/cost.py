"""What trials cost: their share of what was run, and the time each would take by itself.

A segment that several trials pass through is paid by all of them, step by step: each step is shared by those that need
it, so the shares of all trials add up to what was run, up to the last step that anybody here needs. What a failed
attempt spent is shared likewise. The time of a trial by itself comes from calibrations at a pack of one, never from the
wall time of packs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from core.flops import step_flops
from studies.coverage import ChainState, Coverage
from studies.tree import shape_key

if TYPE_CHECKING:
    from studies.expand import Trial


@dataclass(frozen=True, slots=True)
class Spent:
    """A trial's share of what was run."""

    flops: float
    """FLOPs."""
    seconds: float
    """Wall time of units, in seconds."""


def spent_shares(trials: Sequence[Trial], chains: Sequence[ChainState], coverage: Coverage) -> list[Spent | None]:
    """By trial: its share of the segments on its chain; None where nothing is recorded.

    Equal trials (of two arms) count as one among those who share, and show the same.
    """
    users = _users(trials, chains, coverage)
    parts: dict[tuple[int, str], tuple[float, float]] = {}
    for row, needs in users.items():
        start, reached = coverage.value("start", row), coverage.value("reached", row)
        seconds = coverage.value("spent_s", row) or 0.0
        for trial_id, steps in _shared_steps(start, needs).items():
            share = steps / (reached - start) if reached > start else 1 / len(needs)
            parts[row, trial_id] = steps, share * seconds
    result: list[Spent | None] = []
    for trial, chain in zip(trials, chains, strict=True):
        if not chain.rows:
            result.append(None)
            continue
        flops = seconds = 0.0
        for link, state in zip(trial.links, chain.links, strict=True):
            per_step = step_flops(trial.config, loops=link.loops, loss_on=link.loss_on)
            for row in state.rows:
                steps, share = parts[row, trial.trial_id]
                flops, seconds = flops + steps * per_step, seconds + share
        result.append(Spent(flops, seconds))
    return result


def _users(trials: Sequence[Trial], chains: Sequence[ChainState], coverage: Coverage) -> dict[int, dict[str, int]]:
    """By segment: the step up to which each trial needs it."""
    users: dict[int, dict[str, int]] = defaultdict(dict)
    for trial, chain in zip(trials, chains, strict=True):
        for link, state in zip(trial.links, chain.links, strict=True):
            for row in state.rows:
                users[row][trial.trial_id] = min(coverage.value("reached", row), link.end)
    return users


def _shared_steps(start: int, needs: Mapping[str, int]) -> dict[str, float]:
    """Each trial's share of the steps from `start` to where it leaves, every step divided by those who need it."""
    shares: dict[str, float] = {}
    paid, step, left = 0.0, start, len(needs)
    for trial_id, end in sorted(needs.items(), key=lambda need: need[1]):
        paid += max(end - step, 0) / left
        step, left = max(step, end), left - 1
        shares[trial_id] = paid
    return shares


def alone_seconds(trial: Trial, chain: ChainState, step_times: Mapping[tuple[str, int, str], float]) -> float | None:
    """Wall time of a trial by itself, in seconds; None where a stretch has no calibration or is not recorded.

    Args:
        trial: the trial.
        chain: what is recorded of it; tells the numerics class in which each link ran.
        step_times: seconds of a step at a pack of one, by shape, loops and numerics class; see `step_times`.
    """
    total = 0.0
    for link, state in zip(trial.links, chain.links, strict=True):
        if not state.rows:
            return None
        where = chain.coverage.value("numerics_class", state.rows[0])
        step_s = step_times.get((shape_key(trial.config, link), link.loops, where or ""))
        if step_s is None:
            return None
        total += step_s * (link.end - link.start)
    return total


def step_times(calibrations: pa.Table) -> dict[tuple[str, int, str], float]:
    """Seconds of a step at a pack of one, by (shape, loops, numerics class), from the table calibrations."""
    names = ("shape", "loops", "numerics_class", "pack", "step_s")
    rows = zip(*(calibrations[name].to_pylist() for name in names), strict=True)
    return {(shape, loops, where): step_s for shape, loops, where, pack, step_s in rows if pack == 1 and step_s}
