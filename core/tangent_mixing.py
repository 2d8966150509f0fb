"""Rules of differentiation, twice, for what mixes positions: attention of one head in two matrices, and by heads.

Each has the four methods of `core.tangent_rules`; and so have the matrices that are derived from parameters (`Folded`,
`Scaled`, `Tied`), once per pass however often they are applied.

Shapes: K lanes, M = B·T, D width, H heads, d = D/H, S = K·B·H sequences of heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.architecture import Architecture
from core.layers import rotary_turns
from core.tangent_rules import Attention, Linear
from core.tangent_weights import Matrix


class OneHead:
    """y = P h C, P the causal weights of the scores h A hᵀ (`core.mixing.one_head`)."""

    def __init__(self, weights: Folded, arch: Architecture, length: int) -> None:
        """One application on sequences of a length."""
        self.query, self.value = Linear(weights.scores), Linear(weights.mixture)
        self.attention = Attention(softmax=arch.attention == "softmax")
        self.sequences = (-1, length, arch.width)

    def forward(self, h: Tensor) -> Tensor:
        """`q = h A`, `k = h`, `v = h C`."""
        q, v = self.query.forward(h).view(self.sequences), self.value.forward(h).view(self.sequences)
        return self.attention.forward(q, h.view(self.sequences), v).view(h.shape)

    def backward(self, y_bar: Tensor) -> Tensor:
        """`h̄ = k̄ + q̄ Aᵀ + v̄ Cᵀ`."""
        shape = y_bar.shape
        q_bar, k_bar, v_bar = self.attention.backward(y_bar.view(self.sequences))
        return k_bar.view(shape) + self.query.backward(q_bar.view(shape)) + self.value.backward(v_bar.view(shape))

    def forward_tangent(self, h_dot: Tensor, onto: Tensor) -> Tensor:
        """`onto + ẏ`."""
        q_dot = self.query.forward_tangent(h_dot).view(self.sequences)
        v_dot = self.value.forward_tangent(h_dot).view(self.sequences)
        k_dot = h_dot.view(self.sequences)
        return self.attention.forward_tangent(q_dot, k_dot, v_dot, onto.view(self.sequences)).view(onto.shape)

    def backward_tangent(self, y_bar_dot: Tensor) -> Tensor:
        """The change of h̄."""
        shape = y_bar_dot.shape
        q, k, v = self.attention.backward_tangent(y_bar_dot.view(self.sequences))
        return self.value.backward_tangent(v.view(shape), self.query.backward_tangent(q.view(shape), k.view(shape)))


class Heads:
    """y = merge(attention(split(h W))) O, W query, key and value side by side `[K, D, 3 D]`."""

    def __init__(self, projections: Matrix, out: Matrix, arch: Architecture, length: int) -> None:
        """One application on sequences of a length."""
        self.projections, self.out = Linear(projections), Linear(out)
        self.attention = Attention(softmax=arch.attention == "softmax")
        D, H = arch.width, arch.heads
        self.rotation: Tensor | None = None
        if arch.position == "rotary":
            self.rotation = torch.complex(*rotary_turns(length, arch, projections.value))
            self.rotation_back = self.rotation.conj_physical()
        # Rotary positions turn the pairs (i, i + d/2): pairs are put side by side, which attention does not mind.
        self.within = (2, D // H // 2) if self.rotation is not None else (1, D // H)
        self.length, self.heads = length, H

    def _split(self, z: Tensor, parts: int) -> Tensor:
        """`[K, M, parts · D]` → `[parts, S, T, d]`, rotary pairs side by side."""
        T, H, (pair, half) = self.length, self.heads, self.within
        by_head = z.view(-1, T, parts, H, pair, half).permute(2, 0, 3, 1, 5, 4).contiguous()
        return by_head.view(parts, -1, T, pair * half)

    def _merge(self, z: Tensor, lanes: int) -> Tensor:
        """`[parts, S, T, d]` → `[K, M, parts · D]`."""
        T, H, (pair, half) = self.length, self.heads, self.within
        by_part = z.view(len(z), -1, H, T, half, pair).permute(1, 3, 0, 2, 5, 4).contiguous()
        return by_part.view(lanes, -1, len(z) * H * pair * half)

    def _turn(self, z: Tensor, *, back: bool) -> Tensor:
        """Rotary positions on the queries and keys of `[3, S, T, d]`, in place."""
        if self.rotation is not None:
            pairs = torch.view_as_complex(z[:2].view(*z[:2].shape[:-1], -1, 2))
            pairs.mul_(self.rotation_back if back else self.rotation)
        return z

    def forward(self, h: Tensor) -> Tensor:
        """`merge(attention(split(h W))) O`."""
        self.lanes = len(h)
        q, k, v = self._turn(self._split(self.projections.forward(h), 3), back=False)
        return self.out.forward(self._merge(self.attention.forward(q, k, v).unsqueeze(0), self.lanes))

    def backward(self, y_bar: Tensor) -> Tensor:
        """`h̄`; the inverse of a rotation is its transpose."""
        (by_head,) = self._split(self.out.backward(y_bar), 1)
        z_bar = self._turn(torch.stack(self.attention.backward(by_head)), back=True)
        return self.projections.backward(self._merge(z_bar, self.lanes))

    def forward_tangent(self, h_dot: Tensor, onto: Tensor) -> Tensor:
        """`onto + ẏ`."""
        q, k, v = self._turn(self._split(self.projections.forward_tangent(h_dot), 3), back=False)
        merged = self._merge(self.attention.forward_tangent(q, k, v).unsqueeze(0), self.lanes)
        return self.out.forward_tangent(merged, onto)

    def backward_tangent(self, y_bar_dot: Tensor) -> Tensor:
        """The change of h̄."""
        (by_head,) = self._split(self.out.backward_tangent(y_bar_dot), 1)
        self.attention.backward_tangent(by_head)
        z = self._turn(self.attention.bars_dot, back=True)
        return self.projections.backward_tangent(self._merge(z, self.lanes))


# --- matrices derived from parameters ------------------------------------------------------------------------------


class Folded:
    """A = Q Kᵀ and C = U O of one head, with Q = scale · query, K keys, U values, O out; all `[K, D, D]`."""

    def __init__(self, query: Matrix, key: Matrix, value: Matrix, out: Matrix, *, scale: float) -> None:
        """Makes both."""
        self.query, self.key, self.value, self.out, self.scale = query, key, value, out, scale
        query.value.mul_(scale)
        self.scores = Matrix.like(torch.bmm(query.value, key.value_t))
        self.mixture = Matrix.like(torch.bmm(value.value, out.value))

    def backward(self) -> None:
        """`Q̄ = Ā K`, `K̄ = Āᵀ Q`, `Ū = C̄ Oᵀ`, `Ō = Uᵀ C̄`."""
        A_bar, C_bar = self.scores.gradient, self.mixture.gradient
        self.query.gradient.baddbmm_(A_bar, self.key.value).mul_(self.scale)
        self.key.gradient.baddbmm_(A_bar.mT, self.query.value)
        self.value.gradient.baddbmm_(C_bar, self.out.value_t)
        self.out.gradient.baddbmm_(self.value.value_t, C_bar)

    def forward_tangent(self) -> None:
        """`Ȧ = Q̇ Kᵀ + Q K̇ᵀ`, `Ċ = U̇ O + U Ȯ`."""
        query, key, value, out = self.query, self.key, self.value, self.out
        query.direction.mul_(self.scale)
        torch.bmm(query.direction, key.value_t, out=self.scores.direction).baddbmm_(query.value, key.direction_t)
        torch.bmm(value.direction, out.value, out=self.mixture.direction).baddbmm_(value.value, out.direction)
        self.scores.change.zero_()
        self.mixture.change.zero_()

    def backward_tangent(self) -> None:
        """`dQ̄ = dĀ K + Ā K̇`, and so on for each product of `backward`."""
        query, key, value, out = self.query, self.key, self.value, self.out
        A_bar, A_dot = self.scores.gradient, self.scores.change
        C_bar, C_dot = self.mixture.gradient, self.mixture.change
        query.change.baddbmm_(A_dot, key.value).baddbmm_(A_bar, key.direction).mul_(self.scale)
        key.change.baddbmm_(A_dot.mT, query.value).baddbmm_(A_bar.mT, query.direction)
        value.change.baddbmm_(C_dot, out.value_t).baddbmm_(C_bar, out.direction_t)
        out.change.baddbmm_(value.value_t, C_dot).baddbmm_(value.direction_t, C_bar)


class Scaled:
    """The first D columns of query, key and value side by side, the queries, times the scale; in place."""

    def __init__(self, projections: Matrix, width: int, *, scale: float) -> None:
        """Scales the values."""
        self.direction, self.gradient, self.change = (
            part[:, :, :width] for part in (projections.direction, projections.gradient, projections.change)
        )
        self.scale = scale
        projections.value[:, :, :width].mul_(scale)

    def backward(self) -> None:
        """The gradient of the queries, once it is complete."""
        self.gradient.mul_(self.scale)

    def forward_tangent(self) -> None:
        """Their direction."""
        self.direction.mul_(self.scale)

    def backward_tangent(self) -> None:
        """The change of their gradient."""
        self.change.mul_(self.scale)


class Tied:
    """The head that is the embedding transposed, `[K, D, V]`; `table` has the embedding above the positions."""

    def __init__(self, table: Matrix, vocabulary: int) -> None:
        """A view of the values; gradients of its own, which are added to the embedding's."""
        gradient = torch.zeros_like(table.value[:, :vocabulary].mT, memory_format=torch.contiguous_format)
        self.head = Matrix(
            table.value[:, :vocabulary].mT, table.direction[:, :vocabulary].mT, gradient, torch.zeros_like(gradient)
        )
        self.gradient, self.change = table.gradient[:, :vocabulary], table.change[:, :vocabulary]

    def backward(self) -> None:
        """Adds the gradient."""
        self.gradient.add_(self.head.gradient.mT)

    def forward_tangent(self) -> None:
        """Sets the change to zero."""
        self.head.change.zero_()

    def backward_tangent(self) -> None:
        """Adds the change."""
        self.change.add_(self.head.change.mT)
