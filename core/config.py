"""What a trial is: its configuration, its resolved stages, its lineage and its identity.

A `TrialConfig` is a pure value. Of its terms only those that act become identity: `model.loops` under ``single``, the
betas under SGD, the floor of a constant learning rate change nothing and are dropped, so two configurations that train
the same thing are the same trial. What is observed (`train.evaluate_every`, `measure`) or kept (`train.keep`) is not
identity either.

A trial's past is a chain of *links*, one wherever something begins to act: a stage with other loops, the decay of a WSD
schedule. The *lineage* of a link is a hash of all that acted up to it and of nothing to come, so trials share the
lineage of the past they share. A state of training is (lineage, step); step n means n updates done.

No torch here: planning imports this file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from core.errors import InputError, Problem
from core.terms import build, nearest, term, terms

NUMERICS_VERSION = 1
"""Raised whenever the numbers that a configuration gives change; part of every lineage and trial id."""

MAX_ROWS = 100_000
"""Evaluations, and measurements, that one trial may have: each is a row, and their steps are listed in plans."""


@dataclass(frozen=True, kw_only=True)
class MarkovTask:
    """Sequences from a mixture of order-1 Markov chains over one alphabet; predict the next token."""

    kind: Literal["markov"] = term("markov", "the task")
    states: int = term(16, "size of the alphabet (= vocabulary)", ge=2, le=4096)
    chains: int = term(8, "number of chains in the mixture; a sequence comes from one of them", ge=1, le=4096)
    low_share: float = term(0.5, "share of the chains that have low entropy", ge=0, le=1)
    alpha_low: float = term(0.05, "Dirichlet concentration of a low-entropy chain's rows", gt=0, le=1000)
    alpha_high: float = term(1.0, "Dirichlet concentration of a high-entropy chain's rows", gt=0, le=1000)
    length: int = term(32, "predictions per sequence (a sequence is drawn with one token more)", ge=2, le=65536)
    train_size: int = term(4096, "training sequences, walked in epochs; 0 = online, each batch fresh", ge=0)
    val_size: int = term(512, "validation sequences", ge=2)
    strata: Literal["chain", "quantile"] = term(
        "chain", "low_ic/high_ic by the chain's kind, or by the median information content of the sequence"
    )
    data_seed: int | None = term(None, "seed of chains and sequences; silent = the trial's own seed", ge=0)

    @property
    def low_chains(self) -> int:
        """Number of low-entropy chains: the first ones of the mixture."""
        return round(self.chains * self.low_share)

    def rules(self) -> list[tuple[str, str]]:
        """Rules between terms that are broken: (term, message)."""
        if self.strata == "chain" and self.low_chains in (0, self.chains):
            return [
                (
                    "strata",
                    f'"chain" needs chains of both kinds, got {self.low_chains} low of {self.chains}; '
                    'change low_share or take strata = "quantile"',
                )
            ]
        return []

    def acting(self) -> set[str]:
        """Names of the terms that change what is trained or evaluated."""
        names = set(terms(type(self)))
        if self.low_chains == 0:
            names.discard("alpha_low")
        if self.low_chains == self.chains:
            names.discard("alpha_high")
        if self.data_seed is None:
            names.discard("data_seed")
        return names

    @property
    def vocabulary(self) -> int:
        """Number of tokens the model reads and predicts."""
        return self.states

    @property
    def context(self) -> int:
        """Positions the model sees."""
        return self.length

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Suffixes of the stratum columns."""
        return ("low_ic", "high_ic")


Task = MarkovTask
TASKS: dict[str, type[Task]] = {"markov": MarkovTask}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A stack of blocks: prelude, then `depth` distinct blocks applied `loops` times with shared weights, then coda."""

    width: int = term(32, "width of the residual stream", ge=1, le=65536)
    heads: int = term(1, "attention heads; divides width", ge=1)
    depth: int = term(1, "distinct blocks inside the loop", ge=1, le=1024)
    loops: int = term(3, "times the looped blocks are applied (where the schedule loops)", ge=1, le=4096)
    prelude: int = term(0, "blocks before the loop", ge=0, le=1024)
    coda: int = term(0, "blocks after the loop", ge=0, le=1024)
    mlp_ratio: float = term(0.0, "hidden width of the MLP over width; 0 = attention only", ge=0, le=64)
    attention: Literal["softmax", "linear"] = term("softmax", "causal attention of this kind")
    attention_scale: Literal["sqrt", "none"] = term("sqrt", "scores are divided by √(width/heads), or not")
    norm: Literal["none", "layer", "rms"] = term("none", "pre-normalisation with affine terms, also before the head")
    position: Literal["learned", "none", "rotary"] = term("learned", "how positions enter")
    injection: Literal["none", "add"] = term("none", "the loop's input is added again before each further loop")
    output: Literal["untied", "tied"] = term("untied", "the head has its own weights, or the embedding's")
    loss_on: Literal["last", "all"] = term("last", "loss of the last loop, or the mean over the loops' outputs")
    init_scale: float = term(1.0, "factor on the standard deviation of the initial weights", gt=0, le=100)

    def rules(self) -> list[tuple[str, str]]:
        """Rules between terms that are broken: (term, message)."""
        broken = []
        if self.width % self.heads:
            broken.append(("heads", f"must divide width = {self.width}, got {self.heads}"))
        elif self.position == "rotary" and (self.width // self.heads) % 2:
            broken.append(
                ("position", f'"rotary" needs an even width per head, got {self.width // self.heads}; change heads')
            )
        return broken

    def acting(self) -> set[str]:
        """Names of the terms that act whatever the loops; those of a stage are `STAGE_TERMS`."""
        return set(terms(type(self))) - STAGE_TERMS

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP; 0 without one."""
        return round(self.mlp_ratio * self.width)


STAGE_TERMS = frozenset({"loops", "injection", "loss_on"})
"""Terms of the model that belong to a stage; all but `loops` act only where a stage loops."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation. The learning rate at update n is `lr` × warm-up × schedule; see `core.optim.lr_factor`."""

    steps: int = term(3000, "updates", ge=1, le=10**9)
    batch: int = term(64, "sequences per update", ge=1, le=10**6)
    optimizer: Literal["adamw", "sgd"] = term("adamw", "AdamW with decoupled decay, or SGD with momentum")
    lr: float = term(1e-3, "peak learning rate", gt=0, le=1e3)
    beta1: float = term(0.9, "AdamW: decay of the first moment", ge=0, lt=1)
    beta2: float = term(0.999, "AdamW: decay of the second moment", ge=0, lt=1)
    eps: float = term(1e-8, "AdamW: added to the root of the second moment", gt=0, le=1)
    momentum: float = term(0.9, "SGD: momentum; 0 = plain SGD", ge=0, lt=1)
    weight_decay: float = term(0.0, "decoupled weight decay, times the learning rate", ge=0, le=100)
    clip: float = term(0.0, "largest norm of the gradient, 0 = no clipping", ge=0)
    warmup: int = term(0, "updates of linear warm-up", ge=0)
    lr_schedule: Literal["constant", "cosine", "wsd"] = term(
        "constant", "constant, cosine to the end, or a decay at the end"
    )
    lr_final: float = term(0.0, "cosine, wsd: last learning rate as a share of the peak", ge=0, le=1)
    decay: float | int = term(
        0.2, "wsd: length of the linear decay; share of the steps (float) or updates (integer)", gt=0
    )
    precision: Literal["float32", "bf16", "float64"] = term(
        "float32", "of training; bf16 is autocast over float32 weights"
    )
    evaluate_every: int = term(100, "steps between evaluations", ge=1, identity=False)
    keep: Literal["final", "all", "none"] = term("final", "states whose checkpoints stay", identity=False)

    def rules(self) -> list[tuple[str, str]]:
        """Rules between terms that are broken: (term, message)."""
        broken = []
        if self.warmup > self.steps:
            broken.append(("warmup", f"must be at most steps = {self.steps}, got {self.warmup}"))
        if self.steps // self.evaluate_every > MAX_ROWS:
            rows = f"{self.steps} steps / {self.evaluate_every}"
            broken.append(("evaluate_every", f"must give at most {MAX_ROWS} evaluations of a trial, got {rows}"))
        if self.lr_schedule == "wsd" and not 0 < self.decay_steps <= self.steps:
            broken.append(
                ("decay", f"must be a share in (0, 1] or 1 … steps = {self.steps} updates, got {self.decay!r}")
            )
        return broken

    @property
    def decay_steps(self) -> int:
        """Updates of a WSD schedule's decay."""
        return self.decay if isinstance(self.decay, int) else math.floor(self.decay * self.steps + 0.5)

    def acting(self) -> set[str]:
        """Names of the terms that change what is trained."""
        names = {name for name, spec in terms(type(self)).items() if spec.metadata["identity"]}
        names -= {"momentum"} if self.optimizer == "adamw" else {"beta1", "beta2", "eps"}
        if self.lr_schedule != "wsd":
            names -= {"decay"}
        if self.lr_schedule == "constant":
            names -= {"lr_final"}
        return names


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How many loops when: the list of stages in short form."""

    kind: Literal["single", "looped", "shift"] = term(
        "looped", "one loop throughout; model.loops throughout; one loop, then model.loops from the switch on"
    )
    switch: float | int = term(
        0.5, "shift: fraction of the steps (float in (0, 1)) or step (integer) of the switch", gt=0
    )

    def acting(self) -> set[str]:
        """Names of the terms that act."""
        return {"kind", "switch"} if self.kind == "shift" else {"kind"}


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What curvature is observed, when and on what; never part of identity."""

    quantities: tuple[str, ...] = term((), "columns of the table curvature", identity=False)
    every: int = term(
        0,
        "steps between measurements; 0 = only `at`, or only the last step where that is empty too",
        ge=0,
        identity=False,
    )
    at: tuple[int, ...] = term((), "steps to measure at", ge=0, identity=False)
    probe: int = term(32, "sequences of the validation set in the probe batch", ge=1, identity=False)


SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "train": TrainConfig,
    "schedule": ScheduleConfig,
    "measure": MeasureConfig,
}
"""The sections of a trial beside ``task``, whose class depends on its kind (`TASKS`)."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that one trial is (and what is observed of it), every default written out."""

    task: Task = field(default_factory=MarkovTask)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Rules between sections.

        Raises:
            InputError: naming the dotted key, the rule and the value.
        """
        problems = [Problem(key, message) for key, message in cross_rules(self.train, self.schedule)]
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            problems.append(Problem("seed", f"must be an integer in 0 … 2^63 − 1, got {self.seed!r}"))
        if self.measure.quantities and self.measure.probe > self.task.val_size:
            rule = f"must be at most task.val_size = {self.task.val_size} sequences"
            problems.append(Problem("measure.probe", f"{rule}, got {self.measure.probe}"))
        if problems:
            raise InputError(problems)

    @property
    def data_seed(self) -> int:
        """The seed from which the task's data come."""
        return self.seed if self.task.data_seed is None else self.task.data_seed

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, every default written out; the inverse of `trial_config`."""
        return asdict(self)


def cross_rules(train: TrainConfig, schedule: ScheduleConfig) -> list[tuple[str, str]]:
    """Rules between sections that are broken: (dotted key, message)."""
    if schedule.kind != "shift" or 0 < switch_step(train, schedule) < train.steps:
        return []
    allowed = f"a fraction in (0, 1) or a step in 1 … {train.steps - 1} (train.steps = {train.steps})"
    return [("schedule.switch", f"must be {allowed}, got {schedule.switch!r}")]


def switch_step(train: TrainConfig, schedule: ScheduleConfig) -> int:
    """The step of a fixed switch: the fraction of the steps rounded half up, or the step itself."""
    if isinstance(schedule.switch, int):
        return schedule.switch
    return math.floor(schedule.switch * train.steps + 0.5)


def section_class(section: str, values: Mapping[str, Any]) -> type:
    """The dataclass of a section (for ``task``, by its kind).

    Raises:
        InputError: for an unknown section, or a task without a known kind.
    """
    if section == "task":
        kind = values.get("kind", "markov")
        if not isinstance(kind, str) or kind not in TASKS:
            raise InputError([Problem("task.kind", f"unknown task {kind!r}; {nearest(str(kind), TASKS)}")])
        return TASKS[kind]
    if section not in SECTIONS:
        raise InputError([Problem(section, f"unknown section; {nearest(section, ['task', *SECTIONS])}")])
    return SECTIONS[section]


def trial_config(values: Mapping[str, Any]) -> TrialConfig:
    """A `TrialConfig` from plain nested values; what is missing takes its default.

    Raises:
        InputError: with every problem of every section at once.
    """
    problems: list[Problem] = []
    built: dict[str, Any] = {}
    for name, section in values.items():
        if name == "seed":
            built[name] = section
            continue
        if not isinstance(section, Mapping):
            problems.append(Problem(name, f"must be a table of terms, got {section!r}"))
            continue
        try:
            built[name] = build(section_class(name, section), section, name)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return TrialConfig(**built)


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


# --- observation ---------------------------------------------------------------------------------------------------


def evaluation_steps(config: TrialConfig) -> list[int]:
    """The steps at which a trial is evaluated: 0, each multiple of `evaluate_every`, each end of a link, the last."""
    return evaluation_grid(config.train.steps, config.train.evaluate_every, [link.end for link in links(config)])


def evaluation_grid(steps: int, every: int, ends: Iterable[int]) -> list[int]:
    """`evaluation_steps` by all that decides them: steps of the trial, `evaluate_every`, ends of its links."""
    return sorted({0, steps, *range(0, steps + 1, every), *ends})


def measurement_steps(config: TrialConfig) -> list[int]:
    """The steps at which curvature is measured: multiples of `every` and `at` within the trial, else its last step."""
    return measurement_grid(config.train.steps, config.measure)


def measurement_grid(steps: int, measure: MeasureConfig) -> list[int]:
    """`measurement_steps` by all that decides them: steps of the trial, what is measured."""
    if not measure.quantities:
        return []
    chosen = {step for step in measure.at if step <= steps}
    if measure.every:
        chosen |= set(range(0, steps + 1, measure.every))
    return sorted(chosen) if chosen or measure.at else [steps]


def with_observation(config: TrialConfig, *, evaluate_every: int, measure: MeasureConfig) -> TrialConfig:
    """The same trial, observed differently."""
    return replace(config, train=replace(config.train, evaluate_every=evaluate_every), measure=measure)
