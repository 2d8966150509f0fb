"""The weights of a Hessian product: values, direction, gradient and its change, each matrix where products want it.

A vector `[P]` holds the parameters one after the other in canonical order. Sweeps want some of them joined (query, key
and value in one product; embedding and positions in another), every lane of a matrix at the same alignment where it is
read, and lanes side by side where it is written. Both orders are one permutation, computed once: a vector is read and a
result written by one `index_select` each, however many parameters there are.

Memory per lane: 4 P numbers and 2 P indices, and a little padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.flat import ALIGN


@dataclass(frozen=True, kw_only=True)
class Joined:
    """One matrix of the sweeps, made of parameters side by side (a vector counts as a matrix of one row)."""

    name: str
    parts: tuple[str, ...]
    """Names of the parameters."""
    axis: int = -1
    """Along which they are joined: -1 columns, -2 rows."""


class Matrix:
    """A matrix W of K lanes with its direction V, gradient W̄ and the gradient's change dW̄; all `[K, a, b]`."""

    def __init__(self, value: Tensor, direction: Tensor, gradient: Tensor, change: Tensor) -> None:
        """Takes them as they are; gradients must be contiguous, so that products add to them batched."""
        self.value, self.direction, self.gradient, self.change = value, direction, gradient, change
        self.value_t, self.direction_t = value.mT, direction.mT

    @classmethod
    def like(cls, value: Tensor) -> Matrix:
        """One that is no parameter: derived from others."""
        return cls(value, *(torch.zeros_like(value, memory_format=torch.contiguous_format) for _ in range(3)))


class Weights:
    """The weights of K lanes.

    Args:
        params: `{name: [K, …]}` in canonical order.
        joined: the matrices to make of them; each parameter is part of one.
        company: whether a lone lane gets a copy of itself beside it, which reads and computes what it does.
    """

    def __init__(self, params: Mapping[str, Tensor], joined: Sequence[Joined], *, company: bool) -> None:
        """Lays out the four buffers and reads the values."""
        self.shapes = {name: tuple(p.shape[1:]) for name, p in params.items()}
        self.vectors = torch.cat([p.reshape(len(p), -1).double() for p in params.values()], 1)
        """The weights as vectors `[K, P]`."""
        K, P = self.vectors.shape
        device = self.vectors.device
        lanes = torch.zeros(2, dtype=torch.int64) if company else torch.arange(K)
        self.lanes = len(lanes)
        """Lanes that are computed: K, and the company."""
        places, low = {}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            rows = shape[0] if len(shape) > 1 else 1
            places[name] = torch.arange(low, low + size).view(rows, -1)
            low += size

        reads: list[Tensor] = []
        self._to_read: dict[str, tuple[int, tuple[int, ...], int]] = {}
        self._to_write: dict[str, int] = {}
        back = torch.empty(K, P, dtype=torch.int64)
        read = write = 0
        for matrix in joined:
            place = torch.cat([places[part] for part in matrix.parts], matrix.axis)
            n, padded = place.numel(), math.ceil(place.numel() / ALIGN) * ALIGN
            own = torch.cat((place.reshape(-1), torch.zeros(padded - n, dtype=torch.int64)))
            reads.append((lanes.unsqueeze(1) * P + own).view(-1))
            back[:, place.reshape(-1)] = write + torch.arange(K).unsqueeze(1) * n + torch.arange(n)
            self._to_read[matrix.name] = (read, tuple(place.shape), padded)
            self._to_write[matrix.name] = write
            read += self.lanes * padded
            write += math.ceil(self.lanes * n / ALIGN) * ALIGN
        self._reads, self._back = torch.cat(reads).to(device), back.view(-1).to(device)
        self._values, self._directions = (self.vectors.new_zeros(read) for _ in range(2))
        self._gradients, self._changes = (self.vectors.new_zeros(write) for _ in range(2))
        self.matrices = {matrix.name: self._matrix(matrix.name) for matrix in joined}
        """By name."""
        self._read(self.vectors, self._values)

    def _matrix(self, name: str) -> Matrix:
        low, shape, padded = self._to_read[name]
        high, size = low + self.lanes * padded, math.prod(shape)
        buffers = [part[low:high].view(self.lanes, padded)[:, :size] for part in (self._values, self._directions)]
        low = self._to_write[name]
        buffers += [part[low : low + self.lanes * size] for part in (self._gradients, self._changes)]
        return Matrix(*(buffer.view(self.lanes, *shape) for buffer in buffers))

    def _read(self, vectors: Tensor, into: Tensor) -> None:
        torch.index_select(vectors.reshape(-1), 0, self._reads, out=into)

    def direct(self, vectors: Tensor) -> None:
        """Takes the directions `[K, P]`, and sets the changes to zero."""
        self._read(vectors, self._directions)
        self._changes.zero_()

    def gradient(self) -> Tensor:
        """The gradients as vectors `[K, P]`."""
        return self._gradients.index_select(0, self._back).view_as(self.vectors)

    def change(self) -> Tensor:
        """The changes of the gradients as vectors `[K, P]`."""
        return self._changes.index_select(0, self._back).view_as(self.vectors)
