"""Differences of arms along x (steps, thresholds, ranks), taken within a seed and then averaged over seeds.

Bands of the arms themselves hold all that differs between seeds, their data too; these hold what differs between arms.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import series
from reports.means import summaries
from reports.tables import Setting, Tables
from studies.claims import Claim


def reference(claims: Iterable[Claim], arms: Sequence[str]) -> str:
    """The arm that claims compare with most often (the first of those, or of all)."""
    named = Counter(part.against for claim in claims for part in claim.parts)
    return max(arms, key=lambda arm: named[arm])


def paired_curves(tables: Tables, name: str, arms: Sequence[str], reference: str) -> list[dict[str, Any]]:
    """The difference of each arm from a reference over the steps: `paired` of a column of metrics."""
    wide = tables.metrics.wide(name)
    return [] if wide.empty else paired(tables, wide, arms, reference, x="step")


def paired(
    tables: Tables, wide: pd.DataFrame, arms: Sequence[str], reference: str, *, x: str, log: bool = False
) -> list[dict[str, Any]]:
    """The difference of each arm from a reference along x, taken within a seed, then averaged over seeds.

    A trial is paired with the reference's finished trials of its seed and of equal values on the axes that act on both
    (their mean). A seed in which a trial has no partner leaves the series; a place that a trial lacks, too.

    Args:
        tables: of the study.
        wide: values by trial_id (rows) and x (columns), NaN where there is none.
        arms: in the order of the report.
        reference: one of them.
        x: what a point calls its place.
        log: the difference is a ratio, of positive values; others are none.
    """
    values = wide.to_numpy(dtype=float)
    if log:
        values = np.log(np.where(values > 0, values, np.nan))
    columns = wide.columns.tolist()
    places = {str(trial_id): i for i, trial_id in enumerate(wide.index)}
    against = series.finished(tables)
    against = against[against["arm"] == reference]
    found = []
    for group in series.groups(tables, arms):
        if group.arm == reference:
            continue
        trials = group.trials[group.trials["trial_id"].isin(places)]
        differences: dict[int, list[Any]] = defaultdict(list)
        lost = set()
        for row, partners in partnered(tables, trials, against[against["trial_id"].isin(places)]):
            seed, others = int(row["seed"]), [places[one] for one in partners]
            if others:
                differences[seed].append(values[places[row["trial_id"]]] - values[others].mean(axis=0))
            else:
                lost.add(seed)
        kept = {seed: np.stack(own) for seed, own in differences.items() if seed not in lost}
        if not kept:
            continue
        complete = ~np.isnan(np.concatenate(list(kept.values()))).any(axis=0)
        points = []
        seeds = [seed for seed, own in kept.items() for _ in own]
        averages = summaries(np.concatenate(list(kept.values()))[:, complete], seeds)
        for i, point in zip(np.flatnonzero(complete).tolist(), averages, strict=True):
            if log:
                point |= {k: None if point[k] is None else math.exp(point[k]) for k in ("mean", "low", "high")}
            points.append({x: columns[i]} | point)
        found.append(group.head | {"n": len(kept), "points": points})
    return found


def partnered(tables: Tables, trials: pd.DataFrame, against: pd.DataFrame) -> list[tuple[dict[Any, Any], list[str]]]:
    """Each of some trials (id, seed, shared setting) with the ids of those of another arm that have the same."""
    shared = tables.shared(trials, against)
    found: dict[tuple[int, Setting], list[str]] = defaultdict(list)
    acting = ["arm", "trial_id", "seed", *shared]
    for row in against[acting].to_dict("records"):
        for pairing in tables.pairings(row, shared):
            found[int(row["seed"]), pairing].append(str(row["trial_id"]))
    partners = []
    for row in trials.to_dict("records"):
        keys = [(int(row["seed"]), pairing) for pairing in tables.pairings(row, shared)]
        partners.append((row, list(dict.fromkeys(partner for key in keys for partner in found.get(key, ())))))
    return partners
