"""Evaluation of a pack on its lanes' validation sets: loss, accuracy and their strata, beside the floors of the task.

Tokens' losses are summed in float64, over the positions of a sequence on the device and over sequences lane by lane on
the host, so a value does not depend on the pack. Sequences are taken in chunks whose size depends on the shape of one
lane only. The loss is that of the last loop's output, also where training takes the mean over all loops, so that arms
compare. A value that is not finite is None: a metric is a number or missing, never a default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.architecture import Architecture
from core.lengths import loops_by_length
from core.lineage import Link
from core.model import forward, token_losses
from core.tasks import IGNORE, Validation

CHUNK_TOKENS = 4096
"""Tokens of one lane that are evaluated at once."""

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def evaluate(
    params: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    arch: Architecture,
    link: Link,
    sets: Sequence[Validation],
    precision: AbstractContextManager[Any],
) -> list[dict[str, float | None]]:
    """The evaluation columns of every lane.

    Args:
        params: weights, each `[K, …]`.
        inputs: validation sets on the device, int64 `[K, N, T]`.
        targets: int64 `[K, N, T]`.
        arch: the architecture.
        link: its loops and injection are evaluated; loops by length with those of each problem's own length.
        sets: the K validation sets, for strata and floors.
        precision: context of the forward passes (autocast, or nothing).

    Returns:
        Per lane: ``val_loss``, ``val_accuracy``, ``val_exact`` where the task is masked, ``excess_loss``, the task's
        floors, and each with ``_<stratum>``; of a text ``val_bits_per_byte`` (``val_loss`` / ln 2 / bytes per token).
    """
    _, N, T = inputs.shape
    chunk = max(1, CHUNK_TOKENS // T)
    order = list(range(N)) if link.offset is None else list(np.argsort(-_lengths(sets), kind="stable"))
    losses, hits = [], []
    with torch.no_grad(), precision:
        for low in range(0, N, chunk):
            some = slice(low, low + chunk) if link.offset is None else order[low : low + chunk]
            part, truth = inputs[:, some], targets[:, some]
            by_sequence = None if link.offset is None else loops_by_length(_lengths(sets)[some], link)
            logits = forward(params, part, arch, loops=link.loops, by_sequence=by_sequence, injection=link.injection)
            losses.append(summed_losses(logits, truth))
            hits.append((logits.argmax(-1) == truth).sum(-1))
    back = np.argsort(order)
    sequence_losses = torch.cat(losses, 1).cpu().numpy()[:, back]
    sequence_hits = torch.cat(hits, 1).cpu().numpy()[:, back]
    predicted = (targets != IGNORE).sum(-1).cpu().numpy()
    return [
        lane_columns(loss, right, count, validation, masked=arch.masked)
        for loss, right, count, validation in zip(sequence_losses, sequence_hits, predicted, sets, strict=True)
    ]


def summed_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """The losses of each sequence `[K, B]`, summed over the predicted tokens in float64."""
    return token_losses(logits, targets).double().sum(-1)


def _lengths(sets: Sequence[Validation]) -> Counts:
    """Lengths `[N]` of the problems: the same in every lane of a pack."""
    lengths = sets[0].lengths
    if lengths is None:
        raise ValueError("loops by length need a task whose problems have lengths")
    return lengths


def lane_columns(
    losses: Values, hits: Counts, predicted: Counts, validation: Validation, *, masked: bool
) -> dict[str, float | None]:
    """The columns of one lane.

    Args:
        losses: summed over the predicted tokens of each sequence `[N]`, in nats.
        hits: predicted tokens that are right `[N]`.
        predicted: predicted tokens `[N]`.
        validation: the set, for strata and floors.
        masked: whether a sequence is a problem with an answer, which can be exactly right.
    """
    row: dict[str, float | None] = {}
    groups: dict[str, npt.NDArray[np.bool_]] = {"": np.ones(len(losses), dtype=bool)}
    groups |= {f"_{name}": members for name, members in validation.strata.items()}
    for suffix, members in groups.items():
        tokens = int(predicted[members].sum())
        if tokens == 0:
            continue  # a stratum without sequences has no value
        loss = finite(float(np.ascontiguousarray(losses[members]).sum()) / tokens)
        floor = validation.floors.get(f"bayes_loss{suffix}")
        row[f"val_loss{suffix}"] = loss
        row[f"val_accuracy{suffix}"] = None if loss is None else int(hits[members].sum()) / tokens
        if masked:
            exact = int((hits == predicted)[members].sum()) / int(members.sum())
            row[f"val_exact{suffix}"] = None if loss is None else exact
        row[f"excess_loss{suffix}"] = None if loss is None or floor is None else loss - floor
    if validation.bytes_per_token is not None and (nats := row["val_loss"]) is not None:
        row["val_bits_per_byte"] = nats / math.log(2) / validation.bytes_per_token
    return row | dict(validation.floors)


def finite(value: float) -> float | None:
    """The value, or None where it is no finite number."""
    return value if math.isfinite(value) else None
