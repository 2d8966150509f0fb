"""What trials cost: their share of what was run, and the time each would take by itself.

A segment that several trials pass through is paid by all of them, step by step: each step is shared by those that need
it, so the shares of all trials add up to what was run, up to the last step that anybody here needs. What a failed
attempt spent is shared likewise. The time of a trial by itself comes from calibrations at a pack of one, never from the
wall time of packs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from core.config import TrialConfig
from core.flops import link_flops
from core.lineage import Link
from core.observation import Asked
from studies.coverage import ChainState, Coverage, asked_of
from studies.keys import shape_key
from studies.records import first_step

if TYPE_CHECKING:
    from studies.expand import Trial

Reach = Mapping[str, Sequence[int]]
"""By trial_id: for each of its links, the step up to which it is known to be the trial's own."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A trial's share of what was run."""

    flops: float
    """FLOPs."""
    seconds: float
    """Wall time of units, in seconds."""


@dataclass(slots=True)
class _Run:
    """A segment, and who needs it."""

    config: TrialConfig
    """Of one of them; what acts on the segment is the same for all."""
    link: Link
    needs: dict[str, int]
    """By trial_id: the step up to which it is needed."""


def spent_shares(
    trials: Sequence[Trial], chains: Sequence[ChainState], coverage: Coverage, ends: Reach
) -> list[Spent | None]:
    """By trial: its share of the segments on its chain; None where nothing is recorded.

    Equal trials (of two arms) count as one among those who share, and show the same.

    Args:
        trials: all among whom costs are shared.
        chains: what is recorded of each.
        coverage: of the store.
        ends: the step up to which each needs its links.
    """
    runs = _runs(trials, chains, coverage, ends)
    parts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row, run in runs.items():
        start, reached = coverage.value("start", row), coverage.value("reached", row)
        seconds = coverage.value("spent_s", row) or 0.0
        if reached == start:  # no update: a measurement, or an attempt that failed at once
            for key in run.needs:
                parts[key].append((0.0, seconds / len(run.needs)))
            continue
        steps = flops = 0.0
        for first, last, leaving, left in _stretches(start, run.needs):
            if last > first:
                steps += (last - first) / left
                flops += link_flops(run.config, run.link, first, last) / left
            parts[leaving].append((flops, steps / (reached - start) * seconds))
    return [
        Spent(*(sum(column) for column in zip((0.0, 0.0), *parts.get(trial.trial_id, ()), strict=True)))
        if chain.rows
        else None
        for trial, chain in zip(trials, chains, strict=True)
    ]


def _runs(trials: Sequence[Trial], chains: Sequence[ChainState], coverage: Coverage, ends: Reach) -> dict[int, _Run]:
    """The segments that somebody needs, by row."""
    runs: dict[int, _Run] = {}
    used: dict[tuple[tuple[int, ...], Asked], tuple[int, ...]] = {}
    for trial, chain in zip(trials, chains, strict=True):
        mine = zip(trial.links, chain.links, ends[trial.trial_id], asked_of(trial), strict=True)
        for link, state, end, asked in mine:
            rows = used.get((state.rows, asked))
            if rows is None:
                rows = used[state.rows, asked] = coverage.used(state.rows, asked)
            for row in rows:
                start = coverage.value("start", row)
                if first_step(start, coverage.value("end", row)) > end:
                    continue
                run = runs.get(row)
                if run is None:
                    run = runs[row] = _Run(trial.config, link, {})
                run.needs[trial.trial_id] = max(start, min(coverage.value("reached", row), end))
    return runs


def _stretches(start: int, needs: Mapping[str, int]) -> Iterator[tuple[int, int, str, int]]:
    """A segment cut where somebody leaves it: (first, last, who leaves there, how many share it)."""
    step, left = start, len(needs)
    for trial_id, end in sorted(needs.items(), key=lambda need: need[1]):
        yield step, end, trial_id, left
        step, left = end, left - 1


def alone_seconds(trial: Trial, chain: ChainState, step_times: Mapping[tuple[str, int, str], float]) -> float | None:
    """Wall time of a trial by itself, in seconds.

    Args:
        trial: the trial.
        chain: what is recorded of it; tells the numerics class in which each link ran.
        step_times: seconds of a step at a pack of one, by shape, loops and numerics class; see `step_times`.

    Returns:
        The sum over its links of updates × step time; None where a link has no calibration or is not recorded, or is
        not known because the trial waits for a criterion.
    """
    if trial.watch is not None:
        return None
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
