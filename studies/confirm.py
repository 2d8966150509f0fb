"""Settings that are run again on fresh seeds: which are the best, and which trials the recorded choice asks for.

The best of many settings was chosen on its seeds, so its mean on them is too good; a mean on seeds that had no part in
the choice is not. What was chosen is a row of the table ``confirmations`` for each seed, recorded before it runs: the
metric that chose, the arm and the setting, named by the trial that it is under seed 0. Every command sees its trials,
a second call with more seeds or settings adds to them, and a setting that the study does not have any more is not run.

The ranking is a pure function of the rows of the compared trials, by the rule by which nuisance settings win: a setting
of which a seed has no value comes after all that have fewer such seeds, then the mean decides, then the order of the
study. Losses on different tasks do not compare, so each task has a ranking of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config import TrialConfig
from core.lineage import trial_id, under_seeds, watch
from core.streams import fresh_seeds
from core.task_terms import TRAINED_ON
from core.terms import terms
from studies.expand import Trial
from studies.metrics import metric
from studies.store import Store
from studies.study import Study

SettingKey = tuple[str, str]
"""Arm, and the trial_id that the setting has under seed 0."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A setting and its place among those of its task."""

    key: SettingKey
    trial: Trial
    """The first of its compared trials."""
    place: int
    """1: the best."""
    of: int
    """Settings that were ranked."""
    values: tuple[float, ...]
    """Of the metric, of the seeds that have one."""
    without: int
    """Seeds without a value."""


def settings(trials: Iterable[Trial], role: str = "compare") -> dict[SettingKey, list[Trial]]:
    """The trials of a role by setting, in the order of the study."""
    found: dict[Any, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.role == role:
            # By type and value: a switch at step 1 and one at the share 1.0 are equal, and two settings.
            varied = tuple((name, type(value), value) for name, value in trial.varied.items())
            found[trial.arm, varied].append(trial)
    return {(own[0].arm, _name(own[0].config)): own for own in found.values()}


def read_confirmations(study: Study, store: Store) -> dict[str, dict[SettingKey, tuple[int, ...]]]:
    """The fresh seeds that are recorded for a study: by metric and setting, ascending."""
    taken, found = _taken(study), defaultdict(lambda: defaultdict(list))  # type: ignore[var-annotated]
    for row in store.read("confirmations").to_pylist():
        if row["study"] == study.name and row["seed"] not in taken:
            found[row["metric"]][row["arm"], row["setting"]].append(row["seed"])
    return {name: {key: tuple(sorted(seeds)) for key, seeds in of.items()} for name, of in sorted(found.items())}


def confirmed(study: Study, trials: Sequence[Trial], store: Store) -> list[Trial]:
    """The trials of role ``confirm`` that are recorded for a study, in canonical order.

    Args:
        study: whose seeds, those of tuning too, are fresh no more.
        trials: of the study, without these.
        store: with the table ``confirmations``.
    """
    asked: dict[SettingKey, set[int]] = defaultdict(set)
    for of_metric in read_confirmations(study, store).values():
        for key, seeds in of_metric.items():
            asked[key].update(seeds)
    if not asked:
        return []
    found = []
    for key, own in settings(trials).items():
        first = watch(own[0].config)
        for config, name, chain in under_seeds(own[0].config, sorted(asked.get(key, ()))):
            fresh = replace(own[0], role="confirm", config=config, trial_id=name, links=chain, ended=(), watch=first)
            found.append(fresh)
    return found


def ranking(trials: Sequence[Trial], rows: Iterable[Mapping[Any, Any]], name: str) -> list[Ranked]:
    """The settings of some trials by a metric; by task, in the order of the study, the best first.

    Args:
        trials: of the study; those of another role than ``compare`` do no harm.
        rows: of the view ``trials``, of all that have ended: trial_id, status and the metric.
        name: a ``final_`` or ``best_`` column of the view.
    """
    lower = metric(name).better == "lower"
    recorded = {row["trial_id"]: row[name] if row["status"] == "ok" else None for row in rows}
    of_task: dict[Any, list[tuple[tuple[int, float, int], SettingKey, Trial, tuple[float, ...], int]]]
    of_task = defaultdict(list)
    for place, (key, own) in enumerate(settings(trials).items()):
        values = [recorded.get(trial.trial_id) for trial in own]
        known = tuple(float(value) for value in values if value is not None and math.isfinite(value))
        mean = math.fsum(known) / len(known) if known else 0.0
        without = len(own) - len(known)
        score = without, mean if lower else -mean, place
        of_task[task_of(own[0].config)].append((score, key, own[0], known, without))
    return [
        Ranked(key=key, trial=trial, place=place, of=len(found), values=values, without=without)
        for found in of_task.values()
        for place, (_, key, trial, values, without) in enumerate(sorted(found, key=lambda one: one[0]), 1)
    ]


def chosen(ranked: Iterable[Ranked], *, top: int) -> list[Ranked]:
    """The best settings of each task, of those that have a value."""
    return [one for one in ranked if one.place <= top and one.values]


def choose(study: Study, best: Iterable[Ranked], store: Store, *, metric: str, seeds: int) -> None:
    """Records that settings are to be run on so many fresh seeds; what is recorded already stays as it is.

    Args:
        study: the study.
        best: the settings.
        store: open, to be written.
        metric: that chose them.
        seeds: how many.

    Raises:
        StoreError: where the store cannot be written.
    """
    known = {tuple(row.values()) for row in store.read("confirmations").to_pylist()}
    fresh = fresh_seeds("confirm", seeds, _taken(study))
    rows = [
        {"study": study.name, "metric": metric, "arm": one.key[0], "setting": one.key[1], "seed": seed}
        for one in best
        for seed in fresh
    ]
    missing = [row for row in rows if tuple(row.values()) not in known]
    if missing:
        store.commit({"confirmations": missing})


def _taken(study: Study) -> set[int]:
    """The seeds that had a part in the choice."""
    return {*study.seeds, *(study.nuisance.seeds if study.nuisance else ())}


def _name(config: TrialConfig) -> str:
    return trial_id(replace(config, seed=0))


def task_of(config: TrialConfig) -> Any:
    """The task that a trial is validated on, but for its seed: what differs in it does not compare."""
    task = config.task
    return task.kind, tuple((name, getattr(task, name)) for name in terms(type(task)) if name not in TRAINED_ON)
