"""p-hop induction: from the last symbol go to what followed the symbol's occurrence before, p times.

Of a string v, one hop from position i leads to the position after the latest j < i with v_j = v_i; the answer is the
symbol p hops from the last position (Sanford et al. 2024, arXiv 2402.09268, k-hop induction heads; Saunshi et al. 2025,
arXiv 2502.17416, p-hop). One hop is what an induction head does. ``b a c b c a > c EOS`` for p = 1: the `a` before the
last one is followed by c.

Our reading: strings are uniform over those of n symbols that have an answer and in which no two neighbours are equal
(a repeated symbol would hop onto itself, for ever). Drawing them needs no rejection. Read from its end such a string is
a Markov chain, and a hop goes back by a ≥ 1 with probability q(1 − q)^(a−1), q = 1/(symbols − 1), whatever the hops
before. So (1) the sum s of the p hops is negative binomial, given s ≤ n − 2; (2) given s, all ways to split it into p
hops are alike; (3) given the hops, the symbols between are uniform over those that differ from their neighbour and from
the symbol looked for.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import comb

import numpy as np

from core.problems import Problems
from core.task_terms import AlgorithmicTask
from core.tasks import Floats, Mask, Tokens


def draws(_task: AlgorithmicTask, longest: int) -> int:
    """Random numbers that a problem takes: one for s, one for each place where s may be split, one for each symbol."""
    return 1 + 2 * longest


def p_hop(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Problems:
    """A string of n symbols, and the symbol that lies `hops` hops from its end."""
    longest = uniform.shape[1] // 2
    total = _totals(task, lengths, uniform[:, 0])
    found = _found(task, total, uniform[:, 1 : 1 + longest])
    backwards = _filled(task.symbols, found.T, uniform[:, 1 + longest :].T).T
    column = np.clip(lengths[:, None] - 1 - np.arange(longest), 0, None)
    return Problems(
        question=np.take_along_axis(backwards, column, axis=1),
        question_tokens=lengths,
        answer=np.take_along_axis(backwards, total[:, None], axis=1),
        answer_tokens=np.ones_like(lengths),
    )


def _totals(task: AlgorithmicTask, lengths: Tokens, uniform: Floats) -> Tokens:
    """How far back all hops together lead `[N]`: in hops … n − 2."""
    total = np.empty_like(lengths)
    for length in np.unique(lengths):
        rows = lengths == length
        shares = _total_shares(task.hops, task.symbols, int(length))
        total[rows] = task.hops + np.searchsorted(shares, uniform[rows], side="right")
    return total


@lru_cache(maxsize=4096)
def _total_shares(hops: int, symbols: int, length: int) -> Floats:
    """P(s ≤ hops + i) for i = 0, 1, … `[length − 1 − hops]`; in whole numbers, so equal on every machine."""
    most = length - 2
    ways = [
        comb(s - 1, hops - 1) * (symbols - 2) ** (s - hops) * (symbols - 1) ** (most - s) for s in range(hops, most + 1)
    ]
    sums = list(accumulate(ways))
    return np.array([upto / sums[-1] for upto in sums])


def _found(task: AlgorithmicTask, total: Tokens, uniform: Floats) -> Mask:
    """Where, counted back from the end, the symbols looked for are found `[N, L]`.

    A hop that brings the sum of hops to c has found its symbol at c + 1. The sums before the last are a uniform choice
    of hops − 1 among 1 … s − 1: the places of the smallest random numbers.
    """
    count, longest = uniform.shape
    found = np.zeros((count, longest), dtype=np.bool_)
    sums = total[:, None]
    if task.hops > 1:
        place = np.arange(longest)
        possible = (place > 0) & (place < total[:, None])
        split = np.argsort(np.where(possible, uniform, np.inf), axis=1)[:, : task.hops - 1]
        sums = np.concatenate([split, sums], axis=1)
    np.put_along_axis(found, sums + 1, values=True, axis=1)
    return found


def _filled(symbols: int, found: Mask, uniform: Floats) -> Tokens:
    """The symbols, counted back from the end `[L, N]`; where it is found, the symbol looked for."""
    longest, count = found.shape
    last = np.flip(found, axis=0).argmax(axis=0)
    last = longest - 1 - last  # where the last hop finds its symbol
    filled = np.empty((longest, count), dtype=np.int64)
    filled[0] = symbols * uniform[0]
    wanted = filled[0]
    for place in range(1, longest):
        neighbour = filled[place - 1]
        low, high = np.minimum(neighbour, wanted), np.maximum(neighbour, wanted)
        drawn = ((symbols - 1 - (low < high)) * uniform[place]).astype(np.int64)
        drawn += drawn >= low
        drawn += (drawn >= high) & (low < high)
        filled[place] = np.where(found[place], wanted, drawn)
        wanted = np.where(found[place], neighbour, wanted)
        wanted = np.where(place >= last, filled[place], wanted)  # nothing is looked for any more
    return filled
