"""An orthonormal basis that grows with the products of a symmetric matrix, and the Ritz values in it.

Full reorthogonalisation in float64: without it, rounding brings back directions already found, and copies of one
eigenvalue pass for several. What the three-term recurrence leaves is cleared of all directions once, and again where
that took away more than it left ("twice is enough", Parlett 1998, §6.9). A chain grows as Lanczos has it, each
direction from the product of the last; another may begin anywhere in the complement. The matrix in the basis is kept
whole, so that a reading (Rayleigh–Ritz) is over all chains; Ritz vectors may take the place of the basis (`lock`).

The basis takes 8 P bytes a product: 10 MB for 5,000 weights and 256 products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ritz:
    """A reading of the whole basis, or of one chain."""

    values: Array
    """`[j]`, ascending."""
    residuals: Array
    """`[j]`; of a chain: within the complement of what was there before it."""
    coefficients: Array
    """Ritz vectors in the basis, `[j, j]`, in columns."""
    chains: int
    """Chains that the basis was grown in."""


class Space:
    """An orthonormal basis `[j, P]` and the matrix in it, grown chain by chain, product by product."""

    def __init__(self, start: Tensor, room: int) -> None:
        """Begins the first chain.

        Args:
            start: `[P]`, unit norm.
            room: directions there will be at most, unless there are fewer in the space.
        """
        # At once for all: growing would copy it again and again. What is never written takes no memory of a CPU.
        self._rows = start.new_empty(min(room, len(start)), len(start))
        # By direction: components of its product along it and those before it.
        self._columns: list[Array] = []
        # By chain that has ended: its last product's part outside the basis is one direction times these, by row.
        self._ends: list[Array] = []
        self._tries = 0
        self._read: Ritz | None = None
        self.couplings: list[float] = []
        """Of the chain that grows: the norms that the products of its directions have outside the basis."""
        self.begin = 0
        """Where the chain that grows begins."""
        self.chains = 1
        """Chains so far."""
        self.radius = 0.0
        """Largest |Ritz value| that was read."""
        self.count = 0
        """Directions, j."""
        self.products = 0
        """Products taken."""
        self._append(start)

    @property
    def last(self) -> Tensor:
        """The direction whose product comes next."""
        return self._rows[self.count - 1]

    @property
    def beta(self) -> float:
        """Norm of what the last product has outside the basis."""
        return self.couplings[-1]

    @property
    def steps(self) -> int:
        """Products of the chain that grows."""
        return len(self.couplings)

    def take(self, product: Tensor) -> None:
        """Takes the product of the last direction."""
        rows = self._rows[: self.count]
        near = rows[max(self.begin, self.count - 2) :]
        local = torch.mv(near, product)
        rest = torch.addmv(product, near.T, local, alpha=-1)
        self._rest, along, beta = _cleared(rest, rows)
        along[-len(near) :] += local.cpu().numpy()
        self._columns.append(along)
        self.couplings.append(beta)
        self.products += 1
        self._read = None

    def grow(self) -> None:
        """Goes on with the chain."""
        torch.div(self._rest, self.beta, out=self._rows[self.count])
        self.count += 1

    def lock(self, ritz: Ritz, places: Places) -> None:
        """Lets Ritz vectors of a reading of now stand for the whole basis; another chain must begin next."""
        some = ritz.coefficients[:, places]
        self._close()
        self._ends = [end @ some[: len(end)] for end in self._ends]
        rows = self.vectors(some)
        self.count = len(rows)
        self._rows[: self.count] = rows
        self._columns = [np.r_[np.zeros(place), value] for place, value in enumerate(ritz.values[places])]

    def branch(self, again: Callable[[int], Tensor]) -> bool:
        """Begins another chain in the complement; whether there was a direction for it."""
        for _ in range(4):
            self._tries += 1
            fresh, _, size = _cleared(again(self._tries), self._rows[: self.count])
            if size > 1e-8:
                # What is left of a vector mostly within the basis is short: its rounding is removed once it is long.
                fresh, _, size = _cleared(fresh / size, self._rows[: self.count])
                self._close()
                self.chains += 1
                self.begin = self.count
                self._append(fresh / size)
                return True
        return False

    def ritz(self) -> Ritz:
        """The Ritz values of the whole basis."""
        j = self.count
        if self.begin == 0:
            found = self.chain()
        else:
            matrix = np.zeros((j, j))
            for row, column in zip(matrix, self._columns, strict=True):
                row[: len(column)] = column
            values, vectors = np.linalg.eigh(matrix, UPLO="L")
            # What a chain left outside at its end is inside once the basis is the whole space.
            ends = [] if j == len(self.last) else self._ends
            residuals = self.beta * np.abs(vectors[-1])
            for end in ends:
                residuals += np.abs(end @ vectors[: len(end)])
            found = Ritz(values=values, residuals=residuals, coefficients=vectors, chains=self.chains)
        self.radius = float(np.abs(found.values).max())
        return found

    def chain(self) -> Ritz:
        """The Ritz values of the chain that grows."""
        if self._read is None:
            values, vectors = eigh_tridiagonal(self._diagonal, self.couplings[:-1], lapack_driver="stevd")
            residuals = self.beta * np.abs(vectors[-1])
            self._read = Ritz(values=values, residuals=residuals, coefficients=vectors, chains=1)
        return self._read

    def chain_values(self) -> Array:
        """Those values alone, in a third of the time."""
        values: Array = eigh_tridiagonal(self._diagonal, self.couplings[:-1], eigvals_only=True, lapack_driver="sterf")
        return values

    def vectors(self, coefficients: Array) -> Tensor:
        """Vectors `[n, P]` from their coefficients in columns `[j, n]`, in the first j directions."""
        return torch.from_numpy(coefficients.T.copy()).to(self._rows.device) @ self._rows[: len(coefficients)]

    @property
    def _diagonal(self) -> Array:
        return np.array([column[-1] for column in self._columns[self.begin :]])

    def _close(self) -> None:
        """Ends the chain that grows, if one does."""
        if self.couplings:
            end = np.zeros(self.count)
            end[-1] = self.beta
            self._ends.append(end)
        self.couplings, self._read = [], None

    def _append(self, row: Tensor) -> None:
        self._rows[self.count] = row
        self.count += 1


def _cleared(vector: Tensor, rows: Tensor) -> tuple[Tensor, Array, float]:
    """`vector` less its components along all rows; the components; the norm of what is left."""
    total, size = np.zeros(len(rows)), 0.0
    for _ in range(3):
        parts = torch.mv(rows, vector)
        vector = torch.addmv(vector, rows.T, parts, alpha=-1)
        along: Array = parts.cpu().numpy()
        total += along
        size = math.sqrt(float(torch.dot(vector, vector)))
        # What was taken away leaves its rounding, which counts where little else is left.
        if not math.sqrt(float(along @ along)) > size:
            break
    return vector, total, size
