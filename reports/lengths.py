"""Accuracy against the length of the problem, where validation sets have a stratum for each length.

Per predicted token and by exact match (the share of sequences all of whose predicted tokens are right), of the last
evaluation of the finished trials: means over seeds with 95 % t intervals, a line an arm or setting (`series.groups`),
for each task by itself. The means over the trained and the longer lengths are those of the strata ``trained`` and
``longer``, which claims may name; they follow the range that each trial itself was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import means, series, tasks
from reports.tables import Tables

METRICS = ("val_accuracy", "val_exact")
RANGES = ("trained", "longer")
"""Strata of lengths within the range of training, and above it."""


def panels(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``lengths`` of a study in ``report.json``: an entry a task that has lengths.

    Each has the ``metrics`` that were recorded, with a series by line whose points are at the lengths ``x`` that every
    trial of the line has, and ``rows``, the table of the means over both ranges. ``train_length`` is the range that
    all lines were trained on, None where they differ; a line whose own trials differ has none either.
    """
    found = []
    for task in tasks.split(tables):
        columns = {name: _columns(task.tables, name) for name in METRICS}
        ranges = dict(zip(task.tables.trials["trial_id"], (one.get("train_length") for one in task.terms), strict=True))
        lines = []
        for group in series.groups(task.tables, arms):
            own = [ranges[trial] for trial in group.trials["trial_id"]]
            trained = own[0] if own and all(one == own[0] for one in own) else None
            lines.append((group, group.head | {"train_length": trained, "n": int(group.trials["seed"].nunique())}))
        metrics = [
            {"metric": name, "unit": "fraction", "series": drawn}
            for name in METRICS
            if (drawn := [head | {"points": p} for group, head in lines if (p := _points(group, columns[name]))])
        ]
        if not metrics:
            continue
        heads = [head["train_length"] for _, head in lines]
        found.append(
            {
                "task": task.name,
                "train_length": heads[0] if all(one == heads[0] for one in heads) else None,
                "metrics": metrics,
                "rows": [head | {"means": _means(group)} for group, head in lines],
            }
        )
    return found


def _columns(tables: Tables, name: str) -> list[tuple[int, str]]:
    """Lengths, ascending, and the columns of the trials that hold a metric's last value on them."""
    columns = [column for column in map(str, tables.trials) if column.startswith(f"final_{name}_len_")]
    return sorted((length, column) for column in columns if (length := tasks.length_of(column)) is not None)


def _points(group: series.Group, columns: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    whole = [(length, column) for length, column in columns if group.trials[column].notna().all()]
    return [{"x": length} | means.of_column(group.trials, column) for length, column in whole]


def _means(group: series.Group) -> dict[str, dict[str, Any]]:
    """By metric and range, where it was recorded: the mean over the sequences of those lengths."""
    names = [f"{name}_{span}" for name in METRICS for span in RANGES]
    return {name: means.of_column(group.trials, f"final_{name}") for name in names if f"final_{name}" in group.trials}
