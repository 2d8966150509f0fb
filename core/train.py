"""The pack engine: trains K segments of one shape in step and gives each lane what it would have got alone.

A pack goes from one common step to another in blocks: batches are fetched and learning rates computed for up to
`BLOCK_STEPS` updates at once, blocks end where somebody observes, and between blocks the caller may stop it. Within a
block an update is: gradient of the summed losses over one flat buffer, its norm, clip, optimiser (`core.optim`).

A lane *diverges* at the first update whose loss, gradient norm or weight norm is no finite number in the precision of
training (a squared norm that overflows counts). It is frozen at the state before that update: the buffers of its lane
are put back after every update, its neighbours do not notice by a bit, and it has no further rows.

Randomness: none here. Batches are a function of (data seed, step), initial weights of (seed, name).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Required, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core import optim
from core.ahead import Ahead
from core.architecture import Architecture, architecture, autocast, differs_alone, init_parameters, parameter_shapes
from core.checkpoint import TrialState
from core.config import TrialConfig
from core.draws import loop_draws
from core.engines import losses_by
from core.evaluate import evaluate, finite
from core.findings import Rows
from core.flat import Layout, Leaves
from core.flops import flops_alone
from core.lengths import batch_lengths, loops_by_length
from core.lineage import Link, canonical_json, links
from core.numerics import Engine
from core.segments import LaneResult, Segment, refuse_misfits
from core.task_data import task_data
from core.task_terms import AlgorithmicTask
from core.tasks import TaskData
from core.watch import Check, ends_at

BLOCK_STEPS = 64
"""Updates in a block at most."""
BLOCK_TOKENS = 2**22
"""Tokens of a block over all lanes at most (64 MiB of inputs and targets)."""

Progress = Callable[[int, Sequence[float | None]], None]
Keep = Callable[[int, TrialState], None]
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


def train_segments(
    segments: Sequence[Segment],
    states: Sequence[TrialState],
    *,
    device: str = "cpu",
    engine: Engine = "eager",
    stop: Callable[[int], bool] | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> list[LaneResult]:
    """Trains the segments of one pack from their common start to their common end.

    Args:
        segments: one per lane, of equal `pack_shape`, start and end.
        states: one per segment, at its start; from its own lineage or that of the link before.
        device: ``cpu`` or ``cuda``.
        engine: what computes the gradients of updates; see `core.engines`.
        stop: asked with the step after each block; True ends the pack there (status ok, `reached` < end).
        progress: told the step and the last training loss of each lane after each block.
        keep: given the number of a lane and its state where one of its `watches` ends the stage, at its latest step
            too; there its metrics are taken, whatever is asked. A pack ends early where no lane is needed any more.

    Returns:
        One result per segment, in order. On a CPU, eager, it is the same, bit for bit, whatever the other lanes are.

    Raises:
        ValueError: the segments do not fit together, a state does not fit its segment, or the compiled engine is to
            take loops that differ by update.
    """
    refuse_misfits(segments, states)
    if len(segments) == 1 and device == "cpu" and differs_alone(segments[0].config):
        told = None if progress is None else lambda step, losses: progress(step, losses[:1])
        kept = None if keep is None else lambda lane, state: None if lane else keep(lane, state)
        return train_segments(
            [*segments] * 2, [*states] * 2, device=device, engine=engine, stop=stop, progress=told, keep=kept
        )[:1]
    pack = _Pack(segments, states, torch.device(device), engine, keep)
    pack.switch()
    pack.observe()
    with Ahead(pack.batches, beside=device != "cpu") as ahead:
        pack.run(ahead, progress, stop)
    return pack.results()


class _Pack:
    """K lanes in training: flat buffers on the device, and what has been observed so far."""

    def __init__(
        self,
        segments: Sequence[Segment],
        states: Sequence[TrialState],
        device: torch.device,
        engine: Engine,
        keep: Keep | None,
    ) -> None:
        first = segments[0]
        self.keep = keep
        self.segments = segments
        self.configs = [segment.config for segment in segments]
        self.links = [segment.link for segment in segments]
        self.link: Link = first.link  # loops, injection and loss_on are the same in all
        self.step, self.end = first.start, first.end
        self.train = first.config.train
        self.arch: Architecture = architecture(first.config)
        self.layout = Layout(shapes=parameter_shapes(self.arch))
        self.device = device
        self.losses = losses_by(engine, device)

        K, dtype = len(segments), training_dtype(first.config)
        self.weights = self.layout.stack([state.parameters for state in states], device=device, dtype=dtype)
        self.leaves = Leaves(self.layout, self.weights)
        self.slot_names = optim.SLOTS[self.train.optimizer]
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
        self.validation = [self.sources[key].validation() for key in self.source_of]
        self.held_out = self._tokens([v.inputs for v in self.validation], [v.targets for v in self.validation])
        self.fixed_batch: tuple[Tensor, Tensor] | None = None

        self.diverged: list[str | None] = [None] * K
        self.reached = [self.step] * K
        self.last_losses = [math.nan] * K
        self.last_norms = [math.nan] * K
        self.metrics: list[list[dict[str, Any]]] = [[] for _ in segments]
        self.curvature: list[list[Rows]] = [[] for _ in segments]
        self.measured_s = 0.0
        self.checks: list[list[dict[str, Any]]] = [[] for _ in segments]
        self.passed: list[list[TrialState]] = [[] for _ in segments]
        self.events: list[list[dict[str, Any]]] = [[] for _ in segments]
        self.waiting = [[w for w in segment.watches if w.criterion.latest > self.step] for segment in segments]
        self.seen = [dict(segment.seen) for segment in segments]

    @property
    def idle(self) -> bool:
        """Whether nobody needs another update: every lane has diverged, or all its criteria have ended the stage."""
        return all(
            self.diverged[lane] is not None
            or (
                bool(segment.watches)
                and not self.waiting[lane]
                and self.step >= (segment.end if segment.needed is None else segment.needed)
            )
            for lane, segment in enumerate(self.segments)
        )

    # --- training ------------------------------------------------------------------------------------------------

    def run(self, ahead: Ahead[Batches], progress: Progress | None, stop: Callable[[int], bool] | None) -> None:
        """Updates and observations to the end, or until nobody needs more."""
        while self.step < self.end:
            count = self._block(self.step)
            batches = ahead.take(self.step, count)
            if self.step + count < self.end:
                ahead.foretell(self.step + count, self._block(self.step + count))
            self._train_block(batches)
            self.observe()
            if progress is not None:
                progress(self.step, [finite(value) for value in self.last_losses])
            if self.idle or (stop is not None and stop(self.step)):
                break

    def _block(self, start: int) -> int:
        """Updates from a step until the next observation, the end, or the block is full."""
        batch_tokens = len(self.segments) * self.train.batch * self.configs[0].task.context
        return max(1, min(BLOCK_STEPS, BLOCK_TOKENS // batch_tokens, self._next_observation(start) - start))

    def _train_block(self, batches: Batches) -> None:
        """The updates of a block."""
        inputs, targets = batches
        count = len(inputs)
        table = optim.coefficient_block(self.configs, self.links, self.step, count, self.weights)
        looped = self._looped(self.step, count)
        watched = []
        for index in range(count):
            watched.append(self._update(inputs[index], targets[index], table[index], looped[index]))
        self._account(torch.stack(watched).double().cpu().numpy())
        self.step += count

    def _looped(self, start: int, count: int) -> list[Looped]:
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
        lengths = [batch_lengths(task, self.train.batch, step) for step in range(start, start + count)]
        return [{**alike, "by_sequence": loops_by_length(of, self.link)} for of in lengths]

    def _gradient(self, inputs: Tensor, targets: Tensor, looped: Looped) -> tuple[Tensor, Tensor]:
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
        losses, grad = self._gradient(inputs, targets, looped)
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
                self.weights, grad, self.slots, coefficients, optimizer=self.train.optimizer, decays=self.decays
            )
            for buffer, old in zip(buffers, before, strict=False):
                torch.where(self.alive.unsqueeze(1), buffer, old, out=buffer)
        return watched

    def _account(self, watched: npt.NDArray[np.float64]) -> None:
        """Takes what the updates of a block `[count, 3, K]` said: last losses and norms, lanes that diverged."""
        for lane in range(len(self.segments)):
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

    def batches(self, start: int, count: int) -> Batches:
        """Inputs and targets of the updates after step `start`, each `[count, K, B, T]`."""
        drawn = {key: source.batches(start, count) for key, source in self.sources.items()}
        lanes = [drawn[key] for key in self.source_of]
        return self._tokens([inputs for inputs, _ in lanes], [targets for _, targets in lanes], axis=1)

    def _tokens(
        self, inputs: Sequence[npt.NDArray[np.int64]], targets: Sequence[npt.NDArray[np.int64]], *, axis: int = 0
    ) -> tuple[Tensor, Tensor]:
        stacked = (torch.from_numpy(np.stack(arrays, axis)).to(self.device) for arrays in (inputs, targets))
        first, second = stacked
        return first, second

    # --- observation ---------------------------------------------------------------------------------------------

    def _next_observation(self, start: int) -> int:
        steps = {step for s in self.segments for step in (*s.evaluate, *s.measure, *s.check, *s.states)}
        steps |= {watch.criterion.latest for waiting in self.waiting for watch in waiting}
        return min((step for step in steps if step > start), default=self.end)

    def observe(self) -> None:
        """The rows that somebody asked for at this step, and the stages that criteria end there.

        Diverged lanes have none. Training is not touched.
        """
        alive = [lane for lane, reason in enumerate(self.diverged) if reason is None]
        evaluated = [lane for lane in alive if self.step in self.segments[lane].evaluate]
        measured = [lane for lane in alive if self.step in self.segments[lane].measure]
        checked = [lane for lane in alive if self.step in self.segments[lane].check]
        latest = any(watch.criterion.latest == self.step for lane in alive for watch in self.waiting[lane])
        columns = self._evaluated() if evaluated or checked or latest else []
        for lane in alive:
            if self.step in self.segments[lane].states:
                self.passed[lane].append(self._state(lane))
        for lane in evaluated:
            self.metrics[lane].append(self._metrics_row(lane, columns[lane]))
        if measured:
            self._measure(measured)
        if checked:
            self._check(checked, columns)
        if checked or latest:
            self._end_stages(alive, columns)

    def _params(self) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.layout.views(self.weights)

    def _evaluated(self) -> list[dict[str, float | None]]:
        return evaluate(
            self._params(),
            *self.held_out,
            arch=self.arch,
            link=self.link,
            sets=self.validation,
            precision=autocast(self.configs[0], self.device),
        )

    def _measure(self, lanes: Sequence[int]) -> None:
        from core.curvature import Measured, measure  # with scipy: most trials measure nothing

        begun = time.perf_counter()
        inputs, targets = self.held_out
        measured = [
            Measured(config=self.configs[lane], chain=self.segments[lane].chain, state=self._state(lane))
            for lane in lanes
        ]
        found = measure(measured, inputs[lanes], targets[lanes], train=partial(train_segments, device=self.device.type))
        for lane, rows in zip(lanes, found, strict=True):
            self.curvature[lane].append(rows)
        self.measured_s += time.perf_counter() - begun

    def _check(self, lanes: Sequence[int], columns: Sequence[Mapping[str, float | None]]) -> None:
        """What criteria see."""
        if self.fixed_batch is None:
            drawn = {key: source.batches(0, 1) for key, source in self.sources.items()}
            batches = [drawn[key] for key in self.source_of]
            self.fixed_batch = self._tokens(
                [inputs[0] for inputs, _ in batches], [targets[0] for _, targets in batches]
            )
        # The batch is that of update 0, whose problems have their lengths; drawn loops are taken at their mean.
        looped: Looped = {"loops": self.link.loops} if self.link.draw is not None else self._looped(0, 1)[0]
        losses, grad = self._gradient(*self.fixed_batch, looped)
        seen = torch.stack((losses.double(), optim.norms(grad).double())).cpu().numpy()
        for lane in lanes:
            check = Check(
                val_loss=columns[lane]["val_loss"],
                train_loss=finite(float(seen[0, lane])),
                grad_norm=finite(float(seen[1, lane])),
            )
            self.seen[lane][self.step] = check
            self.checks[lane].append({"step": self.step, **asdict(check)})

    def _end_stages(self, lanes: Sequence[int], columns: Sequence[Mapping[str, float | None]]) -> None:
        """Where a criterion ends the stage, the state is kept and its metrics are taken."""
        for lane in lanes:
            ended = [watch for watch in self.waiting[lane] if ends_at(watch, self.step, self.seen[lane])]
            if not ended:
                continue
            self.waiting[lane] = [watch for watch in self.waiting[lane] if watch not in ended]
            if self.step not in self.segments[lane].evaluate:
                self.metrics[lane].append(self._metrics_row(lane, columns[lane]))
            if self.keep is not None:
                self.keep(lane, self._state(lane))

    def _metrics_row(self, lane: int, columns: Mapping[str, float | None]) -> dict[str, Any]:
        config, link = self.configs[lane], self.links[lane]
        row: dict[str, Any] = {
            "step": self.step,
            "stage": link.stage,
            "loops": link.loops,
            "lr": optim.learning_rate(config, link, self.step),
            "train_loss": finite(self.last_losses[lane]),
            "grad_norm": finite(self.last_norms[lane]),
            "tokens": self.step * config.train.batch * config.task.context,
            "flops_alone": flops_alone(config, self.step, chain=self.segments[lane].chain),
        }
        return {**row, **columns}

    def switch(self) -> None:
        """The events of stages that begin where the pack begins: the same weights seen with the new loops."""
        lanes = [lane for lane, segment in enumerate(self.segments) if segment.begins_stage]
        columns = self._evaluated() if lanes else []
        for lane in lanes:
            before, link = self.segments[lane].chain[-2:]
            after = {name: value for name, value in columns[lane].items() if name.startswith("val_")}
            detail = canonical_json({"loops": [before.loops, link.loops], **after})
            self.events[lane].append({"step": self.step, "kind": "switch", "detail": detail})

    # --- result --------------------------------------------------------------------------------------------------

    def results(self) -> list[LaneResult]:
        return [self._result(lane) for lane in range(len(self.segments))]

    def _result(self, lane: int) -> LaneResult:
        reason, reached = self.diverged[lane], self.reached[lane]
        events = self.events[lane]
        if reason is not None:
            events = [*events, {"step": reached + 1, "kind": "divergence", "detail": reason}]
        return LaneResult(
            status="ok" if reason is None else "diverged",
            reached=reached,
            metrics=self.metrics[lane],
            curvature=[rows.curvature for rows in self.curvature[lane]],
            curves=[row for rows in self.curvature[lane] for row in rows.curves],
            spectra=[row for rows in self.curvature[lane] for row in rows.spectra],
            surfaces=[row for rows in self.curvature[lane] for row in rows.surfaces],
            events=events,
            checks=self.checks[lane],
            measured_s=self.measured_s / len(self.segments),
            state=self._state(lane),
            states=self.passed[lane],
        )

    def _state(self, lane: int) -> TrialState:
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
