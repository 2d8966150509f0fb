"""The ends of a symmetric matrix's spectrum from matrix–vector products, each with a bound on its error.

Lanczos with full reorthogonalisation (`core.krylov`). A Ritz value θ with residual r = β_j |s_j| has an eigenvalue
within r (Parlett 1998, §13.2); that bound decides when to stop, and is reported.

It is a generator that asks for products, so that many of them, each with its own matrix, go on in step while one
stacked pass computes the products of all (`core.hessian.drive`). What one of them finds depends on its own products
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from core.hessian import Products
from core.krylov import Space

TOLERANCE = 1e-6
"""Largest residual of a Ritz value, relative to the largest Ritz value in magnitude."""
MAX_PRODUCTS = 256
"""Products after which an end that has not converged is given up."""
USED_UP = 1e-14
"""A direction this small, relative to the largest Ritz value, is rounding: the Krylov space is used up."""


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
) -> Products[list[Extreme]]:
    """The largest and smallest eigenvalue of a symmetric matrix, by Lanczos.

    Each end is read at the step at which it converges by itself, so its value does not depend on what else is asked.

    Args:
        start: `[P]`, float64, unit norm; the Krylov space grows from it.
        ends: "max" and "min", in the order of the answers.
        tolerance: largest residual relative to the largest Ritz value in magnitude, in (0, 1).
        max_products: products after which what has not converged is given up.
    """
    space, single = Space(start, max_products), Single(ends, tolerance)
    while True:
        space.take((yield space.last))
        single.read(space)
        if single.done or space.count >= max_products:
            return [single.answer(end) for end in ends]
        space.grow()


class Single:
    """The two ends of the first chain, each read when it converges by itself."""

    def __init__(self, ends: Sequence[str], tolerance: float) -> None:
        self._ends = set(ends)
        self._tolerance = tolerance
        self._found: dict[str, Extreme] = {}
        self._given_up: dict[str, Extreme] = {}
        self.radius = 0.0
        """Largest |Ritz value| at the last reading."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to read."""
        return len(self._found) == len(self._ends)

    def read(self, space: Space) -> None:
        """Reads what is not read yet."""
        if self.done:
            return
        used, beta = space.count, space.beta
        if not np.isfinite(beta):
            lost = Extreme(value=None, error=None, products=used, failure="a product is not finite")
            self._found = {end: self._found.get(end, lost) for end in self._ends}
            return
        ritz = space.chain()
        self.radius = float(max(abs(ritz.values[0]), abs(ritz.values[-1])))
        complete = used == len(space.last) or beta <= USED_UP * self.radius
        for end in self._ends - set(self._found):
            place = -1 if end == "max" else 0
            value, error = float(ritz.values[place]), float(ritz.residuals[place])
            if complete or error <= self._tolerance * self.radius:
                self._found[end] = Extreme(value=value, error=error, products=used)
            else:
                failure = f"not converged after {used} products: residual {error:.1e} at {value:.6g}"
                self._given_up[end] = Extreme(value=None, error=error, products=used, failure=failure)

    def answer(self, end: str) -> Extreme:
        """What was read, or why it was not."""
        return self._found.get(end) or self._given_up[end]
