"""The trials of the explorer, in columns: who they are, their settings, and the numbers of their results.

Numbers have `DIGITS` digits, more than a screen shows, and metrics come in the order of their weight until
`MOST_VALUES` is spent: that bounds the page whatever a study measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from core.quantities import COLUMNS
from reports import tasks, words
from reports.tables import SECTIONS, Tables, plain
from studies.metrics import metric

DIGITS = 5
"""Significant digits of a number."""
MOST_VALUES = 60_000
"""Numbers of all metrics of all trials together."""
QUANTILES = 60
"""Degrees of freedom whose t quantile the page knows; above, it takes the last, which is 2 % too wide at most."""
_BASES = ("val_loss", "val_exact", "val_accuracy", "val_bits_per_byte", "excess_loss")
_COSTS = ("flops_alone", "parameters", "switch_step", "switch_drop", "switch_recovery_steps")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A study of the report."""

    name: str
    arms: Sequence[str]
    tables: Tables


def trials_of(sources: Sequence[Source]) -> pd.DataFrame:
    """The trials of all studies in the order of study, arm, seed and id, each with its last measurements."""
    found = []
    for source in sources:
        rows = source.tables.trials
        rows = rows.assign(study=source.name, status=rows["status"].fillna("not run"))
        place = {arm: i for i, arm in enumerate(source.arms)}
        rows = rows.assign(_arm=rows["arm"].map(place)).sort_values(["_arm", "seed", "trial_id"], kind="stable")
        found.append(rows.merge(_last_measured(source.tables), how="left", left_on="trial_id", right_index=True))
    return pd.concat(found, ignore_index=True)


def of_trials(sources: Sequence[Source], trials: pd.DataFrame) -> dict[str, Any]:
    """The part of the section that speaks of trials: who they are, their settings and their values, in columns."""
    arms = list(dict.fromkeys(arm for source in sources for arm in source.arms))
    keys = sorted(c for c in map(str, trials.columns) if c.startswith(SECTIONS) and trials[c].nunique() > 1)
    return {
        "arms": arms,
        "trials": {
            "id": trials["trial_id"].tolist(),
            "arm": [arms.index(arm) for arm in trials["arm"]],
            "seed": [int(seed) for seed in trials["seed"]],
        },
        "facts": [{"name": name} | _coded(trials[name]) for name in ("study", "status", "role")],
        "keys": [{"name": key} | _coded(trials[key]) for key in keys],
        "metrics": list(_metrics(trials)),
        "quantiles": [short(float(stats.t.ppf(0.975, n))) for n in range(1, QUANTILES + 1)],
    }


def head(name: str) -> dict[str, Any]:
    """What a choice shows of a column, and how its axis is drawn."""
    if name == "parameters":
        return {"name": name, "label": name, "unit": "", "log": False, "better": "lower"}
    found = metric(name)
    unit = "" if found.unit == "1" else found.unit
    return {
        "name": name, "label": words.column(name), "unit": unit, "log": found.scale == "log", "better": found.better
    }  # fmt: skip


def short(value: float) -> float | int | None:
    """A number with `DIGITS` digits, as few characters as JSON allows; None for what is no number."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS - 1}e}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _last_measured(tables: Tables) -> pd.DataFrame:
    """By trial, the last value of each quantity of the curvature that some trial has."""
    rows = tables.curvature
    names = [name for name in COLUMNS if name in rows.columns and rows[name].notna().any()]
    return rows.groupby("trial_id")[names].last()


def _metrics(trials: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The columns of a trial that are numbers of its result, as many as the budget allows."""
    room = MOST_VALUES
    for name in (*_finals(trials), *(c for c in (*_COSTS, *COLUMNS) if c in trials.columns)):
        values = pd.to_numeric(trials[name], errors="coerce")
        if not values.notna().any():
            continue
        room -= len(values)
        if room < 0:
            return
        yield head(name) | {"values": [short(value) for value in values.tolist()]}


def _finals(trials: pd.DataFrame) -> list[str]:
    """Final values: losses before what is right, whole before strata; single lengths have a panel of their own."""
    found = []
    for name in map(str, trials.columns):
        bare = name.removeprefix("final_")
        base = next((i for i, one in enumerate(_BASES) if bare.startswith(one)), None)
        if bare != name and base is not None and tasks.length_of(name) is None:
            found.append((bare != _BASES[base], base, name.endswith("high_ic"), name))
    return [name for *_, name in sorted(found)]


def _coded(column: pd.Series) -> dict[str, Any]:
    """A column of few values: the values in their order, and by trial the place of its own; −1 where it has none."""
    values = sorted({plain(v) for v in column.dropna()}, key=lambda v: (isinstance(v, str), v))
    place = {value: i for i, value in enumerate(values)}
    return {"values": values, "of": [place[plain(v)] if pd.notna(v) else -1 for v in column]}
