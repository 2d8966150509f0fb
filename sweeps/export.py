"""Any study as Optuna studies, so that optuna-dashboard shows it: what ``loopsweep export optuna`` writes.

One Optuna study for each arm, named ``STUDY/ARM``: arms differ in what varies, and plots of parameters and importances
mean something within one landscape alone. Each trial is a trial, its seed an attribute: what varies are the parameters
(numbers as ranges, the rest as choices), its objectives the values, its validation losses the intermediate values. A
trial that did not end ok has failed; one that is not recorded yet is left out. A study that grows adds what is new.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studies.expand import Trial
from studies.metrics import metric
from studies.objectives import known_objectives, recorded_objectives
from studies.space import Range, Space
from studies.store import Store
from studies.study import Arm, Study
from studies.views import Views, open_views
from studies.wanted import wanted
from sweeps.optuna_bridge import Entry, Shown


def exported(study: Study, store: Store) -> list[Shown]:
    """What of a study is recorded, as Optuna studies, in the order of its arms."""
    trials = wanted(study, store)
    with open_views(trials, store) as views:
        rows = {(row["arm"], row["trial_id"]): row for row in views.arrow("trials").to_pylist()}
        names = _objectives(study)
        known = known_objectives(views)
        values = {row["trial_id"]: row for row in recorded_objectives(views, [name for name in names if name in known])}
        losses = _losses(views)
    shown = []
    for arm in study.arms:
        own = [trial for trial in trials if trial.arm == arm.name]
        recorded = [trial for trial in own if rows[arm.name, trial.trial_id]["status"] is not None]
        shown.append(
            Shown(
                name=f"{study.name}/{arm.name}",
                space=_space(arm, own),
                metrics=names,
                lower=[metric(name).better == "lower" for name in names],
                entries=[
                    _entry(trial, rows[arm.name, trial.trial_id], values[trial.trial_id], names, losses)
                    for trial in recorded
                ],
            )
        )
    return shown


def _objectives(study: Study) -> tuple[str, ...]:
    """What the study improves: by its search, its tuning, else the loss at the end."""
    if study.search is not None:
        return study.search.metrics
    return ("final_val_loss",) if study.nuisance is None else (study.nuisance.metric,)


def _losses(views: Views) -> dict[str, dict[int, float]]:
    """By trial_id and step, the validation loss."""
    found: dict[str, dict[int, float]] = {}
    query = "SELECT trial_id, step, val_loss FROM metrics WHERE val_loss IS NOT NULL ORDER BY trial_id, step"
    for key, step, loss in views.connection.execute(query).fetchall():
        found.setdefault(key, {})[step] = loss
    return found


def _space(arm: Arm, trials: Iterable[Trial]) -> Space:
    """What varies among trials: of a search as it declares it, else over the values that there are."""
    values: dict[str, dict[Any, None]] = {}
    for trial in trials:
        for key, value in trial.varied.items():
            values.setdefault(key, {})[value] = None
    return {key: arm.space.get(key) or _dimension(list(found)) for key, found in values.items()}


def _dimension(values: Sequence[Any]) -> Range | tuple[Any, ...]:
    """A range over numbers, logarithmic where they are positive and span a factor of 10; choices over anything else."""
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {float}):  # a share beside a step, too
        return tuple(values)
    low, high = min(values), max(values)
    return Range(low=low, high=high, log=kinds == {float} and low > 0 and high / low >= 10)


def _entry(
    trial: Trial,
    row: Mapping[str, Any],
    objectives: Mapping[str, Any],
    names: Sequence[str],
    losses: Mapping[str, Mapping[int, float]],
) -> Entry:
    values = [objectives.get(name) if row["status"] == "ok" else None for name in names]
    numbers = tuple(float(value) for value in values if value is not None and math.isfinite(value))
    attributes = {
        "trial_id": trial.trial_id,
        "arm": trial.arm,
        "seed": trial.config.seed,
        "role": trial.role,
        "status": row["status"],
        **{name: value for name, value in row.items() if name.startswith("final_") and value is not None},
        "flops_alone": row["flops_alone"],
    }
    return Entry(
        key=trial.trial_id,
        params=trial.varied,
        ended=True,
        values=numbers if len(numbers) == len(names) else None,
        attributes=attributes,
        losses=losses.get(trial.trial_id, {}),
        began=row["started_at"],
        finished=row["finished_at"],
    )
