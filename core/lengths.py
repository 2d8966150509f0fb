"""Which lengths the problems of an algorithmic task have: a function of (task, batch, step), never of the seed.

Lengths are *stratified*, not drawn: the B sequences of an update have the lengths at the quantiles (j + u)/B, j = 0 …
B − 1, of the uniform distribution over the lengths that are allowed then. The offset u in [0, 1) is the fractional part
of step · golden ratio, a low-discrepancy sequence, so that over updates every length has its exact share whatever B. So
all lanes of a pack have the same lengths in the same slots, loops by length are the same number in all of them, and
FLOPs are known beforehand. Within a batch lengths fall, so the sequences that are looped longest come first.

A curriculum allows the shortest length first, and one more after each equal part of its updates.

All in integers: u is a fraction of 2^24, so nothing depends on how a machine rounds.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from core.lineage import Link
from core.task_terms import AlgorithmicTask

Lengths = npt.NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio's fractional part, of 2^64."""
_CHUNK = 4096
"""Updates whose running sums of loops are kept together: 32 KiB."""
_UNIT = 24
"""Bits of a quantile's fraction; with 10^6 sequences and 1024 lengths products stay below 2^63."""


def batch_lengths(task: AlgorithmicTask, batch: int, step: int) -> Lengths:
    """Lengths of the problems of one update, by slot, falling.

    Args:
        task: the task.
        batch: B, sequences of an update.
        step: number of the update, from 0.

    Returns:
        int64 `[B]`.
    """
    allowed = int(_allowed(task, np.asarray(step)))
    quantile = (np.arange(batch, dtype=np.int64) << _UNIT) + _offset(np.asarray(step))
    return (task.train_length[0] + quantile * allowed // (batch << _UNIT))[::-1].copy()


def length_counts(task: AlgorithmicTask, batch: int, steps: npt.NDArray[np.int64]) -> Lengths:
    """How many problems of each training length the updates have.

    Args:
        task: the task.
        batch: B, sequences of an update.
        steps: numbers of the updates `[n]`, from 0.

    Returns:
        int64 `[n, R]`, by update and by length from the shortest on; rows sum to B.
    """
    allowed, offset = _allowed(task, steps)[:, None], _offset(steps)[:, None]
    edge = np.minimum(np.arange(len(task.train_lengths) + 1, dtype=np.int64), allowed)
    # Slots before the first whose quantile reaches an edge: (j·2^24 + u) · R ≥ edge · B · 2^24, rounded up twice.
    reaches = -(-(edge * (batch << _UNIT)) // allowed) - offset
    counts: Lengths = np.diff(np.clip(-(-reaches >> _UNIT), 0, batch), axis=1)
    return counts


def validation_lengths(task: AlgorithmicTask) -> Lengths:
    """Lengths of the validation problems `[val_size]`: stratified over the test lengths, and so is each first part.

    Sequence i has the length at the rank of (fractional part of i · golden ratio) among all of them.
    """
    return spread_lengths(task.test_length, task.val_size)


def spread_lengths(ends: tuple[int, int], size: int) -> Lengths:
    """Lengths `[size]` from `ends[0]` to `ends[1]` in equal shares, in an order whose first parts have them too."""
    order = np.argsort(np.arange(size, dtype=np.uint64) * np.uint64(_GOLDEN), kind="stable")
    lengths = np.empty(size, dtype=np.int64)
    lengths[order] = ends[0] + np.arange(size, dtype=np.int64) * (ends[1] - ends[0] + 1) // size
    return lengths


def loops_by_length(lengths: Lengths, link: Link) -> list[int]:
    """How often sequences of some lengths `[n]` are looped in a link that loops by length: n + offset, in 1 … loops."""
    loops: list[int] = np.clip(lengths + (link.offset or 0), 1, link.loops).tolist()
    return loops


def looped_total(
    task: AlgorithmicTask, batch: int, *, offset: int, most: int, start: int, end: int, last: int = 0
) -> int:
    """Loops of all sequences of the updates start + 1 … end, where they are looped by length; quick for any stretch.

    Args:
        task: the task.
        batch: B, sequences of an update.
        offset: loops more than the length of the problem.
        most: loops of a sequence at most.
        start: updates made before, at least 0.
        end: last update, at least `start`.
        last: count at most so many loops of a sequence; 0 = all.
    """
    counted = min(most, last) if last else most
    return _before(task, batch, offset, counted, end) - _before(task, batch, offset, counted, start)


def _before(task: AlgorithmicTask, batch: int, offset: int, most: int, step: int) -> int:
    """Loops of all sequences of the first `step` updates."""
    full, rest = divmod(step, _CHUNK)
    total = sum(int(_sums(task, batch, offset, most, chunk)[-1]) for chunk in range(full))
    return total + int(_sums(task, batch, offset, most, full)[rest - 1]) if rest else total


@lru_cache(maxsize=1024)  # 32 MiB at most; the trials of a plan share them
def _sums(task: AlgorithmicTask, batch: int, offset: int, most: int, chunk: int) -> Lengths:
    """Running sums of the loops of a chunk's updates, `[_CHUNK]`; not to be written to."""
    counts = length_counts(task, batch, np.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK, dtype=np.int64))
    loops = np.clip(np.asarray(task.train_lengths) + offset, 1, most)
    return np.cumsum(counts @ loops)


def _allowed(task: AlgorithmicTask, steps: npt.NDArray[np.int64]) -> Lengths:
    """How many of the training lengths, from the shortest on, the updates may have."""
    count = len(task.train_lengths)
    if not task.curriculum:
        return np.full_like(steps, count)
    return np.minimum(1 + steps * count // task.curriculum, count)


def _offset(steps: npt.NDArray[np.int64]) -> Lengths:
    """The offsets u of the updates, of 2^24."""
    return (steps.astype(np.uint64) * np.uint64(_GOLDEN) >> np.uint64(64 - _UNIT)).astype(np.int64)
