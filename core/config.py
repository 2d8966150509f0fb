"""What a trial is: its sections of terms, every default written out, validated and frozen.

A `TrialConfig` is a pure value. Each section says which of its terms act (`acting`): the betas under SGD or the floor
of a constant learning rate change nothing. What is observed (`train.evaluate_every`, `measure`) or kept (`train.keep`)
is in it too, and is not identity. What follows from a configuration, its stages, links and id, is in `core.lineage`;
the steps at which it is observed in `core.observation`.

No torch here: planning imports this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from core.errors import InputError, Problem
from core.terms import build, nearest, term, terms

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
