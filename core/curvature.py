"""Curvature of a pack: stacked Hessian–vector products, and the ends of every lane's spectrum from them.

The loss of a pack is a vector `[K]` whose entry k depends on lane k's weights alone, so the Hessian of its sum is block
diagonal and one pass gives every lane's product. The graph of the gradient is built once per weights and probe batch;
a product is its vector–Jacobian product (the Hessian is symmetric), which costs two to three gradients and builds
nothing again. `torch.func.hessian` and nested reverse-mode Jacobians are silently wrong under LayerNorm with affine
terms; this double backward is not, and every measurement checks its symmetry all the same.

Weights are raised to float64 for the measurement and attention runs in its plain form (fused kernels have no second
derivative). Neither touches training: no generator, no gradient buffer and no weight of it is used or changed. A lane's
numbers do not depend on the pack: products are stacked, everything after them is done lane by lane, and lanes are taken
in groups that bound the memory of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from core.config import TrialConfig
from core.errors import InputError
from core.lanczos import Extreme, Products, extremes
from core.lineage import Link
from core.model import architecture, loss
from core.streams import stream

_GROUP_ELEMENTS = {"cpu": 2**17, "cuda": 2**22}
"""Probe tokens × width × applied blocks of a group of lanes. Measured on one core: small lanes gain up to 2.5 times
from stacking until a group leaves the cache, beyond which they lose. A GPU is filled, within about 1 GiB of graph."""

_ENDS = {"lambda_max": "max", "lambda_min": "min"}


class StackedHessian:
    """The Hessians of K independent losses, as products with one vector per lane.

    Args:
        loss: maps weights `{name: [K, …]}` to the losses `[K]`; entry k may depend on lane k's weights alone.
        params: the weights `{name: [K, …]}` at which it is taken; copied to float64.
    """

    def __init__(self, loss: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor]) -> None:
        """Builds the graph of the gradient."""
        self._params = {name: p.detach().to(torch.float64, copy=True).requires_grad_() for name, p in params.items()}
        with torch.enable_grad():
            losses = loss(self._params)
            self._gradient = torch.autograd.grad(losses.sum(), list(self._params.values()), create_graph=True)
        self.lanes = len(losses)

    @property
    def size(self) -> int:
        """Parameters of one lane, P; vectors hold them in the order of `params`."""
        return sum(p[0].numel() for p in self._params.values())

    def gradient(self) -> list[Tensor]:
        """The gradient of every lane `[P]`."""
        return self._lanes_of([g.detach() for g in self._gradient])

    def product(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """H_k v_k of every lane: K vectors `[P]` from K vectors `[P]`."""
        sizes = [p[0].numel() for p in self._params.values()]
        pieces = [torch.split(v, sizes) for v in vectors]
        stacked = [torch.stack([lane[i] for lane in pieces]).view_as(p) for i, p in enumerate(self._params.values())]
        products = torch.autograd.grad(
            self._gradient, list(self._params.values()), stacked, retain_graph=True, materialize_grads=True
        )
        return self._lanes_of(products)

    def _lanes_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat([t[k].reshape(-1) for t in tensors]) for k in range(self.lanes)]


def measure(
    params: Mapping[str, Tensor],
    *,
    configs: Sequence[TrialConfig],
    link: Link,
    inputs: Tensor,
    targets: Tensor,
) -> list[dict[str, Any]]:
    """The curvature of every lane of a pack at its weights, as columns of the table ``curvature``.

    The loss is that of the link (its loops, its injection, last or all outputs), averaged over the first
    `measure.probe` sequences of the validation set.

    Args:
        params: the weights `{name: [K, …]}`, of any floating type; neither kept nor changed.
        configs: the K trials, of one `core.lineage.pack_shape` and one `measure`.
        link: the link that the pack is in.
        inputs: the validation sets `[K, N, T]`, on the device of the weights.
        targets: what they are followed by `[K, N, T]`.

    Returns:
        One row per lane: a value per quantity (None where it failed, never a guess), and by quantity ``method`` (with
        the reason of a failure), ``error`` (residual bound, absent where there is none) and ``products``.

    Raises:
        InputError: for a probe larger than the validation set, an unknown quantity, or lanes that measure differently.
    """
    observed = configs[0].measure
    if any(config.measure != observed for config in configs):
        raise InputError("measure: the trials of one pack must measure the same quantities on probes of one size")
    for name in observed.quantities:
        if name not in _ENDS:
            raise InputError(f"measure.quantities: unknown quantity {name!r}; known are {', '.join(_ENDS)}")
    if observed.probe > inputs.shape[1]:
        raise InputError(
            f"measure.probe: must be at most task.val_size = {inputs.shape[1]} sequences, got {observed.probe}"
        )
    size = _group_size(configs[0], link, length=inputs.shape[2], device=inputs.device.type)
    rows: list[dict[str, Any]] = []
    for low in range(0, len(configs), size):
        lanes = slice(low, low + size)
        hessian = probe_hessian(
            {name: p[lanes] for name, p in params.items()},
            config=configs[0],
            link=link,
            inputs=inputs[lanes, : observed.probe],
            targets=targets[lanes, : observed.probe],
        )
        seeds = [config.seed for config in configs[lanes]]
        rows += [_row(observed.quantities, found) for found in spectrum_ends(hessian, seeds, observed.quantities)]
    return rows


def _group_size(config: TrialConfig, link: Link, *, length: int, device: str) -> int:
    model = config.model
    blocks = model.prelude + model.depth * link.loops + model.coda
    elements = config.measure.probe * length * model.width * blocks
    return max(1, _GROUP_ELEMENTS[device] // elements)


def probe_hessian(
    params: Mapping[str, Tensor], *, config: TrialConfig, link: Link, inputs: Tensor, targets: Tensor
) -> StackedHessian:
    """The Hessians of the link's loss on a probe batch `[K, n, T]` at the weights `{name: [K, …]}`."""
    arch = architecture(config)

    def probe_loss(weights: dict[str, Tensor]) -> Tensor:
        return loss(
            weights,
            inputs,
            targets,
            arch,
            loops=link.loops,
            injection=link.injection,
            loss_on=link.loss_on,
            math_attention=True,
        )

    return StackedHessian(probe_loss, params)


def spectrum_ends(hessian: StackedHessian, seeds: Sequence[int], quantities: Sequence[str]) -> list[list[Extreme]]:
    """The named ends of every lane's spectrum, in the order of `quantities`.

    All lanes ask for their products in step; a lane that has finished is multiplied with zero.

    Args:
        hessian: of K lanes.
        seeds: of the K trials; the start vectors come from their stream ``curvature``.
        quantities: "lambda_max", "lambda_min".
    """
    like = hessian.gradient()[0]
    ends = [_ENDS[name] for name in quantities]
    runs: list[Products] = []
    for seed in seeds:
        start, other = (_unit_vector(seed, name, like) for name in ("start", "symmetry"))
        runs.append(extremes(start, other, ends=ends))
    results: list[list[Extreme] | None] = [None] * len(runs)
    asked = [next(run) for run in runs]
    idle = torch.zeros_like(like)
    while any(result is None for result in results):
        products = hessian.product(asked)
        for lane, run in enumerate(runs):
            if results[lane] is None:
                try:
                    asked[lane] = run.send(products[lane])
                except StopIteration as finished:
                    results[lane], asked[lane] = finished.value, idle
    return [result for result in results if result is not None]


def _unit_vector(seed: int, name: str, like: Tensor) -> Tensor:
    unit: Tensor = torch.from_numpy(stream(seed, "curvature", name).standard_normal(len(like))).to(like, copy=True)
    unit /= torch.linalg.vector_norm(unit)
    return unit


def _row(quantities: Sequence[str], found: Sequence[Extreme]) -> dict[str, Any]:
    row: dict[str, Any] = {name: extreme.value for name, extreme in zip(quantities, found, strict=True)}
    named = list(zip(quantities, found, strict=True))
    row["method"] = {name: "lanczos" if e.failure is None else f"lanczos failed: {e.failure}" for name, e in named}
    row["error"] = {name: e.error for name, e in named if e.error is not None}
    row["products"] = {name: e.products for name, e in named}
    return row
