"""What the command `confirm` does: runs the best settings of a study again, on fresh seeds.

The choice is recorded before anything runs, so the same command resumes, and `run`, `status`, `query` and `report` know
of its trials. It is refused while compared trials are missing: the best of half a study is not its best.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InputError, Problem
from core.terms import nearest
from studies.confirm import Ranked, choose, chosen, ranking
from studies.expand import Trial
from studies.objectives import known_objectives, recorded_objectives
from studies.proposals import read_proposals
from studies.spec import study_text
from studies.store import Store
from studies.study import Study
from studies.views import open_views
from studies.wanted import wanted
from sweeps import output
from sweeps.commands_run import RunOptions, check, complete
from sweeps.commands_study import load
from sweeps.options import as_typed
from sweeps.tables import plural, table


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which settings are run again, and how often."""

    top: int
    """The best so many of each task."""
    seeds: int
    """Fresh seeds of each of them."""
    by: str | None
    """The metric that decides; None: the one that the study's search or tuning improves, else ``final_val_loss``."""
    arms: tuple[str, ...]
    """The arms whose settings are ranked; empty: all."""


def confirm(name: str, root: str, choice: Choice, options: RunOptions, *, max_trials: int, as_json: bool) -> int:
    """Chooses the best settings, records the choice and runs them."""
    study, of = load(name, max_trials=max_trials), as_typed(name, root)
    store = Store.open(root)
    best = _best(study, wanted(study, store), store, choice, of)
    if len(best) * choice.seeds > max_trials:
        many = (
            f"{plural(len(best), 'setting')} on {choice.seeds:,} seeds are more trials than --max-trials {max_trials}"
        )
        raise InputError([Problem("--seeds", f"{many}; lower --top or --seeds")])
    check(options, [one.trial for one in best])
    store = Store.open(root, create=True)
    store.keep_study(*study_text(name))
    choose(study, best, store, metric=_metric(study, choice), seeds=choice.seeds)
    if not as_json:
        rows = [(one.place, one.of, one.key[0], _setting(one.trial), _mean(one), len(one.values)) for one in best]
        output.emit(table(["place", "of", "arm", "setting", _metric(study, choice), "seeds"], rows) + "\n\n")
    facts = {"metric": _metric(study, choice), "fresh_seeds": choice.seeds, "confirmed": [_facts(one) for one in best]}

    def ask() -> list[Trial]:
        return [trial for trial in wanted(study, store) if trial.role == "confirm"]

    return complete(study, store, options, ask=ask, of=of, facts=facts, as_json=as_json)


def _metric(study: Study, choice: Choice) -> str:
    if choice.by is not None:
        return choice.by
    if study.search is not None:
        return study.search.metrics[0]
    return study.nuisance.metric if study.nuisance is not None else "final_val_loss"


def _best(study: Study, trials: Sequence[Trial], store: Store, choice: Choice, of: str) -> list[Ranked]:
    """The settings that are chosen.

    Raises:
        InputError: for an unknown arm or metric, where compared trials are missing, and where no setting has a value.
    """
    names = study.arm_names
    problems = [
        Problem("--arm", f"no such arm, got {arm!r}; {nearest(arm, names)}") for arm in choice.arms if arm not in names
    ]
    if problems:
        raise InputError(problems)
    ranked_trials = [trial for trial in trials if not choice.arms or trial.arm in choice.arms]
    rows = _rows([trial for trial in ranked_trials if trial.role != "confirm"], store, _metric(study, choice))
    missing = sum(row["status"] is None for row in rows)
    if missing or not rows or _to_propose(study, store, choice.arms or names):
        what = f"{missing:,} of {plural(len(rows), 'trial')} are missing" if missing else "trials are still to come"
        message = f"{what}, so it is not known which settings are the best; first do: loopsweep run {of}"
        raise InputError([Problem(study.name, message)])
    best = chosen(ranking(ranked_trials, rows, _metric(study, choice)), top=choice.top)
    if not best:
        message = f"no setting has a value of {_metric(study, choice)}: none ended ok; see loopsweep status {of}"
        raise InputError([Problem(study.name, message)])
    return best


def _rows(trials: Sequence[Trial], store: Store, metric: str) -> list[dict[str, Any]]:
    """Of every trial: trial_id, status and the metric.

    Raises:
        InputError: where there is no such metric.
    """
    with open_views(trials, store) as views:
        known = known_objectives(views)
        if metric not in known:
            raise InputError(
                [Problem("--by", f"must be a final_ or best_ metric, got {metric!r}; {nearest(metric, known)}")]
            )
        return recorded_objectives(views, [metric])


def _to_propose(study: Study, store: Store, arms: Sequence[str]) -> bool:
    """Whether a search of some arms has settings to propose yet."""
    if study.search is None:
        return False
    counts = Counter(arm for arm, _, _ in read_proposals(study, store))
    return any(counts[arm.name] < study.search.count(arm) for arm in study.arms if arm.name in arms)


def _setting(trial: Trial) -> str:
    return ", ".join(f"{key} = {value}" for key, value in trial.varied.items())


def _mean(one: Ranked) -> float:
    return math.fsum(one.values) / len(one.values)


def _facts(one: Ranked) -> dict[str, Any]:
    return {
        "arm": one.key[0],
        "setting": dict(one.trial.varied),
        "place": one.place,
        "of": one.of,
        "mean": _mean(one),
        "seeds": len(one.values),
    }
