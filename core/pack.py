"""The lanes of a pack in training: flat buffers of weights and optimiser slots, batches, updates, divergence.

An update is: gradient of the summed losses over one flat buffer, its norm, clip, optimiser (`core.optim`). A lane
*diverges* at the first update whose loss, gradient norm or weight norm is no finite number in the precision of training
(a squared norm that overflows counts). It is frozen at the state before that update: the buffers of its lane are put
back after every update, and its neighbours do not notice by a bit.

Randomness: none here. Batches are a function of (data seed, step), initial weights of (seed, name).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Required, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core import optim
from core.architecture import Architecture, architecture, autocast, init_parameters, parameter_shapes
from core.checkpoint import TrialState
from core.config import TrialConfig
from core.draws import loop_draws
from core.engines import losses_by
from core.flat import Layout, Leaves
from core.lengths import batch_lengths, loops_by_length
from core.lineage import Link, links
from core.numerics import Engine
from core.segments import Segment
from core.task_data import task_data
from core.task_terms import AlgorithmicTask
from core.tasks import TaskData

Batches = tuple[Tensor, Tensor]
"""Inputs and targets of some updates, each `[count, K, B, T]`."""


class Looped(TypedDict, total=False):
    """How often an update is looped: the arguments of `core.model.loss` that say so."""

    loops: Required[int | list[int]]
    by_sequence: list[int]


def training_dtype(config: TrialConfig) -> torch.dtype:
    """Type of the weights: float64, or float32 (also under bf16 autocast)."""
    return torch.float64 if config.train.precision == "float64" else torch.float32


def initial_state(config: TrialConfig) -> TrialState:
    """The state of a trial at step 0."""
    parameters = init_parameters(config, training_dtype(config))
    slots = optim.SLOTS[config.train.optimizer]
    return TrialState(
        lineage=links(config)[0].lineage,
        step=0,
        parameters=parameters,
        optimizer={f"{slot}/{name}": torch.zeros_like(p) for slot in slots for name, p in parameters.items()},
    )


class Pack:
    """K lanes in training, at a common step."""

    def __init__(
        self, segments: Sequence[Segment], states: Sequence[TrialState], device: torch.device, engine: Engine
    ) -> None:
        """The lanes at the start of their segments.

        Args:
            segments: one per lane; they fit together (`core.segments.refuse_misfits`).
            states: one per segment, at its start.
            device: where the buffers are.
            engine: what computes the gradients of updates.
        """
        first = segments[0]
        self.configs = [segment.config for segment in segments]
        self.links = [segment.link for segment in segments]
        self.link: Link = first.link  # loops, injection and loss_on are the same in all
        self.step = first.start
        self.train_terms = first.config.train
        self.arch: Architecture = architecture(first.config)
        self.layout = Layout(shapes=parameter_shapes(self.arch))
        self.device = device
        self.losses = losses_by(engine, device)

        K, dtype = len(segments), training_dtype(first.config)
        self.weights = self.layout.stack([state.parameters for state in states], device=device, dtype=dtype)
        self.leaves = Leaves(self.layout, self.weights)
        self.slot_names = optim.SLOTS[self.train_terms.optimizer]
        self.slots = [
            self.layout.stack(
                [{name: state.optimizer[f"{slot}/{name}"] for name in self.layout.shapes} for state in states],
                device=device,
                dtype=dtype,
            )
            for slot in self.slot_names
        ]
        for lane, link in enumerate(self.links):
            if link.reset == self.step > 0:
                for slot_buffer in self.slots:
                    slot_buffer[lane].zero_()
        self.limits = optim.clip_limits(self.configs, self.weights)
        self.decays = any(config.train.weight_decay for config in self.configs)
        self.alive = torch.ones(K, dtype=torch.bool, device=device)

        # Trials that differ in optimiser terms alone have the same data, which is then drawn once.
        self.sources: dict[Any, TaskData] = {}
        self.source_of = []
        for config in self.configs:
            key = (config.task, config.data_seed)
            self.sources.setdefault(key, task_data(config))
            self.source_of.append(key)

        self.diverged: list[str | None] = [None] * K
        self.reached = [self.step] * K
        """Updates done by each lane."""
        self.last_losses = [math.nan] * K
        self.last_norms = [math.nan] * K

    def batches(self, start: int, count: int) -> Batches:
        """Inputs and targets of the updates after step `start`, each `[count, K, B, T]`."""
        drawn = {key: source.batches(start, count) for key, source in self.sources.items()}
        lanes = [drawn[key] for key in self.source_of]
        return self.tokens([inputs for inputs, _ in lanes], [targets for _, targets in lanes], axis=1)

    def tokens(
        self, inputs: Sequence[npt.NDArray[np.int64]], targets: Sequence[npt.NDArray[np.int64]], *, axis: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of each lane as tensors of the pack, stacked along an axis."""
        stacked = (torch.from_numpy(np.stack(arrays, axis)).to(self.device) for arrays in (inputs, targets))
        first, second = stacked
        return first, second

    def train(self, batches: Batches) -> None:
        """The updates of these batches."""
        inputs, targets = batches
        count = len(inputs)
        table = optim.coefficient_block(self.configs, self.links, self.step, count, self.weights)
        looped = self.looped(self.step, count)
        watched = []
        for index in range(count):
            watched.append(self._update(inputs[index], targets[index], table[index], looped[index]))
        self._account(torch.stack(watched).double().cpu().numpy())
        self.step += count

    def looped(self, start: int, count: int) -> list[Looped]:
        """How often is looped in the updates after step `start`: one number, each lane's own draw, or by length."""
        if self.link.draw is not None:
            drawn = [
                loop_draws(config.seed, mean=link.loops, sigma=link.draw or 0.0, start=start, count=count)
                for config, link in zip(self.configs, self.links, strict=True)
            ]
            return [{"loops": loops} for loops in np.stack(drawn, 1).tolist()]
        alike: Looped = {"loops": self.link.loops}
        task = self.configs[0].task
        if self.link.offset is None or not isinstance(task, AlgorithmicTask):
            return [alike] * count
        lengths = [batch_lengths(task, self.train_terms.batch, step) for step in range(start, start + count)]
        return [{**alike, "by_sequence": loops_by_length(of, self.link)} for of in lengths]

    def gradient(self, inputs: Tensor, targets: Tensor, looped: Looped) -> tuple[Tensor, Tensor]:
        """Training losses `[K]` of a batch `[K, B, T]`, and their gradients `[K, P]` in a buffer that is used again."""
        with autocast(self.configs[0], self.device):
            losses = self.losses(
                self.leaves.params,
                inputs,
                targets,
                self.arch,
                **looped,
                injection=self.link.injection,
                loss_on=self.link.loss_on,
                backprop=self.link.backprop,
            )
        return losses.detach(), self.leaves.gradient(losses)

    def _update(self, inputs: Tensor, targets: Tensor, coefficients: Tensor, looped: Looped) -> Tensor:
        """One update of all lanes that are alive; returns loss, gradient norm and weight norm before it, `[3, K]`."""
        losses, grad = self.gradient(inputs, targets, looped)
        with torch.no_grad():
            norm = optim.norms(grad)
            watched = torch.stack((losses.to(norm.dtype), norm, optim.norms(self.weights)))
            self.alive &= watched.isfinite().all(0)
            # Where asking is cheap, lanes are put back only when there is one; on a GPU asking would stall every step.
            frozen = self.device.type != "cpu" or not bool(self.alive.all())
            buffers = [self.weights, *self.slots]
            before = [buffer.clone() for buffer in buffers] if frozen else []
            optim.clip(grad, norm, self.limits)
            optim.update(
                self.weights, grad, self.slots, coefficients, optimizer=self.train_terms.optimizer, decays=self.decays
            )
            for buffer, old in zip(buffers, before, strict=False):
                torch.where(self.alive.unsqueeze(1), buffer, old, out=buffer)
        return watched

    def _account(self, watched: npt.NDArray[np.float64]) -> None:
        """Takes what the updates of a block `[count, 3, K]` said: last losses and norms, lanes that diverged."""
        for lane in range(len(self.diverged)):
            if self.diverged[lane] is not None:
                continue
            bad = np.flatnonzero(~np.isfinite(watched[:, :, lane]).all(1))
            good = int(bad[0]) if len(bad) else len(watched)
            if len(bad):
                what = ("loss", "norm of the gradient", "norm of the weights")
                names = [
                    name for name, value in zip(what, watched[good, :, lane], strict=True) if not np.isfinite(value)
                ]
                self.diverged[lane] = " and ".join(names) + " not finite"
            if good:
                self.last_losses[lane], self.last_norms[lane] = map(float, watched[good - 1, :2, lane])
            self.reached[lane] = self.step + good

    @property
    def params(self) -> dict[str, Tensor]:
        """The weights by name, `[K, …]`, as views."""
        with torch.no_grad():
            return self.layout.views(self.weights)

    def state(self, lane: int) -> TrialState:
        """The state of a lane at the last update that it did."""
        slots = zip(self.slot_names, self.slots, strict=True)
        return TrialState(
            lineage=self.links[lane].lineage,
            step=self.reached[lane],
            parameters=self.layout.lane(self.weights, lane),
            optimizer={
                f"{slot}/{name}": tensor
                for slot, buffer in slots
                for name, tensor in self.layout.lane(buffer, lane).items()
            },
        )
