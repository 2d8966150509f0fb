"""Losses and gradients of a pack at given weights: first derivatives, without the graph that Hessian products need.

Weights are copied to float64 and laid out as in training (`core.flat`), each matrix at the same alignment in every
lane: a lane's bits cannot depend on where it lies. Nothing that training uses is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from core.flat import Layout

Loss = Callable[[dict[str, Tensor]], Tensor]
"""Maps weights `{name: [K, …]}` to losses `[K]`; entry k depends on lane k's weights alone."""


def gradients(loss: Loss, params: Mapping[str, Tensor]) -> Tensor:
    """The gradient of every lane.

    Args:
        loss: of the lanes.
        params: their weights `{name: [K, …]}`.

    Returns:
        `[K, P]`, float64, the parameters in the order of `params`.
    """
    layout = Layout(shapes={name: tuple(p.shape[1:]) for name, p in params.items()})
    flat = layout.joined(params, torch.float64).requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(loss(layout.views(flat)).sum(), flat)
    return layout.packed(found)


def losses(loss: Loss, shapes: Mapping[str, tuple[int, ...]], weights: Tensor) -> Tensor:
    """The loss of every lane at weights that are given as vectors.

    Args:
        loss: of the lanes.
        shapes: shape of each parameter of one lane, in the order in which the vectors hold them.
        weights: `[K, P]`, float64.

    Returns:
        `[K]`, float64.
    """
    layout = Layout(shapes=shapes)
    with torch.no_grad():
        return loss(layout.views(layout.padded(weights)))
