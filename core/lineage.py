"""What follows from a configuration: its links, its lineages and its identity.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from core.config import STAGE_TERMS, ModelConfig, TrainConfig, TrialConfig
from core.errors import InputError
from core.schedule import Acting, Declared, Stage, Watch, declared, placed
from core.schedule_terms import CriterionConfig, ScheduleConfig, step_of
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
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
_PLAIN = frozenset({bool, int, str, type(None)})


def _refuse_unknown(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"canonical form: keys must be text, got {key!r}")
            if type(item) not in _PLAIN:  # most are: spared a call
                _refuse_unknown(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_unknown(item)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"canonical form: numbers must be finite, got {value!r}")
    elif type(value) not in _PLAIN:
        raise InputError(f"canonical form: no form for {type(value).__name__} {value!r}")


def digest16(text: str) -> str:
    """First 16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- links, lineage, identity ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A stretch of a trial's chain, addressed by everything that acted up to it.

    Its rows are those of the steps in (start, end]; step 0 belongs to the first link. `end` is where this trial
    leaves it (at the latest, where a criterion decides) and no part of its lineage.
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
    draw: float | None = None
    """Loops of each update are drawn with mean `loops` (Poisson-lognormal, this sigma); None: they are `loops`."""
    offset: int | None = None
    """A sequence of length n is looped n + offset times, at least once and at most `loops`; None: `loops` times."""
    backprop: int = 0
    """Gradients flow through the last so many loops; 0: through all."""
    lr_factor: float = 1.0
    """Of its stage."""
    rewarm: tuple[int, int] | None = None
    """(step at which its stage began, updates of linear warm-up there)."""
    reset: int = 0
    """Step at which the optimiser state was last zero: 0, or the start of a stage that resets it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cut:
    """A link without its lineage: what does not depend on the seed or the task."""

    start: int
    end: int
    stage: int
    acting: Acting
    rewarm: tuple[int, int] | None
    reset: int
    decay: tuple[int, int, float] | None
    acted_json: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chain:
    """The cuts of a trial, as far as known."""

    cuts: tuple[_Cut, ...]
    identity: str
    """What its schedule is, as a part of `identity_json`; does not depend on what criteria have decided."""
    watch: Watch | None


def _chain(config: TrialConfig, ended: tuple[int, ...] = ()) -> _Chain:
    """The chain of a trial; cached, since trials of a grid differ mostly in their seeds."""
    stages, wsd = _declared(config)
    return _cached_chain(stages, wsd, ended)


def _declared(config: TrialConfig) -> tuple[tuple[Declared, ...], tuple[int, int, float] | None]:
    train, schedule = config.train, config.schedule
    # By what is read of the optimiser's terms: a grid over learning rates has one answer.
    wsd = (train.decay_steps, train.lr_final) if train.lr_schedule == "wsd" else None
    ends = _worked_out(train, schedule)
    return _cached_declared(config.model, schedule, train.steps, train.evaluate_every, wsd, ends)


def _worked_out(train: TrainConfig, schedule: ScheduleConfig) -> tuple[int, ...]:
    """The steps behind shares: part of the key, since to a cache a step of 1 and a share of 1.0 are equal."""
    ends: list[float | int] = [schedule.switch, schedule.ramp, schedule.latest]
    for stage in schedule.stages:
        end = stage.until.latest if isinstance(stage.until, CriterionConfig) else stage.until
        ends.append(0 if end is None else end)
    return tuple([step_of(end, train.steps) for end in ends])


@lru_cache(maxsize=65536)
def _cached_declared(
    model: ModelConfig,
    schedule: ScheduleConfig,
    steps: int,
    evaluate_every: int,
    wsd: tuple[int, float] | None,
    _ends: tuple[int, ...],
) -> tuple[tuple[Declared, ...], tuple[int, int, float] | None]:
    stages = declared(model, TrainConfig(steps=steps, evaluate_every=evaluate_every), schedule)
    return stages, None if wsd is None else (steps - wsd[0], *wsd)


@lru_cache(maxsize=65536)
def _cached_chain(stages: tuple[Declared, ...], wsd: tuple[int, int, float] | None, ended: tuple[int, ...]) -> _Chain:
    """By all that it depends on, which most settings of a grid share."""
    found, watch = placed(stages, ended)
    cuts: list[_Cut] = []
    decay_start = found[-1].end if wsd is None else wsd[0]
    reset = 0
    for index, stage in enumerate(found):
        acting = stage.acting
        reset = stage.start if acting.reset else reset
        for start, end in ((stage.start, min(stage.end, decay_start)), (max(stage.start, decay_start), stage.end)):
            if start >= end:
                continue
            decay = wsd if wsd is not None and start >= decay_start else None
            acted_json = canonical_json(acting.terms() | ({} if decay is None else {"decay": list(decay)}))
            rewarm = (stage.start, acting.rewarm) if acting.rewarm else None
            cuts.append(
                _Cut(
                    start=start,
                    end=end,
                    stage=index,
                    acting=acting,
                    rewarm=rewarm,
                    reset=reset,
                    decay=decay,
                    acted_json=acted_json,
                )
            )
    return _Chain(cuts=tuple(cuts), identity=_schedule_identity(stages, wsd, cuts), watch=watch)


def _schedule_identity(stages: tuple[Declared, ...], wsd: tuple[int, int, float] | None, cuts: Sequence[_Cut]) -> str:
    """Of fixed stages the cuts; where a criterion decides, the stages as they are declared."""
    if all(isinstance(stage.until, int) for stage in stages):
        return '"links":[' + ",".join(f"[{cut.start},{cut.acted_json}]" for cut in cuts) + "]"
    plain = [
        [stage.acting.terms(), stage.until if isinstance(stage.until, int) else stage.until.terms()] for stage in stages
    ]
    return f'"links":{{"decay":{canonical_json(wsd)},"stages":{canonical_json(plain)}}}'


def stages(config: TrialConfig, ended: tuple[int, ...] = ()) -> tuple[Stage, ...]:
    """The stages of a trial, in order; as far as the ends of its criteria (`ended`) decide them."""
    return placed(_declared(config)[0], ended)[0]


def watch(config: TrialConfig, ended: tuple[int, ...] = ()) -> Watch | None:
    """What a trial waits for, where its criteria have ended stages at the steps `ended`; None: nothing any more."""
    return _chain(config, ended).watch


def links(config: TrialConfig, ended: tuple[int, ...] = ()) -> tuple[Link, ...]:
    """The chain of a trial: one link per stage, cut once more where a WSD decay begins.

    Args:
        config: the trial.
        ended: by criterion, in order, the step at which it ended its stage. Where one is not known yet, the chain
            goes to that criterion's latest step.
    """
    return _links(_chain(config, ended).cuts, _base_json(config))


def _links(cuts: tuple[_Cut, ...], base_json: str) -> tuple[Link, ...]:
    chain: list[Link] = []
    for cut in cuts:
        past = f'"{chain[-1].lineage}",{cut.start}' if chain else f"{NUMERICS_VERSION},{base_json}"
        acting = cut.acting
        chain.append(
            Link(
                lineage=digest16(f"[{past},{cut.acted_json}]"),
                start=cut.start,
                end=cut.end,
                stage=cut.stage,
                loops=acting.loops,
                injection=acting.injection,
                loss_on=acting.loss_on,
                decay=cut.decay,
                draw=acting.draw,
                offset=acting.offset,
                backprop=acting.backprop,
                lr_factor=acting.lr_factor,
                rewarm=cut.rewarm,
                reset=cut.reset,
            )
        )
    return tuple(chain)


@lru_cache(maxsize=4096)
def _section_json(section: Any) -> str:
    declared_terms = terms(type(section))
    acted = {name: getattr(section, name) for name in section.acting()}
    as_before = {n for n, v in acted.items() if declared_terms[n].metadata["later"] and v == declared_terms[n].default}
    return canonical_json({name: value for name, value in acted.items() if name not in as_before})


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
    """The canonical JSON over which the trial id is taken: what acts, its schedule worked out, the last step."""
    return _identity_json(_base_json(config), _chain(config).identity, config.train.steps)


def _identity_json(base_json: str, schedule: str, steps: int) -> str:
    return f'{{"base":{base_json},{schedule},"numerics":{NUMERICS_VERSION},"steps":{steps}}}'


def trial_id(config: TrialConfig) -> str:
    """16 hex digits that name what a trial trains; equal for configurations that differ in nothing that acts."""
    return digest16(identity_json(config))


def under_seeds(config: TrialConfig, seeds: Iterable[int]) -> Iterator[tuple[TrialConfig, str, tuple[Link, ...]]]:
    """The trial of each seed: configuration, trial id and links; what does not depend on the seed is done once."""
    chain = _chain(config)
    before, after = _around_seed(config)
    task, model, train, schedule, measure = config.task, config.model, config.train, config.schedule, config.measure
    for seed in seeds:
        base = f"{before}{seed}{after}"
        trial = TrialConfig(task=task, model=model, train=train, schedule=schedule, measure=measure, seed=seed)
        yield trial, digest16(_identity_json(base, chain.identity, train.steps)), _links(chain.cuts, base)


def acting_keys(config: TrialConfig) -> frozenset[str]:
    """The dotted keys whose values act on this trial: changing any other gives the same trial.

    `train.evaluate_every` is one where it says when a criterion is checked.
    """
    declared_stages, schedule = _declared(config)[0], config.schedule
    loops = any(stage.acting.loops > 1 for stage in declared_stages)
    keys = _section_keys("task", config.task) | _section_keys("model", config.model)
    keys |= _dotted("train", config.train.acting()) | {"schedule.kind", "seed"}
    if len(declared_stages) > 1 or schedule.kind in ("looped", "stages"):
        keys |= _section_keys("schedule", schedule)
        if not loops:
            keys -= {"schedule.draw", "schedule.sigma"}
    if "schedule.check_every" in keys and not schedule.check_every:
        keys |= {"train.evaluate_every"}
    if schedule.kind == "looped" or (schedule.kind != "single" and _reads_loops(schedule)):
        keys |= {"model.loops"}
    if loops:
        keys |= {"model.injection", "model.loss_on", "model.loops_by", "model.backprop_loops"}
    if any(stage.acting.offset is not None for stage in declared_stages):
        keys |= {"model.loops_offset"}
    return keys


def _reads_loops(schedule: ScheduleConfig) -> bool:
    return schedule.kind != "stages" or any(stage.loops is None for stage in schedule.stages)


@lru_cache(maxsize=4096)
def _section_keys(section: str, values: Any) -> frozenset[str]:
    return _dotted(section, frozenset(values.acting()))


@lru_cache(maxsize=4096)
def _dotted(section: str, names: frozenset[str]) -> frozenset[str]:
    return frozenset(f"{section}.{name}" for name in names)


def pack_shape(config: TrialConfig, link: Link) -> tuple[Any, ...]:
    """What must agree for trials to train in one stacked step: tensor shapes, kinds, precision, loops."""
    model, train = config.model, config.train
    return (
        *config.task.shape,
        train.batch,
        train.optimizer,
        train.precision,
        *_model_shape(model),
        link.loops,
        link.injection,
        link.loss_on,
        link.draw is not None,
        link.offset,
        link.backprop,
    )


@lru_cache(maxsize=4096)
def _model_shape(model: ModelConfig) -> tuple[Any, ...]:
    """The model's terms that shape its tensors and operations."""
    return tuple(getattr(model, name) for name in terms(ModelConfig) if name not in STAGE_TERMS | {"init_scale"})
