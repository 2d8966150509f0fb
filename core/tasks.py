"""What the training engine needs of a task: batches by step, a fixed validation set, and the floors of loss.

A task's data are a pure function of (task, data seed): batch n is had without drawing those before it, whoever asks
for it and in whatever blocks, so resuming needs no generator state and a trial's data do not depend on its pack.

Arrays are numpy's; the engine moves them to its device. Batches are fresh; the validation set is shared by all trials
of its data seed and never written to. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

IGNORE = -100
"""The target at a position where nothing is predicted."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The validation set of a task: N sequences of T predictions, the same at every evaluation of a trial."""

    inputs: Tokens
    """Tokens read `[N, T]`."""
    targets: Tokens
    """Tokens to predict `[N, T]`: `targets[:, t]` follows `inputs[:, t]`; `IGNORE` where nothing is predicted."""
    strata: Mapping[str, Mask]
    """By name, the sequences `[N]` of each stratum of the task; strata may overlap, and be empty."""
    floors: Mapping[str, float]
    """What the best possible predictor reaches on this set: ``bayes_loss`` (nats per token) and ``bayes_accuracy``,
    each also with ``_<stratum>`` for every stratum that has a sequence."""
    lengths: Tokens | None = None
    """Length of each problem `[N]`, where the task has problems of a length."""
    bytes_per_token: float | None = None
    """Bytes of text that a token stands for, on average over the held-out text; None where that is not known."""


class TaskData(Protocol):
    """The data of one trial."""

    def batches(self, start: int, count: int) -> tuple[Tokens, Tokens]:
        """Inputs and targets `[count, B, T]` of the updates numbered `start`, `start` + 1, … (the first is 0)."""
        ...

    def validation(self) -> Validation:
        """The validation set."""
        ...
