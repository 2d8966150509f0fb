"""Learning curves and final losses along the axes: by task and by stratum, with differences from the reference arm.

Single lengths are no strata here: they have a panel of their own (`reports.lengths`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import paired, series, tasks
from reports.tables import Tables
from studies.claims import Claim
from studies.metrics import metric

MOST_CURVES = 9
"""Losses that are followed with their strata; where tasks times strata are more, those of all sequences alone are."""


def curves(tables: Tables, arms: Sequence[str], claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The section ``curves`` of a study in ``report.json``: an entry a task and loss, with its differences.

    The reference is that of the arms which have trials of the task.
    """
    each, found = tasks.split(tables), []
    for task in each:
        there = set(task.tables.trials["arm"])
        own = [arm for arm in arms if arm in there] or list(arms)
        reference = paired.reference(claims, own)
        for name in _losses(tables, len(each)):
            differences = paired.paired_curves(task.tables, name, own, reference)
            entry = {"task": task.name} | curve(task.tables, name, own)
            found.append(entry | {"paired": {"reference": reference, "series": differences}})
    return found


def curve(tables: Tables, name: str, arms: Sequence[str]) -> dict[str, Any]:
    """A metric over the steps, with the Bayes-optimal value of a loss where there is one."""
    bayes = name.replace("val_loss", "bayes_loss") if name.startswith("val_loss") else None
    return {
        "metric": name,
        "unit": metric(name).unit,
        "floor": series.floor(tables, bayes) if bayes else None,
        "series": series.curves(tables, name, arms),
    }


def along_axes(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Final losses along the axes: along those that tell tasks apart, and on each task by itself along the others."""
    each = tasks.split(tables)
    names = _losses(tables, len(each))
    inside = {axis for task in each for axis in task.tables.axes}
    across = [entry for name in names for entry in series.along_axes(tables, name, arms) if entry["axis"] not in inside]
    within = [
        {"task": task.name} | entry
        for task in each
        for name in names
        for entry in series.along_axes(task.tables, name, arms)
    ]
    return [{"task": ""} | entry for entry in across] + within


def _losses(tables: Tables, count: int) -> list[str]:
    """The losses to follow on so many tasks: of all sequences, of simple before complex, of trained before longer."""
    columns = [name for name in tables.metrics.columns if name.startswith("val_loss_")]
    strata = sorted(
        (name for name in columns if tasks.length_of(name) is None),
        key=lambda name: (not name.endswith(("low_ic", "trained")), name),
    )
    return ["val_loss", *(strata if count * (1 + len(strata)) <= MOST_CURVES else ())]
