"""The Hessians of a pack, as products: one pass gives H_k v_k of every lane k.

The loss of a pack is a vector `[K]` whose entry k depends on lane k's weights alone, so the Hessian of its sum is block
diagonal. The graph of the gradient is built once per weights and probe batch; a product is its vector–Jacobian product
(the Hessian is symmetric), which costs two to three gradients and builds nothing again. `torch.func.hessian` and nested
reverse-mode Jacobians are silently wrong under LayerNorm with affine terms; this double backward is not, and every
measurement checks its symmetry all the same. Several vectors of one trial are several lanes with its weights: as fast
as batching them under one graph (measured), and a lane's bits do not depend on what stands beside it.

Weights are copies, in float64. Neither a generator, a gradient buffer nor a weight of the training is used or changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from core.flat import Layout

T = TypeVar("T")

Products = Generator[Tensor, Tensor, T]
"""An algorithm over one symmetric matrix: yields a vector `[P]`, is sent its product `[P]`, returns what it found."""


class Hessian(Protocol):
    """The Hessians of K lanes; vectors hold the parameters of a lane in the order of `shapes`."""

    shapes: dict[str, tuple[int, ...]]
    """Shape of each parameter of one lane."""
    lanes: int
    """K."""
    losses: Tensor
    """`[K]`."""

    @property
    def size(self) -> int:
        """Parameters of one lane, P."""
        ...

    def gradient(self) -> Tensor:
        """The gradient of every lane `[K, P]`."""
        ...

    def weights(self) -> Tensor:
        """The weights of every lane `[K, P]`."""
        ...

    def product(self, vectors: Tensor) -> Tensor:
        """H_k v_k of every lane, `[K, P]` from `[K, P]`. A lane's product does not depend on the other lanes."""
        ...


class StackedHessian:
    """The Hessians of K independent losses, whatever they are; `core.tangents` has faster ones of the model's own.

    Args:
        loss: maps weights `{name: [K, …]}` to the losses `[K]`; entry k may depend on lane k's weights alone.
        params: the weights `{name: [K, …]}` at which it is taken; copied to float64.
    """

    def __init__(self, loss: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor]) -> None:
        """Builds the graph of the gradient."""
        self.shapes = {name: tuple(p.shape[1:]) for name, p in params.items()}
        """Shape of each parameter of one lane, in the order in which vectors hold them."""
        self._layout = Layout(shapes=self.shapes)
        self.lanes = len(next(iter(params.values())))
        self.device = next(iter(params.values())).device
        # One buffer, each matrix at the same alignment in every lane, as in training: a lane's bits cannot depend on
        # where it lies.
        self._flat = self._layout.joined(params, torch.float64).requires_grad_()
        with torch.enable_grad():
            losses = loss(self._layout.views(self._flat))
            (self._gradient,) = torch.autograd.grad(losses.sum(), self._flat, create_graph=True)
        self.losses = losses.detach()
        """`[K]`."""

    @property
    def size(self) -> int:
        """Parameters of one lane, P."""
        return sum(map(math.prod, self.shapes.values()))

    def gradient(self) -> Tensor:
        """The gradient of every lane `[K, P]`."""
        return self._layout.packed(self._gradient.detach())

    def weights(self) -> Tensor:
        """The weights of every lane `[K, P]`."""
        return self._layout.packed(self._flat.detach())

    def product(self, vectors: Tensor) -> Tensor:
        """H_k v_k of every lane, `[K, P]` from `[K, P]`. A lane's product does not depend on the other lanes."""
        padded = self._layout.padded(vectors)
        (found,) = torch.autograd.grad(self._gradient, self._flat, padded, retain_graph=True, materialize_grads=True)
        return self._layout.packed(found)


def drive(
    product: Callable[[Tensor], Tensor],
    runs: Sequence[Products[T]],
    *,
    fewer: Callable[[Sequence[int]], Callable[[Tensor], Tensor]] | None = None,
) -> list[T]:
    """Runs algorithms in step, one per lane: every pass gives all of them their next product.

    Args:
        product: `[K, P]` → `[K, P]`.
        runs: K algorithms. One that has finished is multiplied with zero from then on.
        fewer: the product of some lanes alone, `[k, P]` → `[k, P]`; taken when half of the lanes have finished, since
            building it costs about three passes. None: there is none.

    Returns:
        What each found.
    """
    asked = {lane: next(run) for lane, run in enumerate(runs)}
    lanes = list(asked)
    found: dict[int, T] = {}
    while asked:
        if fewer is not None and 2 * len(asked) <= len(lanes):
            lanes = list(asked)
            product = fewer(lanes)
        idle = torch.zeros_like(next(iter(asked.values())))
        products = product(torch.stack([asked.get(lane, idle) for lane in lanes]))
        for place, lane in enumerate(lanes):
            if lane not in asked:
                continue
            try:
                asked[lane] = runs[lane].send(products[place].clone())
            except StopIteration as finished:
                found[lane] = finished.value
                del asked[lane]
    return [found[lane] for lane in range(len(runs))]


def transformed(run: Products[T], *, into: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Products[T]:
    """Runs an algorithm over S H Sᵀ by products with H.

    Args:
        run: the algorithm; its vectors are `[n]`.
        into: Sᵀ, `[n]` → `[P]`.
        back: S, `[P]` → `[n]`.

    Returns:
        What it found.
    """
    asked = next(run)
    while True:
        product = yield into(asked)
        try:
            asked = run.send(back(product))
        except StopIteration as finished:
            found: T = finished.value
            return found
