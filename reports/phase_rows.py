"""The phases (`reports.phases`) of lines: in which of them how many trials are, from step to step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from reports import methods, phases, series
from reports.functionals import History, UnmeasuredError, entropy_dip, entropy_rise, phases_of
from reports.means import summary
from reports.tables import Tables


def phase_rows(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``phases`` of the panels: an entry a line, over the steps that its trials with an entropy share."""
    if "entropy" not in tables.curvature.columns:
        return []
    histories = {str(trial): History(curvature=rows) for trial, rows in tables.curvature.groupby("trial_id")}
    found = []
    for line in series.groups(tables, arms):
        known, lost = [], 0
        by: set[str] = set()
        for trial, seed in line.seeds.items():
            history = histories.get(trial, History())
            try:
                stretches = phases_of(history)
            except UnmeasuredError:
                lost += 1
                continue
            steps = history.curvature.dropna(subset=["entropy"])["step"].astype(int).tolist()
            dips = entropy_dip(history), entropy_rise(history)
            known.append((seed, steps, stretches, dips))
            by |= methods.of_rows(history.curvature, "entropy")
        if known:
            seeds = [seed for seed, *_ in known]
            ordered = [float(phases.in_order(stretches)) for _, _, stretches, _ in known]
            found.append(
                line.head
                | {
                    "n": len(set(seeds)),
                    "trials": len(known),
                    "lost": lost,
                    "methods": sorted(by),
                    "intervals": _intervals([(steps, stretches) for _, steps, stretches, _ in known]),
                    "in_order": int(sum(ordered)),
                    "dip": summary(seeds, [dips[0] for *_, dips in known]),
                    "rise": summary(seeds, [dips[1] for *_, dips in known]),
                }
            )
    return found


def _intervals(trials: Sequence[tuple[list[int], list[phases.Stretch]]]) -> list[dict[str, Any]]:
    """By interval between steps that all trials have, the share of the trials that are in each phase there."""
    common = sorted(set.intersection(*(set(steps) for steps, _ in trials)))
    found = []
    for low, high in pairwise(common):
        counts: Counter[phases.Phase] = Counter()
        for steps, stretches in trials:
            labels = phases.labels(stretches, len(steps))
            within = {labels[i] for i in range(steps.index(low), steps.index(high))}
            only = within.pop() if len(within) == 1 else None
            if only is not None:
                counts[only] += 1
        shares = {name: counts[name] / len(trials) for name in phases.PHASES}
        most = max(phases.PHASES, key=lambda name: shares[name])
        found.append({"from": low, "to": high, "shares": shares, "phase": most if shares[most] > 0.5 else None})
    return found
