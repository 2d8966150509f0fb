"""Quantities of the table curves at the last step that all lines have: means over seeds at each x, with t intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import series
from reports.means import summary
from reports.tables import Tables


def over_x(
    tables: Tables, name: str, arms: Sequence[str], *, log: bool = False
) -> tuple[int, pd.DataFrame, list[tuple[pd.DataFrame, dict[str, Any]]]] | None:
    """A quantity of the table curves at the last step that all lines have; None where there is no such step.

    Returns:
        The step; the values by trial_id (rows) and x (columns); of each line, its trials that have the curve at that
        step, and its series. A point is there where each of these has a value, above 0 on a log scale.
    """
    rows = tables.curves[tables.curves["quantity"] == name]
    lines = series.groups(tables, arms)
    by_trial = {str(trial): set(own["step"].astype(int)) for trial, own in rows.groupby("trial_id")}
    step = series.last_step(lines, by_trial)
    if step is None:
        return None
    wide = rows[rows["step"] == step].pivot_table(index="trial_id", columns="x", values="y")
    found = []
    for line in lines:
        own = line.trials[line.trials["trial_id"].isin(wide.index)]
        if own.empty:
            continue
        values, points = wide.loc[own["trial_id"]].to_numpy(dtype=float), []
        for place, x in enumerate(wide.columns):
            at = values[:, place]
            if not np.isnan(at).any() and not (log and (at <= 0).any()):
                points.append({"x": float(x)} | summary(own["seed"], at, log=log))
        lost = len(line.trials) - len(own)
        found.append((own, line.head | {"n": int(own["seed"].nunique()), "lost": lost, "points": points}))
    return step, wide, found
