"""Exact analysis of variance of a full factorial grid whose seeds are blocks.

Every cell of the grid has one value of each seed, so the sums of squares of all effects add up to the whole, in any
order (Fisher 1925; Montgomery 2017, 5.6). Effects are main effects, interactions of two factors, all higher ones
together, and the seeds; the residual is what seeds do differently in different cells, and F tests are against it. It
pools those interactions of cells with seeds, so it takes them to be of equal size everywhere.

The share of an effect is ω²: what is left of its sum of squares when what noise alone would give is taken off, over the
whole. Its interval is generalised (Weerahandi 1995): of draws of σ² from what the residual leaves open, and of the
noise-free sums of squares θ of all effects, whose own are σ² χ²(df, θ/σ²), the quantiles of θ / (Σ θ + N σ²).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from core.streams import stream

Kind = Literal["main", "interaction", "higher", "seeds", "residual"]
Line = tuple[Kind, tuple[int, ...], int, float]
"""Kind, places of the factors, degrees of freedom, sum of squares."""

DRAWS = 1000
"""Behind an interval; always the same ones."""
LARGE = 400.0
"""Sum of squares over σ² from which its root is taken to be normal."""
_NOTHING = 1e-12  # a share of the whole below this is rounding


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One line of the analysis; of the residual and where there is none, tests and intervals are None."""

    kind: Kind
    factors: tuple[int, ...]
    """Places of the factors of a main effect or an interaction of two."""
    df: int
    ss: float
    eta2: float
    """Share of the whole sum of squares; those of all lines add up to 1."""
    omega2: float | None
    """The share without what noise alone gives; never below 0."""
    low: float | None
    high: float | None
    """95 % interval of that share."""
    f: float | None
    p: float | None


def anova(values: np.ndarray) -> list[Effect]:
    """The analysis of a grid.

    Args:
        values: [levels of factor 0, levels of factor 1, …, seeds], finite, each axis of at least 2.

    Returns:
        Main effects, interactions of two, the higher ones together (with three factors or more), seeds, residual.

    Raises:
        ValueError: for values that are no such grid.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim < 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise ValueError(f"needs a full grid of finite values with 2 levels and 2 seeds or more, got shape {x.shape}")
    factors, seeds = tuple(range(x.ndim - 1)), x.shape[-1]
    whole = _squares(x - x.mean(), 1)
    cells = x.mean(axis=-1)
    of_cells = _squares(cells - cells.mean(), seeds)
    found: list[Line] = []
    kinds: tuple[Kind, Kind] = ("main", "interaction")
    for order, kind in enumerate(kinds, 1):
        for chosen in itertools.combinations(factors, order):
            df = math.prod(x.shape[factor] - 1 for factor in chosen)
            effect = _effect(cells, chosen)
            found.append((kind, chosen, df, _squares(effect, x.size // effect.size)))
    if len(factors) > 2:
        df = math.prod(x.shape[:-1]) - 1 - sum(df for _, _, df, _ in found)
        found.append(("higher", (), df, max(0.0, of_cells - math.fsum(ss for *_, ss in found))))
    of_seeds = _squares(x.mean(axis=factors) - x.mean(), cells.size)
    df_rest = (cells.size - 1) * (seeds - 1)
    rest = _squares(x - cells[..., None] - x.mean(axis=factors) + x.mean(), 1)
    found.append(("seeds", (), seeds - 1, of_seeds))
    share = rest / whole if whole > 0 else 0.0
    if rest > _NOTHING * whole:
        noise = rest / df_rest
        shares = _shares(
            [ss for *_, ss in found], [df for _, _, df, _ in found], noise=noise, df_rest=df_rest, n=x.size
        )
        ends = np.quantile(shares, [0.025, 0.975], axis=1).T.tolist()
        effects = [
            _tested(line, whole=whole, noise=noise, df_rest=df_rest, interval=interval)
            for line, interval in zip(found, ends, strict=True)
        ]
    else:
        effects = [_certain(line, whole) for line in found]
    last = Effect(
        kind="residual", factors=(), df=df_rest, ss=rest, eta2=share, omega2=None, low=None, high=None, f=None, p=None
    )
    return [*effects, last]


def level_effects(values: np.ndarray, factor: int) -> np.ndarray:
    """By level of a factor and seed, the mean over the level's cells less that over all cells: [levels, seeds]."""
    others = tuple(axis for axis in range(values.ndim - 1) if axis != factor)
    of_level = values.mean(axis=others)
    return np.asarray(of_level - of_level.mean(axis=0, keepdims=True))


def _effect(cells: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """The effect of some factors, free of those of fewer of them, one value a combination of their levels."""
    found = np.zeros([n if axis in chosen else 1 for axis, n in enumerate(cells.shape)])
    for kept in _subsets(chosen):
        others = tuple(axis for axis in range(cells.ndim) if axis not in kept)
        found = found + (-1) ** (len(chosen) - len(kept)) * cells.mean(axis=others, keepdims=True)
    return found


def _subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(items, n) for n in range(len(items) + 1))


def _squares(effect: np.ndarray, times: int) -> float:
    return float((effect**2).sum()) * times


def _certain(line: Line, whole: float) -> Effect:
    """A line where nothing is left to chance: it has a share and no test."""
    kind, chosen, df, ss = line
    share = ss / whole if whole > 0 else 0.0
    return Effect(
        kind=kind, factors=chosen, df=df, ss=ss, eta2=share, omega2=share, low=share, high=share, f=None, p=None
    )


def _tested(line: Line, *, whole: float, noise: float, df_rest: int, interval: Sequence[float]) -> Effect:
    kind, chosen, df, ss = line
    f = ss / df / noise
    return Effect(
        kind=kind,
        factors=chosen,
        df=df,
        ss=ss,
        eta2=ss / whole,
        omega2=max(0.0, (ss - df * noise) / (whole + noise)),
        low=interval[0],
        high=interval[1],
        f=f,
        p=float(stats.f.sf(f, df, df_rest)),
    )


def _shares(ss: Sequence[float], df: Sequence[int], *, noise: float, df_rest: int, n: int) -> np.ndarray:
    """Draws of the shares of effects, [effects, DRAWS].

    Args:
        ss: sum of squares of each effect.
        df: its degrees of freedom.
        noise: mean square of the residual, > 0.
        df_rest: its degrees of freedom.
        n: values in all.
    """
    generator = stream(0, "anova", len(ss))
    sigma2 = df_rest * noise / generator.chisquare(df_rest, DRAWS)
    thetas = np.array([noise_free(one / sigma2, of, generator.random(DRAWS)) for one, of in zip(ss, df, strict=True)])
    return np.asarray(thetas * sigma2 / ((thetas * sigma2).sum(axis=0) + n * sigma2))


def noise_free(x: np.ndarray, df: int, u: np.ndarray) -> np.ndarray:
    """The θ for which a noncentral χ² of `df` and θ is below `x` with probability `u`; 0 where none is so small.

    Args:
        x: [n] sums of squares over σ².
        df: degrees of freedom.
        u: [n] in (0, 1).
    """
    large = x > LARGE * df
    # A root of normal spread: √χ²(df, θ) is about normal around √(θ + df − 1), with deviation 1.
    roots = (np.sqrt(x) - special.ndtri(u)) ** 2 - (df - 1)
    found = np.where(large, roots, 0.0)
    some = ~large & (special.chdtr(df, x) > u)
    found[some] = special.chndtrinc(x[some], df, u[some])
    return np.asarray(found)
