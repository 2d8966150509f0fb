"""The statistics of a claim: paired differences, one per seed, and what they say.

Everything takes plain numbers and returns plain numbers; nothing here knows of arms, metrics or tables. The t interval
is primary and the sign-flip permutation test its check: exact, free of any distribution, but blind below five seeds
(its smallest two-sided p is 2 / 2^n). No bootstrap: its 95 % percentile interval covers 75 % at three seeds.

Differences without any spread leave t undefined (0 / 0 or x / 0); there the sign-flip p is what is had, and the
interval is the point itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from core.streams import stream

Alternative = Literal["two-sided", "less", "greater"]

EXACT_UP_TO = 20
"""Seeds up to which all 2^n sign flips are counted; above, a fixed sample of them."""
SAMPLED_FLIPS = 100_000
MOST_SEEDS = 10_000
"""`seeds_needed` gives up above: nobody runs them."""
_SPREAD_FLOOR = 1e-12  # below this share of the largest value a spread is rounding, not noise


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds with its t interval; `low`, `high` and `sd` are None below two values."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def t_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean and two-sided t interval, ``mean ± t_{n−1} · sd / √n``.

    Args:
        values: [n], finite, n ≥ 1; for a paired interval the differences.
        level: coverage, in (0, 1).

    Raises:
        ValueError: without values, or where one is not finite.
    """
    x = _finite(values)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(n=1, mean=mean, sd=None, low=None, high=None)
    sd = float(x.std(ddof=1))
    half = float(special.stdtrit(len(x) - 1, 0.5 + level / 2)) * sd / math.sqrt(len(x))
    return Interval(n=len(x), mean=mean, sd=sd, low=mean - half, high=mean + half)


def t_intervals(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """`t_interval` of many quantities at once.

    Args:
        values: [n, quantities], finite, n ≥ 1.

    Returns:
        Means [quantities], and the half widths of the 95 % intervals; None below two values.
    """
    n = len(values)
    mean = values.mean(axis=0)
    return mean, None if n < 2 else float(special.stdtrit(n - 1, 0.975)) * values.std(axis=0, ddof=1) / math.sqrt(n)


def no_spread(values: Sequence[float]) -> bool:
    """Whether values differ by rounding at most."""
    x = _finite(values)
    return float(np.ptp(x)) <= _SPREAD_FLOOR * float(np.abs(x).max())


def t_test(differences: Sequence[float], *, against: float = 0.0, alternative: Alternative = "two-sided") -> float:
    """The p value of the one-sample t test on paired differences.

    Args:
        differences: [n], finite, n ≥ 2.
        against: the mean under the null hypothesis (the margin, for "not worse").
        alternative: ``less`` asks whether the mean is below `against`.

    Returns:
        p in [0, 1]; for differences without spread the sign-flip p.

    Raises:
        ValueError: below two differences, or where one is not finite.
    """
    x = _finite(differences) - against
    if len(x) < 2:
        raise ValueError(f"a t test needs at least 2 differences, got {len(x)}")
    sd = float(x.std(ddof=1))
    if no_spread(differences):
        return sign_flip(differences, against=against, alternative=alternative)
    t, df = float(x.mean()) / (sd / math.sqrt(len(x))), len(x) - 1
    if alternative == "less":
        return float(stats.t.cdf(t, df))
    if alternative == "greater":
        return float(stats.t.sf(t, df))
    return float(2 * stats.t.sf(abs(t), df))


def sign_flip(differences: Sequence[float], *, against: float = 0.0, alternative: Alternative = "two-sided") -> float:
    """The p value of the sign-flip permutation test: how many sign patterns give a sum as extreme as the one seen.

    Under the null hypothesis each difference is as likely as its negative. Exact over all 2^n patterns up to
    `EXACT_UP_TO` differences; above, over `SAMPLED_FLIPS` fixed random patterns with the pattern seen counted in
    (Phipson & Smyth 2010), so p is never 0.

    Raises:
        ValueError: without differences, or where one is not finite.
    """
    x = _finite(differences) - against
    slack = 1e-12 * float(np.abs(x).sum())  # equal sums added in another order stay equal
    if len(x) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in x:
            sums = np.concatenate([sums + value, sums - value])
        added = 0
    else:
        generator, added = stream(0, "sign-flip", len(x)), 1
        blocks = [generator.integers(0, 2, (SAMPLED_FLIPS // 10, len(x))) * 2 - 1 for _ in range(10)]
        sums = np.concatenate([block @ x for block in blocks])
    seen = float(x.sum())
    if alternative == "less":
        extreme = sums <= seen + slack
    elif alternative == "greater":
        extreme = sums >= seen - slack
    else:
        extreme = np.abs(sums) >= abs(seen) - slack
    return float((np.count_nonzero(extreme) + added) / (len(sums) + added))


def sign_flip_floor(n: int, alternative: Alternative = "two-sided") -> float:
    """The smallest p that the sign-flip test can give with n differences."""
    patterns = 2.0**n if n <= EXACT_UP_TO else SAMPLED_FLIPS + 1.0
    return min(1.0, (2.0 if alternative == "two-sided" and n <= EXACT_UP_TO else 1.0) / patterns)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a family of p values, in the order given (Holm 1979).

    The k-th smallest of m is multiplied by m − k + 1, made monotone and cut at 1: the family's error rate stays below
    α whatever the dependence.

    Raises:
        ValueError: where a p is outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p values lie in [0, 1], got {list(p_values)}")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_in_order(chains: Sequence[Sequence[float]]) -> list[list[float]]:
    """Adjusted p values of a family some of whose members are several hypotheses in a fixed order.

    Each chain begins with an equal share of α, which a rejected hypothesis hands on to the next and the last one to the
    other chains in equal parts: a graph of Bretz et al. (2009, Statistics in Medicine 28), which keeps the family's
    error rate below α whatever the dependence. Chains of one are Holm's procedure; a single chain is the fixed-sequence
    procedure, where nothing is rejected after the first that is not.

    Args:
        chains: p values, each chain in its order.

    Raises:
        ValueError: where a chain is empty or a p is outside [0, 1].
    """
    whole = [max(chain) for chain in chains]
    # Up to a hypothesis a chain is worth its largest p so far; others give their share away as wholes only.
    return [
        [holm([*whole[:i], running, *whole[i + 1 :]])[i] for running in itertools.accumulate(chain, max)]
        for i, chain in enumerate(chains)
    ]


def cohen_dz(differences: Sequence[float]) -> float | None:
    """Effect size of paired differences, mean / sd (Cohen 1988); None where there is no spread or n < 2."""
    x = _finite(differences)
    sd = float(x.std(ddof=1)) if len(x) > 1 else 0.0
    return float(x.mean()) / sd if sd > _SPREAD_FLOOR * float(np.abs(x).max()) else None


def share_below(differences: Sequence[float], *, threshold: float = 0.0) -> float:
    """Share of the differences below the threshold, a tie counting half: P(A better) where lower is better."""
    x = _finite(differences)
    return float((np.count_nonzero(x < threshold) + 0.5 * np.count_nonzero(x == threshold)) / len(x))


def power(noncentrality: float, n: int, *, alpha: float = 0.05, two_sided: bool = True) -> float:
    """Probability that the t test of n differences rejects, at noncentrality ``effect / sd · √n``.

    ``P(T > t*)`` for T noncentral t, as the mean of ``Φ(δ − t* s)`` over the distribution of the scaled sample
    deviation s = √(χ²_{n−1} / (n − 1)): stable where the noncentral t of libraries is not (few seeds, huge effects).
    Good to about 1e-4.
    """
    bounds = _rejection_bounds(n, alpha / (2 if two_sided else 1))
    rejected = special.ndtr(noncentrality - bounds)
    if two_sided:
        rejected = rejected + special.ndtr(-noncentrality - bounds)
    return float(rejected.mean())


@lru_cache(maxsize=512)  # a report asks for the same few n and levels thousands of times
def _rejection_bounds(n: int, tail: float) -> NDArray[np.float64]:
    """``t* s`` at evenly spread quantiles of s, for a level of `tail` on one side."""
    df = n - 1
    quantiles = (np.arange(2000) + 0.5) / 2000
    s: NDArray[np.float64] = np.sqrt(2 * special.gammaincinv(df / 2, quantiles) / df)
    return float(stats.t.ppf(1 - tail, df)) * s


def seeds_needed(
    effect: float, sd: float, *, alpha: float = 0.05, wanted: float = 0.8, two_sided: bool = True
) -> int | None:
    """Seeds at which the t test finds a mean difference of `effect` with probability `wanted`.

    Args:
        effect: distance of the true mean from the null hypothesis; its sign does not matter.
        sd: standard deviation of the differences, > 0.
        alpha: level of the test.
        wanted: power, in (0, 1).
        two_sided: whether the test is.

    Returns:
        The least n ≥ 2, or None where more than `MOST_SEEDS` would be needed.
    """
    if sd <= 0:
        raise ValueError(f"the spread must be positive, got {sd!r}")
    ratio = abs(effect) / sd

    def enough(n: int) -> bool:
        return power(ratio * math.sqrt(n), n, alpha=alpha, two_sided=two_sided) >= wanted

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def smallest_detectable(
    sd: float, n: int, *, alpha: float = 0.05, wanted: float = 0.8, two_sided: bool = True
) -> float:
    """The mean difference that n ≥ 2 seeds with this spread find with probability `wanted`."""
    top = 1.0
    while power(top, n, alpha=alpha, two_sided=two_sided) < wanted:
        top *= 2
    found = optimize.brentq(lambda d: power(d, n, alpha=alpha, two_sided=two_sided) - wanted, 0.0, top)
    return float(found) * sd / math.sqrt(n)


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"needs a list of finite numbers, got {values!r}")
    return x
