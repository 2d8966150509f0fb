"""The Hessians of a pack of the stacked model, as products by hand-written rules: forward over reverse.

At the weights, one forward and one backward pass keep every operation's activations and adjoints. A product H v is then
the change of the gradient along v (Pearlmutter 1994): a forward sweep for the change of the activations and a backward
sweep for that of the adjoints, about 50 to 130 plain operations a block (`core.tangent_rules`), without an autograd
graph: 0.4 to 1.2 of a gradient, and a half to a quarter of the vector–Jacobian product of the gradient's graph
(`core.hessian.StackedHessian`, which takes any loss, and against which this is tested to 1e-13).

The model is that of `core.model`, with its conventions: one head without rotary positions is folded into A and C, the
queries' matrix is scaled. Embedding and positions are a product with one-hot rows for any vocabulary, as wide as the
logits. Shapes: K lanes, B sequences, T positions, M = B·T, D width, H heads, F hidden, V tokens, P parameters.

Held per lane, in numbers of 8 bytes: for each block applied M (31 D + 7 F) + 4 B·H·T² with norm and MLP, M · 14 D +
4 B·T² for one head alone; for each loss M (8 D + 5 V); the embedding's rows M (V + T); the weights 6 P. A quarter
of it is the last product's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from core.architecture import Architecture
from core.tangent_model import Model, joined
from core.tangent_weights import Weights


class TangentHessian:
    """The Hessians of the mean loss of K lanes on their sequences, at one loop count for all.

    Args:
        params: the weights `{name: [K, …]}` at which it is taken; copied to float64.
        inputs: tokens, int64 `[K, B, T]`.
        targets: tokens to predict, int64 `[K, B, T]`.
        arch: the architecture.
        loops: times that the looped blocks are applied.
        injection: as in `core.model.loss`.
        loss_on: as in `core.model.loss`.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        arch: Architecture,
        *,
        loops: int,
        injection: str = "none",
        loss_on: str = "last",
    ) -> None:
        """Runs the forward and the backward pass."""
        self.shapes = {name: tuple(p.shape[1:]) for name, p in params.items()}
        """Shape of each parameter of one lane, in the order in which vectors hold them."""
        K, B, _ = inputs.shape
        self.lanes = K
        # A lone lane with a single sequence, or with an axis of one, may have other bits than in a pack: products run
        # as matrix times vector. It gets a copy of itself as company, as in `core.probes.Probe.loss`.
        company = K == 1 and (B == 1 or arch.unit_axis)
        if company:
            inputs, targets = inputs.expand(2, -1, -1), targets.expand(2, -1, -1)
        with torch.inference_mode():
            self._weights = Weights(params, joined(arch), company=company)
            self._model = Model(
                self._weights.matrices,
                inputs,
                targets,
                arch,
                loops=loops,
                injection=injection,
                loss_on=loss_on,
            )
            found = self._model.forward()
            self._model.backward()
        self.losses = found[:K].clone()
        """`[K]`."""

    @property
    def size(self) -> int:
        """Parameters of one lane, P."""
        return self._weights.vectors.shape[1]

    @torch.no_grad()
    def gradient(self) -> Tensor:
        """The gradient of every lane `[K, P]`."""
        return self._weights.gradient()

    @torch.no_grad()
    def weights(self) -> Tensor:
        """The weights of every lane `[K, P]`."""
        return self._weights.vectors.clone()

    def product(self, vectors: Tensor) -> Tensor:
        """H_k v_k of every lane, `[K, P]` from `[K, P]`. A lane's product does not depend on the other lanes."""
        with torch.inference_mode():
            self._weights.direct(vectors)
            self._model.forward_tangent()
            self._model.backward_tangent()
        with torch.no_grad():
            return self._weights.change()
