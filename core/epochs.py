"""The walk through a fixed training set, epoch by epoch: entry n is known without those before it.

Entry n is element n mod `size` of a permutation drawn for the epoch n div `size`, from a stream of the data's seed. An
update takes the next B entries, so a batch may straddle two epochs and nothing is ever dropped.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from core.streams import stream

Entries = npt.NDArray[np.int64]


def epoch_order(data_seed: int, task: str, size: int, epoch: int) -> Entries:
    """The order in which an epoch walks a training set of `size` sequences: a permutation `[size]`."""
    return stream(data_seed, task, "epoch", epoch).permutation(size)


class Epochs:
    """The walk of one trial."""

    def __init__(self, data_seed: int, task: str, size: int) -> None:
        """Takes the set.

        Args:
            data_seed: seed of the data.
            task: name of the task's streams.
            size: of the set; 0 where there is none and nothing is walked.
        """
        self._size = size
        # Two epochs: a batch may straddle their border, and the next call most often goes on in the later one.
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(data_seed, task, size, epoch))

    def entries(self, first: int, count: int) -> Entries:
        """The elements of the set at the places `first` … `first + count − 1` of the walk, `[count]`."""
        chosen, at = [], first
        while at < first + count:
            epoch, place = divmod(at, self._size)
            taken = min(self._size - place, first + count - at)
            chosen.append(self._order(epoch)[place : place + taken])
            at += taken
        return np.concatenate(chosen)
