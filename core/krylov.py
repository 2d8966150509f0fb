"""An orthonormal basis that grows with the products of a symmetric matrix, and the Ritz values in it.

Full reorthogonalisation, done twice ("twice is enough", Parlett 1998, §6.9), in float64: without it, rounding brings
back directions already found, and copies of one eigenvalue pass for several. A chain grows as Lanczos has it, each
direction from the product of the last; another may begin anywhere in the complement. The matrix in the basis is kept
whole, so that a reading (Rayleigh–Ritz) is over all chains.

The basis takes 8 P bytes a product: 10 MB for 5,000 weights and 256 products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ritz:
    """A reading of the whole basis."""

    values: Array
    """`[j]`, ascending."""
    residuals: Array
    """`[j]`."""
    coefficients: Array
    """Ritz vectors in the basis, `[j, j]`, in columns."""
    chains: int
    """Chains that the basis was grown in."""


class Space:
    """An orthonormal basis `[j, P]` and the matrix in it, grown chain by chain, product by product."""

    def __init__(self, start: Tensor) -> None:
        self._rows = start.new_empty(32, len(start))
        self._matrix = np.zeros((32, 32))
        self._ends: list[tuple[int, float]] = []
        self._tries = 0
        self.off_diagonal: list[float] = []
        """Of the first chain."""
        self.begin = 0
        """Where the chain that grows begins."""
        self.beta = 0.0
        """Norm of what the last product has outside the basis."""
        self.radius = 0.0
        """Largest |Ritz value| that was read."""
        self.count = 0
        """Directions, j; as many products were taken."""
        self._append(start)

    @property
    def last(self) -> Tensor:
        """The direction whose product comes next."""
        return self._rows[self.count - 1]

    @property
    def diagonal(self) -> Array:
        """Of the matrix in the basis."""
        return self._matrix.diagonal()[: self.count]

    def take(self, product: Tensor) -> None:
        """Takes the product of the last direction."""
        self._rest, along = self._orthogonal(product)
        self._matrix[: self.count, self.count - 1] = along.cpu().numpy()
        self.beta = float(self._rest.norm())

    def grow(self) -> None:
        """Goes on with the chain."""
        if self.begin == 0:
            self.off_diagonal.append(self.beta)
        self._append(self._rest / self.beta)

    def branch(self, again: Callable[[int], Tensor]) -> bool:
        """Begins another chain in the complement; whether there was a direction for it."""
        for _ in range(4):
            self._tries += 1
            fresh = self._orthogonal(again(self._tries))[0]
            size = float(fresh.norm())
            if size > 1e-8:
                # What is left of a vector mostly within the basis is short: its rounding is removed once it is long.
                fresh = self._orthogonal(fresh / size)[0]
                self._ends.append((self.count - 1, self.beta))
                self.begin = self.count
                self._append(fresh / fresh.norm())
                return True
        return False

    def ritz(self) -> Ritz:
        """The Ritz values of the whole basis."""
        j = self.count
        values, vectors = np.linalg.eigh(self._matrix[:j, :j], UPLO="U")
        # What a chain left outside at its end is inside once the basis is the whole space.
        ends = [] if j == len(self.last) else self._ends
        residuals = sum(beta * np.abs(vectors[end]) for end, beta in (*ends, (j - 1, self.beta)))
        self.radius = float(np.abs(values).max())
        return Ritz(values=values, residuals=np.asarray(residuals), coefficients=vectors, chains=len(ends) + 1)

    def chain(self) -> tuple[Array, Array]:
        """The Ritz values of the chain that grows, ascending, and their residuals within the complement."""
        some = slice(self.begin, self.count)
        values, vectors = np.linalg.eigh(self._matrix[some, some], UPLO="U")
        return values, self.beta * np.abs(vectors[-1])

    def vectors(self, coefficients: Array) -> Tensor:
        """Vectors `[n, P]` from their coefficients in columns `[j, n]`, in the first j directions."""
        return torch.from_numpy(coefficients.T.copy()).to(self._rows.device) @ self._rows[: len(coefficients)]

    def _append(self, row: Tensor) -> None:
        if self.count == len(self._rows):
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
            self._matrix = np.pad(self._matrix, (0, self.count))
        self._rows[self.count] = row
        self.count += 1

    def _orthogonal(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """`vector` less its components along all rows, removed twice; the components."""
        rows = self._rows[: self.count]
        first = rows @ vector
        vector = vector - rows.T @ first
        second = rows @ vector
        return vector - rows.T @ second, first + second
