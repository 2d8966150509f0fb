"""Drawing from many discrete distributions at once: Walker's alias method over rows of a matrix.

One uniform number gives one draw with two table look-ups, whatever the size of the alphabet. The tables are built for
all rows in one pass of S vectorised steps (the sweep of Hübschle-Schneider and Sanders, "Parallel Weighted Random
Sampling", 2019): small and large entries are paired by two pointers per row, without queues.

Walker 1977: cut [0, 1) into S cells of equal width; cell j belongs to outcome j below its cut and to its alias above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class AliasTables:
    """Tables of R distributions over S outcomes, flattened to `[R·S]`."""

    cut: npt.NDArray[np.float64]
    """j + share of cell j that belongs to outcome j, so it compares with u·S directly."""
    alias: npt.NDArray[np.int64]
    """Outcome that owns the rest of the cell."""


def alias_tables(rows: npt.NDArray[np.float64]) -> AliasTables:
    """Alias tables of the distributions in `rows` `[R, S]`, each summing to 1 up to rounding."""
    count, size = rows.shape
    weight = rows * (size / rows.sum(axis=1, keepdims=True))
    every = np.arange(count)
    large = weight >= weight.max(axis=1, keepdims=True).clip(max=1.0)  # never an empty side, whatever the rounding
    # Each row lists its small outcomes in order, then (a second list) its large ones.
    small_order = np.argsort(large, axis=1, kind="stable")
    large_order = np.argsort(~large, axis=1, kind="stable")
    small_count, large_count = (~large).sum(axis=1), large.sum(axis=1)
    cut = np.ones((count, size))
    alias = np.tile(np.arange(size), (count, 1))
    small, big = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    rest = weight[every, large_order[:, 0]]  # what the current large outcome still has to give
    for _ in range(size):
        more_small, more_large = small < small_count, big + 1 < large_count
        give = more_small & ((rest > 1.0) | ~more_large)  # fill the next small cell from the large outcome
        close = ~give & more_large & (rest <= 1.0)  # the large outcome's own cell: filled up by the next large one
        skip = ~give & ~close & more_large  # all small cells are full: what is left are full large cells
        at, owner = every[give], large_order[give, big[give]]
        item = small_order[at, small[give]]
        cut[at, item], alias[at, item] = weight[at, item], owner
        rest[give] -= 1.0 - weight[at, item]
        small[give] += 1
        at, item = every[close], large_order[close, big[close]]
        following = large_order[close, big[close] + 1]
        cut[at, item], alias[at, item] = rest[close], following
        rest[close] += weight[at, following] - 1.0
        big[close | skip] += 1
        at = every[skip]
        rest[skip] = weight[at, large_order[skip, big[skip]]]
    cut = cut.clip(0.0, 1.0) + np.arange(size, dtype=np.float64)
    return AliasTables(cut=cut.ravel(), alias=alias.ravel())
