"""Trains K segments of one shape in step, observes them, and gives each lane what it would have got alone.

A pack (`core.pack`) goes from one common step to another in blocks: batches are fetched and learning rates computed for
up to `BLOCK_STEPS` updates at once, blocks end where somebody observes, and between blocks the caller may stop it. What
is observed are metrics, curvature, what criteria see, states, and the stages that criteria end; training is not touched
by it, and a lane that has diverged has no further rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from core import optim
from core.ahead import Ahead
from core.architecture import autocast, differs_alone
from core.checkpoint import TrialState
from core.evaluate import evaluate, finite
from core.findings import Rows
from core.flops import flops_alone
from core.lineage import canonical_json
from core.numerics import Engine
from core.pack import Batches, Looped, Pack
from core.segments import LaneResult, Segment, refuse_misfits
from core.watch import Check, ends_at

BLOCK_STEPS = 64
"""Updates in a block at most."""
BLOCK_TOKENS = 2**22
"""Tokens of a block over all lanes at most (64 MiB of inputs and targets)."""

Progress = Callable[[int, Sequence[float | None]], None]
Keep = Callable[[int, TrialState], None]


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
    pack = Pack(segments, states, torch.device(device), engine)
    observed = _Observed(pack, segments, keep)
    observed.switch()
    observed.observe()
    with Ahead(pack.batches, beside=device != "cpu") as ahead:
        _run(pack, observed, ahead, progress=progress, stop=stop)
    return observed.results()


def _run(
    pack: Pack,
    observed: _Observed,
    ahead: Ahead[Batches],
    *,
    progress: Progress | None,
    stop: Callable[[int], bool] | None,
) -> None:
    """Updates and observations to the end, or until nobody needs more."""
    end = observed.segments[0].end
    while pack.step < end:
        count = observed.block(pack.step)
        batches = ahead.take(pack.step, count)
        if pack.step + count < end:
            ahead.foretell(pack.step + count, observed.block(pack.step + count))
        pack.train(batches)
        observed.observe()
        if progress is not None:
            progress(pack.step, [finite(value) for value in pack.last_losses])
        if observed.idle or (stop is not None and stop(pack.step)):
            break


class _Observed:
    """What has been observed of a pack, and what its criteria wait for."""

    def __init__(self, pack: Pack, segments: Sequence[Segment], keep: Keep | None) -> None:
        self.pack, self.segments, self.keep = pack, segments, keep
        self.validation = [pack.sources[key].validation() for key in pack.source_of]
        self.held_out = pack.tokens([v.inputs for v in self.validation], [v.targets for v in self.validation])
        self.fixed_batch: tuple[Tensor, Tensor] | None = None
        self.metrics: list[list[dict[str, Any]]] = [[] for _ in segments]
        self.curvature: list[list[Rows]] = [[] for _ in segments]
        self.measured_s = 0.0
        self.checks: list[list[dict[str, Any]]] = [[] for _ in segments]
        self.passed: list[list[TrialState]] = [[] for _ in segments]
        self.events: list[list[dict[str, Any]]] = [[] for _ in segments]
        self.waiting = [[w for w in segment.watches if w.criterion.latest > pack.step] for segment in segments]
        self.seen = [dict(segment.seen) for segment in segments]

    @property
    def idle(self) -> bool:
        """Whether nobody needs another update: every lane has diverged, or all its criteria have ended the stage."""
        return all(
            self.pack.diverged[lane] is not None
            or (
                bool(segment.watches)
                and not self.waiting[lane]
                and self.pack.step >= (segment.end if segment.needed is None else segment.needed)
            )
            for lane, segment in enumerate(self.segments)
        )

    def block(self, start: int) -> int:
        """Updates from a step until the next observation, the end, or the block is full."""
        pack = self.pack
        batch_tokens = len(self.segments) * pack.train_terms.batch * pack.configs[0].task.context
        return max(1, min(BLOCK_STEPS, BLOCK_TOKENS // batch_tokens, self._next_observation(start) - start))

    def _next_observation(self, start: int) -> int:
        steps = {step for s in self.segments for step in (*s.evaluate, *s.measure, *s.check, *s.states)}
        steps |= {watch.criterion.latest for waiting in self.waiting for watch in waiting}
        return min((step for step in steps if step > start), default=self.segments[0].end)

    def observe(self) -> None:
        """The rows that somebody asked for at this step, and the stages that criteria end there.

        Diverged lanes have none. Training is not touched.
        """
        pack = self.pack
        alive = [lane for lane, reason in enumerate(pack.diverged) if reason is None]
        evaluated = [lane for lane in alive if pack.step in self.segments[lane].evaluate]
        measured = [lane for lane in alive if pack.step in self.segments[lane].measure]
        checked = [lane for lane in alive if pack.step in self.segments[lane].check]
        latest = any(watch.criterion.latest == pack.step for lane in alive for watch in self.waiting[lane])
        columns = self._evaluated() if evaluated or checked or latest else []
        for lane in alive:
            if pack.step in self.segments[lane].states:
                self.passed[lane].append(pack.state(lane))
        for lane in evaluated:
            self.metrics[lane].append(self._metrics_row(lane, columns[lane]))
        if measured:
            self._measure(measured)
        if checked:
            self._check(checked, columns)
        if checked or latest:
            self._end_stages(alive, columns)

    def _evaluated(self) -> list[dict[str, float | None]]:
        pack = self.pack
        return evaluate(
            pack.params,
            *self.held_out,
            arch=pack.arch,
            link=pack.link,
            sets=self.validation,
            precision=autocast(pack.configs[0], pack.device),
        )

    def _measure(self, lanes: Sequence[int]) -> None:
        from core.curvature import Measured, measure  # with scipy: most trials measure nothing

        pack = self.pack
        begun = time.perf_counter()
        inputs, targets = self.held_out
        measured = [
            Measured(config=pack.configs[lane], chain=self.segments[lane].chain, state=pack.state(lane))
            for lane in lanes
        ]
        found = measure(measured, inputs[lanes], targets[lanes], train=partial(train_segments, device=pack.device.type))
        for lane, rows in zip(lanes, found, strict=True):
            self.curvature[lane].append(rows)
        self.measured_s += time.perf_counter() - begun

    def _check(self, lanes: Sequence[int], columns: Sequence[Mapping[str, float | None]]) -> None:
        """What criteria see."""
        pack = self.pack
        if self.fixed_batch is None:
            inputs, targets = pack.batches(0, 1)
            self.fixed_batch = inputs[0], targets[0]
        # The batch is that of update 0, whose problems have their lengths; drawn loops are taken at their mean.
        looped: Looped = {"loops": pack.link.loops} if pack.link.draw is not None else pack.looped(0, 1)[0]
        losses, grad = pack.gradient(*self.fixed_batch, looped)
        seen = torch.stack((losses.double(), optim.norms(grad).double())).cpu().numpy()
        for lane in lanes:
            check = Check(
                val_loss=columns[lane]["val_loss"],
                train_loss=finite(float(seen[0, lane])),
                grad_norm=finite(float(seen[1, lane])),
            )
            self.seen[lane][pack.step] = check
            self.checks[lane].append({"step": pack.step, **asdict(check)})

    def _end_stages(self, lanes: Sequence[int], columns: Sequence[Mapping[str, float | None]]) -> None:
        """Where a criterion ends the stage, the state is kept and its metrics are taken."""
        pack = self.pack
        for lane in lanes:
            ended = [watch for watch in self.waiting[lane] if ends_at(watch, pack.step, self.seen[lane])]
            if not ended:
                continue
            self.waiting[lane] = [watch for watch in self.waiting[lane] if watch not in ended]
            if pack.step not in self.segments[lane].evaluate:
                self.metrics[lane].append(self._metrics_row(lane, columns[lane]))
            if self.keep is not None:
                self.keep(lane, pack.state(lane))

    def _metrics_row(self, lane: int, columns: Mapping[str, float | None]) -> dict[str, Any]:
        pack = self.pack
        config, link = pack.configs[lane], pack.links[lane]
        row: dict[str, Any] = {
            "step": pack.step,
            "stage": link.stage,
            "loops": link.loops,
            "lr": optim.learning_rate(config, link, pack.step),
            "train_loss": finite(pack.last_losses[lane]),
            "grad_norm": finite(pack.last_norms[lane]),
            "tokens": pack.step * config.train.batch * config.task.context,
            "flops_alone": flops_alone(config, pack.step, chain=self.segments[lane].chain),
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
            self.events[lane].append({"step": self.pack.step, "kind": "switch", "detail": detail})

    def results(self) -> list[LaneResult]:
        """One per lane, in order."""
        return [self._result(lane) for lane in range(len(self.segments))]

    def _result(self, lane: int) -> LaneResult:
        pack = self.pack
        reason, reached = pack.diverged[lane], pack.reached[lane]
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
            state=pack.state(lane),
            states=self.passed[lane],
        )
