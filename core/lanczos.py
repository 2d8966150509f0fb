"""The ends of a symmetric matrix's spectrum from matrix–vector products, each with a bound on its error.

Lanczos with a float64 basis and full reorthogonalisation, done twice ("twice is enough", Parlett 1998, §6.9): without
it, rounding brings back directions already found, and copies of one eigenvalue pass for several. A Ritz value θ with
residual r = β_j |s_j| has an eigenvalue within r (Parlett 1998, §13.2); that bound decides when to stop, and is
reported.

The algorithm is written as a generator that asks for products, so that many of them, each with its own matrix, go on in
step while one stacked pass computes the products of all (`core.curvature`). What one of them finds depends on its own
products alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

TOLERANCE = 1e-6
"""Largest residual of a Ritz value, relative to the largest Ritz value in magnitude."""
MAX_PRODUCTS = 256
"""Products after which an end that has not converged is given up."""

Products = Generator[Tensor, Tensor, "list[Extreme]"]
"""Yields a vector `[P]`, is sent its product with the matrix `[P]`, returns one `Extreme` per end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extreme:
    """One end of a spectrum, or why it could not be had."""

    value: float | None
    """The eigenvalue; None where the measurement failed."""
    error: float | None
    """Residual bound: some eigenvalue lies within it of `value` (or of the value that was given up). None: no bound."""
    products: int
    """Matrix–vector products it took."""
    failure: str | None = None
    """Why there is no value, in one line."""


def extremes(
    start: Tensor,
    *,
    ends: Sequence[str],
    tolerance: float = TOLERANCE,
    max_products: int = MAX_PRODUCTS,
) -> Products:
    """The largest and smallest eigenvalue of a symmetric matrix, by Lanczos.

    Each end is read at the step at which it converges by itself, so its value does not depend on what else is asked.

    Args:
        start: `[P]`, float64, unit norm; the Krylov space grows from it.
        ends: "max" and "min", in the order of the answers.
        tolerance: largest residual relative to the largest Ritz value in magnitude, in (0, 1).
        max_products: products after which what has not converged is given up.
    """
    product = yield start
    used = 1
    basis = _Basis(start)
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    found: dict[str, Extreme] = {}
    while True:
        diagonal.append(float(basis.last @ product))
        rest = basis.orthogonal(product)
        beta = float(rest.norm())
        if not np.isfinite(beta):
            lost = Extreme(value=None, error=None, products=used, failure="a product is not finite")
            return [found.get(end, lost) for end in ends]
        ritz = {end: _ritz_end(diagonal, off_diagonal, end) for end in ("max", "min")}
        radius = max(abs(value) for value, _ in ritz.values())
        # The Krylov space is used up: no direction is left, or what is left is rounding.
        complete = len(diagonal) == len(start) or beta <= 1e-14 * radius
        for end in ends:
            value, last = ritz[end]
            if end not in found and (complete or beta * abs(last) <= tolerance * radius):
                found[end] = Extreme(value=value, error=beta * abs(last), products=used)
        if len(found) == len(set(ends)):
            return [found[end] for end in ends]
        if used >= max_products:
            break
        off_diagonal.append(beta)
        basis.append(rest / beta)
        product = yield basis.last
        used += 1
    for end in ends:
        error = beta * abs(ritz[end][1])
        failure = f"not converged after {used} products: residual {error:.1e} at {ritz[end][0]:.6g}"
        found.setdefault(end, Extreme(value=None, error=error, products=used, failure=failure))
    return [found[end] for end in ends]


def _ritz_end(diagonal: list[float], off_diagonal: list[float], end: str) -> tuple[float, float]:
    """The largest or smallest Ritz value and the last component of its vector in the Krylov basis."""
    index = len(diagonal) - 1 if end == "max" else 0
    values, vectors = eigh_tridiagonal(diagonal, off_diagonal, select="i", select_range=(index, index))
    return float(values[0]), float(vectors[-1, 0])


class _Basis:
    """Orthonormal rows `[j, P]` in memory that doubles as they come."""

    def __init__(self, first: Tensor) -> None:
        self._rows = first.new_empty(32, len(first))
        self._count = 0
        self.append(first)

    @property
    def last(self) -> Tensor:
        return self._rows[self._count - 1]

    def append(self, row: Tensor) -> None:
        if self._count == len(self._rows):
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
        self._rows[self._count] = row
        self._count += 1

    def orthogonal(self, vector: Tensor) -> Tensor:
        """`vector` less its components along all rows, removed twice."""
        rows = self._rows[: self._count]
        for _ in range(2):
            vector = vector - rows.T @ (rows @ vector)
        return vector
