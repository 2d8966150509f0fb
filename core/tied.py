"""The head that is the embedding, for large vocabularies: its gradient lies in memory as the embedding does.

Autograd makes the gradient of `Eᵀ` in `X Eᵀ` as `Xᵀ G`, `[D, V]`, which is the embedding's gradient transposed. It is
then added to that of the look-up, and joined to the gradient of all weights, across memory: at V = 50,257 and D = 768 a
sixth of a training step. Here it is `Gᵀ X`. Second derivatives and autocast go through autograd's own formulas.

The other order has other last bits, so smaller vocabularies, which lose little, keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from core.mixing import refuse_second_derivative

LARGE_VOCABULARY = 4096
"""Above so many tokens (the Markov task has no more)."""


def tied_logits(x: Tensor, embedding: Tensor, *, math: bool) -> Tensor:
    """`X Eᵀ`.

    Args:
        x: `[K, M, D]`.
        embedding: E `[K, V, D]`.
        math: through autograd's own formulas, which can be differentiated twice.

    Returns:
        `[K, M, V]`.
    """
    if math or embedding.shape[1] <= LARGE_VOCABULARY or torch.is_autocast_enabled(x.device.type):
        return torch.bmm(x, embedding.mT)
    return cast(Tensor, _tied_logits(x, embedding))


class _TiedLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, embedding: Tensor) -> Tensor:
        ctx.save_for_backward(x, embedding)
        return torch.bmm(x, embedding.mT)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        refuse_second_derivative()
        x, embedding = ctx.saved_tensors
        return torch.bmm(grad, embedding), torch.bmm(grad.mT, x)


_tied_logits: Callable[..., Any] = _TiedLogits.apply  # torch leaves it untyped
