"""Functionals of a trial's history: numbers that no single row holds, each defined here and nowhere else.

A claim's `metric` may name one, with arguments: ``plateau_step``, ``plateau_step(0.05)``. A functional takes the rows
of one trial in the order of steps and returns a number, or raises `UnmeasuredError` with the reason: no default exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd


class UnmeasuredError(Exception):
    """A quantity that the rows do not give; the message says why, for the report."""


@dataclass(frozen=True, kw_only=True)
class Functional:
    """A registered functional: its meaning, unit, direction and how it is computed."""

    meaning: str
    unit: str
    better: Literal["lower", "higher"] | None
    """None where neither direction is better."""
    compute: Callable[..., float]


def plateau_step(history: pd.DataFrame, share: float = 0.01) -> float:
    """First evaluated step after which the validation loss never improves by more than a share of its total drop.

    With L the validation loss and D = L(first) − min L its total drop, the least evaluated step s before the last one
    with ``L(s) − min_{u ≥ s} L(u) ≤ share · D``. The resolution is the evaluation grid.

    Args:
        history: rows of one trial, sorted by step: step, val_loss.
        share: of the total drop that counts as an improvement, in (0, 1).

    Raises:
        UnmeasuredError: where the loss never fell, or still improves at the last evaluation.
    """
    if not 0 < share < 1:
        raise UnmeasuredError(f"plateau_step takes a share in (0, 1), got {share:g}")
    steps, loss = _column(history, "val_loss")
    drop = loss[0] - min(loss)
    if drop <= 0:
        raise UnmeasuredError("the loss never fell below its first value")
    for index, step in enumerate(steps[:-1]):
        if loss[index] - min(loss[index:]) <= share * drop:
            return step
    raise UnmeasuredError(f"no plateau: the loss still improves at the last evaluation, step {steps[-1]:g}")


def phase_order(history: pd.DataFrame) -> float:
    """By how many steps the high-IC sequences lag behind the low-IC ones: positive where simple patterns come first.

    For each stratum the first evaluated step at which half of its total gain in validation accuracy (highest − first)
    is reached; the value is that step of high_ic − that of low_ic. The resolution is the evaluation grid. Accuracy, as
    the paper reports it, and not loss: while a model grows confident on simple sequences, its loss on complex ones
    rises above the first one, that of a nearly uniform guess, and may stay there while it learns them.

    Args:
        history: rows of one trial, sorted by step: step, val_accuracy_low_ic, val_accuracy_high_ic.

    Raises:
        UnmeasuredError: without these strata, or where a stratum's accuracy never rose.
    """
    return _half_gain(history, "val_accuracy_high_ic") - _half_gain(history, "val_accuracy_low_ic")


def _half_gain(history: pd.DataFrame, column: str) -> float:
    steps, accuracy = _column(history, column)
    gain = max(accuracy) - accuracy[0]
    if gain <= 0:
        raise UnmeasuredError(f"{column} never rose above its first value")
    return next(step for step, value in zip(steps, accuracy, strict=True) if value >= accuracy[0] + gain / 2)


def _column(history: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    if column not in history.columns:
        raise UnmeasuredError(f"the table metrics has no column {column}")
    rows = history[["step", column]].dropna()
    if len(rows) < 2:
        raise UnmeasuredError(f"{column} was evaluated at {len(rows)} steps; at least 2 are needed")
    return rows["step"].astype(float).tolist(), rows[column].astype(float).tolist()


FUNCTIONALS = {
    "plateau_step": Functional(
        meaning="first step after which the loss improves by no more than 1 % of its total drop",
        unit="steps",
        better="lower",
        compute=plateau_step,
    ),
    "phase_order": Functional(
        meaning="steps by which half the gain in accuracy on high-IC sequences comes after that on low-IC ones",
        unit="steps",
        better=None,
        compute=phase_order,
    ),
}
"""By name, as `studies.claims.FUNCTIONALS` lets a study call them."""


def evaluate(name: str, arguments: Sequence[float], history: pd.DataFrame) -> float:
    """The value of a registered functional on the rows of one trial.

    Args:
        name: of the functional.
        arguments: as the claim gives them, checked by the study's grammar.
        history: rows of one trial of the table metrics, sorted by step.

    Raises:
        UnmeasuredError: where it is not computed by this version, or the rows do not give it.
    """
    if name not in FUNCTIONALS:
        raise UnmeasuredError(f"the functional {name} is not measured by this version")
    return float(FUNCTIONALS[name].compute(history, *arguments))
