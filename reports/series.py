"""Aggregates over seeds: learning curves, values along an axis, the leaderboard. All of them means with t intervals.

Trials of one seed are averaged first, so n counts seeds everywhere. Only finished trials enter: a curve that some
trials leave early would become the curve of the others. On a log scale means are geometric.

An arm may have dozens of settings. Each has its row in the leaderboard of ``report.json``; what is drawn is bounded:
the arm's mean over its settings, and the best of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import methods, stats, tasks
from reports.tables import Setting, Tables, plain
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


def summary(by_seed: Mapping[int, Sequence[float]], *, log: bool = False) -> dict[str, Any]:
    """Mean, 95 % t interval and n over seeds of the mean of each seed; all None without values."""
    seeds = [math.fsum(values) / len(values) for _, values in sorted(by_seed.items()) if values]
    if not seeds:
        return {"mean": None, "low": None, "high": None, "n": 0}
    if log:
        logs = stats.t_interval([math.log(v) for v in seeds])
        low, high = (None if v is None else math.exp(v) for v in (logs.low, logs.high))
        return {"mean": math.exp(logs.mean), "low": low, "high": high, "n": logs.n}
    interval = stats.t_interval(seeds)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def summaries(values: NDArray[np.float64], seeds: Sequence[int], *, log: bool = False) -> list[dict[str, Any]]:
    """`summary` of many quantities at once.

    Args:
        values: [trials, quantities], finite; on a log scale positive.
        seeds: [trials].
        log: geometric means.
    """
    if not values.size:
        return []
    order = np.argsort(seeds, kind="stable")
    starts, counts = np.unique(np.asarray(seeds)[order], return_index=True, return_counts=True)[1:]
    means = np.add.reduceat(values[order], starts, axis=0) / counts[:, None]
    mean, half = stats.t_intervals(np.log(means) if log else means)
    edges = [mean] if half is None else [mean, mean - half, mean + half]
    shown = [(np.exp(edge) if log else edge).tolist() for edge in edges]
    shown += [[None] * len(mean)] * (3 - len(shown))
    return [{"mean": m, "low": a, "high": b, "n": len(means)} for m, a, b in zip(*shown, strict=True)]


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


def _final_loss(rows: pd.DataFrame) -> float | None:
    """Mean over seeds, as a leaderboard has it."""
    if "final_val_loss" not in rows.columns:
        return None
    found: float | None = by_seed(rows, "final_val_loss")["mean"]
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
        seeds = dict(zip(group.trials["trial_id"], group.trials["seed"], strict=True))
        known = [trial_id for trial_id in seeds if trial_id in places]
        own = values[[places[trial_id] for trial_id in known]]
        if not known or bool(np.isnan(own).all()):
            continue
        common = np.flatnonzero(~np.isnan(own).any(axis=0)) if len(known) == len(seeds) else np.empty(0, np.intp)
        means = summaries(own[:, common], [int(seeds[trial_id]) for trial_id in known], log=log)
        costs = flops.reindex(index=known, columns=wide.columns[common]).mean(axis=0).tolist()
        points = [
            {"step": int(steps[place]), "flops": None if math.isnan(cost) else cost} | mean
            for place, cost, mean in zip(common.tolist(), costs, means, strict=True)
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
                references.append({"arm": arm} | by_seed(rows, column))
            values = sorted(acting[axis].unique().tolist(), key=_order)
            points = [{"x": v} | by_seed(acting[acting[axis] == v], column) for v in values]
            series += [{"arm": arm, "points": points}] if points else []
        found.append({"axis": axis, "series": series, "references": references})
    return found


def by_seed(rows: pd.DataFrame, column: str, *, log: bool = False) -> dict[str, Any]:
    """`summary` of a column of some trials, of those that have it."""
    found: dict[int, list[float]] = defaultdict(list)
    for seed, value in zip(rows["seed"].tolist(), rows[column].tolist(), strict=True):
        if not pd.isna(value):
            found[int(seed)].append(float(value))
    return summary(found, log=log)


def leaderboard(tables: Tables, study: str, arms: Sequence[str], tuned: Iterable[str]) -> list[dict[str, Any]]:
    """One row per task, arm and setting: final metrics over seeds, counts, size and cost.

    Task by task, since losses on different tasks do not compare; in each the best mean final loss first.
    """
    tuned = tuple(tuned)
    board = [
        {"study": study, "task": task.name, "arm": arm, "setting": dict(setting)} | _standing(rows, tuned)
        for task in tasks.split(tables)
        for arm in arms
        for setting, rows in by_setting(tables, task.tables.compared(arm))
    ]
    return sorted(board, key=board_order)


def arm_means(tables: Tables, study: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as of `leaderboard`, the mean over all settings of an arm, for arms of more than `MOST_ROWS` in a task."""
    found = []
    for task in tasks.split(tables):
        for arm in arms:
            rows = task.tables.compared(arm)
            settings = len(by_setting(tables, rows))
            if settings > MOST_ROWS:
                head = {"study": study, "task": task.name, "arm": arm, "setting": {}, "settings": settings}
                found.append(head | _standing(rows, ()))
    return found


def _standing(rows: pd.DataFrame, tuned: Iterable[str]) -> dict[str, Any]:
    """What a row of the leaderboard says of some trials."""
    ok = rows[rows["status"] == "ok"]
    finals = [c for c in rows.columns if c.startswith("final_") and is_metric(c)]
    return {
        "tuned": {key: sorted({plain(v) for v in rows[key].dropna()}) for key in tuned if key in rows},
        "seeds": int(ok["seed"].nunique()),
        "statuses": {str(k): int(v) for k, v in sorted(rows["status"].fillna("not run").value_counts().items())},
        "metrics": {c: by_seed(ok, c) for c in finals},
        "parameters": common(rows["parameters"]),
        "flops_alone": common(rows["flops_alone"]),
    }


def board_order(row: Mapping[str, Any]) -> tuple[str, bool, float]:
    """Sorts a leaderboard by task and in each by mean final loss; rows without one last."""
    mean = row["metrics"].get("final_val_loss", {}).get("mean")
    return (row["task"], mean is None, mean or 0.0)


def is_metric(column: str) -> bool:
    """Whether a leaderboard has a column; single lengths stand in a panel of their own."""
    shown = ("val_loss", "val_accuracy", "val_exact", "val_bits_per_byte", "excess_loss")
    return column.removeprefix("final_").startswith(shown) and tasks.length_of(column) is None


def common(column: pd.Series) -> float | int | None:
    """The value that all rows share, else their mean."""
    values = sorted({plain(v) for v in column.dropna()})
    if len(values) <= 1:
        return values[0] if values else None
    return float(column.dropna().mean())
