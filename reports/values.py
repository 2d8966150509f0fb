"""The value of a metric for each compared trial: a number that a table holds, or the reason why there is none.

A metric is a column of `metrics` or `curvature` at a step, at the end or at its best, a cost column of `trials`, or a
registered functional of the history. Only finished trials have values: those of a diverged trial describe survivors,
so they are missing and counted as such.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import pandas as pd

from core.quantities import QUANTITY_OF, point
from reports import methods
from reports.functionals import FUNCTIONALS, History, UnmeasuredError, evaluate, failure
from reports.tables import Tables
from studies.claims import FUNCTIONALS as SIGNATURES
from studies.claims import MetricRef
from studies.metrics import metric


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a claim's metric is: its unit, direction and scale."""

    unit: str
    better: Literal["lower", "higher"] | None
    scale: Literal["linear", "log"]
    exact: bool = False
    """Computed from the configuration alone, without sampling error."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """A metric by trial."""

    known: Mapping[str, float]
    """By trial_id."""
    missing: Mapping[str, str]
    """Reasons by trial_id, for the trials that have no value."""
    methods: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By trial_id, how a value of the curvature was found, or all that it is made of."""

    def main_reason(self) -> str | None:
        """The commonest reason for a missing value, or None."""
        return Counter(self.missing.values()).most_common(1)[0][0] if self.missing else None


def meaning(ref: MetricRef) -> Meaning:
    """Unit, direction and scale of a claim's metric."""
    if ref.source == "functional":
        functional = FUNCTIONALS[ref.name]
        scale: Literal["linear", "log"] = "log" if SIGNATURES[ref.name].log else "linear"
        return Meaning(unit=functional.unit, better=functional.better, scale=scale)
    found = metric(ref.name)
    return Meaning(unit=found.unit, better=found.better, scale=found.scale, exact=found.exact)


def values(tables: Tables, ref: MetricRef) -> Values:
    """The metric of every compared trial."""
    known: dict[str, float] = {}
    missing: dict[str, str] = {}
    by: dict[str, frozenset[str]] = {}
    rows, compared = _histories(tables, ref), tables.compared()
    looked_at = ["trial_id", "status", "steps", *({ref.name, "switch_step", "switch_drop"} & set(compared.columns))]
    for trial in compared[looked_at].to_dict("records"):
        key = str(trial["trial_id"])
        history = rows(key)
        try:
            known[key] = _value(ref, trial, history)
            by[key] = _methods(ref, trial, history)
        except UnmeasuredError as error:
            missing[key] = str(error)
    return Values(known=known, missing=missing, methods=by)


def _histories(tables: Tables, ref: MetricRef) -> Callable[[str], History]:
    """What the metric may look at of a trial, by trial_id; nothing where it looks at the trial alone."""
    if ref.source == "trials":
        return lambda _: History()
    evaluated: dict[str, pd.DataFrame] = {}
    if ref.source in ("metrics", "functional"):
        names = FUNCTIONALS[ref.name].reads if ref.source == "functional" else (ref.name,)
        evaluated = {name: tables.metrics.wide(name) for name in names if name in tables.metrics.columns}
    found: dict[str, dict[str, pd.DataFrame]] = defaultdict(dict)
    for table in {"functional": ("curvature", "curves"), "curvature": ("curvature",)}.get(ref.source, ()):
        frame: pd.DataFrame = getattr(tables, table)
        if ref.source != "functional" and ref.name in frame.columns:
            frame = frame[["trial_id", "step", ref.name, *({"method"} & set(frame.columns))]]
        for key, rows in frame.groupby("trial_id", sort=False):
            found[str(key)][table] = rows

    def history(trial_id: str) -> History:
        empty = pd.Series(dtype=float)
        own: dict[str, pd.Series] = {
            name: cast(pd.Series, wide.loc[trial_id]) if trial_id in wide.index else empty
            for name, wide in evaluated.items()
        }
        return History(metrics=own, **found.get(trial_id, {}))

    return history


def _value(ref: MetricRef, trial: Mapping[Any, Any], history: History) -> float:
    """The metric of one trial from its row and its history.

    Raises:
        UnmeasuredError: with the reason.
    """
    if trial["status"] != "ok":
        raise UnmeasuredError(f"trial {trial['status'] if pd.notna(trial['status']) else 'not run'}")
    if ref.source == "trials":
        return _number(trial.get(ref.name), ref.name, _no_switch(ref.name, trial))
    if ref.source == "functional":
        return evaluate(ref.name, ref.arguments, history)
    frame = history.curvature
    if ref.source == "curvature":
        column = frame.set_index("step")[ref.name] if ref.name in frame.columns else None
    else:
        column = history.metrics.get(ref.name)
    if column is None:
        raise UnmeasuredError(f"{ref.name} was not measured")
    if ref.at == "best":
        return _number(column.min() if meaning(ref).better == "lower" else column.max(), ref.name)
    step = int(trial["steps"]) if ref.at == "final" else ref.at
    value = column.get(step)
    if value is None or pd.isna(value):
        why = _failure(frame, ref.name, step) if ref.source == "curvature" else None
        raise UnmeasuredError(f"{ref.name} was not measured at step {step}{f': {why}' if why else ''}")
    return _number(value, ref.name)


def _methods(ref: MetricRef, trial: Mapping[Any, Any], history: History) -> frozenset[str]:
    """How a value was found: at its step, or over the history where it is made of several steps."""
    name = SIGNATURES[ref.name].quantity if ref.source == "functional" else ref.name
    if ref.source == "curvature" and (of_curve := point(ref.name)) is not None:
        name = QUANTITY_OF[of_curve.curve]
    rows = history.curvature
    if ref.source not in ("curvature", "functional") or name is None or rows.empty:
        return frozenset()
    if ref.source == "curvature" and ref.at != "best":
        rows = rows[rows["step"] == (int(trial["steps"]) if ref.at == "final" else ref.at)]
    return methods.of_rows(rows, name)


def _failure(frame: pd.DataFrame, name: str, step: int | str | None) -> str | None:
    """Why a measurement gave no number."""
    if "method" not in frame.columns:
        return None
    methods = frame.loc[frame["step"] == step, "method"]
    of_curve = point(name)
    names = [name] if of_curve is None else [of_curve.curve, QUANTITY_OF[of_curve.curve]]
    return next((why for method in methods for one in names if (why := failure(method, one))), None)


def _no_switch(name: str, trial: Mapping[Any, Any]) -> str | None:
    """Why a column of the first switch has no value in a trial that ended; None for other columns."""
    if not name.startswith("switch_"):
        return None
    if trial.get("switch_step") is None or pd.isna(trial["switch_step"]):
        return "the trial never switches"
    dropped = name == "switch_recovery_steps" and pd.notna(trial["switch_drop"])
    return "the loss was not back by the end" if dropped else None


def _number(value: Any, name: str, why: str | None = None) -> float:
    if value is None or pd.isna(value) or not math.isfinite(value):
        raise UnmeasuredError(why or f"{name} was not measured")
    return float(value)
