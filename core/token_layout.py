"""How an algorithmic problem is written in tokens: its alphabet, its marks, and how long its parts are.

A sequence is ``x > y EOS``: the problem x, the mark ``>``, its answer y, the mark ``EOS``. Tokens 0 … A − 1 are the
alphabet (bits, digits or symbols), then come ``>``, ``EOS``, the blank ``#`` and, where numbers are joined, the
operator. The model reads all of a sequence but the last token, so a sequence takes |x| + |y| + 1 positions.

The *length* of a problem is its size n: bits of parity, binary_sum and of one number of addition, symbols of copy,
unique_set and p_hop, bits of the second number of binary_multiplication, numbers of nary_addition.

No numpy here: planning imports this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.task_terms import AlgorithmicTask

FACTOR_BITS = 2
"""Bits of the first number of binary_multiplication (Fan et al. 2024: up to two)."""

MARKS = 3
"""``>``, ``EOS`` and ``#``, in this order after the alphabet; then the operator."""


def alphabet(task: AlgorithmicTask) -> int:
    """Number of tokens that problems and answers are made of, without marks."""
    match task.kind:
        case "copy" | "unique_set" | "p_hop":
            return task.symbols
        case "nary_addition":
            return 10
        case _:
            return 2


def vocabulary(task: AlgorithmicTask) -> int:
    """Number of tokens: the alphabet, the marks, and the operator where numbers are joined by one."""
    joined = task.kind in ("addition", "nary_addition", "binary_multiplication")
    return alphabet(task) + MARKS + joined


def question_tokens(task: AlgorithmicTask, length: int) -> int:
    """Tokens of a problem x of this length."""
    match task.kind:
        case "addition":
            return 2 * length + 1
        case "nary_addition":
            return length * (task.digits + 1) - 1
        case "binary_multiplication":
            return FACTOR_BITS + 1 + length
        case _:
            return length


def answer_tokens(task: AlgorithmicTask, length: int) -> int:
    """Tokens of an answer y to a problem of this length, at most."""
    match task.kind:
        case "parity" | "p_hop":
            return 1
        case "copy":
            return length
        case "addition":
            return length + 1
        case "nary_addition":
            return len(str(length * (10**task.digits - 1)))
        case "binary_sum":
            return length.bit_length()
        case "binary_multiplication":
            return FACTOR_BITS + length
        case "unique_set":
            return min(length, task.symbols)


def positions(task: AlgorithmicTask, length: int) -> int:
    """Positions that a sequence of this length takes, at most; never fewer for a longer problem."""
    return question_tokens(task, length) + answer_tokens(task, length) + 1
