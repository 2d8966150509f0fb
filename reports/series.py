"""Lines of trials, and what is drawn of them over the steps and along the axes: means over seeds (`reports.means`).

Only finished trials enter: a curve that some trials leave early would become the curve of the others.

An arm may have dozens of settings. Each has its row in the leaderboard of ``report.json``; what is drawn is bounded:
the arm's mean over its settings, and the best of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import methods
from reports.means import of_column, summaries
from reports.tables import Setting, Tables
from studies.metrics import metric

MOST_LINES = 8
"""Settings of all arms that are drawn one by one; above, an arm of three or more has its mean and its best."""
MOST_ROWS = 8
"""Settings of an arm that a table shows one by one; above, its best few and the mean over all."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The trials of one line."""

    arm: str
    setting: Setting
    """Empty where settings are averaged."""
    settings: int
    """How many the line is the mean of, or the best of."""
    best: bool
    """The setting of lowest mean final loss, where not all are drawn."""
    trials: pd.DataFrame

    @property
    def seeds(self) -> dict[str, int]:
        """By trial_id, the seed of each of its trials."""
        pairs = zip(self.trials["trial_id"], self.trials["seed"], strict=True)
        return {str(trial_id): int(seed) for trial_id, seed in pairs}

    @property
    def head(self) -> dict[str, Any]:
        """What its series says of itself; the steps of switches where its trials are of one setting."""
        mean = self.settings > 1 and not self.best
        switching = not mean and "switch_step" in self.trials
        steps: list[float] = self.trials["switch_step"].dropna().tolist() if switching else []
        return {
            "arm": self.arm,
            "setting": dict(self.setting),
            "settings": self.settings,
            "best": self.best,
            "switch_steps": sorted({int(step) for step in steps}),
        }


def finished(tables: Tables) -> pd.DataFrame:
    """The compared trials that ended ok."""
    rows = tables.compared()
    return rows[rows["status"] == "ok"]


def by_setting(tables: Tables, rows: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
    """Trials by setting; settings in the order of their values, numbers before texts."""
    if rows.empty:
        return []
    if not tables.axes:
        return [((), rows)]
    alike = rows.groupby(list(tables.axes), dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(alike, return_index=True)[1]
    heads = [tables.setting(row) for row in rows.iloc[first][list(tables.axes)].to_dict("records")]
    order = sorted(range(len(heads)), key=lambda place: [_order(value) for _, value in heads[place]])
    return [(heads[place], rows[alike == place]) for place in order]


def groups(tables: Tables, arms: Sequence[str]) -> list[Group]:
    """The finished trials by line, in the order of the arms: see `MOST_LINES`."""
    return tables.once(_groups, tuple(arms))


def _groups(tables: Tables, arms: tuple[str, ...]) -> list[Group]:
    rows = finished(tables)
    of_arm = {arm: rows[rows["arm"] == arm] for arm in arms}
    split = {arm: by_setting(tables, own) for arm, own in of_arm.items()}
    each = sum(map(len, split.values())) <= MOST_LINES
    found = []
    for arm, settings in split.items():
        if each or len(settings) <= 2:
            found += [Group(arm=arm, setting=s, settings=1, best=False, trials=own) for s, own in settings]
            continue
        found.append(Group(arm=arm, setting=(), settings=len(settings), best=False, trials=of_arm[arm]))
        known = [(loss, setting, own) for setting, own in settings if (loss := _final_loss(own)) is not None]
        if known:
            _, setting, own = min(known, key=lambda one: one[0])
            found.append(Group(arm=arm, setting=setting, settings=len(settings), best=True, trials=own))
    return found


def last_step(lines: Iterable[Group], steps: Mapping[str, Collection[int]]) -> int | None:
    """The last step that all lines have in common; None without one.

    Of a line count the steps that more than half of its trials have (of those that have any), so that a trial without
    its last measurement does not set all others back: it is left out there and counted.

    Args:
        lines: of a study.
        steps: by trial_id, those that a trial has.
    """
    shared: set[int] | None = None
    for line in lines:
        own = [set(steps[trial_id]) for trial_id in line.seeds if steps.get(trial_id)]
        counts = Counter(step for found in own for step in found)
        most = {step for step, count in counts.items() if 2 * count > len(own)}
        if counts:
            shared = most if shared is None else shared & most
    return max(shared) if shared else None


def _final_loss(rows: pd.DataFrame) -> float | None:
    """Mean over seeds, as a leaderboard has it."""
    if "final_val_loss" not in rows.columns:
        return None
    found: float | None = of_column(rows, "final_val_loss")["mean"]
    return found


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size before texts."""
    return (0, float(value), "") if isinstance(value, (int, float)) else (1, 0.0, str(value))


def curves(tables: Tables, name: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The curve of a column of metrics or curvature over the steps, a series per group (see `groups`).

    A series covers the steps at which each of its trials has the value. ``flops`` is what training up to there costs
    a trial by itself, where the table says it. ``methods``: how what is measured was found.
    """
    wide = tables.wide(name)
    if wide.empty:
        return []
    values, steps = wide.to_numpy(), wide.columns.tolist()
    places = {str(trial_id): place for place, trial_id in enumerate(wide.index)}
    log = metric(name).scale == "log" and bool(np.nanmin(values) > 0)
    flops = tables.metrics.wide("flops_alone") if name in tables.metrics.columns else pd.DataFrame()
    found = []
    for group in groups(tables, arms):
        seeds = group.seeds
        known = [trial_id for trial_id in seeds if trial_id in places]
        own = values[[places[trial_id] for trial_id in known]]
        if not known or bool(np.isnan(own).all()):
            continue
        common = np.flatnonzero(~np.isnan(own).any(axis=0)) if len(known) == len(seeds) else np.empty(0, np.intp)
        averages = summaries(own[:, common], [seeds[trial_id] for trial_id in known], log=log)
        costs = flops.reindex(index=known, columns=wide.columns[common]).mean(axis=0).tolist()
        points = [
            {"step": int(steps[place]), "flops": None if math.isnan(cost) else cost} | mean
            for place, cost, mean in zip(common.tolist(), costs, averages, strict=True)
        ]
        found.append(
            group.head
            | {
                "log": log,
                "n": int(group.trials["seed"].nunique()),
                "methods": _methods(tables, name, known),
                "points": points,
            }
        )
    return found


def _methods(tables: Tables, name: str, trials: Sequence[str]) -> list[str]:
    """How what is measured was found on some trials; nothing of what is evaluated."""
    if name in tables.metrics.columns or name not in tables.curvature.columns:
        return []
    rows = tables.curvature
    return sorted(methods.of_rows(rows[rows["trial_id"].isin(trials) & rows[name].notna()], name))


def floor(tables: Tables, name: str) -> float | None:
    """The Bayes-optimal value, mean over seeds; None where it is not recorded or depends on the setting."""
    wide = tables.metrics.wide(name)
    if wide.empty:
        return None
    there = wide.notna().to_numpy()
    known = pd.Series(wide.to_numpy()[np.arange(len(wide)), there.argmax(axis=1)], index=wide.index)
    trials = finished(tables)
    of_seed = trials.assign(floor=trials["trial_id"].map(known)).dropna(subset=["floor"]).groupby("seed")["floor"]
    if len(of_seed) == 0 or bool((of_seed.max() - of_seed.min() > 1e-9).any()):
        return None
    return math.fsum(of_seed.first()) / len(of_seed)


def along_axes(tables: Tables, name: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The final value of a metric along each axis of several values, mean over the other axes.

    Arms on which the axis does not act are given once, as a reference.
    """
    trials, unit = finished(tables), metric(name).unit
    if f"final_{name}" not in trials.columns:
        return []
    return [{"metric": name, "unit": unit} | entry for entry in along(tables, trials, f"final_{name}", arms)]


def along(tables: Tables, trials: pd.DataFrame, column: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """A column of some trials along each axis on which they have several values: axis, series and references."""
    trials = trials.dropna(subset=[column])
    found = []
    for axis in tables.axes:
        if trials[axis].nunique() < 2:
            continue
        series, references = [], []
        for arm in arms:
            rows = trials[trials["arm"] == arm]
            acting = rows.dropna(subset=[axis])
            if acting.empty and len(rows):
                references.append({"arm": arm} | of_column(rows, column))
            values = sorted(acting[axis].unique().tolist(), key=_order)
            points = [{"x": v} | of_column(acting[acting[axis] == v], column) for v in values]
            series += [{"arm": arm, "points": points}] if points else []
        found.append({"axis": axis, "series": series, "references": references})
    return found
