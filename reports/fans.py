"""The ends of the spectrum over training: largest and smallest eigenvalues by rank, with SGD's limit of stability.

Heavy-ball SGD with momentum μ and learning rate η is stable along an eigenvalue up to (2 + 2μ)/η (μ = 0: 2/η). There is
no limit under AdamW, whose limit holds for the preconditioned Hessian (the column ``edge``). Means are geometric where
all values have one sign.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports import series
from reports.means import summary
from reports.tables import Tables

ENDS = ("top_eigenvalue", "bottom_eigenvalue")
"""Quantities of the table curves."""


def fans(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``fans`` of the panels: an entry a line, with the steps at which all its trials have the value.

    A limit of stability stands at the steps at which all trials of the line have the same.
    """
    rows = tables.curves[tables.curves["quantity"].isin(ENDS)]
    found = []
    for line in series.groups(tables, arms):
        seeds = line.seeds
        own = rows[rows["trial_id"].isin(seeds.keys())]
        trials = own["trial_id"].nunique()
        if not trials:
            continue
        ranks = []
        for name in ENDS:
            of_end: pd.DataFrame = own.loc[own["quantity"] == name]
            for rank in sorted(of_end["x"].unique().tolist()):
                points = []
                for step, at in of_end.loc[of_end["x"] == rank].groupby("step"):
                    if len(at) == trials:
                        own_seeds, values = at["trial_id"].map(seeds).tolist(), at["y"].tolist()
                        points.append({"step": int(str(step))} | _of_one_sign(own_seeds, values))
                if points:
                    ranks.append({"end": name.partition("_")[0], "rank": round(rank), "points": points})
        steps = sorted({point["step"] for rank in ranks for point in rank["points"]})
        known = own["trial_id"].map(seeds)
        found.append(
            line.head
            | {
                "n": int(known.nunique()),
                "lost": len(seeds) - trials,
                "ranks": ranks,
                **_stability(tables, line.trials, steps),
            }
        )
    return found


def _of_one_sign(seeds: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
    """`summary`, of the logarithms of the sizes where all values are positive or all negative."""
    if max(values) >= 0:
        return summary(seeds, values, log=min(values) > 0)
    found = summary(seeds, [-value for value in values], log=True)
    low, high = (None if found[k] is None else -found[k] for k in ("high", "low"))
    return found | {"mean": -found["mean"], "low": low, "high": high}


def _stability(tables: Tables, trials: pd.DataFrame, steps: Sequence[int]) -> dict[str, Any]:
    """The optimiser of some trials (None where they differ) and the limit of stability at each step."""
    trained = [json.loads(text).get("train", {}) for text in trials["config"]]
    optimizers = {one.get("optimizer") for one in trained}
    optimizer = optimizers.pop() if len(optimizers) == 1 else None
    limit: list[dict[str, Any]] = []
    if optimizer == "sgd" and "lr" in tables.metrics.columns:
        momentum = {str(t): float(one["momentum"]) for t, one in zip(trials["trial_id"], trained, strict=True)}
        wide = tables.metrics.wide("lr")
        rates = wide[wide.index.isin(momentum.keys())]
        for step in (column for column in rates.columns if int(str(column)) in steps):
            values = [(2 + 2 * momentum[str(t)]) / lr for t, lr in rates[step].items() if lr > 0]
            if len(values) == len(momentum) and max(values) <= min(values) * (1 + 1e-9):
                limit.append({"step": int(str(step)), "value": values[0]})
    return {"optimizer": optimizer, "limit": limit}
