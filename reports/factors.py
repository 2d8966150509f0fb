"""Factor effects: which axes of a full grid a final value depends on, alone and two together (`reports.anova`).

Arms of the same grid are analysed together, the arm as a factor; an arm with a grid of its own by itself; each task by
itself. Axes that determine one another (zipped ones) are one factor. On a grid that is not full, effects of one axis
hold those of others, so nothing is computed and the reason is said. A seed of which a cell has no value leaves, as it
leaves a claim's n. Values on a log scale enter as logarithms. p is not corrected for the number of lines: it explores.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import series, stats, tasks, words
from reports.anova import Effect, anova, level_effects
from reports.tables import Setting, Tables
from studies.metrics import metric

METRICS = ("final_val_loss", "final_val_exact")
MOST_CELLS = 100_000
"""Cells times seeds of a grid up to which it is analysed."""

Settings = Sequence[tuple[Setting, pd.DataFrame]]
"""The trials of an arm by setting."""
Values = dict[tuple[str, Setting], dict[int, float]]
"""By arm and setting, the metric by seed."""


def factors(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The section ``factors`` of a study in ``report.json``: an entry a task, group of arms and metric.

    ``terms`` are lines of the analysis, the largest share first and the residual last; ``levels`` the mean of each
    level less that of the grid, within a seed, with its 95 % t interval over seeds (on a log scale a ratio). Where
    ``reason`` is given, both are empty.
    """
    found = []
    for task in tasks.split(tables):
        of_arm = {arm: series.by_setting(task.tables, task.tables.compared(arm)) for arm in arms}
        for group in _groups(of_arm, {arm for arm, _ in tables.matched}):
            for name in METRICS:
                values = _values(of_arm, group, name)
                if values:
                    entry = {"task": task.name, "arms": group} | _entry(values, group, name)
                    found.append(entry | {"sentence": words.factors(entry)})
    return found


def _groups(of_arm: Mapping[str, Settings], controls: Collection[str]) -> list[list[str]]:
    """Arms by their sets of settings, those of one setting left out; controls have settings that others choose."""
    found = defaultdict(list)
    for arm, own in of_arm.items():
        if len(own) > 1 and arm not in controls:
            found[frozenset(setting for setting, _ in own)].append(arm)
    return list(found.values())


def _values(of_arm: Mapping[str, Settings], arms: Sequence[str], name: str) -> Values:
    """The metric of the settings of some arms; none where no trial has it."""
    found: Values = {}
    for arm in arms:
        for setting, rows in of_arm[arm]:
            if name not in rows:
                return {}
            known = zip(rows["status"].tolist(), rows["seed"].tolist(), rows[name].tolist(), strict=True)
            found[arm, setting] = {
                int(seed): float(value) for status, seed, value in known if status == "ok" and math.isfinite(value)
            }
    return found if any(found.values()) else {}


def _entry(values: Values, arms: Sequence[str], name: str) -> dict[str, Any]:
    what = metric(name)
    axes = _factors([dict(setting) for _, setting in values])
    names = [*(["arm"] if len(arms) > 1 else []), *(", ".join(axis) for axis in axes)]
    head: dict[str, Any] = {
        "metric": name.removeprefix("final_"),
        "unit": what.unit,
        "scale": what.scale,
        "factors": names,
        "seeds": 0,
        "dropped_seeds": [],
        "terms": [],
        "levels": [],
    }
    levels: list[list[Any]] = [list(arms)] if len(arms) > 1 else []
    levels += [
        list(dict.fromkeys(tuple((key, dict(setting).get(key)) for key in axis) for _, setting in values))
        for axis in axes
    ]
    cells = list(itertools.product(*levels)) if math.prod(map(len, levels)) <= MOST_CELLS else []
    own = {_cell(arm, setting, axes, many=len(arms) > 1): by_seed for (arm, setting), by_seed in values.items()}
    if set(cells) != own.keys() or len(own) < len(values):
        of = math.prod(map(len, levels))
        return head | {"reason": f"the grid is not full ({len(own):,} of {of:,} settings)"}
    every = sorted({seed for by_seed in own.values() for seed in by_seed})
    seeds = [seed for seed in every if all(seed in by_seed for by_seed in own.values())]
    if len(seeds) < 2:
        known = "one seed alone has" if seeds else "no seed has"
        return head | {"reason": f"{known} a value in every setting, and at least 2 are needed"}
    table = np.array([[own[cell][seed] for seed in seeds] for cell in cells]).reshape([*map(len, levels), len(seeds)])
    if what.scale == "log" and table.min() <= 0:
        return head | {"reason": "a value has no logarithm"}
    table = np.log(table) if what.scale == "log" else table
    terms = [_term(effect, names) for effect in anova(table)]
    return head | {
        "seeds": len(seeds),
        "dropped_seeds": [seed for seed in every if seed not in seeds],
        "terms": [*sorted(terms[:-1], key=lambda term: -(term["omega2"] or 0.0)), terms[-1]],
        "levels": _levels(table, names, levels, log=what.scale == "log"),
        "reason": None,
    }


def _factors(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The axes of several values; those that determine one another together."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    columns = {key: [repr(setting.get(key)) for setting in settings] for key in keys}
    found: list[list[str]] = []
    for key, column in columns.items():
        if len(set(column)) < 2:
            continue
        for joined in found:
            pairs = set(zip(columns[joined[0]], column, strict=True))
            if len(pairs) == len(set(column)) == len(set(columns[joined[0]])):
                joined.append(key)
                break
        else:
            found.append([key])
    return [tuple(joined) for joined in found]


def _cell(arm: str, setting: Setting, axes: Sequence[tuple[str, ...]], *, many: bool) -> tuple[Any, ...]:
    """The place of a setting in the grid: its level of each factor."""
    values = dict(setting)
    return (*([arm] if many else []), *(tuple((key, values.get(key)) for key in axis) for axis in axes))


def _term(effect: Effect, names: Sequence[str]) -> dict[str, Any]:
    """A line of the analysis as JSON, with its name."""
    of = {"higher": "higher interactions", "seeds": "seed", "residual": "residual"}
    return {
        "name": of.get(effect.kind) or " × ".join(names[factor] for factor in effect.factors),
        "kind": effect.kind,
        "factors": [names[factor] for factor in effect.factors],
        "df": effect.df,
        "sum_of_squares": effect.ss,
        "eta2": effect.eta2,
        "omega2": effect.omega2,
        "low": effect.low,
        "high": effect.high,
        "f": effect.f,
        "p": effect.p,
    }


def _levels(
    table: np.ndarray, names: Sequence[str], levels: Sequence[Sequence[Any]], *, log: bool
) -> list[dict[str, Any]]:
    """The mean deviation of each level, by factor."""
    found = []
    for factor, (name, own) in enumerate(zip(names, levels, strict=True)):
        effects = level_effects(table, factor)
        for level, deviations in zip(own, effects, strict=True):
            interval = stats.t_interval(deviations.tolist())
            numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
            if log:
                numbers = {key: None if value is None else math.exp(value) for key, value in numbers.items()}
            shown = level if isinstance(level, str) else words.setting(dict(level))
            found.append({"factor": name, "level": shown, "n": interval.n} | numbers)
    return found
