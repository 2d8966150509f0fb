"""What a trial learns: the terms of each kind of task, and what follows from them without drawing any data.

One class for each family of tasks; `TASKS` names the class of each kind. What the model needs to know stands in
attributes that all of them have: tokens, positions, whether targets are masked, strata, and what of the task must agree
within a pack. The data themselves are drawn elsewhere (`core.task_data`).

No torch and no files here: planning imports this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from core import token_layout
from core.terms import hints, term, terms


class _Windows:
    """What tasks have in common whose sequences are all of one length, and predicted at each position."""

    length: int
    masked: ClassVar[bool] = False
    """Whether some targets are not predicted."""

    @property
    def context(self) -> int:
        """Positions of a training sequence."""
        return self.length

    @property
    def longest(self) -> int:
        """Positions that the model may ever see."""
        return self.length


@dataclass(frozen=True, kw_only=True)
class MarkovTask(_Windows):
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
    stratum_names: ClassVar[tuple[str, ...]] = ("low_ic", "high_ic")
    """Suffixes of the stratum columns."""

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
    masked: ClassVar[bool] = True
    """Whether some targets are not predicted: problems and padding are not."""

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
class TextTask(_Windows):
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
    stratum_names: ClassVar[tuple[str, ...]] = ()
    """Suffixes of the stratum columns: none."""

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
    def shape(self) -> tuple[Any, ...]:
        """What of the task must agree among trials that train in one pack."""
        return (self.kind, self.vocabulary, self.context, self.val_size)


Task = MarkovTask | AlgorithmicTask | TextTask
TASKS: dict[str, type[Task]] = {kind: cls for cls in get_args(Task) for kind in get_args(hints(cls)["kind"])}
"""The class of each kind of task."""

TRAINED_ON = frozenset({"train_length", "train_size", "curriculum", "data_seed"})
"""Terms of a task that act on the training alone: they leave alone what is asked of a trained model."""
