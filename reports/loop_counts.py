"""Accuracy and loss against the loops at test time: the same weights, evaluated after other numbers of loops.

Of the quantity ``test_loops``, on the whole validation set, at the last step at which all lines have it; for each task
by itself. The loops that a line was trained with are those of its stage at that step. Beside the numbers of loops
stands what halting by confidence gives, which takes for each sequence the loops of the most confident output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from core.quantities import QUANTITY_OF
from reports import last_curves, means, tasks
from reports.tables import Tables

QUANTITY = "test_loops"
METRICS = {
    "val_accuracy": "fraction",
    "val_exact": "fraction",
    "val_exact_trained": "fraction",
    "val_exact_longer": "fraction",
    "val_loss": "nats/token",
}
"""By metric, its unit. Its curve is ``<metric>_loops``; what halting by confidence gives, ``<metric>_confident``."""


def shown_here(name: str) -> bool:
    """Whether a column, curve or quantity is of `QUANTITY`, which no panel of the curvature shows."""
    return QUANTITY_OF.get(name, name) == QUANTITY


def panels(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``loop_counts`` of a study in ``report.json``: an entry a task and metric that was measured.

    A point of a series is at ``x`` loops. ``trained_loops`` is None where its trials differ in it, ``confident`` (the
    mean ``loops`` and the summary of the metric) where halting was not measured.
    """
    found = []
    for task in tasks.split(tables):
        for name, unit in METRICS.items():
            curve = last_curves.over_x(task.tables, f"{name}_loops", arms)
            if curve is None:
                continue
            step, _, lines = curve
            drawn = [
                line | {"trained_loops": _trained(tables, own, step), "confident": _confident(tables, own, name, step)}
                for own, line in lines
                if line["points"]
            ]
            if drawn:
                found.append({"task": task.name, "metric": name, "unit": unit, "step": step, "series": drawn})
    return found


def _trained(tables: Tables, trials: pd.DataFrame, step: int) -> int | None:
    """The loops of the stage in which the step lies, where all trials have the same."""
    wide = tables.metrics.wide("loops")
    rows = wide[wide.index.isin(trials["trial_id"])]
    rows = rows[[column for column in rows.columns if int(str(column)) <= step]]
    loops = {int(own.iloc[-1]) for _, row in rows.iterrows() if len(own := row.dropna())}
    return loops.pop() if len(loops) == 1 else None


def _confident(tables: Tables, trials: pd.DataFrame, name: str, step: int) -> dict[str, Any] | None:
    """What halting by confidence gives at a step, where every trial has it."""
    rows = tables.curvature[tables.curvature["trial_id"].isin(trials["trial_id"]) & (tables.curvature["step"] == step)]
    columns = [f"{name}_confident", "confident_loops"]
    if not set(columns) <= set(rows.columns) or len(rows) < len(trials) or bool(rows[columns].isna().any(axis=None)):
        return None
    own = trials.merge(rows[["trial_id", *columns]], on="trial_id")
    return {"loops": means.of_column(own, columns[1])["mean"]} | means.of_column(own, columns[0])
