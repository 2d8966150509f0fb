"""What a trial is: its sections of terms, every default written out, validated and frozen.

A `TrialConfig` is a pure value. Each section says which of its terms act (`acting`): the betas under SGD or the floor
of a constant learning rate change nothing. What is observed (`train.evaluate_every`, `measure`) or kept (`train.keep`)
is in it too, and is not identity. What follows from a configuration, its stages, links and id, is in `core.lineage`;
the steps at which it is observed in `core.observation`. The terms of tasks and of schedules have files of their own,
`core.task_terms` and `core.schedule_terms`.

No torch here: planning imports this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from core.errors import InputError, Problem
from core.schedule_terms import MAX_ROWS, ScheduleConfig, overlaid, stage_rules, step_of
from core.task_terms import TASKS, AlgorithmicTask, MarkovTask, Task
from core.terms import build, nearest, term, terms


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
    loops_by: Literal["fixed", "length"] = term(
        "fixed", "each sequence is looped `loops` times, or as often as it is long: n + loops_offset, at most `loops`"
    )
    loops_offset: int = term(0, "loops_by = length: loops more than the length of the problem", ge=-4096, le=4096)
    backprop_loops: int = term(
        0, "gradients flow through the last so many loops of a stage; 0 = through all", ge=0, le=4096
    )
    timestep: Literal["none", "sinusoidal"] = term(
        "none", "before each loop its number enters, as a sinusoidal encoding times a trained gain", later=True
    )
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
        if self.backprop_loops and self.injection == "none":
            broken.append(
                (
                    "backprop_loops",
                    f'needs injection = "add", or embedding and prelude get no gradient, got {self.backprop_loops}',
                )
            )
        for name, value in (("backprop_loops", self.backprop_loops), ("loops_by", self.loops_by)):
            if self.loss_on == "all" and value not in (0, "fixed"):
                broken.append((name, f'goes with loss_on = "last" only, got {value!r}; drop one of them'))
        return broken

    def acting(self) -> set[str]:
        """Names of the terms that act whatever the loops; those of a stage are `STAGE_TERMS`."""
        return set(terms(type(self))) - STAGE_TERMS

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP; 0 without one."""
        return round(self.mlp_ratio * self.width)


STAGE_TERMS = frozenset({"loops", "injection", "loss_on", "loops_by", "loops_offset", "backprop_loops"})
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
        return step_of(self.decay, self.steps)

    def acting(self) -> frozenset[str]:
        """Names of the terms that change what is trained."""
        return _train_acting(self.optimizer, self.lr_schedule)


@cache
def _train_acting(optimizer: str, lr_schedule: str) -> frozenset[str]:
    names = {name for name, spec in terms(TrainConfig).items() if spec.metadata["identity"]}
    names -= {"momentum"} if optimizer == "adamw" else {"beta1", "beta2", "eps"}
    if lr_schedule != "wsd":
        names -= {"decay"}
    if lr_schedule == "constant":
        names -= {"lr_final"}
    return frozenset(names)


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What curvature is observed, when, on what and with which budget; never part of identity."""

    quantities: tuple[str, ...] = term((), "what is measured", identity=False)
    every: int = term(
        0,
        "steps between measurements; 0 = only `at`, or only the last step where that is empty too",
        ge=0,
        identity=False,
    )
    at: tuple[int, ...] = term((), "steps to measure at", ge=0, identity=False)
    probe: int = term(32, "sequences of the validation set in the probe batch", ge=1, identity=False)
    exact: int = term(
        5000, "spectra are exact for models of at most so many parameters", ge=0, le=50_000, identity=False
    )
    products: int = term(256, "Hessian products that the ends of a spectrum may take", ge=8, le=10**5, identity=False)
    top: int = term(10, "eigenvalues that are taken from each end", ge=1, le=1000, identity=False)
    # At two or three vectors errors are not honest: the truth was up to 12 of them away.
    vectors: int = term(8, "random vectors of the trace, the norm and the density", ge=4, le=1024, identity=False)
    nodes: int = term(48, "nodes of the density per random vector", ge=4, le=1024, identity=False)
    rho: float = term(0.05, "SAM sharpness: length of the step", gt=0, le=100, identity=False)
    adaptive_rho: float = term(0.5, "adaptive sharpness: length of the scaled step", gt=0, le=100, identity=False)
    loops: int = term(3, "gradient alignment: loops that are compared with one loop", ge=2, le=4096, identity=False)
    points: int = term(12, "loss surface: points on either side of the state", ge=1, le=200, identity=False)
    radius: float = term(1.0, "loss surface: distance in weight space out to which", gt=0, le=1000, identity=False)
    window: int = term(16, "updates over which motion is watched", ge=2, le=1000, identity=False)
    decay: int = term(100, "hill: updates of the decay branch", ge=1, le=10**6, identity=False)
    lag: int = term(50, "mutual information: updates between the two Hessians", ge=1, le=10**6, identity=False)
    test_loops: tuple[int, ...] = term(
        (1, 2, 4, 8), "loops at which the outputs are evaluated, ascending", ge=1, le=4096, identity=False
    )

    def rules(self) -> list[tuple[str, str]]:
        """Rules between terms that are broken: (term, message)."""
        if not self.test_loops or any(low >= high for low, high in pairwise(self.test_loops)):
            return [("test_loops", f"must be numbers of loops that ascend, got {list(self.test_loops)!r}")]
        return []

    @property
    def how(self) -> MeasureConfig:
        """What is measured and how, whenever."""
        return replace(self, every=0, at=())


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
        if self.model.loops_by == "length":
            if not isinstance(self.task, AlgorithmicTask):
                rule = f'"length" needs a task whose problems have lengths, got task.kind = "{self.task.kind}"'
                problems.append(Problem("model.loops_by", f'{rule}; take "fixed"'))
            if {self.schedule.draw, *(stage.draw for stage in self.schedule.stages)} != {"fixed"}:
                problems.append(Problem("model.loops_by", '"length" leaves nothing to draw; drop schedule.draw'))
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
    steps = train.steps
    inside = f"a fraction in (0, 1) or a step in 1 … {steps - 1} (train.steps = {steps})"
    within = f"a fraction in (0, 1] or a step in 1 … {steps} (train.steps = {steps})"
    broken = []
    if schedule.kind in ("shift", "reverse") and not 0 < step_of(schedule.switch, steps) < steps:
        broken.append(("schedule.switch", f"must be {inside}, got {schedule.switch!r}"))
    if schedule.kind == "shift-scp" and not 0 < step_of(schedule.latest, steps) <= steps:
        broken.append(("schedule.latest", f"must be {within}, got {schedule.latest!r}"))
    if schedule.kind == "linear-grow" and not 0 < step_of(schedule.ramp, steps) <= steps:
        broken.append(("schedule.ramp", f"must be {within}, got {schedule.ramp!r}"))
    if schedule.kind == "stages" and not schedule.stages:
        broken.append(("schedule.stages", 'is required where kind = "stages"; list the stages'))
    if schedule.kind != "stages" and schedule.stages:
        message = f'are listed, so kind must be "stages" or silent, got "{schedule.kind}"'
        broken.append(("schedule.stages", message))
    if schedule.kind == "stages":
        broken += stage_rules(schedule.stages, steps)
    every = schedule.check_every or train.evaluate_every
    if schedule.watches and steps // every > MAX_ROWS:
        broken.append(
            ("schedule.check_every", f"must give at most {MAX_ROWS} checks of a trial, got {steps} steps / {every}")
        )
    return broken


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
            given = overlaid({}, section) if name == "schedule" else section
            built[name] = build(section_class(name, section), given, name)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return TrialConfig(**built)
