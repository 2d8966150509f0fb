"""The statistics of choosing: how much better the best of many looks than it is, and what fresh seeds say of it.

Of m settings that are equally good, the best by its mean over n seeds looks better than it is by e(1, m) / √n standard
deviations of one seed, e(k, m) being the expected k-th largest of m standard normal numbers: 1.3 at m = 60 and n = 3.
Every setting runs the same seeds, so what a seed does to all of them has no part in the choice: the deviation that
counts is the one that is left when settings and seeds are both taken out (`residual_sd`), in most settings: one that
explodes spreads a thousandfold, and the best has nothing of it (`typical_sd`). Where settings differ in
truth the best looks better by less: the numbers here are what luck alone can do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import integrate, special, stats

from reports.stats import Interval


def expected_order(place: int, of: int) -> float:
    """The expected `place`-th largest of so many independent standard normal numbers.

    ``∫ x f(x) dx`` with ``f = m! / ((m − k)! (k − 1)!) · Φ^(m − k) (1 − Φ)^(k − 1) φ`` (David & Nagaraja 2003, 3.1.1).

    Raises:
        ValueError: unless 1 ≤ place ≤ of.
    """
    if not 1 <= place <= of:
        raise ValueError(f"a place lies in 1 … {of}, got {place}")
    scale = special.gammaln(of + 1) - special.gammaln(place) - special.gammaln(of - place + 1)

    def density(x: float) -> float:
        logs = scale + (of - place) * special.log_ndtr(x) + (place - 1) * special.log_ndtr(-x)
        return float(x * math.exp(logs - x * x / 2) / math.sqrt(2 * math.pi))

    # Cut where the normal density has nothing left, even of 10^6 numbers; split at 0, where x changes its sign.
    return float(integrate.quad(density, -12, 0, limit=200)[0] + integrate.quad(density, 0, 12, limit=200)[0])


def residual_sd(values: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation of one value when the means of its setting and of its seed are taken out.

    Args:
        values: [settings, seeds], finite.

    Returns:
        ``√(Σ (x_ij − x_i. − x_.j + x_..)² / ((m − 1)(n − 1)))``; None below two settings or two seeds.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    settings, seeds = table.shape
    return float(math.sqrt((rest**2).sum() / ((settings - 1) * (seeds - 1))))


def typical_sd(values: Sequence[Sequence[float]]) -> float | None:
    """`residual_sd` of most settings: nearly half of them may lie anywhere.

    What a seed does to all settings is taken out by its median (the first step of median polish, Tukey 1977). The
    median of the settings' variances over seeds is then divided by that of χ² / (n − 1) with n − 1 degrees of freedom,
    as a median absolute deviation is by that of the normal law (Hampel 1974); of two seeds it is that of differences.

    Args:
        values: [settings, seeds], finite.

    Returns:
        None below two settings or two seeds. Of fewer than four settings, and where more than half have no spread at
        all, medians say nothing: the plain `residual_sd`.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    own = (table - np.median(table, axis=0, keepdims=True)).var(axis=1, ddof=1)
    freedom = table.shape[1] - 1
    middle = float(np.median(own) / (stats.chi2.median(freedom) / freedom))
    return math.sqrt(middle) if len(table) >= 4 and middle > 0 else residual_sd(values)


def unpaired_interval(first: Sequence[float], second: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean of `first` less that of `second`, seeds not shared, with Welch's t interval (Welch 1947).

    Args:
        first: [n], finite, n ≥ 1.
        second: [m], finite, m ≥ 1.
        level: coverage, in (0, 1).

    Returns:
        n: of the fewer values; low and high are None where a side has one value alone, or neither has any spread.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean, n = float(a.mean() - b.mean()), min(len(a), len(b))
    if n < 2:
        return Interval(n=n, mean=mean, sd=None, low=None, high=None)
    of_a, of_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    error = math.sqrt(of_a + of_b)
    if error == 0:
        return Interval(n=n, mean=mean, sd=0.0, low=None, high=None)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    return Interval(n=n, mean=mean, sd=error, low=mean - half, high=mean + half)
