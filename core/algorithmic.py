"""The algorithmic tasks' data: which problem stands where, in training and in validation.

What the kinds ask, and how their problems are drawn, is said in `core.bits`, `core.arithmetic`, `core.symbols` and
`core.p_hop`; how a problem becomes tokens in `core.problems`; which lengths an update has in `core.lengths`. Here each
place in the data gets its problem.

Problem i of a stream is a pure function of (task, data seed, stream, i) and its length: a fixed number of counter
blocks belongs to it. Online, slot j of update s has problem s·B + j of the stream ``train``. A fixed training set is
the first `train_size` problems of that stream, the lengths in equal shares; an update takes as many problems of a
length as `batch_lengths` says, and those of one length are walked in epochs of their own (`core.epochs`). The
validation set has a stream of its own; short problems are few, so it has them in common with training.

The answer follows from the problem, so the best predictor has loss 0 and accuracy 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from core import arithmetic, bits, p_hop, symbols
from core.epochs import Epochs
from core.lengths import batch_lengths, length_counts, spread_lengths, validation_lengths
from core.problems import Problems, written
from core.streams import stream
from core.task_terms import AlgorithmicTask
from core.tasks import Floats, Mask, Tokens, Validation

_CHUNK = 1024
"""Problems drawn at a time, so that their arrays stay in the cache of a core."""
_STEPS = 2**16
"""Updates whose lengths are counted at a time."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How problems of a kind are drawn."""

    draws: Callable[[AlgorithmicTask, int], int]
    """(task, longest) → random numbers that one problem takes."""
    problems: Callable[[AlgorithmicTask, Tokens, Floats], Problems]
    """(task, lengths `[N]`, uniform numbers `[N, draws]`) → N problems with their answers."""


KINDS = {
    "parity": _Kind(bits.draws, bits.parity),
    "copy": _Kind(symbols.draws, symbols.copy),
    "addition": _Kind(arithmetic.addition_draws, arithmetic.addition),
    "nary_addition": _Kind(arithmetic.nary_addition_draws, arithmetic.nary_addition),
    "binary_sum": _Kind(bits.draws, bits.binary_sum),
    "binary_multiplication": _Kind(arithmetic.binary_multiplication_draws, arithmetic.binary_multiplication),
    "unique_set": _Kind(symbols.draws, symbols.unique_set),
    "p_hop": _Kind(p_hop.draws, p_hop.p_hop),
}
"""By `task.kind`."""


def sequences(
    task: AlgorithmicTask, data_seed: int, name: str, *, start: int, lengths: Tokens, longest: int, positions: int
) -> tuple[Tokens, Tokens]:
    """The problems `start`, `start` + 1, … of a stream as inputs and targets `[N, positions]`.

    Args:
        task: the task.
        data_seed: of the data.
        name: of the stream.
        start: number of the first.
        lengths: of each `[N]`.
        longest: the greatest length of the stream, which says how many random numbers a problem takes.
        positions: T.
    """
    kind = KINDS[task.kind]
    draws = kind.draws(task, longest)
    blocks = -(-draws // 4)  # a counter block holds 4 numbers
    rng = stream(data_seed, "algorithmic", task.kind, name, position=start * blocks)
    inputs, targets = (np.empty((len(lengths), positions), dtype=np.int64) for _ in range(2))
    for low in range(0, len(lengths), _CHUNK):
        part = slice(low, min(low + _CHUNK, len(lengths)))
        uniform = rng.random((part.stop - part.start, 4 * blocks))[:, :draws]
        inputs[part], targets[part] = written(kind.problems(task, lengths[part], uniform), task, positions)
    return inputs, targets


@lru_cache(maxsize=32)  # as `core.markov`: a pack rarely has more data seeds
def _validation(task: AlgorithmicTask, data_seed: int) -> Validation:
    lengths = validation_lengths(task)
    longest, positions = task.test_length[1], task.longest
    inputs, targets = sequences(
        task, data_seed, "validation", start=0, lengths=lengths, longest=longest, positions=positions
    )
    shortest_trained, longest_trained = task.train_length
    members = {
        "trained": (lengths >= shortest_trained) & (lengths <= longest_trained),
        "longer": lengths > longest_trained,
    } | {f"len_{length}": lengths == length for length in task.test_lengths}
    strata: dict[str, Mask] = {name: members[name] for name in task.stratum_names}
    floors = {f"bayes_{name}{suffix}": best for suffix in _suffixes(strata) for name, best in _BEST.items()}
    return Validation(inputs=inputs, targets=targets, strata=strata, floors=floors, lengths=lengths)


_BEST = {"loss": 0.0, "accuracy": 1.0}


def _suffixes(strata: dict[str, Mask]) -> list[str]:
    return ["", *(f"_{name}" for name, members in strata.items() if members.any())]


@lru_cache(maxsize=32)
def _train_set(task: AlgorithmicTask, data_seed: int) -> tuple[Tokens, Tokens, Tokens]:
    """A fixed training set: inputs and targets `[train_size, T]`, and lengths `[train_size]`."""
    lengths = spread_lengths(task.train_length, task.train_size)
    longest, positions = task.train_length[1], task.context
    return *sequences(task, data_seed, "train", start=0, lengths=lengths, longest=longest, positions=positions), lengths


class AlgorithmicData:
    """The data of one trial on an algorithmic task; see `core.tasks.TaskData`."""

    def __init__(self, task: AlgorithmicTask, *, data_seed: int, batch: int) -> None:
        """Draws a fixed training set, or finds it in the cache."""
        self._task, self._seed, self._batch = task, data_seed, batch
        self._walk = _Walk(task, data_seed, batch) if task.train_size else None

    def batches(self, start: int, count: int) -> tuple[Tokens, Tokens]:
        """Inputs and targets `[count, B, T]` of the updates numbered `start`, `start` + 1, … (the first is 0)."""
        task = self._task
        lengths = np.concatenate([batch_lengths(task, self._batch, step) for step in range(start, start + count)])
        if self._walk is None:
            inputs, targets = sequences(
                task,
                self._seed,
                "train",
                start=start * self._batch,
                lengths=lengths,
                longest=task.train_length[1],
                positions=task.context,
            )
        else:
            chosen = self._walk.entries(start, lengths)
            all_inputs, all_targets, _ = _train_set(task, self._seed)
            inputs, targets = all_inputs[chosen], all_targets[chosen]
        shape = (count, self._batch, task.context)
        return inputs.reshape(shape), targets.reshape(shape)

    def validation(self) -> Validation:
        """The validation set."""
        return _validation(self._task, self._seed)


class _Walk:
    """The walk through a fixed training set: which problem stands in which slot."""

    def __init__(self, task: AlgorithmicTask, data_seed: int, batch: int) -> None:
        self._task, self._batch = task, batch
        lengths = _train_set(task, data_seed)[2]
        self._pools = {length: np.flatnonzero(lengths == length) for length in task.train_lengths}
        self._epochs = {
            length: Epochs(data_seed, f"algorithmic/{task.kind}/{length}", len(pool))
            for length, pool in self._pools.items()
        }
        # What was counted last; calls mostly follow one another.
        self._step, self._requests = 0, np.zeros(len(self._pools), dtype=np.int64)

    def entries(self, start: int, lengths: Tokens) -> Tokens:
        """The problems in the slots of the updates from `start` on, whose lengths are given, update by update."""
        chosen = np.empty_like(lengths)
        for first, (length, pool) in zip(self._before(start).tolist(), self._pools.items(), strict=True):
            slots = np.flatnonzero(lengths == length)
            if len(slots):
                chosen[slots] = pool[self._epochs[length].entries(first, len(slots))]
        return chosen

    def _before(self, start: int) -> Tokens:
        """Requests for each length in the updates before `start`."""
        if start < self._step:
            self._step, self._requests = 0, np.zeros_like(self._requests)
        while self._step < start:
            end = min(self._step + _STEPS, start)
            steps = np.arange(self._step, end, dtype=np.int64)
            self._requests = self._requests + length_counts(self._task, self._batch, steps).sum(axis=0)
            self._step = end
        return self._requests
