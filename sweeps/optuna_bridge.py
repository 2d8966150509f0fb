"""Everything that touches Optuna, and the only file that imports it: samplers, importances, storages.

What goes in and comes out are plain values: spaces of ours, settings by dotted key, numbers. A sampler never sees a
storage of the user's, which is only ever written (`write`): each batch is asked of an in-memory study that is told all
earlier settings in the order of proposal, with a seed of its own. So a batch is a function of what is told, and nothing
of Optuna's is needed to go on.

How the samplers treat the settings of the batch that they have asked for and that have no value yet:

- ``tpe`` (`TPESampler`): the constant liar. They count among the bad ones, which keeps the others away from them.
- ``gp`` (`GPSampler`): no lie is told. The acquisition is the expected improvement of the whole batch (qLogEI; with
  several objectives qLogEHVI), integrated over what the Gaussian process thinks of the running settings; the batch is
  filled greedily, one after the other.
- ``nsga2`` (`NSGAIISampler`): a batch is a generation, bred from the best of the ones before.
- ``qmc`` (`QMCSampler`): a scrambled Sobol sequence whose place is the number of the proposal; ``random``: independent.

A setting without a value is told as failed: samplers leave it out, and no number is made up for it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from core.errors import InputError
from core.lineage import canonical_json
from studies.space import Range, Space
from sweeps.storage_url import CONNECT_SECONDS, StorageUrl, server_url

Direction = Literal["minimize", "maximize"]
Params = Mapping[str, Any]
"""A setting: values by dotted key."""
Told = tuple[Params, tuple[float, ...] | None]
"""A setting, and the value of each objective; None where any of them is missing."""

_GENERATION = "NSGAIISampler:generation"
"""Where the sampler keeps the generation of a trial, among the trial's system attributes."""


def ask(
    kind: str,
    space: Space,
    told: Sequence[Told],
    *,
    count: int,
    first: int,
    seed: int,
    batch: int,
    lower: Sequence[bool],
) -> list[dict[str, Any]]:
    """The next settings.

    Args:
        kind: random | qmc | tpe | gp | nsga2.
        space: what is searched.
        told: earlier settings in the order of proposal; `random` and `qmc` need none.
        count: how many settings are asked for.
        first: number of the first of them.
        seed: of the sampler, in 0 … 2^32 − 1; of `qmc` the same for all batches.
        batch: settings of a batch: a generation of `nsga2`.
        lower: of each objective, whether lower is better.
    """
    known = distributions(space)
    with _quiet():
        study = optuna.create_study(
            sampler=_sampler(kind, seed, batch), directions=["minimize" if low else "maximize" for low in lower]
        )
        if kind == "qmc":
            # The sampler reads the space off the first trial, and its place in the sequence off its own earlier asks.
            study.add_trial(_origin(known, len(lower)))
            asked = [study.ask(known).params for _ in range(first + count)][first:]
        else:
            generations = _generations([values is not None for _, values in told], batch) if kind == "nsga2" else []
            for number, (params, values) in enumerate(told):
                attributes = {_GENERATION: generations[number]} if generations else {}
                study.add_trial(_finished(space, known, params, values, attributes))
            asked = [study.ask(known).params for _ in range(count)]
    return [_values(space, params) for params in asked]


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log, and without its warning that the Sobol sampler is experimental."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _sampler(kind: str, seed: int, batch: int) -> BaseSampler:
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "qmc":
        return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)
    if kind == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    if kind == "gp":
        return GPSampler(seed=seed, warn_independent_sampling=False)
    return NSGAIISampler(seed=seed, population_size=batch)


def _generations(ended_well: Sequence[bool], batch: int) -> list[int]:
    """The generation of each told setting, by the sampler's own rule: the next begins once the last has `batch` values.

    Args:
        ended_well: of each setting, whether it has a value.
        batch: settings of a generation.
    """
    found: list[int] = []
    generation = full = 0
    for first in range(0, len(ended_well), batch):
        values = ended_well[first : first + batch]
        if full >= batch:
            generation, full = generation + 1, 0
        found += [generation] * len(values)
        full += sum(values)
    return found


# --- spaces in Optuna's words ----------------------------------------------------------------------------------------


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
    space: Space,
    known: dict[str, BaseDistribution],
    params: Params,
    values: tuple[float, ...] | None,
    attributes: dict[str, Any],
) -> FrozenTrial:
    """An earlier setting as Optuna remembers one."""
    return create_trial(
        state=TrialState.FAIL if values is None else TrialState.COMPLETE,
        values=values,
        params={key: params[key] if isinstance(d, Range) else canonical_json(params[key]) for key, d in space.items()},
        distributions=known,
        system_attrs=attributes,
    )


def _origin(known: dict[str, BaseDistribution], objectives: int) -> FrozenTrial:
    """A trial that shows the space and nothing else."""
    params = {key: d.choices[0] if isinstance(d, CategoricalDistribution) else d.low for key, d in known.items()}  # type: ignore[attr-defined]  # all others have ends
    return create_trial(values=[0.0] * objectives, params=params, distributions=known)


def _values(space: Space, params: Params) -> dict[str, Any]:
    """Optuna's parameters as values of the terms."""
    return {key: params[key] if isinstance(d, Range) else json.loads(params[key]) for key, d in space.items()}


# --- importances -----------------------------------------------------------------------------------------------------


def importances(space: Space, told: Sequence[Told], *, objective: int, lower: bool) -> dict[str, dict[str, float]]:
    """How much each key matters for one objective, by evaluator and key; each evaluator's sum to 1.

    ``ped-anova`` (arXiv 2304.10255) asks what tells the best tenth of the settings from all of them; ``fanova`` (Hutter
    et al. 2014) shares out the variance of a random forest, bad settings included. They may well disagree.

    Args:
        space: what was searched.
        told: settings with their objectives; those that failed are left out.
        objective: the place of the objective among the values.
        lower: whether lower is better.
    """
    known = distributions(space)
    with _quiet():
        study = optuna.create_study(direction="minimize" if lower else "maximize")
        for params, values in told:
            if values is not None:
                study.add_trial(_finished(space, known, params, (values[objective],), {}))
        found = {}
        evaluators = {"ped-anova": PedAnovaImportanceEvaluator(), "fanova": FanovaImportanceEvaluator(seed=0)}
        for name, evaluator in evaluators.items():
            values_of = get_param_importances(study, evaluator=evaluator)
            found[name] = {key: float(values_of[key]) for key in space}
    return found


# --- storages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A trial of an Optuna storage, in plain values."""

    key: str
    """Names it within its Optuna study: the user attribute ``key``."""
    params: Params
    ended: bool
    values: tuple[float, ...] | None = None
    """Of each objective; None: not yet, or where it has ended, it failed."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """User attributes, beside the key."""
    losses: Mapping[int, float] = field(default_factory=dict)
    """Intermediate values by step."""
    began: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An Optuna study as it is to stand in a storage."""

    name: str
    space: Space
    """Of every key that an entry has."""
    metrics: Sequence[str]
    lower: Sequence[bool]
    """Of each metric, whether lower is better."""
    entries: Sequence[Entry]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What writing has changed."""

    added: int = 0
    ended: int = 0
    """Running ones that have ended."""
    anew: bool = False
    """The storage contradicted what is recorded, so the Optuna study was deleted and written again."""


_OURS = "loopsweep"
"""A user attribute of the Optuna studies that we wrote."""


@contextmanager
def opened(url: StorageUrl) -> Iterator[BaseStorage]:
    """A storage; made where it is not there.

    Raises:
        Exception: of many kinds, where it cannot be opened.
    """
    with _quiet():
        if url.path is not None and url.kind == "journal":
            yield JournalStorage(JournalFileBackend(str(url.path)))
            return
        arguments = {"connect_args": {"connect_timeout": CONNECT_SECONDS}} if url.path is None else {}
        storage = RDBStorage(server_url(url), engine_kwargs=arguments)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


def write(storage: BaseStorage, shown: Shown) -> Written:
    """Brings an Optuna study of a storage up to what is shown: adds what is missing, ends what has ended.

    What the storage has beyond it stays. Where the two contradict each other (another value, another space), the study
    is deleted and written anew. One writer at a time (`sweeps.storage_url.exclusive`).

    Raises:
        InputError: where a study of this name is none of ours.
    """
    directions: list[Direction] = ["minimize" if low else "maximize" for low in shown.lower]
    anew = False
    study = optuna.create_study(storage=storage, study_name=shown.name, directions=directions, load_if_exists=True)
    if study.trials and _OURS not in study.user_attrs:
        raise InputError(f"the storage has a study {shown.name!r} that loopsweep did not write; rename or delete it")
    if _contradicts(study, shown, directions):
        optuna.delete_study(study_name=shown.name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=shown.name, directions=directions)
        anew = True
    if _OURS not in study.user_attrs:
        study.set_user_attr(_OURS, "written from its tables, which alone count; what is changed here changes nothing")
        study.set_metric_names(list(shown.metrics))
    known = {trial.user_attrs["key"]: trial for trial in study.get_trials(deepcopy=False) if "key" in trial.user_attrs}
    within = {key: _shown_distribution(dimension) for key, dimension in shown.space.items()}
    added = ended = 0
    for entry in shown.entries:
        if entry.key not in known:
            study.add_trial(_stored(entry, within))
            added += 1
        elif entry.ended and not known[entry.key].state.is_finished():
            _end(storage, shown.name, known[entry.key].number, entry)
            ended += 1
    return Written(added=added, ended=ended, anew=anew)


def _contradicts(study: optuna.Study, shown: Shown, directions: Sequence[str]) -> bool:
    """Whether what a storage has cannot be brought up to what is shown by adding and ending alone."""
    entries = {entry.key: entry for entry in shown.entries}
    within = {key: _shown_distribution(dimension) for key, dimension in shown.space.items()}
    if [direction.name.lower() for direction in study.directions] != list(directions):
        return True
    seen: set[str] = set()
    for trial in study.get_trials(deepcopy=False):
        key = trial.user_attrs.get("key")
        if key is None or key in seen:
            return True
        seen.add(key)
        for name, distribution in trial.distributions.items():
            if not _goes_with(within.get(name, distribution), distribution):
                return True
        entry = entries.get(key)
        if entry is None:
            continue
        if trial.params != _shown_params(entry.params, within):
            return True
        if trial.state.is_finished() and entry.ended:
            values = None if trial.state != TrialState.COMPLETE else tuple(trial.values)
            if values != entry.values:
                return True
    return False


def _goes_with(ours: BaseDistribution, theirs: BaseDistribution) -> bool:
    """Whether both may stand in one Optuna study: the ends of a range may move, its kind and choices may not."""
    if isinstance(ours, CategoricalDistribution) or type(ours) is not type(theirs):
        return ours == theirs
    return getattr(ours, "log", None) == getattr(theirs, "log", None)


def _stored(entry: Entry, within: Mapping[str, BaseDistribution]) -> FrozenTrial:
    failed = TrialState.FAIL if entry.ended else TrialState.RUNNING
    trial = create_trial(
        state=failed if entry.values is None else TrialState.COMPLETE,
        values=entry.values,
        params=_shown_params(entry.params, within),
        distributions={key: within[key] for key in entry.params},
        user_attrs={"key": entry.key, **entry.attributes},
        intermediate_values=dict(entry.losses),
    )
    if entry.began is not None and (entry.finished is not None or not entry.ended):
        trial.datetime_start, trial.datetime_complete = entry.began, entry.finished if entry.ended else None
    return trial


def _end(storage: BaseStorage, name: str, number: int, entry: Entry) -> None:
    """A running trial of a storage has ended."""
    trial = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(name), number)
    for key, value in entry.attributes.items():
        storage.set_trial_user_attr(trial, key, value)
    for step, loss in entry.losses.items():
        storage.set_trial_intermediate_value(trial, step, loss)
    state = TrialState.FAIL if entry.values is None else TrialState.COMPLETE
    storage.set_trial_state_values(trial, state, entry.values)


def _shown_distribution(dimension: Range | tuple[Any, ...]) -> BaseDistribution:
    """As people read it: choices by themselves, where Optuna can hold and tell them apart."""
    if not isinstance(dimension, Range) and _plain(dimension):
        return CategoricalDistribution(dimension)
    return _distribution(dimension)


def _plain(choices: Sequence[Any]) -> bool:
    scalar = all(choice is None or isinstance(choice, (bool, int, float, str)) for choice in choices)
    return scalar and len(set(choices)) == len(choices)  # True, 1 and 1.0 are equal


def _shown_params(params: Params, within: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    found = {}
    for key, value in params.items():
        distribution = within[key]
        texts = isinstance(distribution, CategoricalDistribution) and value not in distribution.choices
        found[key] = canonical_json(value) if texts else value
    return found
