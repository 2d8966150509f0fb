"""Solved problems of an algorithmic task as arrays, and how they become what the model reads and predicts.

A sequence is ``x > y EOS`` (`core.token_layout`). The inputs are all of it but its last token, the targets all but its
first; a target is `IGNORE` unless it is a token of the answer y or the ``EOS`` after it. In the full-output format the
tokens of the answer are replaced by the blank ``#`` in the inputs, so the whole answer is predicted at once from x (Fan
et al. 2024, arXiv 2409.15647, with their one ``#`` for blank and padding); in the next-token format each is predicted
from x and the answer before it. Both are padded on the right with ``#``, so blanks do not tell how long the answer is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core import token_layout
from core.task_terms import AlgorithmicTask
from core.tasks import IGNORE, Tokens


@dataclass(frozen=True, kw_only=True)
class Problems:
    """N problems and their answers, of varied length; what lies beyond a problem's or an answer's end is arbitrary."""

    question: Tokens
    """`[N, X]`."""
    question_tokens: Tokens
    """How many of them belong to each problem `[N]`."""
    answer: Tokens
    """`[N, Y]`."""
    answer_tokens: Tokens
    """How many of them belong to each answer `[N]`."""


def marks(task: AlgorithmicTask) -> tuple[int, int, int, int]:
    """The tokens ``>``, ``EOS``, ``#`` and the operator (in the vocabulary only where the kind has one)."""
    first = token_layout.alphabet(task)
    return first, first + 1, first + 2, first + 3


def written(problems: Problems, task: AlgorithmicTask, positions: int) -> tuple[Tokens, Tokens]:
    """What the model reads and what it has to predict.

    Args:
        problems: N problems with their answers.
        task: of which they are.
        positions: T, at least that of the longest among them.

    Returns:
        Inputs and targets, int64 `[N, T]`.
    """
    arrow, end, blank, _ = marks(task)
    place = np.arange(positions + 1) - problems.question_tokens[:, None]  # 0 = the mark >
    answered = problems.answer_tokens[:, None]
    whole = np.full(place.shape, blank, dtype=np.int64)
    width = min(problems.question.shape[1], positions + 1)
    whole[:, :width] = problems.question[:, :width]
    answer = np.take_along_axis(problems.answer, np.clip(place - 1, 0, problems.answer.shape[1] - 1), axis=1)
    whole = np.where((place > 0) & (place <= answered), answer, np.where(place < 0, whole, blank))
    whole[place == 0] = arrow
    whole[place == answered + 1] = end
    asked = (place > 0) & (place <= answered + 1)
    unread = asked if task.format == "full-output" else place == answered + 1  # a sequence's last token is never read
    return np.where(unread, blank, whole)[:, :-1], np.where(asked, whole, IGNORE)[:, 1:]
