"""What a trial is: its sections of terms, every default written out, validated and frozen.

A `TrialConfig` is a pure value. Each section says which of its terms act (`acting`): the betas under SGD or the floor
of a constant learning rate change nothing. What is observed (`train.evaluate_every`, `measure`) or kept (`train.keep`)
is in it too, and is not identity. What follows from a configuration, its stages, links and id, is in `core.lineage`;
the steps at which it is observed in `core.observation`.

No torch here: planning imports this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

from core import token_layout
from core.errors import InputError, Problem
from core.terms import build, hints, nearest, term, terms

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

    own_metrics: ClassVar[tuple[str, ...]] = ("excess_loss", "bayes_loss", "bayes_accuracy")
    """Metrics that its evaluations and measurements have beside those of every task."""

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
        """Positions of a training sequence."""
        return self.length

    @property
    def longest(self) -> int:
        """Positions that the model may ever see."""
        return self.length

    @property
    def masked(self) -> bool:
        """Whether some targets are not predicted."""
        return False

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Suffixes of the stratum columns."""
        return ("low_ic", "high_ic")

    @property
    def shape(self) -> tuple[Any, ...]:
        """What of the task must agree among trials that train in one pack."""
        return (self.kind, self.vocabulary, self.context, self.val_size, self.stratum_names)


MAX_STRATA = 256
"""Lengths that a validation set may cover: each has columns of its own."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmicTask:
    """Problems of varied length with one right answer: predict the answer, exactly.

    What the kinds are and how they are written in tokens: `core.algorithmic` and `core.token_layout`.
    """

    kind: Literal[
        "parity", "copy", "addition", "nary_addition", "binary_sum", "binary_multiplication", "unique_set", "p_hop"
    ] = term("parity", "the task")
    train_length: tuple[int, int] = term((1, 20), "shortest and longest training problem", ge=1, le=1024)
    test_length: tuple[int, int] = term((1, 40), "shortest and longest validation problem", ge=1, le=1024)
    format: Literal["full-output", "next-token"] = term(
        "full-output", "the answer is blank in the inputs and predicted at once, or read up to the token to predict"
    )
    symbols: int = term(4, "copy, unique_set, p_hop: size of the alphabet", ge=2, le=4096)
    digits: int = term(3, "nary_addition: digits of each number", ge=1, le=9)
    hops: int = term(2, "p_hop: hops from the last symbol to the answer", ge=1, le=1022)
    train_size: int = term(0, "training problems, walked in epochs by length; 0 = online, each batch fresh", ge=0)
    val_size: int = term(512, "validation problems", ge=2)
    curriculum: int = term(
        0, "updates over which the longest training length grows linearly from the shortest; 0 = none", ge=0
    )
    data_seed: int | None = term(None, "seed of the problems; silent = the trial's own seed", ge=0)

    own_metrics: ClassVar[tuple[str, ...]] = ("val_exact", "oracle_loops")
    """Metrics that its evaluations and measurements have beside those of every task."""

    def rules(self) -> list[tuple[str, str]]:
        """Rules between terms that are broken: (term, message)."""
        broken = []
        for name in ("train_length", "test_length"):
            shortest, longest = getattr(self, name)
            if shortest > longest:
                broken.append((name, f"must be [shortest, longest], got [{shortest}, {longest}]"))
            if self.kind == "p_hop" and shortest < self.hops + 2:
                rule = f"must begin at hops + 2 = {self.hops + 2} or later, where hops = {self.hops} fit"
                broken.append((name, f"{rule}, got {shortest}"))
        if broken:
            return broken
        tested, trained = len(self.test_lengths), len(self.train_lengths)
        if tested > MAX_STRATA:
            broken.append(("test_length", f"must cover at most {MAX_STRATA} lengths, got {tested}; narrow the range"))
        if self.val_size < tested:
            rule = f"must be at least one problem for each of the {tested} test lengths"
            broken.append(("val_size", f"{rule}, got {self.val_size}"))
        if 0 < self.train_size < trained:
            rule = f"must be 0 or at least one problem for each of the {trained} training lengths"
            broken.append(("train_size", f"{rule}, got {self.train_size}"))
        return broken

    @property
    def train_lengths(self) -> range:
        """The lengths of training problems."""
        return range(self.train_length[0], self.train_length[1] + 1)

    @property
    def test_lengths(self) -> range:
        """The lengths of validation problems."""
        return range(self.test_length[0], self.test_length[1] + 1)

    def acting(self) -> set[str]:
        """Names of the terms that change what is trained or evaluated."""
        names = set(terms(type(self)))
        if self.kind not in ("copy", "unique_set", "p_hop"):
            names.discard("symbols")
        if self.kind != "nary_addition":
            names.discard("digits")
        if self.kind != "p_hop":
            names.discard("hops")
        if self.train_length[0] == self.train_length[1]:
            names.discard("curriculum")
        if self.data_seed is None:
            names.discard("data_seed")
        return names

    @property
    def vocabulary(self) -> int:
        """Number of tokens the model reads and predicts."""
        return token_layout.vocabulary(self)

    @property
    def context(self) -> int:
        """Positions of a training sequence: those of the longest training problem."""
        return token_layout.positions(self, self.train_length[1])

    @property
    def longest(self) -> int:
        """Positions that the model may ever see: those of the longest problem of training and validation."""
        return token_layout.positions(self, max(self.train_length[1], self.test_length[1]))

    @property
    def masked(self) -> bool:
        """Whether some targets are not predicted: problems and padding are not."""
        return True

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Suffixes of the stratum columns: trained and longer lengths, as far as validated, and each length."""
        tested = self.test_lengths
        groups = {
            "trained": any(length in self.train_lengths for length in tested),
            "longer": tested[-1] > self.train_length[1],
        }
        return (*(name for name, there in groups.items() if there), *(f"len_{length}" for length in tested))

    @property
    def shape(self) -> tuple[Any, ...]:
        """What of the task must agree among trials that train in one pack: their batches have equal lengths."""
        lengths = (self.train_length, self.test_length, self.curriculum)
        return (self.kind, self.vocabulary, self.context, self.longest, self.val_size, *lengths)


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """Windows of local files, as bytes or as tokens of a tokenizer; predict the next one.

    What a trial keeps of its files is their digest, worked out with `tokens` where a study is read (`studies.texts`).
    """

    kind: Literal["text"] = term("text", "the task")
    files: tuple[str, ...] = term(
        (),
        "globs of the files, relative to the study's file; after python: relative to the standard library's folder",
        identity=False,
    )
    tokenizer: str | None = term(None, "path of a tokenizer.json; silent = each byte is a token", identity=False)
    digest: str | None = term(
        None, "of the files' names and contents and of the tokenizer; worked out, or pinned here", identity=False
    )
    tokens: int = term(
        256, "size of the vocabulary: 256 for bytes, else worked out, or pinned here", ge=2, identity=False
    )
    length: int = term(128, "predictions per sequence (a sequence is read with one token more)", ge=2, le=65536)
    val_share: float = term(0.1, "share of each file, at its end, that is held out for validation", gt=0, lt=1)
    val_size: int = term(256, "validation sequences, spread evenly over what is held out", ge=2)
    train_size: int = term(
        0, "training windows, at random places, walked in epochs; 0 = online, each batch fresh", ge=0
    )
    data_seed: int | None = term(None, "seed of the training windows; silent = the trial's own seed", ge=0)

    own_metrics: ClassVar[tuple[str, ...]] = ("val_bits_per_byte",)
    """Metrics that its evaluations and measurements have beside those of every task."""

    def rules(self) -> list[tuple[str, str]]:
        """Rules between terms that are broken: (term, message)."""
        broken = []
        if not self.files or not all(self.files):
            broken.append(("files", f'must be globs of text files, as ["texts/*.txt"], got {list(self.files)!r}'))
        if self.digest is not None and (len(self.digest) != 16 or not set(self.digest) <= set("0123456789abcdef")):
            broken.append(("digest", f"must be 16 hex digits, as plan shows them, got {self.digest!r}"))
        if self.tokenizer is None and self.tokens != 256:
            broken.append(("tokens", f"must be 256 where no tokenizer is named, got {self.tokens}"))
        return broken

    def acting(self) -> set[str]:
        """Names of the terms that change what is trained or evaluated: of files and tokenizer, their digest."""
        names = {"kind", "digest", "length", "val_share", "val_size", "train_size"}
        return names if self.data_seed is None else names | {"data_seed"}

    @property
    def vocabulary(self) -> int:
        """Number of tokens the model reads and predicts."""
        return self.tokens

    @property
    def context(self) -> int:
        """Positions of a training sequence."""
        return self.length

    @property
    def longest(self) -> int:
        """Positions that the model may ever see."""
        return self.length

    @property
    def masked(self) -> bool:
        """Whether some targets are not predicted."""
        return False

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Suffixes of the stratum columns: none."""
        return ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """What of the task must agree among trials that train in one pack."""
        return (self.kind, self.vocabulary, self.context, self.val_size)


Task = MarkovTask | AlgorithmicTask | TextTask
TASKS: dict[str, type[Task]] = {kind: cls for cls in get_args(Task) for kind in get_args(hints(cls)["kind"])}
"""The class of each kind of task."""


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
class CriterionConfig:
    """When a stage ends by what is seen of it: SCP, the SHIFT Criterion with Patience, or one half of it."""

    criterion: Literal["scp", "loss", "gradient"] = term(
        "scp", "loss and gradient norm both change little; the loss alone; the gradient norm alone"
    )
    delta1: float = term(0.01, "scp, loss: the loss changes by less than this from check to check", gt=0)
    delta2: float = term(0.1, "scp, gradient: the gradient norm changes by less than this from check to check", gt=0)
    patience: int = term(3, "consecutive checks at which that must hold", ge=1, le=MAX_ROWS)
    change: Literal["relative", "absolute"] = term(
        "relative", "a change is divided by the value at the check before, or not"
    )
    on: Literal["val", "train"] = term("val", "the loss of the validation set, or of the fixed training batch")
    latest: float | int = term(
        0.9, "the stage ends here if it has not before; share of the steps (float, 1.0 = never) or step (integer)", gt=0
    )

    def criterion_acting(self) -> set[str]:
        """Names of the terms of the criterion that act."""
        names = set(terms(CriterionConfig))
        if self.criterion == "loss":
            names.discard("delta2")
        if self.criterion == "gradient":
            names -= {"delta1", "on"}
        return names


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of an explicit list: how many loops, how it begins, and when it ends."""

    loops: int | None = term(None, "loops in it; silent = model.loops", ge=1, le=4096)
    until: float | int | CriterionConfig | None = term(  # noqa: RUF009 - `term` makes a field
        None, "its end: share of the steps (float), step (integer) or criterion (table); the last stage has none", gt=0
    )
    lr_factor: float = term(1.0, "its learning rate over that of the schedule", gt=0, le=1e3)
    rewarm: int = term(0, "updates of linear warm-up at its start", ge=0)
    optimizer: Literal["keep", "reset"] = term("keep", "optimiser state at its start: kept, or zero")
    draw: Literal["fixed", "poisson-lognormal"] = term(
        "fixed", "the loops of each update: `loops`, or drawn with this mean"
    )
    sigma: float = term(0.5, "poisson-lognormal: standard deviation of the logarithm of the rate", ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(CriterionConfig):
    """How many loops when: the list of stages, in short form by its kind or written out."""

    kind: Literal["single", "looped", "shift", "shift-scp", "grow", "linear-grow", "reverse", "stages"] = term(
        "looped",
        "one loop; model.loops; one, then model.loops from the switch on (fixed, or by the criterion); 1, 2, 3 … "
        "model.loops in equal parts; linearly over the ramp; model.loops, then one; the stages as listed",
    )
    switch: float | int = term(
        0.5, "shift, reverse: fraction of the steps (float in (0, 1)) or step (integer) of the switch", gt=0
    )
    ramp: float | int = term(
        0.5, "linear-grow: loops grow to model.loops over so much; share of the steps (float) or step (integer)", gt=0
    )
    check_every: int = term(0, "steps between the checks of a criterion; 0 = train.evaluate_every", ge=0)
    lr_factor: float = term(1.0, "learning rate of the stages after the first over that of the schedule", gt=0, le=1e3)
    rewarm: int = term(0, "updates of linear warm-up at the start of each stage after the first", ge=0)
    optimizer: Literal["keep", "reset"] = term(
        "keep", "optimiser state at the start of each stage after the first: kept, or zero"
    )
    draw: Literal["fixed", "poisson-lognormal"] = term(
        "fixed", "loops of an update where a stage has more than one: these, or drawn with this mean"
    )
    sigma: float = term(0.5, "poisson-lognormal: standard deviation of the logarithm of the rate", ge=0, le=1)
    stages: tuple[StageConfig, ...] = term((), "stages written out, in order")

    @property
    def watches(self) -> bool:
        """Whether a stage ends by a criterion."""
        listed = any(isinstance(stage.until, CriterionConfig) for stage in self.stages)
        return self.kind == "shift-scp" or (self.kind == "stages" and listed)

    def acting(self) -> set[str]:
        """Names of the terms that act, if the schedule has more than one stage."""
        names = {"kind", *_OF_KIND.get(self.kind, ())}
        if self.kind not in ("single", "stages"):
            names |= {"draw"} | ({"sigma"} if self.draw != "fixed" else set())
        if self.kind not in ("single", "looped", "stages"):
            names |= {"lr_factor", "rewarm", "optimizer"}
        if self.kind == "shift-scp":
            names |= self.criterion_acting()
        return names | ({"check_every"} if self.watches else set())


_OF_KIND: dict[str, tuple[str, ...]] = {
    "shift": ("switch",),
    "reverse": ("switch",),
    "linear-grow": ("ramp",),
    "stages": ("stages",),
}


def overlaid(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of a schedule where `upper` (an arm, an axis) lies over `lower` (what it changes).

    A list of stages and a short form displace each other: listing stages makes the kind ``stages``, naming another
    kind drops the list.
    """
    merged = {**lower, **upper}
    if upper.get("stages") and "kind" not in upper:
        merged["kind"] = "stages"
    elif upper.get("kind", "stages") != "stages" and "stages" not in upper:
        merged.pop("stages", None)
    return merged


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
        broken += _stage_rules(schedule.stages, steps)
    every = schedule.check_every or train.evaluate_every
    if schedule.watches and steps // every > MAX_ROWS:
        broken.append(
            ("schedule.check_every", f"must give at most {MAX_ROWS} checks of a trial, got {steps} steps / {every}")
        )
    return broken


def _stage_rules(stages: Sequence[StageConfig], steps: int) -> list[tuple[str, str]]:
    """Rules on a list of stages: each but the last has an end, and every end is later than the latest end before.

    Of criteria in a row the latest ends may be the same step: where one has taken all until then, the next has none.
    """
    broken = []
    first = 1  # step at which a stage may end
    for number, stage in enumerate(stages, start=1):
        where = f"schedule.stages[{number}].until"
        if number == len(stages):
            if stage.until is not None:
                broken.append((where, "is not for the last stage, which ends with the trial; drop it"))
            break
        if stage.until is None:
            broken.append((where, "is required: every stage but the last has an end"))
            continue
        if isinstance(stage.until, CriterionConfig):
            where, end, last = f"{where}.latest", stage.until.latest, steps
            low = first - 1 if number > 1 and isinstance(stages[number - 2].until, CriterionConfig) else first
        else:
            end, last, low = stage.until, steps - 1, first
        step = step_of(end, steps)
        if not low <= step <= last:
            rule = f"must be in {low} … {last}, after the stage before and within train.steps = {steps}"
            if low > last:
                rule = f"has no step left, since the stage before may go on to {first - 1} of train.steps = {steps}"
            broken.append((where, f"{rule}, got {end!r}{f' = step {step}' if isinstance(end, float) else ''}"))
        first = max(first, step + 1)
    return broken


def step_of(value: float | int, steps: int) -> int:
    """A step given as such (integer), or as a share of the steps (float), rounded half up."""
    return value if isinstance(value, int) else math.floor(value * steps + 0.5)


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
