"""Rules of differentiation, twice: each operation of the model with its derivative and how that changes.

An operation is applied once per object, which keeps what its later passes need. Its four methods are one formula each,
in the order in which they run, so that they can be checked line by line:

    forward            y = f(x, W)                               keeps what f' needs
    backward           x̄ = ȳ f_x, W̄ += ȳ f_W                     from ȳ = ∂L/∂y; keeps ȳ
    forward_tangent    ẏ = f_x ẋ + f_W V                         along the direction V of the weights
    backward_tangent   dx̄ = dȳ f_x + ȳ ḟ_x, dW̄ += dȳ f_W + ȳ ḟ_W  the change of the backward pass along V

This is Pearlmutter's product (1994, "Fast exact multiplication by the Hessian"), all of it plain operations without an
autograd graph. Names: `x_bar` is x̄, `x_dot` ẋ, `x_bar_dot` dx̄.

A lane's bits do not depend on the others: products are batched with the lane as (part of) the batch axis and their
results contiguous; sums run along rows or over a lane's own rows; erf and exp see whole vectors or lanes one by one.

Shapes: K lanes, B sequences, T positions, M = B·T, D width, F hidden, S = K·B·H sequences of heads, d = D/H, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from core.layers import NORM_EPS, VECTOR
from core.model import means, token_losses
from core.tangent_weights import Matrix
from core.tasks import IGNORE


class Linear:
    """y = x W, for x `[K, M, a]` and W `[K, a, b]`."""

    def __init__(self, weight: Matrix) -> None:
        """Of one matrix, which others may share."""
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """`x W`."""
        self.x, self.x_t = x, x.mT
        return torch.bmm(x, self.weight.value)

    def backward(self, y_bar: Tensor) -> Tensor:
        """`x̄ = ȳ Wᵀ`, `W̄ += xᵀ ȳ`."""
        self.y_bar = y_bar
        self.weight.gradient.baddbmm_(self.x_t, y_bar)
        return torch.bmm(y_bar, self.weight.value_t)

    def forward_tangent(self, x_dot: Tensor, onto: Tensor | None = None) -> Tensor:
        """`ẏ = ẋ W + x V`, with `onto` added."""
        self.x_dot = x_dot
        direction = self.weight.direction
        y_dot = torch.bmm(self.x, direction) if onto is None else torch.baddbmm(onto, self.x, direction)
        return y_dot.baddbmm_(x_dot, self.weight.value)

    def backward_tangent(self, y_bar_dot: Tensor, onto: Tensor | None = None) -> Tensor:
        """`dx̄ = dȳ Wᵀ + ȳ Vᵀ`, added to `onto` in place; `dW̄ += ẋᵀ ȳ + xᵀ dȳ`."""
        weight = self.weight
        weight.change.baddbmm_(self.x_dot.mT, self.y_bar).baddbmm_(self.x_t, y_bar_dot)
        if onto is None:
            onto = torch.bmm(y_bar_dot, weight.value_t)
        else:
            onto.baddbmm_(y_bar_dot, weight.value_t)
        return onto.baddbmm_(self.y_bar, weight.direction_t)


class Gelu:
    """y = x Φ(x) of `[K, M, F]`, with f' = Φ + xφ and f'' = φ (2 − x²); Φ, φ of the standard normal."""

    def forward(self, x: Tensor) -> Tensor:
        """`x Φ(x)`."""
        normal = _by_lane(lambda part: torch.erf(part * math.sqrt(0.5)), x).add_(1.0).mul_(0.5)
        density = _by_lane(torch.exp, x * x * -0.5).mul_(1.0 / math.sqrt(2.0 * math.pi))
        self.first = x * density + normal
        self.second = density * (2.0 - x * x)
        return x * normal

    def backward(self, y_bar: Tensor) -> Tensor:
        """`x̄ = f'(x) ∘ ȳ`."""
        self.bent = self.second * y_bar
        del self.second
        return self.first * y_bar

    def forward_tangent(self, x_dot: Tensor) -> Tensor:
        """`ẏ = f'(x) ∘ ẋ`."""
        self.x_dot = x_dot
        return self.first * x_dot

    def backward_tangent(self, y_bar_dot: Tensor) -> Tensor:
        """`dx̄ = f'(x) ∘ dȳ + f''(x) ∘ ȳ ∘ ẋ`."""
        return (self.first * y_bar_dot).addcmul_(self.bent, self.x_dot)


class Norm:
    """h = x̂ ∘ g + b with x̂ = r (x − mean x), r = (var x + ε)^-½ (layer); or x̂ = r x, r = (mean x² + ε)^-½ (rms).

    With J u = r (C u − x̂ m(x̂ u)), m the mean over a row and C u = u − m(u) (rms: C u = u), which is symmetric:
    x̂̇ = J ẋ, ṙ = −r² m(x̂ ẋ), and x̄ = J y where y = h̄ ∘ g. Then m(x̂̇ y) = m(ẋ x̄), and

        dx̄ = J dy − r m(x̂ ẋ) x̄ − r m(x̂ y) x̂̇ − r m(x̄ ẋ) x̂
    """

    def __init__(self, gain: Matrix, bias: Matrix | None) -> None:
        """With gain, and for layer a bias, each `[K, 1, D]`."""
        self.gain, self.bias = gain, bias

    def forward(self, x: Tensor) -> Tensor:
        """`x̂ ∘ g + b`."""
        D = x.shape[-1]
        if self.bias is None:
            self.r = torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)
            self.unit = x * self.r
            h = self.unit * self.gain.value
        else:
            self.unit, _, self.r = torch.native_layer_norm(x, (D,), None, None, NORM_EPS)
            h = torch.addcmul(self.bias.value, self.unit, self.gain.value)
        self.less_mean = -1.0 / D
        return h

    def _centred(self, u: Tensor) -> Tensor:
        """C u."""
        return u if self.bias is None else torch.add(u, u.sum(-1, keepdim=True), alpha=self.less_mean)

    def backward(self, h_bar: Tensor, onto: Tensor | None) -> Tensor:
        """`onto + J (h̄ ∘ g)`; `ḡ += Σ h̄ ∘ x̂`, `b̄ += Σ h̄`."""
        self.h_bar = h_bar
        y = h_bar * self.gain.value
        along = (self.unit * y).sum(-1, keepdim=True)
        self.x_bar = torch.addcmul(self._centred(y), self.unit, along, value=self.less_mean).mul_(self.r)
        self.r_along = self.r * along
        self.gain.gradient.add_((h_bar * self.unit).sum(1, keepdim=True))
        if self.bias is not None:
            self.bias.gradient.add_(h_bar.sum(1, keepdim=True))
        return self.x_bar if onto is None else onto + self.x_bar

    def forward_tangent(self, x_dot: Tensor) -> Tensor:
        """`ḣ = J ẋ ∘ g + x̂ ∘ ġ + ḃ`."""
        self.x_dot = x_dot
        self.along = (self.unit * x_dot).sum(-1, keepdim=True)
        z = torch.addcmul(self._centred(x_dot), self.unit, self.along, value=self.less_mean)
        self.unit_dot = z.mul_(self.r)
        if self.bias is None:
            h_dot = self.unit * self.gain.direction
        else:
            h_dot = torch.addcmul(self.bias.direction, self.unit, self.gain.direction)
        return h_dot.addcmul_(self.unit_dot, self.gain.value)

    def backward_tangent(self, h_bar_dot: Tensor, onto: Tensor | None) -> Tensor:
        """`onto + dx̄` with `dy = dh̄ ∘ g + h̄ ∘ ġ`; `dḡ += Σ (dh̄ ∘ x̂ + h̄ ∘ x̂̇)`, `db̄ += Σ dh̄`."""
        self.gain.change.add_((h_bar_dot * self.unit).addcmul_(self.h_bar, self.unit_dot).sum(1, keepdim=True))
        if self.bias is not None:
            self.bias.change.add_(h_bar_dot.sum(1, keepdim=True))
        y_dot = (h_bar_dot * self.gain.value).addcmul_(self.h_bar, self.gain.direction)
        along = (self.unit * y_dot).addcmul_(self.x_bar, self.x_dot).sum(-1, keepdim=True)
        z = torch.addcmul(self._centred(y_dot), self.unit, along, value=self.less_mean)
        z.addcmul_(self.x_bar, self.along, value=self.less_mean)
        x_bar_dot = z.mul_(self.r) if onto is None else torch.addcmul(onto, z, self.r)
        return x_bar_dot.addcmul_(self.unit_dot, self.r_along, value=self.less_mean)


class NoNorm:
    """h = x, where the model has no norm."""

    def forward(self, x: Tensor) -> Tensor:
        """`x`."""
        return x

    def backward(self, h_bar: Tensor, onto: Tensor | None) -> Tensor:
        """`onto + h̄`."""
        return h_bar if onto is None else onto + h_bar

    def forward_tangent(self, x_dot: Tensor) -> Tensor:
        """`ẋ`."""
        return x_dot

    def backward_tangent(self, h_bar_dot: Tensor, onto: Tensor | None) -> Tensor:
        """`onto + dh̄`, in the place of dh̄."""
        return h_bar_dot if onto is None else h_bar_dot.add_(onto)


class Attention:
    """y = p v with p the causal weights of the scores s = q kᵀ, all `[S, T, d]`.

    Softmax: p = softmax(s); ṗ = t − p Σ t with t = p ∘ ṡ. Backward s̄ = p ∘ w with w = p̄ − Σ p p̄, and, as Σ ṗ = 0,
    ds̄ = e − p Σ e with e = p ∘ dp̄ + ṗ ∘ w. Linear: p = s below the diagonal and on it, 0 above; so are ṗ, s̄ and ds̄.
    """

    def __init__(self, *, softmax: bool) -> None:
        """Softmax, or else linear."""
        self.softmax = softmax

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`p v`."""
        T = q.shape[1]
        self.q, self.k, self.k_t, self.v, self.v_t = q, k, k.mT, v, v.mT
        scores = torch.bmm(q, self.k_t)
        if self.softmax:
            mask = torch.full((T, T), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
            self.p = torch.softmax(scores.add_(mask), -1)
        else:
            self.p = scores.tril_()
        self.p_t = self.p.mT
        self.bars_dot = q.new_empty(3, *q.shape)
        self.into = self.bars_dot.unbind(0)
        return torch.bmm(self.p, v)

    def backward(self, y_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`q̄ = s̄ k`, `k̄ = s̄ᵀ q`, `v̄ = pᵀ ȳ`, with `p̄ = ȳ vᵀ`."""
        self.y_bar = y_bar
        p_bar = torch.bmm(y_bar, self.v_t)
        if self.softmax:
            self.w = p_bar - (self.p * p_bar).sum(-1, keepdim=True)
            self.s_bar = self.p * self.w
        else:
            self.s_bar = p_bar.tril_()
        self.s_bar_t = self.s_bar.mT
        return torch.bmm(self.s_bar, self.k), torch.bmm(self.s_bar_t, self.q), torch.bmm(self.p_t, y_bar)

    def forward_tangent(self, q_dot: Tensor, k_dot: Tensor, v_dot: Tensor, onto: Tensor | None = None) -> Tensor:
        """`ẏ = ṗ v + p v̇`, with `onto` added; `ṡ = q̇ kᵀ + q k̇ᵀ`."""
        self.q_dot, self.k_dot, self.v_dot = q_dot, k_dot, v_dot
        s_dot = torch.bmm(q_dot, self.k_t).baddbmm_(self.q, k_dot.mT)
        if self.softmax:
            s_dot.mul_(self.p)
            self.p_dot = s_dot.addcmul_(self.p, s_dot.sum(-1, keepdim=True), value=-1.0)
        else:
            self.p_dot = s_dot.tril_()
        y_dot = torch.bmm(self.p_dot, self.v) if onto is None else torch.baddbmm(onto, self.p_dot, self.v)
        return y_dot.baddbmm_(self.p, v_dot)

    def backward_tangent(self, y_bar_dot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`dq̄ = ds̄ k + s̄ k̇`, `dk̄ = ds̄ᵀ q + s̄ᵀ q̇`, `dv̄ = pᵀ dȳ + ṗᵀ ȳ`, with `dp̄ = dȳ vᵀ + ȳ v̇ᵀ`.

        All three in one buffer `bars_dot` `[3, S, T, d]`, which the next product overwrites.
        """
        p_bar_dot = torch.bmm(y_bar_dot, self.v_t).baddbmm_(self.y_bar, self.v_dot.mT)
        if self.softmax:
            e = p_bar_dot.mul_(self.p).addcmul_(self.p_dot, self.w)
            s_bar_dot = e.addcmul_(self.p, e.sum(-1, keepdim=True), value=-1.0)
        else:
            s_bar_dot = p_bar_dot.tril_()
        q, k, v = self.into
        return (
            torch.bmm(s_bar_dot, self.k, out=q).baddbmm_(self.s_bar, self.k_dot),
            torch.bmm(s_bar_dot.mT, self.q, out=k).baddbmm_(self.s_bar_t, self.q_dot),
            torch.bmm(self.p_t, y_bar_dot, out=v).baddbmm_(self.p_dot.mT, self.y_bar),
        )


class CrossEntropy:
    """Mean cross-entropy of the logits l `[K, M, V]` of each lane, in nats; l̄ = c (p − targets) with p = softmax(l).

    c is `weight` over the number of predicted tokens, and zero where none is. dl̄ = c p ∘ (l̇ − Σ p l̇).
    """

    def __init__(self, targets: Tensor, *, weight: float, masked: bool) -> None:
        """On targets `[K, B, T]`; `weight` is its part in the whole loss, `masked` whether some are ignored."""
        self.targets, self.weight, self.masked = targets, weight, masked

    def forward(self, logits: Tensor) -> Tensor:
        """The mean `[K]`, unweighted."""
        self.p = torch.softmax(logits, -1)
        return means(token_losses(logits.view(*self.targets.shape, -1), self.targets), self.targets, self.masked)

    def backward(self) -> Tensor:
        """`l̄ = c (p − targets)`."""
        places = self.targets.reshape(*self.p.shape[:2], 1)
        scale = torch.full_like(places, self.weight / self.p.shape[1], dtype=self.p.dtype)
        if self.masked:
            predicted = places != IGNORE
            scale = scale.new_tensor(self.weight) * predicted / predicted.sum((1, 2), keepdim=True)
            places = places.where(predicted, 0)
        self.scaled = self.p * scale
        return self.scaled.scatter_add(2, places, -scale)

    def forward_tangent(self, logits_dot: Tensor) -> None:
        """Keeps `c p ∘ l̇`."""
        self.moved = logits_dot.mul_(self.scaled)

    def backward_tangent(self) -> Tensor:
        """`dl̄ = c p ∘ (l̇ − Σ p l̇)`."""
        return self.moved.addcmul_(self.p, self.moved.sum(-1, keepdim=True), value=-1.0)


def _by_lane(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function with a vector and a scalar form, on lanes of whole vectors or one by one."""
    if x[0].numel() % VECTOR == 0:
        return function(x)
    return torch.stack([function(lane) for lane in x.unbind(0)])
