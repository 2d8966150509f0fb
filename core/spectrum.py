"""Functionals of a whole spectrum, exact or a density: pure, of eigenvalues and weights, without torch.

A spectrum of a matrix with P rows is its distinct nodes λ_i and their weights w_i, which sum to 1: an exact spectrum
has P nodes of weight 1 / P, a density by quadrature has fewer or more, of any weights. Node i stands for P w_i
eigenvalues. Whatever depends on what happens near zero is a curve over thresholds, with the null space left out, and is
asked of exact spectra alone.

A functional that a spectrum does not have is None, never a default: the shares |λ| / Σ |λ| of a zero matrix, say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.quantities import NULL

Numbers = NDArray[np.float64]


def entropy(values: Numbers, weights: Numbers, *, size: int) -> float | None:
    """Matrix entropy S = −Σ p ln p with p = |λ| / Σ |λ| over all eigenvalues (Roy & Vetterli 2007 with |λ| for σ).

    Args:
        values: nodes `[n]`, in any order.
        weights: their weights `[n]`, which sum to 1.
        size: rows P of the matrix.

    Returns:
        Nats, 0 … ln P; the same for c H as for H. None where every eigenvalue is zero.
    """
    top = _top(values)
    if top == 0.0:
        return None
    # The same as ln Σ |λ| − Σ |λ| ln |λ| / Σ |λ|, in units of the largest.
    shares, counts = np.abs(values) / top, weights * size
    mass = float(np.sum(counts * shares))
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return math.log(mass) - float(np.sum(counts * shares * logs)) / mass


def normalised_entropy(values: Numbers, weights: Numbers, *, size: int) -> float | None:
    """S / ln P, 0 … 1. None where every eigenvalue is zero, and for P = 1."""
    found = entropy(values, weights, size=size)
    return None if found is None or size == 1 else found / math.log(size)


def effective_rank(values: Numbers, weights: Numbers, *, size: int) -> float | None:
    """Exponential of S, 1 … P: n for n equal eigenvalues beside zeros. None where every eigenvalue is zero."""
    found = entropy(values, weights, size=size)
    return None if found is None else math.exp(found)


def negative_mass(values: Numbers, weights: Numbers) -> float | None:
    """Share of Σ |λ| that is of negative eigenvalues, 0 … 1. None where every eigenvalue is zero."""
    top = _top(values)
    if top == 0.0:
        return None
    masses = weights * np.abs(values) / top
    return float(np.sum(masses[values < 0])) / float(np.sum(masses))


# --- exact spectra alone ---


def null(values: Numbers) -> float:
    """|λ| up to which an eigenvalue of an exact spectrum is zero within rounding."""
    return NULL * _top(values)


def null_count(values: Numbers) -> int:
    """Eigenvalues that are zero within rounding, the null space: symmetries, and saturated or unused directions."""
    return int(np.count_nonzero(np.abs(values) <= null(values)))


def kappa_valley(values: Numbers, thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """Condition of the valley, max |λ| / min |λ| over |λ| > ε, without the null space.

    Args:
        values: an exact spectrum `[P]`, in any order.
        thresholds: ε ≥ 0.

    Returns:
        (ε, κ), κ ≥ 1; no point for an ε that leaves nothing.
    """
    sizes = _sizes(values)
    first = np.searchsorted(sizes, thresholds, side="right")
    return [(e, float(sizes[-1] / sizes[i])) for e, i in zip(thresholds, first, strict=True) if i < len(sizes)]


def cumulative_force(values: Numbers, thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """Σ 1/|λ| over |λ| ≤ τ, without the null space: 0 where there is none.

    Args:
        values: an exact spectrum `[P]`, in any order.
        thresholds: τ ≥ 0.

    Returns:
        (τ, force); of c H it is 1 / c of that of H at τ / c.
    """
    sizes = _sizes(values)
    sums = np.concatenate([[0.0], np.cumsum(1.0 / sizes)])
    return list(zip(thresholds, sums[np.searchsorted(sizes, thresholds, side="right")].tolist(), strict=True))


def eigenvalues_below(values: Numbers, thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """How many |λ| ≤ τ there are, without the null space, as (τ, count)."""
    counts = np.searchsorted(_sizes(values), thresholds, side="right")
    return [(t, float(count)) for t, count in zip(thresholds, counts, strict=True)]


def _sizes(values: Numbers) -> Numbers:
    """|λ| without the null space, ascending."""
    sizes = np.sort(np.abs(values))
    return sizes[sizes > null(values)]


def _top(values: Numbers) -> float:
    return float(np.max(np.abs(values), initial=0.0))
