"""Maps: a metric over two numeric axes of one arm, such as loops × depth, with what each cell costs.

A map is made where both axes take several values together: some value of each has two cells or more. Cells are means
over seeds (settings that share a cell are averaged within a seed first); cells that the study does not have are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from reports import means, tasks
from reports.tables import Tables, plain

FIRST = ("model.depth", "model.loops")
"""Axes whose map comes first."""
METRICS = {"val_loss": ("nats/token", "lower"), "val_exact": ("fraction", "higher")}
"""By metric, its unit and which direction is better."""


def maps(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``maps`` of a study in ``report.json``: an entry a task, arm, pair of axes and metric.

    ``x`` and ``y`` have the name of the axis and its values; a cell has its place on both, the summary of the final
    value over seeds, ``trials`` that it was asked for, ``lost`` of them without a value, ``parameters`` (None where its
    trials differ) and the least and the greatest ``flops_alone``.
    """
    found = []
    for task in tasks.split(tables):
        compared = task.tables.compared()
        for arm in arms:
            own = compared[compared["arm"] == arm]
            axes = [axis for axis in task.tables.axes if _numeric(own[axis])]
            pairs = sorted(combinations(axes, 2), key=lambda pair: (pair != FIRST, pair))
            for down, across in pairs:
                for name, (unit, better) in METRICS.items():
                    cells = _cells(own, across, down, f"final_{name}")
                    if _grid(cells):
                        head = {"task": task.name, "arm": arm, "metric": name, "unit": unit, "better": better}
                        sides = {
                            side: {"axis": axis, "values": sorted({cell[side] for cell in cells})}
                            for side, axis in (("x", across), ("y", down))
                        }
                        found.append(head | sides | {"cells": cells})
    return sorted(found, key=lambda entry: (entry["y"]["axis"], entry["x"]["axis"]) != FIRST)


def _numeric(column: pd.Series) -> bool:
    values = {plain(value) for value in column.dropna()}
    return len(values) > 1 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _cells(rows: pd.DataFrame, across: str, down: str, column: str) -> list[dict[str, Any]]:
    """The cells that some trials fill, row by row."""
    if column not in rows or rows[column].isna().all():
        return []
    found = []
    for (y, x), own in rows.dropna(subset=[across, down]).groupby([down, across], sort=True):
        parameters = {int(value) for value in own["parameters"].dropna()}
        flops = own["flops_alone"].dropna()
        ok = own[own["status"] == "ok"]
        found.append(
            {"x": plain(x), "y": plain(y)}
            | means.of_column(ok, column)
            | {
                "trials": len(own),
                "lost": len(own) - int(ok[column].notna().sum()),
                "parameters": parameters.pop() if len(parameters) == 1 else None,
                "flops_alone": [float(flops.min()), float(flops.max())] if len(flops) else None,
            }
        )
    return found


def _grid(cells: Sequence[dict[str, Any]]) -> bool:
    """Whether cells lie beside one another both ways."""
    known = [cell for cell in cells if cell["mean"] is not None]
    return all(len({cell[side] for cell in known}) < len(known) for side in "xy") and bool(known)
