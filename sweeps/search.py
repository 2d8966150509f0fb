"""Random and TPE search: which settings to try next, batch by batch; the only file with optuna.

A batch is a pure function of the study and of the rows of the batches before it: an in-memory Optuna study is told
every earlier setting in the order of proposal, its sampler is seeded by (search seed, arm, batch), and asked once per
setting of the batch. So nothing of Optuna's is ever stored. What it proposed is recorded in the table ``proposals``
before it runs; of two drivers that propose at once, the first record of a proposal counts.

Each arm is searched alone. A random search needs no results: all of its batches are due at once. A setting of which a
seed diverged or failed is told as failed: it has no value, and none is made up. A setting that comes up again is the
same trial and costs nothing.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from core.lineage import canonical_json
from core.streams import derived_seed
from studies.expand import Proposal, expand
from studies.proposals import read_proposals, search_digest
from studies.schemas import metric
from studies.space import Range, Space
from studies.store import Store
from studies.study import Arm, Search, Study

Rows = Iterable[Mapping[str, Any]]
"""Of the view ``trials``: trial_id, status and the column that `search.metric` names."""


def advance(study: Study, store: Store, rows: Rows) -> bool:
    """Proposes and records whatever is due; for a driver that finds nothing missing.

    Args:
        study: with a ``[search]``; one without has no proposals.
        store: where proposals are recorded.
        rows: of all trials that have ended (others do no harm).

    Returns:
        Whether there are proposals whose trials have not ended: of this call, or of another driver.

    Raises:
        StoreError: where the proposals cannot be written.
    """
    known, ended = read_proposals(study, store), _by_trial(rows)
    due = _due(study, known, ended)
    if due:
        store.commit({"proposals": due})
    return bool(due) or _told(study, known, ended) is None


def propose(study: Study, known: Sequence[Proposal], rows: Rows) -> list[dict[str, Any]]:
    """The rows of table proposals that are due: per arm, the next batch once all trials before it have ended.

    Args:
        study: the study.
        known: what was proposed before, from `read_proposals`.
        rows: of the trials that have ended.
    """
    return _due(study, known, _by_trial(rows))


def _by_trial(rows: Rows) -> dict[str, Mapping[str, Any]]:
    return {row["trial_id"]: row for row in rows if row["status"] is not None}


def _due(study: Study, known: Sequence[Proposal], ended: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    search = study.search
    if search is None:
        return []
    due: list[dict[str, Any]] = []
    for arm in study.arms:
        before = [proposal for proposal in known if proposal[0] == arm.name]
        while len(before) < search.trials:
            told = [] if search.kind == "random" else _told(study, before, ended)
            if told is None:
                break
            batch = _ask(search, arm.name, len(before), told)
            due += _recorded(study, search, arm, batch)
            before += batch
            if search.kind != "random":
                break
    return due


def _recorded(study: Study, search: Search, arm: Arm, batch: Sequence[Proposal]) -> list[dict[str, Any]]:
    digest = search_digest(search, arm)
    return [
        {
            "study": study.name,
            "search": digest,
            "arm": arm.name,
            "number": number,
            "params": canonical_json(params),
            "batch": number // search.batch,
        }
        for _, number, params in batch
    ]


# --- results ---------------------------------------------------------------------------------------------------------


def _told(
    study: Study, before: Sequence[Proposal], ended: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], float | None]] | None:
    """Settings with their values, in the order of proposal; None while any of their trials has not ended."""
    told = []
    for proposal in before:
        found = [ended.get(trial.trial_id) for trial in expand(study, proposals=[proposal])]
        rows = [row for row in found if row is not None]
        if len(rows) < len(found):
            return None
        told.append((proposal[2], _mean(rows, study.search.metric if study.search else "")))
    return told


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean over the seeds; None where a seed did not end ok or has no finite value."""
    values = [row[name] if row["status"] == "ok" else None for row in rows]
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite and len(finite) == len(values) else None


# --- Optuna ----------------------------------------------------------------------------------------------------------


def _ask(
    search: Search, arm: str, first: int, told: Sequence[tuple[Mapping[str, Any], float | None]]
) -> list[Proposal]:
    """The proposals from number `first` to the end of its batch."""
    batch = first // search.batch
    last = min(search.trials, (batch + 1) * search.batch)
    space = distributions(search.space)
    lower = metric(search.metric).better == "lower"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        # The constant liar is marked experimental; it is what keeps the settings of a batch apart.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = _sampler(search.kind, derived_seed(search.seed, "search", arm, batch, first) % 2**32)
        study = optuna.create_study(sampler=sampler, direction="minimize" if lower else "maximize")
        study.add_trials([_finished(search.space, space, params, value) for params, value in told])
        asked = [study.ask(space).params for _ in range(first, last)]
    return [(arm, first + place, _values(search.space, params)) for place, params in enumerate(asked)]


def _sampler(kind: str, seed: int) -> optuna.samplers.BaseSampler:
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words; choices by their JSON text, since Optuna takes no lists."""
    return {key: _distribution(dimension) for key, dimension in space.items()}


def _distribution(dimension: Range | tuple[Any, ...]) -> BaseDistribution:
    if not isinstance(dimension, Range):
        return CategoricalDistribution([canonical_json(choice) for choice in dimension])
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _finished(
    space: Space, known: dict[str, BaseDistribution], params: Mapping[str, Any], value: float | None
) -> FrozenTrial:
    """An earlier setting as Optuna remembers one."""
    return create_trial(
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        value=value,
        params={key: params[key] if isinstance(d, Range) else canonical_json(params[key]) for key, d in space.items()},
        distributions=known,
    )


def _values(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's parameters as values of the terms."""
    return {key: params[key] if isinstance(d, Range) else json.loads(params[key]) for key, d in space.items()}
