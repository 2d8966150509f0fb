"""One flat buffer per pack: all weights of a lane side by side, `[K, P]`, and the named parameters as views into it.

So the optimiser is a handful of elementwise passes over `[K, P]` whatever the number of parameters, and the norm of the
gradient, which is gathered in a second buffer, is one reduction over the inner axis.

Every parameter begins at a multiple of `ALIGN` elements and P is one too. Kernels that work in whole vectors then see
each lane as whole vectors, alone or in a pack, and each matrix at the same alignment: a lane's bits cannot depend on
where it lies. The padding is zero, and its gradient too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGN = 64
"""Elements: 256 bytes in float32, a whole number of any vector register and cache line."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parameters of one trial lie in its flat buffer."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def sizes(self) -> list[int]:
        """Elements of each parameter with the padding behind it."""
        return [math.ceil(math.prod(shape) / ALIGN) * ALIGN for shape in self.shapes.values()]

    @property
    def size(self) -> int:
        """P, with the padding."""
        return sum(self.sizes)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The named parameters `[K, …]` of a flat buffer `[K, P]`, as views that autograd follows."""
        pieces = flat.split_with_sizes(self.sizes, 1)
        named = {}
        for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True):
            size = math.prod(shape)
            named[name] = (piece if piece.shape[1] == size else piece[:, :size]).view(flat.shape[0], *shape)
        return named

    def padded(self, vectors: Tensor) -> Tensor:
        """Flat buffers `[K, P]` of vectors without the padding, one per lane."""
        flat = vectors.new_zeros(len(vectors), self.size)
        pieces = torch.split(vectors, [math.prod(shape) for shape in self.shapes.values()], 1)
        for view, piece in zip(self.views(flat).values(), pieces, strict=True):
            view.copy_(piece.view_as(view))
        return flat

    def packed(self, flat: Tensor) -> Tensor:
        """Flat buffers without the padding, one vector per lane."""
        return torch.cat([view.reshape(len(flat), -1) for view in self.views(flat).values()], 1)

    def joined(self, params: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """A new flat buffer `[K, P]` from named parameters `[K, …]`, on their device."""
        first = next(iter(params.values()))
        flat = torch.zeros(len(first), self.size, dtype=dtype, device=first.device)
        for name, view in self.views(flat).items():
            view.copy_(params[name].detach())
        return flat

    def stack(self, lanes: Sequence[Mapping[str, Tensor]], *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """A new flat buffer `[K, P]` from the parameters of K trials (no trial axis)."""
        flat = torch.zeros(len(lanes), self.size, dtype=dtype)
        for name, view in self.views(flat).items():
            for index, lane in enumerate(lanes):
                view[index] = lane[name]
        return flat.to(device)

    def lane(self, flat: Tensor, index: int) -> dict[str, Tensor]:
        """The parameters of one trial, no trial axis: copies on the CPU."""
        row = flat.detach()[index : index + 1].cpu()
        return {name: view[0].clone(memory_format=torch.contiguous_format) for name, view in self.views(row).items()}


class Leaves:
    """The weights of a flat buffer by name, as leaves of autograd, with a second buffer for their gradient.

    The leaves share the weights' memory, so they follow updates in place. The gradient's buffer is filled anew each
    time: at 10^8 weights, memory that is new costs as much as an optimiser's pass over it.
    """

    def __init__(self, layout: Layout, flat: Tensor) -> None:
        """Of weights `[K, P]`."""
        self.params = {name: view.detach().requires_grad_() for name, view in layout.views(flat).items()}
        self._gradient = torch.zeros_like(flat)
        self._places = list(layout.views(self._gradient).values())

    def gradient(self, losses: Tensor) -> Tensor:
        """Gradients `[K, P]` of losses `[K]`, each lane's of its own; the next call overwrites them."""
        # Given ones for the losses instead of their sum, torch imports sympy: a quarter second of every worker's start.
        found = torch.autograd.grad(losses.sum(), list(self.params.values()), materialize_grads=True)
        torch._foreach_copy_(self._places, found)
        return self._gradient
