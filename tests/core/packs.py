"""Packs in tests: trained along their chains, and their results as bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.lineage import links
from core.observation import evaluation_steps
from core.pack import initial_state
from core.segments import LaneResult, Segment
from core.train import train_segments


def run(
    configs: Sequence[TrialConfig],
    *,
    states: Sequence[TrialState] | None = None,
    until: int | None = None,
    check: Sequence[int] = (),
) -> list[LaneResult]:
    """Trains a pack along its whole chain, or from the given states, and joins the rows of its links."""
    states = states or [initial_state(config) for config in configs]
    joined: list[LaneResult] | None = None
    begin = states[0].step
    last = until or configs[0].train.steps
    for index, link in enumerate(links(configs[0])):
        start, end = max(begin, link.start), min(last, link.end)
        if start >= end:
            continue
        checked = tuple(step for step in check if start < step <= end)
        segments = [segment(config, index, start, end, check=checked) for config in configs]
        results = train_segments(segments, states)
        states = [result.state for result in results]
        joined = results if joined is None else [join(a, b) for a, b in zip(joined, results, strict=True)]
        if any(result.reached < end for result in results):
            break
    assert joined is not None
    return joined


def segment(config: TrialConfig, index: int, start: int, end: int, **given: Any) -> Segment:
    evaluate = tuple(s for s in evaluation_steps(config) if start < s <= end or s == start == 0)
    return Segment(
        **(
            {"config": config, "chain": links(config)[: index + 1], "start": start, "end": end, "evaluate": evaluate}
            | given
        )
    )


def join(first: LaneResult, second: LaneResult) -> LaneResult:
    return replace(
        second,
        metrics=first.metrics + second.metrics,
        curvature=first.curvature + second.curvature,
        curves=first.curves + second.curves,
        spectra=first.spectra + second.spectra,
        surfaces=first.surfaces + second.surfaces,
        events=first.events + second.events,
        checks=first.checks + second.checks,
        measured_s=first.measured_s + second.measured_s,
        states=first.states + second.states,
    )


def bits(result: LaneResult) -> dict[str, Any]:
    """All of a result but the time it took, tensors as bytes: equal only where every bit is."""
    return {
        "rows": (result.metrics, result.curvature, result.spectra, result.events, result.checks, result.curves),
        "surfaces": result.surfaces,
        "status": (result.status, result.reached, result.state.lineage, result.state.step),
        "tensors": tensor_bits(result.state),
        "passed": [(state.lineage, state.step, tensor_bits(state)) for state in result.states],
    }


def tensor_bits(state: TrialState) -> dict[str, bytes]:
    """The weights and the optimiser's state, by name."""
    tensors = dict(state.parameters) | dict(state.optimizer)
    assert len(tensors) == len(state.parameters) + len(state.optimizer)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def lanes(config: TrialConfig, count: int) -> list[TrialConfig]:
    """Trials of one shape that differ in all that may differ: seeds, data, and the optimiser's terms."""
    found = []
    for lane in range(count):
        train = replace(
            config.train,
            lr=config.train.lr * (1 + 0.2 * lane),
            beta1=0.9 - 0.01 * lane,
            beta2=0.999 - 0.002 * lane,
            eps=1e-8 * (1 + lane),
            momentum=config.train.momentum * (1 - 0.02 * lane),
            weight_decay=config.train.weight_decay + 0.01 * (lane % 3),
            clip=(0.0, 0.3, 2.0)[lane % 3] if lane else config.train.clip,
        )
        task = replace(config.task, data_seed=None if lane % 2 else 7)
        found.append(replace(config, train=train, task=task, seed=10 + lane))
    return found
