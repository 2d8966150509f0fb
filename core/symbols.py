"""Tasks on a string of n random symbols, which repeat: copying it, and listing which symbols it has."""

from __future__ import annotations

import numpy as np

from core.problems import Problems
from core.task_terms import AlgorithmicTask
from core.tasks import Floats, Tokens


def draws(_task: AlgorithmicTask, longest: int) -> int:
    """Random numbers that a problem takes."""
    return longest


def copy(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """The string again (Fan et al. 2024; there of bits): ``c a a > c a a EOS``."""
    drawn = (task.symbols * uniform).astype(np.int64)
    return Problems(question=drawn, question_tokens=lengths, answer=drawn, answer_tokens=lengths)


def unique_set(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """Each symbol once, in the order of first occurrence (Fan et al. 2024): ``c a c b a > c a b EOS``."""
    drawn = (task.symbols * uniform).astype(np.int64)
    count, longest = drawn.shape
    inside = np.where(np.arange(longest) < lengths[:, None], drawn, task.symbols)  # beyond the end: no symbol
    order = np.argsort(inside, axis=1, kind="stable")
    ordered = np.take_along_axis(inside, order, axis=1)
    begins = np.ones((count, longest), dtype=np.bool_)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(begins)
    np.put_along_axis(first, order, begins & (ordered < task.symbols), axis=1)
    rows, columns = np.nonzero(first)
    answer = np.zeros((count, min(longest, task.symbols)), dtype=np.int64)
    answer[rows, first.cumsum(axis=1)[rows, columns] - 1] = drawn[rows, columns]
    return Problems(question=drawn, question_tokens=lengths, answer=answer, answer_tokens=first.sum(axis=1))
