"""Loops at test time: the outputs after other numbers of loops than those trained on, and when to halt at one.

On the whole validation set in the precision of training, as evaluations are: at the loops of its link a trial has the
losses that its row of metrics has, bit for bit on a CPU. One pass up to the most loops gives the outputs after each of
`measure.test_loops`, whatever the stage trains with: fixed loops, drawn ones, or loops by the length of a sequence; all
sequences are looped alike. Among these outputs a rule chooses one for each sequence:

- *Confident* (Fan et al. 2024, arXiv 2409.15647): the output with the least mean cross-entropy against the
  model's own most likely tokens, over the positions that are predicted; of equal ones the fewest loops.
- *Oracle*: the fewest loops at which the whole sequence is right. No rule that halts at one of these numbers is more
  often right; it knows the answer, so it is a bound and no method.

A loop applied too often may overflow: an output that is not finite is not right and is never chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.architecture import autocast, differs_alone, parameter_shapes
from core.evaluate import CHUNK_TOKENS, Counts, Values, lane_columns, summed_losses
from core.findings import Finding, Value, failed
from core.flat import Layout
from core.model import forward_at
from core.probes import Probe
from core.quantities import CURVES, QUANTITIES
from core.task_data import task_data
from core.tasks import IGNORE, Validation

METHOD = "forward passes"
"""How all of it is found."""
UNMASKED = "the task predicts every token: it has no answers that are right as a whole"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What one lane's outputs are worth, by number of loops and sequence: each `[L, N]`."""

    losses: Values
    """Summed over the positions that are predicted, in nats."""
    hits: Counts
    """Positions predicted right."""
    doubts: Values
    """Cross-entropies against the model's own most likely tokens, summed likewise."""


def test_loops(probe: Probe) -> list[Finding]:
    """Losses and accuracies at each of `measure.test_loops`, and where sequences halt at one of them."""
    loops = probe.measure.test_loops
    sets = [task_data(config).validation() for config in probe.configs]
    found = zip(outputs(probe, sets), sets, strict=True)
    return [finding(loops, one, validation, masked=probe.arch.masked) for one, validation in found]


def outputs(probe: Probe, sets: Sequence[Validation]) -> list[Outputs]:
    """The outputs of every lane after each of `measure.test_loops`, on its validation set."""
    config, device = probe.configs[0], probe.inputs.device
    states, held = list(probe.states), list(sets)
    if len(states) == 1 and differs_alone(config):
        states, held = states * 2, held * 2
    # The layout and the type of the engine's own buffer: with them come its bits.
    layout = Layout(shapes=parameter_shapes(probe.arch))
    kind = next(iter(states[0].parameters.values())).dtype
    params = layout.views(layout.stack([state.parameters for state in states], device=device, dtype=kind))
    tokens = [[one.inputs for one in held], [one.targets for one in held]]
    inputs, targets = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in tokens)
    at, injection = probe.measure.test_loops, probe.link.injection
    parts: list[tuple[Tensor, ...]] = []
    chunk = max(1, CHUNK_TOKENS // inputs.shape[2])
    with torch.no_grad(), autocast(config, device):
        for low in range(0, inputs.shape[1], chunk):
            some, truth = inputs[:, low : low + chunk], targets[:, low : low + chunk]
            found = forward_at(params, some, probe.arch, at=at, injection=injection)
            each = [judged(logits, truth) for logits in found]
            parts.append(tuple(torch.stack(values, 1) for values in zip(*each, strict=True)))
    losses, hits, doubts = (torch.cat(part, 2).cpu().numpy() for part in zip(*parts, strict=True))
    return [Outputs(losses=losses[k], hits=hits[k], doubts=doubts[k]) for k in range(probe.lanes)]


def judged(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, hits and doubts of each sequence `[K, B]`, of one output `[K, B, T, V]`."""
    choice = logits.argmax(-1)
    asked = choice.where(targets != IGNORE, IGNORE)
    return summed_losses(logits, targets), (choice == targets).sum(-1), summed_losses(logits, asked)


def finding(loops: Sequence[int], outputs: Outputs, validation: Validation, *, masked: bool) -> Finding:
    """What a lane's outputs say of its validation set.

    Args:
        loops: the numbers of loops after which they were taken, ascending.
        outputs: what they are worth.
        validation: the set.
        masked: whether a sequence is a problem with an answer, which can be exactly right.
    """
    columns = QUANTITIES["test_loops"].columns
    if not np.isfinite(outputs.losses).any():
        return failed(["test_loops", *columns], METHOD, "no output is finite")
    predicted = (validation.targets != IGNORE).sum(1)
    found = _confident(loops, outputs, predicted) | _oracle(loops, outputs, predicted)
    if not masked:
        found |= dict.fromkeys(("val_exact_confident", "val_exact_oracle", "oracle_loops", "val_exact_loops"), UNMASKED)
    return Finding(
        values={"test_loops": Value(method=METHOD)} | {name: _value(number) for name, number in found.items()},
        curves=[
            (f"{name}_loops", float(at), math.nan if number is None else number)
            for at, losses, hits in zip(loops, outputs.losses, outputs.hits, strict=True)
            for name, number in lane_columns(losses, hits, predicted, validation, masked=masked).items()
            if f"{name}_loops" in CURVES
        ],
    )


def _confident(loops: Sequence[int], outputs: Outputs, predicted: Counts) -> dict[str, float | str]:
    """Where each sequence halts at its most confident output: numbers, or why there are none.

    The means over positions are sums here: a sequence has as many of them at each number of loops.
    """
    doubts = np.where(np.isfinite(outputs.doubts), outputs.doubts, np.inf)
    chosen = doubts.argmin(0)
    names = ("val_accuracy_confident", "val_exact_confident", "confident_loops")
    if not np.isfinite(doubts.min(0)).all():
        return dict.fromkeys(names, "no output of some sequence is finite")
    hits = np.take_along_axis(outputs.hits, chosen[None], 0)[0]
    found = int(hits.sum()) / int(predicted.sum()), (hits == predicted).mean(), np.asarray(loops)[chosen].mean()
    return dict(zip(names, map(float, found), strict=True))


def _oracle(loops: Sequence[int], outputs: Outputs, predicted: Counts) -> dict[str, float | str]:
    """Where each sequence halts at the fewest loops that get it right: numbers, or why there are none."""
    right = (outputs.hits == predicted) & np.isfinite(outputs.losses)
    solved = right.any(0)
    fewest: float | str = "no sequence is all right at any of these loops"
    if solved.any():
        fewest = float(np.asarray(loops)[right.argmax(0)][solved].mean())
    return {"val_exact_oracle": float(solved.mean()), "oracle_loops": fewest}


def _value(found: float | str) -> Value:
    return Value(method=METHOD, failure=found) if isinstance(found, str) else Value(method=METHOD, number=found)
