"""Causal attention of short sequences by batched products, with hand-written backward passes.

Softmax: `softmax(Q Kᵀ + mask) V`; linear: `(Q Kᵀ ∘ mask) V`, neither normalised nor with a feature map, as in the
paper's formal setting. The score scale is the caller's, folded into the queries' matrix.

Written out because autograd's own backward of `Q Kᵀ` gives the keys' gradient transposed in memory, and sums of
gradients and residuals in passes of their own; here they ride in the products (`baddbmm`). On one core that takes a
toy step to half its time. The hand-written passes have no second derivative and refuse it: ``math=True`` (as for
curvature), autocast and float16 take the same formulas through autograd.

Shapes: K lanes, S = K·B sequences (× heads), T positions, M = B·T, D width. The lane is part of the batch axis of every
product, so a lane's bits do not depend on K.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor


def one_head(
    x: Tensor, h: Tensor, scores: Tensor, mixture: Tensor, length: int, *, softmax: bool, math: bool
) -> Tensor:
    """`x + P h C` with P the causal weights of the scores `h A hᵀ`, for one head.

    Args:
        x: the residual stream `[K, M, D]`.
        h: what attention reads, `[K, M, D]`; x itself where there is no norm.
        scores: A = scale · W_Q W_Kᵀ `[K, D, D]`.
        mixture: C = W_V W_O `[K, D, D]`.
        length: T; M is a multiple of it.
        softmax: else linear attention.
        math: through autograd's own formulas, which can be differentiated twice.

    Returns:
        `[K, M, D]`.
    """
    if not math and not torch.is_autocast_enabled(x.device.type):
        return cast(Tensor, _one_head(None if x is h else x, h, scores, mixture, length, softmax))
    K, M, D = h.shape
    q, v = (torch.bmm(h, weight).view(-1, length, D) for weight in (scores, mixture))
    return x + torch.bmm(_weights(q, h.view(-1, length, D).to(q.dtype), softmax).to(v.dtype), v).view(K, M, D)


def heads(q: Tensor, k: Tensor, v: Tensor, *, softmax: bool, math: bool) -> Tensor:
    """`P v` with P the causal weights of the scores `q kᵀ`; all `[S, T, D/H]`; see `one_head` for the flags."""
    if not math and not torch.is_autocast_enabled(q.device.type):
        return cast(Tensor, _heads(q, k, v, softmax))
    return torch.bmm(_weights(q, k, softmax).to(v.dtype), v)


def _weights(q: Tensor, k: Tensor, softmax: bool) -> Tensor:
    """Causal attention weights `[S, T, T]`."""
    scores = torch.bmm(q, k.mT)  # masked in place: no derivative needs the unmasked scores
    if not softmax:
        return scores.tril_()
    T = q.shape[1]
    mask = torch.full((T, T), -torch.inf, dtype=scores.dtype, device=q.device).triu_(1)
    return torch.softmax(scores.add_(mask), -1)


def _weights_backward(grad: Tensor, weights: Tensor, softmax: bool) -> Tensor:
    """Gradient of the scores from that of the weights, both `[S, T, T]`; zero above the diagonal."""
    if not softmax:
        return grad.tril_()
    return cast(Tensor, torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype))


def refuse_second_derivative() -> None:
    """To be called in a hand-written backward pass, which has none of its own."""
    # torch's once_differentiable stays silent, and the second derivative wrong, under torch.autograd.grad(…, inputs).
    if torch.is_grad_enabled():
        raise RuntimeError("this pass has no second derivative; call the model with math_attention=True")


class _OneHead(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take positions only
        ctx: Any, x: Tensor | None, h: Tensor, scores: Tensor, mixture: Tensor, length: int, softmax: bool
    ) -> Tensor:
        K, M, D = h.shape
        sequences = (K * M // length, length, D)
        q = torch.bmm(h, scores).view(sequences)
        v = torch.bmm(h, mixture).view(sequences)
        weights = _weights(q, h.view(sequences), softmax)
        y = torch.baddbmm((h if x is None else x).view(sequences), weights, v)
        ctx.save_for_backward(h, scores, mixture, q, v, weights)
        ctx.own_residual, ctx.softmax = x is None, softmax
        return y.view(K, M, D)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, None, None]:
        refuse_second_derivative()
        h, scores, mixture, q, v, weights = ctx.saved_tensors
        grad_y = grad.reshape(q.shape)
        grad_v = torch.bmm(weights.mT, grad_y)
        grad_scores = _weights_backward(torch.bmm(grad_y, v.mT), weights, ctx.softmax)
        grad_q = torch.bmm(grad_scores, h.view(q.shape)).view(h.shape)
        if ctx.own_residual:
            grad_h = torch.baddbmm(grad_y, grad_scores.mT, q).view(h.shape)
        else:
            grad_h = torch.bmm(grad_scores.mT, q).view(h.shape)
        grad_v = grad_v.view(h.shape)
        grad_h.baddbmm_(grad_q, scores.mT).baddbmm_(grad_v, mixture.mT)
        grad_x = None if ctx.own_residual else grad
        return grad_x, grad_h, torch.bmm(h.mT, grad_q), torch.bmm(h.mT, grad_v), None, None


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, softmax: bool) -> Tensor:
        weights = _weights(q, k, softmax)
        ctx.save_for_backward(q, k, v, weights)
        ctx.softmax = softmax
        return torch.bmm(weights, v)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        refuse_second_derivative()
        q, k, v, weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_scores = _weights_backward(torch.bmm(grad, v.mT), weights, ctx.softmax)
        return (
            torch.bmm(grad_scores, k),
            torch.bmm(grad_scores.mT, q),
            torch.bmm(weights.mT, grad),
            None,
        )


# torch leaves `apply` untyped.
_one_head: Callable[..., Any] = _OneHead.apply
_heads: Callable[..., Any] = _Heads.apply
