"""Loss against FLOPs: what each setting costs alone and reaches, and the Pareto front of a task.

On the front are the settings that no other beats: none costs at most as much and has at most the same mean loss, one of
the two less. It is a front of means over seeds, found on these very rows: of settings that are equally good the lucky
ones are on it. Only settings with a final loss on as many seeds as any other enter, as those of which seeds diverged or
have not run yet describe what is left of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from reports import series, tasks
from reports.tables import Tables

LEAST = 3
"""Different costs, below which there is no front to speak of."""


def costs(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``costs`` of a study in ``report.json``: an entry a task whose trials have a final loss.

    Its ``points`` are the settings of all arms, cheapest first, with ``flops_alone``, ``parameters`` (means over the
    trials where these differ), the final ``loss`` over seeds, and ``front``, whether they are on the Pareto front.
    ``fronted``: whether it has one, which takes `LEAST` different costs.
    """
    found = []
    for task in tasks.split(tables):
        compared = task.tables.compared()
        points = [
            point
            for arm in arms
            for setting, rows in series.by_setting(task.tables, compared[compared["arm"] == arm])
            if (point := _point(arm, dict(setting), rows)) is not None
        ]
        if not points:
            continue
        points.sort(key=lambda point: (point["flops_alone"], point["loss"]["mean"]))
        fronted = len({point["flops_alone"] for point in points}) >= LEAST
        best = _front(points) if fronted else set()
        found.append(
            {
                "task": task.name,
                "unit": "nats/token",
                "fronted": fronted,
                "points": [point | {"front": place in best} for place, point in enumerate(points)],
            }
        )
    return found


def _point(arm: str, setting: dict[str, Any], rows: Any) -> dict[str, Any] | None:
    """A setting; None without a cost or a final loss."""
    if "final_val_loss" not in rows:
        return None
    loss = series.by_seed(rows[rows["status"] == "ok"], "final_val_loss")
    flops = series.common(rows["flops_alone"])
    if not flops or loss["mean"] is None:
        return None
    parameters = series.common(rows["parameters"])
    return {"arm": arm, "setting": setting, "flops_alone": flops, "parameters": parameters, "loss": loss}


def _front(points: Sequence[dict[str, Any]]) -> set[int]:
    """Places of the points, sorted by cost and loss, that no other beats."""
    most = max(point["loss"]["n"] for point in points)
    found: set[int] = set()
    cost, lowest = -math.inf, math.inf
    for place, point in enumerate(points):
        mean = point["loss"]["mean"]
        if point["loss"]["n"] < most:
            continue
        if mean < lowest:
            cost, lowest = point["flops_alone"], mean
            found.add(place)
        elif mean == lowest and point["flops_alone"] == cost:
            found.add(place)
    return found
