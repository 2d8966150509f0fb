"""Tasks on a string of n random bits: its parity, and the number of its ones."""

from __future__ import annotations

import numpy as np

from core.problems import Problems
from core.task_terms import AlgorithmicTask
from core.tasks import Floats, Tokens


def draws(_task: AlgorithmicTask, longest: int) -> int:
    """Random numbers that a problem takes."""
    return longest


def parity(_task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """Whether the number of ones is odd (Fan et al. 2024): ``1 0 1 1 > 1 EOS``."""
    bits, ones = _counted(lengths, uniform)
    return Problems(
        question=bits, question_tokens=lengths, answer=ones[:, None] & 1, answer_tokens=np.ones_like(lengths)
    )


def binary_sum(_task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """The number of ones in binary, its lowest bit first, as Fan et al. 2024 have it: ``1 0 1 1 > 1 1 EOS``.

    Our reading: without zeros after the highest one; none at all is ``0``.
    """
    bits, ones = _counted(lengths, uniform)
    rest = ones[:, None] >> np.arange(bits.shape[1].bit_length())
    return Problems(
        question=bits,
        question_tokens=lengths,
        answer=rest & 1,
        answer_tokens=np.maximum((rest > 0).sum(axis=1), 1),
    )


def _counted(lengths: Tokens, uniform: Floats) -> tuple[Tokens, Tokens]:
    """Random bits `[N, L]`, and how many of the first n of each string are ones `[N]`."""
    bits = (2 * uniform).astype(np.int64)
    return bits, (bits * (np.arange(bits.shape[1]) < lengths[:, None])).sum(axis=1)
