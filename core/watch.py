"""When a criterion ends its stage: a pure function of the check rows of the stage, in the order of their steps.

SCP, the SHIFT Criterion with Patience (Gong, Teng & Liu 2025, arXiv 2510.10089; thresholds and patience are the
paper's, values and reading are ours): at each check count the consecutive ones at which the change of the loss since
the check before is below δ1 and that of the gradient norm below δ2; at the W-th the stage ends. A change is
|x − y|, or |x − y| / |y| where it is relative, y being the value at the check before. The first check of a stage has
none before it, so the earliest end is at the (W + 1)-th. A value that is missing (not finite) is no small change.

Nothing is remembered between checks: whoever has the rows has the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.schedule import Criterion, Watch


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a criterion sees of one state."""

    val_loss: float | None
    """Mean loss of the validation set in nats per token; None where it is not finite, as below."""
    train_loss: float | None
    """Loss in training of the fixed training batch (that of the first update), in nats per token."""
    grad_norm: float | None
    """Norm of the gradient of `train_loss`."""


def ending(criterion: Criterion, start: int, checks: Mapping[int, Check]) -> int | None:
    """The step at which a criterion ends the stage that began at `start`; None where rows are missing to tell.

    Args:
        criterion: with its grid of steps.
        start: of the stage.
        checks: by step, of the states of this stage; others do no harm.
    """
    before: Check | None = None
    small = 0  # consecutive checks at which the change was small
    for step in criterion.grid(start):
        row = checks.get(step)
        if row is None:
            return None
        small = small + 1 if before is not None and _small(criterion, before, row) else 0
        if small == criterion.patience:
            return step
        before = row
    return criterion.latest


def ends_at(watch: Watch, step: int, checks: Mapping[int, Check]) -> bool:
    """Whether a criterion ends its stage at a step, where it has not before: it holds, or the step is its latest.

    Args:
        watch: the criterion, and from where it counts.
        step: any.
        checks: by step; those of the last W + 1 steps of its grid are read, and where one is missing it does not hold.
    """
    criterion = watch.criterion
    if step == criterion.latest:
        return True
    steps = range(step - criterion.patience * criterion.every, step + 1, criterion.every)
    rows = [checks[s] for s in steps if s > watch.start and s in checks]
    return step % criterion.every == 0 and step < criterion.latest and holds(criterion, rows)


def holds(criterion: Criterion, seen: Sequence[Check]) -> bool:
    """Whether the last W changes of the checks seen in a stage, in order, are all small."""
    if len(seen) <= criterion.patience:
        return False
    return all(_small(criterion, a, b) for a, b in pairwise(seen[-criterion.patience - 1 :]))


def _small(criterion: Criterion, before: Check, now: Check) -> bool:
    pairs = []
    if criterion.delta1 is not None:
        loss = (before.val_loss, now.val_loss) if criterion.on == "val" else (before.train_loss, now.train_loss)
        pairs.append((*loss, criterion.delta1))
    if criterion.delta2 is not None:
        pairs.append((before.grad_norm, now.grad_norm, criterion.delta2))
    return all(_below(old, new, delta, relative=criterion.change == "relative") for old, new, delta in pairs)


def _below(old: float | None, new: float | None, delta: float, *, relative: bool) -> bool:
    if old is None or new is None:
        return False
    return abs(new - old) < delta * (abs(old) if relative else 1.0)
