"""Everything that touches Optuna, and the only file that imports it: samplers that are asked for a batch of settings.

What goes in and comes out are plain values: spaces of ours, settings by dotted key, numbers. A sampler never sees a
storage of the user's: each batch is asked of an in-memory study that is told every earlier setting in the order of
proposal, with a seed of its own. So a batch is a function of what is told, and nothing of Optuna's is needed to go on.

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
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from core.lineage import canonical_json
from studies.space import Range, Space

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
