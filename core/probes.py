"""A probe: some lanes at one state of training, on their probe batches, and what is worked out there once.

Estimators ask it for losses, gradients, Hessian products and the exact spectrum; each is computed when first asked for
and shared by all quantities. Everything is in float64, apart from the branches, which train as the trial does.

A lane's numbers never depend on the pack. Products are stacked, everything after them is done lane by lane, and lanes
are taken in groups that bound the memory of what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from core.architecture import Architecture, architecture, parameter_shapes
from core.checkpoint import TrialState
from core.config import MeasureConfig, TrialConfig
from core.gradients import gradients, losses
from core.hessian import Hessian, Products, StackedHessian, drive
from core.lengths import loops_by_length, validation_lengths
from core.lineage import Link
from core.model import loss
from core.segments import LaneResult, Segment
from core.streams import stream
from core.tangents import TangentHessian
from core.task_terms import AlgorithmicTask

T = TypeVar("T")

GROUP_ELEMENTS = {"cpu": 2**16, "cuda": 2**22}
"""Probe tokens × width × applied blocks of a group of lanes. Measured on one core: small lanes gain up to 2.2 times
from stacking until a group leaves the cache, beyond which they lose. A GPU is filled, with some GiB of activations."""
BASIS_BYTES = 2**30
"""Krylov bases of a group of lanes at once: a lane grows one of 8 P bytes a product, beside which its graph is small
where the model is wide. Of 68,000 weights and 256 products a basis has 139 MB, and a GPU would be given 512."""
ASYMMETRY = 1e-9
"""Largest |uᵀHv − vᵀHu| / (‖Hu‖ + ‖Hv‖) for unit vectors; a sound product in float64 has about 1e-16."""

Train = Callable[[Sequence[Segment], Sequence[TrialState]], list[LaneResult]]
"""`core.train.train_segments`, on the probe's device: branches go through it."""


def longest_first(config: TrialConfig, link: Link, count: int) -> tuple[list[int], list[int]] | None:
    """The order in which the first sequences of a validation set are probed where a link loops by length.

    Returns:
        Places of the sequences, and how often each is looped, falling; None where all are looped alike.
    """
    if link.offset is None or not isinstance(config.task, AlgorithmicTask):
        return None
    lengths = validation_lengths(config.task)[:count]
    order = np.argsort(-lengths, kind="stable")
    return order.tolist(), loops_by_length(lengths[order], link)


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The exact spectrum of one lane."""

    values: Tensor
    """Eigenvalues `[P]`, ascending."""
    hessian: Tensor
    """`[P, P]`."""

    @cached_property
    def vectors(self) -> Tensor:
        """Eigenvectors `[P, P]`, in columns; found when first asked for: 4 times the time of the values, 24 P² B."""
        vectors: Tensor = torch.linalg.eigh(self.hessian)[1]
        return vectors


@dataclass(frozen=True, kw_only=True)
class Probe:
    """K lanes of one pack at one step."""

    configs: Sequence[TrialConfig]
    """Of one `core.lineage.pack_shape` and one `measure`."""
    chains: Sequence[Sequence[Link]]
    """By lane: its links up to the one that it is in."""
    states: Sequence[TrialState]
    """By lane: weights and optimiser state, CPU tensors without a trial axis."""
    inputs: Tensor
    """Probe batches `[K, n, T]`, on the device to measure on."""
    targets: Tensor
    """What they are followed by `[K, n, T]`."""
    train: Train
    _hessians: dict[tuple[int, ...], Hessian] = field(default_factory=dict, init=False, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, name: str, find: Callable[[Probe], T]) -> T:
        """What `find` works out of this probe, worked out when first asked for under this name and then kept."""
        if name not in self._kept:
            self._kept[name] = find(self)
        found: T = self._kept[name]
        return found

    def pick(self, lanes: Sequence[int], states: Sequence[TrialState] | None = None) -> Probe:
        """A probe of some lanes, which may repeat; nothing that was worked out is kept.

        Args:
            lanes: which.
            states: other states of theirs, one per lane and all at one step; None: those that they are at.
        """
        return replace(
            self,
            configs=[self.configs[lane] for lane in lanes],
            chains=[self.chains[lane] for lane in lanes],
            states=[self.states[lane] for lane in lanes] if states is None else states,
            inputs=self.inputs[list(lanes)],
            targets=self.targets[list(lanes)],
        )

    @property
    def lanes(self) -> int:
        """K."""
        return len(self.configs)

    @property
    def step(self) -> int:
        """Updates done; the same in all lanes."""
        return self.states[0].step

    @property
    def link(self) -> Link:
        """The link that they are in: loops, injection and loss_on are the same in all lanes."""
        return self.chains[0][-1]

    @property
    def measure(self) -> MeasureConfig:
        """The settings of the measurement."""
        return self.configs[0].measure

    @cached_property
    def arch(self) -> Architecture:
        """The architecture."""
        return architecture(self.configs[0])

    @cached_property
    def by_sequence(self) -> list[int] | None:
        """Loops of each sequence of the probe batch where the link loops by length, falling (`longest_first`)."""
        order = longest_first(self.configs[0], self.link, self.inputs.shape[1])
        return None if order is None else order[1]

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """The weights `{name: [K, …]}`, float64, on the device; nobody changes them.

        In canonical order, which vectors `[P]` follow: a state that was read from a file has another one.
        """
        return {
            name: torch.stack([state.parameters[name].double() for state in self.states]).to(self.inputs.device)
            for name in parameter_shapes(self.arch)
        }

    def loss(
        self,
        params: dict[str, Tensor],
        *,
        lanes: Sequence[int] | None = None,
        loops: int | None = None,
        arch: Architecture | None = None,
    ) -> Tensor:
        """Mean loss on the probe batch, in nats per token; differentiable twice.

        Args:
            params: weights `{name: [k, …]}`, one per entry of `lanes`.
            lanes: whose probe batches; None = all, in order.
            loops: of all sequences, other than those of the link.
            arch: other than that of the trials.

        Returns:
            `[k]`.
        """
        pick = slice(None) if lanes is None else list(lanes)
        inputs, targets = self.inputs[pick], self.targets[pick]
        # A lone lane with a single sequence, or with an axis of one, may have other bits than in a pack (memory is laid
        # out in another order then, products run as matrix times vector): it gets a copy of itself as company.
        alone = len(inputs) == 1 and (inputs.shape[1] == 1 or self.arch.unit_axis)
        if alone:
            params = {name: torch.cat((p, p.detach())) for name, p in params.items()}
            inputs, targets = inputs.expand(2, -1, -1), targets.expand(2, -1, -1)
        own = self.by_sequence if loops in (None, self.link.loops) else None
        found = loss(
            params,
            inputs,
            targets,
            arch or self.arch,
            loops=self.link.loops if loops is None else loops,
            by_sequence=own,
            injection=self.link.injection,
            loss_on=self.link.loss_on,
            math_attention=True,
        )
        return found[:1] if alone else found

    # --- first derivatives ---

    @cached_property
    def weights(self) -> Tensor:
        """The weights of every lane as vectors `[K, P]`, float64."""
        return torch.cat([p.reshape(self.lanes, -1) for p in self.params.values()], 1)

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient of every lane `[K, P]`; of its own pass, so that its bits depend on nothing that was asked."""
        return self.gradients(loops=self.link.loops)

    def gradients(self, *, loops: int) -> Tensor:
        """The gradient of every lane at so many loops `[K, P]`."""
        found = []
        for lanes in self._groups(loops):
            params = {name: p[list(lanes)] for name, p in self.params.items()}
            found.append(gradients(partial(self.loss, lanes=lanes, loops=loops), params))
        return torch.cat(found)

    def losses(self, weights: Tensor, *, lanes: Sequence[int] | None = None) -> Tensor:
        """The loss of every lane `[K]` at other weights `[K, P]`, float64; of `lanes`, where given: one per row."""
        shapes = {name: tuple(p.shape[1:]) for name, p in self.params.items()}
        of, size = range(self.lanes) if lanes is None else lanes, self.group
        return torch.cat(
            [
                losses(partial(self.loss, lanes=of[low : low + size]), shapes, weights[low : low + size])
                for low in range(0, len(of), size)
            ]
        )

    def _groups(self, loops: int) -> list[range]:
        """The lanes, by as many as a group of so many loops holds."""
        size = self._group(loops)
        return [range(low, min(low + size, self.lanes)) for low in range(0, self.lanes, size)]

    # --- Hessian products ---

    @property
    def size(self) -> int:
        """Parameters of one lane, P."""
        return sum(p[0].numel() for p in self.params.values())

    @property
    def group(self) -> int:
        """Lanes of one graph, with a Krylov basis each."""
        basis = 8 * self.size * max(self.measure.products, self.measure.nodes)
        return min(self._group(self.link.loops), max(1, BASIS_BYTES // basis))

    def _group(self, loops: int) -> int:
        model = self.configs[0].model
        blocks = model.prelude + model.depth * loops + model.coda
        elements = self.inputs.shape[1] * self.inputs.shape[2] * model.width * blocks
        return max(1, GROUP_ELEMENTS[self.inputs.device.type] // elements)

    def hessian(self, lanes: Sequence[int]) -> Hessian:
        """The Hessians of some lanes, in this order; one may come several times. Kept where each comes once."""
        key = tuple(lanes)
        found = self._hessians.get(key)
        if found is None:
            weights = {name: p[list(key)] for name, p in self.params.items()}
            link, pick = self.link, list(key)
            if self.by_sequence is not None:  # the rules know no sequences that are looped by themselves
                found = StackedHessian(partial(self.loss, lanes=key), weights)
            else:
                found = TangentHessian(
                    weights,
                    self.inputs[pick],
                    self.targets[pick],
                    self.arch,
                    loops=link.loops,
                    injection=link.injection,
                    loss_on=link.loss_on,
                )
            if len(set(key)) == len(key):
                self._hessians[key] = found
        return found

    def drive(self, runs: Sequence[tuple[int, Products[T]]]) -> list[T]:
        """Runs algorithms over the Hessians of their lanes, as many in one pass as a group holds.

        Args:
            runs: (lane, algorithm); several algorithms may run on one lane.

        Returns:
            What each found, in order.
        """
        found: list[T] = []
        for low in range(0, len(runs), self.group):
            some = runs[low : low + self.group]
            lanes = [lane for lane, _ in some]
            found += drive(self.hessian(lanes).product, [run for _, run in some], fewer=partial(self._fewer, lanes))
        return found

    def _fewer(self, lanes: Sequence[int], left: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """The product of those of the lanes that are left; not kept, so that a group holds half as much again."""
        key = tuple(lanes[place] for place in left)
        kept = key in self._hessians
        hessian = self.hessian(key)
        if not kept:
            self._hessians.pop(key, None)
        return hessian.product

    def drive_each(self, count: int, run: Callable[[int, int], Products[T]]) -> list[list[T]]:
        """By lane, what `count` algorithms found over its Hessian: `run` of the lane and 0, 1 … count − 1."""
        found = self.drive([(lane, run(lane, index)) for lane in range(self.lanes) for index in range(count)])
        return [found[low : low + count] for low in range(0, len(found), count)]

    @cached_property
    def symmetry(self) -> list[tuple[float, str | None]]:
        """By lane: |uᵀHv − vᵀHu| / (‖Hu‖ + ‖Hv‖) for two random unit vectors, and what is wrong with its products."""
        return self.drive([(lane, self._symmetry(lane)) for lane in range(self.lanes)])

    def _symmetry(self, lane: int) -> Products[tuple[float, str | None]]:
        u, v = self.direction(lane, "start"), self.direction(lane, "symmetry")
        first, second = (yield u), (yield v)
        scale = float(first.norm() + second.norm())
        if scale == 0.0:
            return 0.0, None
        asymmetry = abs(float(v @ first) - float(u @ second)) / scale
        if not asymmetry < float("inf"):
            return asymmetry, "a product is not finite"
        if asymmetry > ASYMMETRY:
            return asymmetry, f"the product is not symmetric: |uᵀHv − vᵀHu| is {asymmetry:.1e} of ‖Hu‖ + ‖Hv‖"
        return asymmetry, None

    def direction(self, lane: int, *names: str | int) -> Tensor:
        """A random unit vector `[P]` of a lane, from the trial's stream ``curvature``."""
        normal = stream(self.configs[lane].seed, "curvature", *names).standard_normal(self.size)
        unit: Tensor = torch.from_numpy(normal).to(self.inputs.device, copy=True)
        unit /= torch.linalg.vector_norm(unit)
        return unit

    # --- the exact spectrum ---

    @property
    def is_exact(self) -> bool:
        """Whether the exact spectrum is within the limit of the measurement."""
        return self.size <= self.measure.exact

    @cached_property
    def exact(self) -> list[Exact]:
        """By lane, the exact spectrum; P products each. Only where `is_exact`, and every lane is `finite`."""
        return [eigen(hessian) for hessian in self._whole]

    @cached_property
    def finite(self) -> list[bool]:
        """By lane, whether every entry of the Hessian is finite: two sound products do not say so. P products each."""
        return [bool(hessian.isfinite().all()) for hessian in self._whole]

    @cached_property
    def _whole(self) -> list[Tensor]:
        return [self.dense(lane) for lane in range(self.lanes)]

    def dense(self, lane: int) -> Tensor:
        """The Hessian of one lane `[P, P]`, made symmetric by the mean with its transpose; P products, 8 P² bytes."""
        P, group = self.size, min(self.group, self.size)
        hessian = self.hessian([lane] * group)
        rows = torch.empty(P, P, dtype=torch.float64, device=self.inputs.device)
        for low in range(0, P, group):
            units = torch.zeros(group, P, dtype=torch.float64, device=rows.device)
            count = min(group, P - low)
            units[torch.arange(count), torch.arange(low, low + count)] = 1.0
            rows[low : low + count] = hessian.product(units)[:count]
        return (rows + rows.mT) / 2

    # --- kinds of parameters ---

    def kind(self, name: str) -> str:
        """The kind of a parameter: one of `core.quantities.MATRICES`."""
        last = name.rpartition(".")[2]
        if last in ("gain", "bias"):
            return "norm"
        return "mlp" if last in ("mlp_in", "mlp_out") else last

    @cached_property
    def kinds(self) -> dict[str, Tensor]:
        """By kind that the model has: indices of its weights in a vector `[P]`, ascending."""
        places: dict[str, list[Tensor]] = {}
        start = 0
        for name, p in self.params.items():
            places.setdefault(self.kind(name), []).append(torch.arange(start, start + p[0].numel()))
            start += p[0].numel()
        return {kind: torch.cat(parts).to(self.inputs.device) for kind, parts in places.items()}


def eigen(hessian: Tensor) -> Exact:
    """The exact spectrum of a symmetric matrix `[P, P]`, in float64; 8 P² bytes beside it while it runs."""
    return Exact(values=torch.linalg.eigvalsh(hessian), hessian=hessian)
