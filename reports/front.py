"""Loss against FLOPs: what each setting costs alone and reaches, and the Pareto front of a task.

On the front are the settings that no other beats: none costs at most as much and has at most the same mean loss, one of
the two less. It is a front of means over seeds, found on these very rows: of settings that are equally good the lucky
ones are on it. Only settings with a final loss on as many seeds as any other enter, as those of which seeds diverged or
have not run yet describe what is left of them.

Where the sharpness λ_max was measured at the end, there is a second front over three numbers, FLOPs, loss and λ_max: a
setting that costs more and is not better in loss is on it where no other is as flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from reports import means, series, tasks
from reports.tables import Tables

SHARPNESS = "lambda_max"
LEAST = 3
"""Different costs, below which there is no front to speak of."""


def costs(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``costs`` of a study in ``report.json``: an entry a task whose trials have a final loss.

    Its ``points`` are the settings of all arms, cheapest first, with ``flops_alone``, ``parameters`` (means over the
    trials where these differ), the final ``loss`` over seeds, and ``front``, whether they are on the Pareto front.
    ``fronted``: whether it has one, which takes `LEAST` different costs. ``sharpness``: of a point λ_max at the last
    step, over seeds, its mean geometric, or None; of the entry, whether `LEAST` points have it. ``flat_front``: whether
    a point is on the front of the three.
    """
    found = []
    sharpness = _sharpness(tables)
    for task in tasks.split(tables):
        compared = task.tables.compared()
        compared = compared.assign(_sharpness=compared["trial_id"].map(sharpness))
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
        sharp = sum(point["sharpness"] is not None for point in points) >= LEAST
        flat = _flat_front(points) if sharp else set()
        found.append(
            {
                "task": task.name,
                "unit": "nats/token",
                "fronted": fronted,
                "sharpness": sharp,
                "points": [
                    point | {"front": place in best, "flat_front": place in flat} for place, point in enumerate(points)
                ],
            }
        )
    return found


def _point(arm: str, setting: dict[str, Any], rows: Any) -> dict[str, Any] | None:
    """A setting; None without a cost or a final loss."""
    if "final_val_loss" not in rows:
        return None
    loss = means.of_column(rows[rows["status"] == "ok"], "final_val_loss")
    flops = means.common(rows["flops_alone"])
    if not flops or loss["mean"] is None:
        return None
    parameters = means.common(rows["parameters"])
    sharpness = means.of_column(rows[rows["status"] == "ok"], "_sharpness", log=True)
    return {
        "arm": arm,
        "setting": setting,
        "flops_alone": flops,
        "parameters": parameters,
        "loss": loss,
        "sharpness": sharpness if sharpness["n"] else None,
    }


def _sharpness(tables: Tables) -> dict[str, float]:
    """By trial, λ_max at its last step, where it was measured and is positive."""
    rows = tables.curvature
    if SHARPNESS not in rows.columns:
        return {}
    last = dict(zip(tables.trials["trial_id"], tables.trials["steps"], strict=True))
    known = rows[(rows["step"] == rows["trial_id"].map(last)) & (rows[SHARPNESS] > 0)]
    return dict(zip(known["trial_id"], known[SHARPNESS].astype(float), strict=True))


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


def _flat_front(points: Sequence[dict[str, Any]]) -> set[int]:
    """Places of the points that no other beats in FLOPs, mean loss and λ_max, of those on most seeds."""
    measured = {place: point for place, point in enumerate(points) if point["sharpness"] is not None}
    most = max(min(point["loss"]["n"], point["sharpness"]["n"]) for point in measured.values())
    numbers = {
        place: (point["flops_alone"], point["loss"]["mean"], point["sharpness"]["mean"])
        for place, point in measured.items()
        if min(point["loss"]["n"], point["sharpness"]["n"]) == most
    }
    return {
        place
        for place, own in numbers.items()
        if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in numbers.values())
    }
