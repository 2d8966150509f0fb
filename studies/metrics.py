"""The metrics: what each number means, which of two values is better, and on which scale they differ.

The scale is log only where values live on orders of magnitude and are positive: a margin between two arms is then a
ratio. Names stand here without `final_`, `best_` and stratum; `metric` takes a column's name with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from core.errors import InputError, Problem
from core.quantities import COLUMNS, point
from core.quantities import Column as Measured
from core.terms import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number means: its unit, which direction is better and on which scale differences are taken."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    scale: Literal["linear", "log"] = "linear"
    doc: str = ""
    exact: bool = False
    """Computed from the configuration alone: it has no sampling error, and one seed says all."""


STRATIFIED = (
    Metric(name="val_loss", unit="nats/token", better="lower", doc="mean loss on the validation set"),
    Metric(name="val_accuracy", unit="fraction", better="higher", doc="share of predicted tokens that are right"),
    Metric(
        name="val_exact",
        unit="fraction",
        better="higher",
        doc="share of problems whose whole answer is right; of tasks with an answer",
    ),
    Metric(
        name="excess_loss",
        unit="nats/token",
        better="lower",
        scale="log",
        doc="validation loss above the Bayes-optimal loss",
    ),
    Metric(name="bayes_loss", unit="nats/token", better="lower", doc="loss of the Bayes-optimal predictor"),
    Metric(
        name="bayes_accuracy", unit="fraction", better="higher", doc="share that the Bayes-optimal predictor gets right"
    ),
)
"""Metrics that exist for the whole validation set and, with a suffix, for each of its strata."""

TRAINING = (
    Metric(name="train_loss", unit="nats/token", better="lower", doc="loss of the last batch; null at step 0"),
    Metric(name="grad_norm", unit="1", better="lower", doc="norm of its gradient before clipping; null at step 0"),
)

TEXT = (
    Metric(
        name="val_bits_per_byte",
        unit="bits/byte",
        better="lower",
        doc="validation loss by the byte of held-out text; null where a task is no text, or tokens do not give it back",
    ),
)
"""Metrics of text tasks alone."""

COST = (
    Metric(
        name="flops_alone",
        unit="FLOP",
        better="lower",
        scale="log",
        doc="what the trial costs by itself",
        exact=True,
    ),
    Metric(name="flops_spent", unit="FLOP", better="lower", scale="log", doc="its share of what was run"),
    Metric(name="alone_s", unit="s", better="lower", scale="log", doc="time of the trial by itself, from calibrations"),
    Metric(name="spent_s", unit="s", better="lower", scale="log", doc="its share of the wall time of its units"),
    Metric(name="switch_step", unit="updates", better="lower", doc="updates before the first switch"),
    Metric(name="switch_drop", unit="nats/token", better="lower", doc="rise of val_loss at the first switch"),
    Metric(
        name="switch_recovery_steps",
        unit="updates",
        better="lower",
        doc="from the first switch to the first evaluation with val_loss at most that before it",
    ),
)
"""What a trial costs, and what its first switch costs it: columns of the view trials alone."""


def _measured(name: str, column: Measured) -> Metric:
    scale: Literal["linear", "log"] = "log" if column.log else "linear"
    return Metric(name=name, unit=column.unit, better=column.better, scale=scale, doc=column.doc)


METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*TRAINING, *STRATIFIED, *TEXT, *COST)} | {
    name: _measured(name, column) for name, column in COLUMNS.items()
}
"""The registry: every metric that a claim or a figure may name, without `final_`, `best_`, stratum and points of curves
(`core.quantities.point`)."""

HISTORY = tuple(m.name for m in (*TRAINING, *STRATIFIED, *TEXT))
"""Metrics of the table metrics that have a `final_` and a `best_` value per trial (as have their strata)."""


def metric(name: str) -> Metric:
    """The registered metric of a column name, whatever its `final_` / `best_` prefix and stratum suffix.

    Raises:
        InputError: for a name that no table has.
    """
    bare = name.removeprefix("final_").removeprefix("best_")
    if bare in METRICS:
        return replace(METRICS[bare], name=name)
    if (of_curve := point(bare)) is not None:  # before the strata, none of which is `loops_…`
        return _measured(name, of_curve.column)
    for base in STRATIFIED:
        if bare.startswith(f"{base.name}_"):
            stratum = bare[len(base.name) + 1 :]
            return replace(base, name=name, doc=f"{base.doc}, on the stratum {stratum}")
    raise InputError([Problem(name, f"unknown metric; {nearest(bare, METRICS)}")])
