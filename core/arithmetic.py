"""Tasks of arithmetic: the sum of two binary numbers, the sum of many numbers, a product of binary numbers."""

from __future__ import annotations

import numpy as np

from core.problems import Problems, marks
from core.task_terms import AlgorithmicTask
from core.tasks import Floats, Tokens
from core.token_layout import FACTOR_BITS, answer_tokens, question_tokens


def addition_draws(_task: AlgorithmicTask, longest: int) -> int:
    """Random numbers that a problem of addition takes."""
    return 2 * longest


def addition(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """The sum of two binary numbers of n bits each (Fan et al. 2024): ``1 0 + 1 1 > 1 0 1 EOS``.

    Highest bit first in all three; the sum has n + 1 bits, leading zeros are kept.
    """
    longest = uniform.shape[1] // 2
    bits = (2 * uniform).astype(np.int64).reshape(-1, 2, longest)  # by significance, the lowest first
    bits *= np.arange(longest) < lengths[:, None, None]
    total = _with_carries(bits.sum(axis=1), places=longest + 1)
    n, column = lengths[:, None], np.arange(question_tokens(task, longest))
    first = np.take_along_axis(bits[:, 0], np.clip(n - 1 - column, 0, longest - 1), axis=1)
    second = np.take_along_axis(bits[:, 1], np.clip(2 * n - column, 0, longest - 1), axis=1)
    *_, plus = marks(task)
    return Problems(
        question=np.where(column < n, first, np.where(column == n, plus, second)),
        question_tokens=2 * lengths + 1,
        answer=np.take_along_axis(total, np.maximum(n - np.arange(longest + 1), 0), axis=1),
        answer_tokens=lengths + 1,
    )


def nary_addition_draws(task: AlgorithmicTask, longest: int) -> int:
    """Random numbers that a problem of nary_addition takes."""
    return longest * task.digits


def nary_addition(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """The sum of n decimal numbers of `digits` digits (Saunshi et al. 2025): ``3 1 5 + 0 4 5 + 1 2 0 > 0 4 8 0 EOS``.

    Highest digit first, leading zeros are kept. Our reading: the sum has as many digits as the largest sum of n such
    numbers.
    """
    count, longest = len(uniform), uniform.shape[1] // task.digits
    digits = (10 * uniform).astype(np.int64).reshape(count, longest, task.digits)
    numbers = digits @ 10 ** np.arange(task.digits - 1, -1, -1, dtype=np.int64)
    total = (numbers * (np.arange(longest) < lengths[:, None])).sum(axis=1)
    *_, plus = marks(task)
    terms = np.concatenate([digits, np.full((count, longest, 1), plus)], axis=2)
    width = np.array([0, *(answer_tokens(task, length) for length in range(1, longest + 1))])[lengths]
    weight = 10 ** np.maximum(width[:, None] - 1 - np.arange(answer_tokens(task, longest)), 0)
    return Problems(
        question=terms.reshape(count, -1)[:, :-1],
        question_tokens=lengths * (task.digits + 1) - 1,
        answer=total[:, None] // weight % 10,
        answer_tokens=width,
    )


def binary_multiplication_draws(_task: AlgorithmicTask, longest: int) -> int:
    """Random numbers that a problem of binary_multiplication takes."""
    return FACTOR_BITS + longest


def binary_multiplication(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """A binary number of up to two bits times one of n bits (Fan et al. 2024): ``1 1 * 1 0 1 > 1 1 1 1 0 EOS``.

    Lowest bit first in all three. Our reading: the first number has two bits of any value, and the product has n + 2
    bits, zeros after its highest one kept.
    """
    bits = (2 * uniform).astype(np.int64)
    factor, other = bits[:, :FACTOR_BITS], bits[:, FACTOR_BITS:]
    longest = other.shape[1]
    value = factor @ (1 << np.arange(FACTOR_BITS))
    *_, times = marks(task)
    return Problems(
        question=np.concatenate([factor, np.full((len(bits), 1), times), other], axis=1),
        question_tokens=lengths + FACTOR_BITS + 1,
        answer=_with_carries(
            value[:, None] * other * (np.arange(longest) < lengths[:, None]), places=longest + FACTOR_BITS
        ),
        answer_tokens=lengths + FACTOR_BITS,
    )


def _with_carries(columns: Tokens, *, places: int) -> Tokens:
    """The binary digits `[N, places]` of Σ_i columns_i · 2^i, lowest first, from columns `[N, L]`."""
    digits = np.empty((places, len(columns)), dtype=np.int64)
    carry = np.zeros(len(columns), dtype=np.int64)
    for place in range(places):
        if place < columns.shape[1]:
            carry += columns[:, place]
        np.bitwise_and(carry, 1, out=digits[place])
        carry >>= 1
    return digits.T
