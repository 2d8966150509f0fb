"""Functionals of a trial's history: numbers that no single row holds, each defined here and nowhere else.

A claim's `metric` may name one, with arguments: ``plateau_step``, ``force_at(0.01)``. A functional takes the rows of
one trial in the order of steps and returns a number, or raises `UnmeasuredError` with the reason: no default exists.
What it means, its arguments, whether it is compared as a ratio, which quantity it reads and at how many measurements
stands in `studies.claims.FUNCTIONALS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from core.quantities import CURVES, THRESHOLDS
from reports import phases, words
from studies.claims import FUNCTIONALS as SIGNATURES


class UnmeasuredError(Exception):
    """A quantity that the rows do not give; the message says why, for the report."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What functionals look at of one trial, in the order of steps."""

    metrics: Mapping[str, pd.Series] = field(default_factory=dict)
    """By column of metrics, its values over the steps; NaN where there is none."""
    curvature: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True, kw_only=True)
class Functional:
    """A registered functional: its unit, direction and how it is computed."""

    unit: str
    better: Literal["lower", "higher"] | None
    """None where neither direction is better."""
    compute: Callable[..., float]
    reads: tuple[str, ...] = ()
    """The columns of metrics that it looks at; the others look at what is measured."""


def plateau_step(history: History, share: float = 0.01) -> float:
    """First evaluated step after which the validation loss never improves by more than a share of its total drop.

    With L the validation loss and D = L(first) − min L its total drop, the least evaluated step s before the last one
    with ``L(s) − min_{u ≥ s} L(u) ≤ share · D``. The resolution is the evaluation grid.

    Args:
        history: of one trial; metrics with val_loss.
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
    to_come = list(itertools.accumulate(reversed(loss), min))[::-1]
    for step, now, least in zip(steps[:-1], loss, to_come, strict=False):
        if now - least <= share * drop:
            return step
    raise UnmeasuredError(f"no plateau: the loss still improves at the last evaluation, step {steps[-1]:g}")


def phase_order(history: History) -> float:
    """By how many steps the high-IC sequences lag behind the low-IC ones: positive where simple patterns come first.

    For each stratum the first evaluated step at which half of its total gain in validation accuracy (highest − first)
    is reached; the value is that step of high_ic − that of low_ic. The resolution is the evaluation grid. Accuracy, as
    the paper reports it, and not loss: while a model grows confident on simple sequences, its loss on complex ones
    rises above the first one, that of a nearly uniform guess, and may stay there while it learns them.

    Args:
        history: of one trial; metrics with val_accuracy_low_ic and val_accuracy_high_ic.

    Raises:
        UnmeasuredError: without these strata, or where a stratum's accuracy never rose.
    """
    return _half_gain(history, "val_accuracy_high_ic") - _half_gain(history, "val_accuracy_low_ic")


def _half_gain(history: History, column: str) -> float:
    steps, accuracy = _column(history, column)
    gain = max(accuracy) - accuracy[0]
    if gain <= 0:
        raise UnmeasuredError(f"{column} never rose above its first value")
    return next(step for step, value in zip(steps, accuracy, strict=True) if value >= accuracy[0] + gain / 2)


def _column(history: History, column: str) -> tuple[list[float], list[float]]:
    if column not in history.metrics:
        raise UnmeasuredError(f"the table metrics has no column {column}")
    known = history.metrics[column].dropna()
    if len(known) < 2:
        raise UnmeasuredError(f"{column} was evaluated at {words.plural(len(known), 'step')}; at least 2 are needed")
    return known.index.astype(float).tolist(), known.astype(float).tolist()


# --- curves at the end -----------------------------------------------------------------------------------------------


def nearest_threshold(value: float) -> float:
    """The threshold of the grid of curves that lies nearest on a log scale.

    Raises:
        UnmeasuredError: outside the grid.
    """
    low, high = THRESHOLDS[0], THRESHOLDS[-1]
    if not low <= value <= high:
        raise UnmeasuredError(f"thresholds of curves lie in {low:g} … {high:g}, got {value:g}")
    return min(THRESHOLDS, key=lambda threshold: abs(math.log(threshold / value)))


def at_last(history: History, curve: str, x: float) -> float:
    """A curve at x, at the last step at which anything was measured on this trial.

    Args:
        history: of one trial; curvature and curves.
        curve: quantity of the table curves.
        x: a threshold of the grid, or a rank.

    Raises:
        UnmeasuredError: where the curve was not measured at that step, with the reason that its method gives, or has
            no value at x. An earlier measurement never stands in.
    """
    if history.curvature.empty or history.curves.empty:
        raise UnmeasuredError(f"{curve} was not measured")
    end = history.curvature.iloc[-1]
    rows = history.curves[(history.curves["quantity"] == curve) & (history.curves["step"] == end["step"])]
    if rows.empty:
        why = failure(end.get("method"), curve)
        raise UnmeasuredError(f"{curve} was not measured at step {end['step']:g}{f': {why}' if why else ''}")
    near = rows[(rows["x"] - x).abs() <= 1e-9 * abs(x)]
    if near.empty:
        raise UnmeasuredError(f"{curve} has no value at {CURVES[curve].x.partition(' ')[0]} = {x:.3g}")
    return float(near["y"].iloc[0])


def _of_curve(name: str, place: Callable[[float], float] = float) -> Callable[[History, float], float]:
    """A functional that is the curve it reads at its argument, at the last measured step; see `at_last`."""
    quantity = SIGNATURES[name].quantity
    if quantity is None:
        raise TypeError(f"the functional {name} reads no quantity")
    return lambda history, x: at_last(history, quantity, place(x))


def failure(method: Mapping[str, str] | Any, name: str) -> str | None:
    """Why a measurement gave no number, from the column ``method`` of its row; None where it does not say so."""
    text = method.get(name, "") if isinstance(method, Mapping) else ""
    return text if " failed: " in text else None


# --- the entropy over training ---------------------------------------------------------------------------------------


def entropy_dip(history: History) -> float:
    """How far the matrix entropy falls below its first value; see `reports.phases.dip`."""
    return phases.dip(_entropy(history, SIGNATURES["entropy_dip"].measurements)["entropy"].tolist())


def entropy_rise(history: History) -> float:
    """How far the matrix entropy ends above its least value; see `reports.phases.rise`."""
    return phases.rise(_entropy(history, SIGNATURES["entropy_rise"].measurements)["entropy"].tolist())


def phases_in_order(history: History) -> float:
    """1 where Collapse, Diversification and Stabilization follow one another, else 0; see `reports.phases`.

    Raises:
        UnmeasuredError: where the entropy was measured so seldom that they have no room.
    """
    _entropy(history, SIGNATURES["phases_in_order"].measurements)
    return float(phases.in_order(phases_of(history)))


def phases_of(history: History) -> list[phases.Stretch]:
    """The phases of a trial at the steps at which its entropy was measured.

    Raises:
        UnmeasuredError: where it was at fewer than three.
    """
    rows = _entropy(history, 3)
    return phases.stretches(
        rows["entropy"].tolist(), lambda_max=_known(rows, "lambda_max"), information=_known(rows, "mutual_information")
    )


def _entropy(history: History, least: int) -> pd.DataFrame:
    if "entropy" not in history.curvature.columns:
        raise UnmeasuredError("entropy was not measured")
    rows = history.curvature.dropna(subset=["entropy"])
    if len(rows) < least:
        raise UnmeasuredError(f"entropy was measured at {words.plural(len(rows), 'step')}; at least {least} are needed")
    return rows


def _known(rows: pd.DataFrame, column: str) -> list[float | None]:
    if column not in rows.columns:
        return []
    return [None if pd.isna(value) else float(value) for value in rows[column]]


# --- all of them -----------------------------------------------------------------------------------------------------

FUNCTIONALS = {
    "plateau_step": Functional(unit="steps", better="lower", compute=plateau_step, reads=("val_loss",)),
    "phase_order": Functional(
        unit="steps", better=None, compute=phase_order, reads=("val_accuracy_low_ic", "val_accuracy_high_ic")
    ),
    "force_at": Functional(unit="token/nats", better="higher", compute=_of_curve("force_at", nearest_threshold)),
    "below_at": Functional(unit="eigenvalues", better=None, compute=_of_curve("below_at", nearest_threshold)),
    "kappa_at": Functional(unit="1", better=None, compute=_of_curve("kappa_at", nearest_threshold)),
    "river_share_at": Functional(unit="fraction", better=None, compute=_of_curve("river_share_at", nearest_threshold)),
    "hopping_at": Functional(unit="fraction", better=None, compute=_of_curve("hopping_at")),
    "entropy_dip": Functional(unit="nats", better=None, compute=entropy_dip),
    "entropy_rise": Functional(unit="nats", better=None, compute=entropy_rise),
    "phases_in_order": Functional(unit="share of trials", better=None, compute=phases_in_order),
}
"""By name, all that `studies.claims.FUNCTIONALS` lets a study call, which says what they are."""


def evaluate(name: str, arguments: Sequence[float], history: History) -> float:
    """The value of a registered functional on the rows of one trial.

    Args:
        name: of the functional.
        arguments: as the claim gives them, checked by the study's grammar.
        history: rows of one trial.

    Raises:
        UnmeasuredError: where the rows do not give it.
    """
    return float(FUNCTIONALS[name].compute(history, *arguments))
