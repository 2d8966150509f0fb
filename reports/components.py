"""The sorted component-wise comparison of two arms' spectra: Assumption 1 of the paper, tested rank by rank.

The paper assumes that Looped-Attn has more eigenvalues below a threshold τ than Single-Attn, and component-wise smaller
ones. So for each pair of trials (equal seed and shared setting), with their |λ| outside the null space sorted upwards,
a₁ ≤ a₂ ≤ … and b₁ ≤ b₂ ≤ …, of which n_a and n_b lie at or below τ:

- *share smaller*: the share of the ranks i ≤ min(n_a, n_b) at which a_i < b_i (ties count half); none where either arm
  has no eigenvalue below τ;
- *more below*: n_a − n_b.

Both are curves over τ. Trials of one seed are averaged, then seeds; a seed is one pair of trainings, so n counts seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.quantities import THRESHOLDS
from reports import paired, series
from reports.means import summary
from reports.spectra import Spectra
from reports.tables import Tables

Floats = NDArray[np.float64]


def compare(a: Floats, b: Floats, thresholds: Sequence[float] = THRESHOLDS) -> tuple[Floats, Floats]:
    """The comparison of two spectra.

    Args:
        a: [m] |λ| of the arm outside the null space, ascending.
        b: [k] those of the other.
        thresholds: [t] values of τ.

    Returns:
        The share of ranks at which a is smaller [t], NaN where there is no rank to compare; n_a − n_b [t].
    """
    both = min(len(a), len(b))
    smaller = (a[:both] < b[:both]) + 0.5 * (a[:both] == b[:both])
    upto = np.concatenate([[0.0], np.cumsum(smaller)])
    below_a, below_b = np.searchsorted(a, thresholds, side="right"), np.searchsorted(b, thresholds, side="right")
    compared = np.minimum(below_a, below_b)
    share = np.where(compared > 0, upto[compared] / np.maximum(compared, 1), np.nan)
    return share, (below_a - below_b).astype(float)


def comparisons(tables: Tables, spectra: Spectra, arms: Sequence[str], reference: str) -> dict[str, Any] | None:
    """The comparison of each line with the reference arm at the last common step with exact spectra.

    Thresholds go from the first at which some trial has an eigenvalue to the first that is above all of them. A point
    is there where every seed has it. Lines without exact spectra are ``absent``. None where nothing can be compared.
    """
    lines = series.groups(tables, arms)
    exact = {t: {s: one for s, one in steps.items() if one.kind == "exact"} for t, steps in spectra.items()}
    step = series.last_step(lines, exact)
    if step is None:
        return None
    sizes = {trial: steps[step].sizes() for trial, steps in exact.items() if step in steps}
    finished = series.finished(tables)
    against = finished[(finished["arm"] == reference) & finished["trial_id"].isin(sizes)]
    found, absent = [], []
    for line in lines:
        if line.arm == reference:
            continue
        own = line.trials[line.trials["trial_id"].isin(sizes)]
        if own.empty:
            absent.append(line.head)
        compared: list[tuple[int, Floats, Floats]] = []
        lost = set()
        for row, partners in paired.partnered(tables, own, against):
            seed = int(row["seed"])
            if not partners:
                lost.add(seed)
            compared += [(seed, *compare(sizes[row["trial_id"]], sizes[partner])) for partner in partners]
        kept = [one for one in compared if one[0] not in lost]
        if kept:
            seeds, shares, more = zip(*kept, strict=True)
            places = _places(list(sizes.values()))
            found.append(
                line.head
                | {"n": len(set(seeds)), "lost": len(line.trials) - len(own), "unpaired_seeds": sorted(lost)}
                | {"share_smaller": _points(seeds, shares, places), "more_below": _points(seeds, more, places)}
            )
    return {"step": step, "reference": reference, "series": found, "absent": absent} if found else None


def _places(sizes: Sequence[Floats]) -> range:
    """Indices of the thresholds at which something changes."""
    known = [one for one in sizes if len(one)]
    if not known:
        return range(0)
    low, high = min(one[0] for one in known), max(one[-1] for one in known)
    first, last = np.searchsorted(THRESHOLDS, [low, high])
    return range(int(first), min(int(last) + 1, len(THRESHOLDS)))


def _points(seeds: Sequence[int], curves: Sequence[Floats], places: range) -> list[dict[str, Any]]:
    """Means over seeds with t intervals, at thresholds at which every pair has a value."""
    found = []
    for place in places:
        values = [curve[place] for curve in curves]
        if not np.isnan(values).any():
            found.append({"x": THRESHOLDS[place]} | summary(seeds, values))
    return found
