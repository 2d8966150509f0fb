"""What follows from a configuration: its stages, its links, its lineages and its identity.

Of a trial's terms only those that act become identity: `model.loops` under ``single``, the betas under SGD, the floor
of a constant learning rate are dropped, so two configurations that train the same thing are the same trial.

A trial's past is a chain of *links*, one wherever something begins to act: a stage with other loops, the decay of a WSD
schedule. The *lineage* of a link is a hash of all that acted up to it and of nothing to come, so trials share the
lineage of the past they share. A state of training is (lineage, step); step n means n updates done.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from core.config import STAGE_TERMS, ModelConfig, ScheduleConfig, TrainConfig, TrialConfig, switch_step
from core.errors import InputError
from core.terms import terms

NUMERICS_VERSION = 1
"""Raised whenever the numbers that a configuration gives change; part of every lineage and trial id."""

# --- canonical form ------------------------------------------------------------------------------------------------


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, shortest round-trip numbers.

    Raises:
        InputError: for NaN, infinities and any type that JSON has no form for.
    """
    _refuse_unknown(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _refuse_unknown(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"canonical form: keys must be text, got {key!r}")
            _refuse_unknown(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_unknown(item)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"canonical form: numbers must be finite, got {value!r}")
    elif value is not None and type(value) not in (bool, int, str):
        raise InputError(f"canonical form: no form for {type(value).__name__} {value!r}")


def digest16(text: str) -> str:
    """First 16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- stages, links, lineage, identity --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A resolved stage: so many loops, from step `start` until `end`, and the terms that act only because it loops."""

    start: int
    end: int
    loops: int
    injection: str = "none"
    loss_on: str = "last"

    def terms(self) -> dict[str, Any]:
        """What acts in it, without its position."""
        if self.loops == 1:
            return {"loops": 1}
        return {"loops": self.loops, "injection": self.injection, "loss_on": self.loss_on}


def stages(config: TrialConfig) -> tuple[Stage, ...]:
    """The stages of a trial, in order, from step 0 to its last; neighbours that act alike are one."""
    return _stages(config.model, config.train, config.schedule)


def _stages(model: ModelConfig, train: TrainConfig, schedule: ScheduleConfig) -> tuple[Stage, ...]:
    def stage(start: int, end: int, loops: int) -> Stage:
        if loops == 1:
            return Stage(start=start, end=end, loops=1)
        return Stage(start=start, end=end, loops=loops, injection=model.injection, loss_on=model.loss_on)

    if schedule.kind == "single":
        return (stage(0, train.steps, 1),)
    if schedule.kind == "looped" or model.loops == 1:
        return (stage(0, train.steps, model.loops),)
    switch = switch_step(train, schedule)
    return stage(0, switch, 1), stage(switch, train.steps, model.loops)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A stretch of a trial's chain, addressed by everything that acted up to it.

    Its rows are those of the steps in (start, end]; step 0 belongs to the first link. `end` is where this trial
    leaves it and no part of its lineage.
    """

    lineage: str
    start: int
    end: int
    stage: int
    """Index of the stage it lies in."""
    loops: int
    injection: str
    loss_on: str
    decay: tuple[int, int, float] | None
    """WSD: (step at which the linear decay begins, its updates, last share of the peak), once it has begun."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cut:
    """A link without its lineage: what does not depend on the seed or the task."""

    start: int
    end: int
    stage: int
    terms: Stage
    decay: tuple[int, int, float] | None
    acted_json: str


def _cuts(model: ModelConfig, train: TrainConfig, schedule: ScheduleConfig) -> tuple[tuple[_Cut, ...], str]:
    """The cuts of a chain and their canonical JSON; cached, since trials of a grid differ mostly in their seeds."""
    return _cached_cuts(model, train, schedule, train.decay_steps)


@lru_cache(maxsize=65536)
def _cached_cuts(
    model: ModelConfig, train: TrainConfig, schedule: ScheduleConfig, decay_steps: int
) -> tuple[tuple[_Cut, ...], str]:
    """`decay_steps` is part of the key: a decay of 1 update and one of the share 1.0 are equal to a cache."""
    decay = (train.steps - decay_steps, decay_steps, train.lr_final)
    return _cuts_of(_stages(model, train, schedule), decay if train.lr_schedule == "wsd" else None)


@lru_cache(maxsize=65536)
def _cuts_of(resolved: tuple[Stage, ...], wsd: tuple[int, int, float] | None) -> tuple[tuple[_Cut, ...], str]:
    """The same by all that they depend on, which most settings of a grid share."""
    cuts: list[_Cut] = []
    decay_start = resolved[-1].end if wsd is None else wsd[0]
    for index, stage in enumerate(resolved):
        for start, end in ((stage.start, min(stage.end, decay_start)), (max(stage.start, decay_start), stage.end)):
            if start >= end:
                continue
            decay = wsd if start >= decay_start else None
            acted = stage.terms() | ({} if decay is None else {"decay": list(decay)})
            acted_json = canonical_json(acted)
            cuts.append(_Cut(start=start, end=end, stage=index, terms=stage, decay=decay, acted_json=acted_json))
    return tuple(cuts), "[" + ",".join(f"[{cut.start},{cut.acted_json}]" for cut in cuts) + "]"


def links(config: TrialConfig) -> tuple[Link, ...]:
    """The chain of a trial: one link per stage, cut once more where a WSD decay begins."""
    return _links(_cuts(config.model, config.train, config.schedule)[0], _base_json(config))


def _links(cuts: tuple[_Cut, ...], base_json: str) -> tuple[Link, ...]:
    chain: list[Link] = []
    for cut in cuts:
        past = f'"{chain[-1].lineage}",{cut.start}' if chain else f"{NUMERICS_VERSION},{base_json}"
        chain.append(
            Link(
                lineage=digest16(f"[{past},{cut.acted_json}]"),
                start=cut.start,
                end=cut.end,
                stage=cut.stage,
                loops=cut.terms.loops,
                injection=cut.terms.injection,
                loss_on=cut.terms.loss_on,
                decay=cut.decay,
            )
        )
    return tuple(chain)


@lru_cache(maxsize=4096)
def _section_json(section: Any) -> str:
    return canonical_json({name: getattr(section, name) for name in section.acting()})


@lru_cache(maxsize=16384)  # a grid over optimiser terms walks through thousands of these, again and again
def _train_json(train: TrainConfig) -> str:
    """Optimiser terms without the total length, except where the schedule depends on it from the start (cosine)."""
    names = train.acting() - {"steps", "lr_schedule", "lr_final", "decay"}
    acted = {name: getattr(train, name) for name in names}
    if train.lr_schedule == "cosine":
        acted["cosine"] = [train.steps, train.lr_final]
    return canonical_json(acted)


def _base_json(config: TrialConfig) -> str:
    before, after = _around_seed(config)
    return f"{before}{config.seed}{after}"


def _around_seed(config: TrialConfig) -> tuple[str, str]:
    return (
        f'{{"model":{_section_json(config.model)},"seed":',
        f',"task":{_section_json(config.task)},"train":{_train_json(config.train)}}}',
    )


def identity_json(config: TrialConfig) -> str:
    """The canonical JSON over which the trial id is taken: what acts, the resolved links, the last step."""
    chain = _cuts(config.model, config.train, config.schedule)[1]
    return _identity_json(_base_json(config), chain, config.train.steps)


def _identity_json(base_json: str, chain: str, steps: int) -> str:
    return f'{{"base":{base_json},"links":{chain},"numerics":{NUMERICS_VERSION},"steps":{steps}}}'


def trial_id(config: TrialConfig) -> str:
    """16 hex digits that name what a trial trains; equal for configurations that differ in nothing that acts."""
    return digest16(identity_json(config))


def under_seeds(config: TrialConfig, seeds: Iterable[int]) -> Iterator[tuple[TrialConfig, str, tuple[Link, ...]]]:
    """The trial of each seed: configuration, trial id and links; what does not depend on the seed is done once."""
    cuts, chain = _cuts(config.model, config.train, config.schedule)
    before, after = _around_seed(config)
    task, model, train, schedule, measure = config.task, config.model, config.train, config.schedule, config.measure
    for seed in seeds:
        base = f"{before}{seed}{after}"
        trial = TrialConfig(task=task, model=model, train=train, schedule=schedule, measure=measure, seed=seed)
        yield trial, digest16(_identity_json(base, chain, train.steps)), _links(cuts, base)


def acting_keys(config: TrialConfig) -> frozenset[str]:
    """The dotted keys whose values act on this trial: changing any other gives the same trial."""
    loops = {cut.terms.loops for cut in _cuts(config.model, config.train, config.schedule)[0]}
    staged = {"model.loops"} if config.schedule.kind != "single" else set()
    if loops != {1}:
        staged |= {"model.injection", "model.loss_on"}
    keys = _section_keys("task", config.task) | _section_keys("model", config.model)
    keys |= _section_keys("train", config.train) | _section_keys("schedule", config.schedule)
    return keys - {"schedule.switch"} | staged | {"seed"} if loops == {1} else keys | staged | {"seed"}


@lru_cache(maxsize=4096)
def _section_keys(section: str, values: Any) -> frozenset[str]:
    return frozenset(f"{section}.{name}" for name in values.acting())


def is_identity(key: str) -> bool:
    """Whether a dotted key is part of what a trial is (``train.evaluate_every`` and ``measure.*`` are not)."""
    section, _, name = key.partition(".")
    if section == "measure":
        return False
    cls = TrainConfig if section == "train" else None
    return cls is None or name not in terms(cls) or bool(terms(cls)[name].metadata["identity"])


def pack_shape(config: TrialConfig, link: Link) -> tuple[Any, ...]:
    """What must agree for trials to train in one stacked step: tensor shapes, kinds, precision, loops."""
    model, train = config.model, config.train
    return (
        config.task.kind,
        config.task.vocabulary,
        config.task.context,
        config.task.val_size,
        config.task.stratum_names,
        train.batch,
        train.optimizer,
        train.precision,
        *astuple_shape(model),
        link.loops,
        link.injection,
        link.loss_on,
    )


@lru_cache(maxsize=4096)
def astuple_shape(model: ModelConfig) -> tuple[Any, ...]:
    """The model's terms that shape its tensors and operations."""
    return tuple(getattr(model, name) for name in terms(ModelConfig) if name not in STAGE_TERMS | {"init_scale"})
