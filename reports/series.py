"""Aggregates over seeds: learning curves, values along an axis, the leaderboard. All of them means with t intervals.

Trials of one seed are averaged first, so n counts seeds everywhere. Only finished trials enter: a curve that some
trials leave early would become the curve of the others. On a log scale means are geometric.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reports import stats
from reports.tables import Setting, Tables, plain
from studies.schemas import metric

MOST_LINES = 8
"""Settings that are drawn one by one; above, one line an arm, the mean over its settings."""


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


def finished(tables: Tables) -> pd.DataFrame:
    """The compared trials that ended ok."""
    rows = tables.compared()
    return rows[rows["status"] == "ok"]


def by_setting(tables: Tables, rows: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
    """Trials by setting; settings in the order of their values, numbers before texts."""
    found: dict[Setting, list[Any]] = defaultdict(list)
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        found[tables.setting(row)].append(index)
    ordered = sorted(found.items(), key=lambda item: [_order(value) for _, value in item[0]])
    return [(setting, rows.loc[indices]) for setting, indices in ordered]


def groups(tables: Tables, arms: Sequence[str]) -> list[tuple[str, Setting, pd.DataFrame]]:
    """(arm, setting, its finished trials) in the order of the arms; one an arm where settings are many."""
    rows = finished(tables)
    of_arm = {arm: rows[rows["arm"] == arm] for arm in arms}
    split = [(arm, *group) for arm in arms for group in by_setting(tables, of_arm[arm])]
    if len(split) <= MOST_LINES:
        return split
    return [(arm, (), of_arm[arm]) for arm in arms if len(of_arm[arm])]


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size before texts."""
    return (0, float(value), "") if isinstance(value, (int, float)) else (1, 0.0, str(value))


def curves(tables: Tables, name: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The curve of a column of metrics or curvature over the steps, a series per arm and setting (or per arm).

    A series covers the steps at which each of its trials has the value. ``flops`` is what training up to there costs
    a trial by itself, where the table says it.
    """
    source = tables.metrics if name in tables.metrics.columns else tables.curvature
    if name not in source.columns:
        return []
    rows = source.loc[source[name].notna()]
    log = metric(name).scale == "log" and bool((rows[name] > 0).all())
    found = []
    for arm, setting, trials in groups(tables, arms):
        seeds = dict(zip(trials["trial_id"], trials["seed"], strict=True))
        own = rows[rows["trial_id"].isin(seeds.keys())]
        if own.empty:
            continue
        points = []
        for step, at in own.groupby("step"):
            if len(at) < len(seeds):
                continue
            by_seed: dict[int, list[float]] = defaultdict(list)
            for trial_id, value in zip(at["trial_id"], at[name], strict=True):
                by_seed[int(seeds[trial_id])].append(float(value))
            flops = float(at["flops_alone"].mean()) if "flops_alone" in at.columns else None
            points.append({"step": int(str(step)), "flops": flops} | summary(by_seed, log=log))
        switches = sorted({int(s) for s in trials["switch_step"].dropna()}) if "switch_step" in trials else []
        head = {"arm": arm, "setting": dict(setting), "switch_steps": switches, "log": log}
        found.append(head | {"n": int(trials["seed"].nunique()), "points": points})
    return found


def paired_curves(tables: Tables, name: str, arms: Sequence[str], reference: str) -> list[dict[str, Any]]:
    """The difference of each arm from a reference over the steps, taken within a seed, then averaged over seeds.

    A trial is paired with the reference's finished trials of its seed and of equal values on the axes that act on both
    (their mean). A seed in which a trial has no partner leaves the series; a step that a trial lacks, too.
    """
    if name not in tables.metrics.columns:
        return []
    wide = tables.metrics.dropna(subset=[name]).pivot_table(index="trial_id", columns="step", values=name)
    wide = wide.reindex(tables.trials["trial_id"].unique())
    against = finished(tables)
    against = against[against["arm"] == reference]
    found = []
    for arm, setting, trials in groups(tables, [a for a in arms if a != reference]):
        shared = [a for a in tables.axes if trials[a].notna().any() and against[a].notna().any()]
        partners: dict[tuple[int, Setting], list[str]] = defaultdict(list)
        for row in against.to_dict("records"):
            partners[int(row["seed"]), tables.setting(row, shared)].append(row["trial_id"])
        pairs: dict[int, list[tuple[str, list[str]]]] = defaultdict(list)
        for row in trials.to_dict("records"):
            partner = partners.get((int(row["seed"]), tables.setting(row, shared)), [])
            pairs[int(row["seed"])].append((row["trial_id"], partner))
        whole = {seed: own for seed, own in pairs.items() if all(partner for _, partner in own)}
        if not whole:
            continue
        differences = {
            seed: [wide.loc[one] - wide.loc[partner].mean(skipna=False) for one, partner in own]
            for seed, own in whole.items()
        }
        steps = pd.concat([row for own in differences.values() for row in own], axis=1).dropna().index
        points = [
            {"step": int(step)}
            | summary({seed: [float(row[step]) for row in own] for seed, own in differences.items()})
            for step in steps
        ]
        switches = sorted({int(s) for s in trials["switch_step"].dropna()}) if "switch_step" in trials else []
        found.append(
            {"arm": arm, "setting": dict(setting), "switch_steps": switches, "n": len(whole), "points": points}
        )
    return found


def floor(tables: Tables, name: str) -> float | None:
    """The Bayes-optimal value, mean over seeds; None where it is not recorded or depends on the setting."""
    if name not in tables.metrics.columns:
        return None
    known = tables.metrics.dropna(subset=[name]).groupby("trial_id")[name].first()
    trials = finished(tables)
    of_seed = trials.assign(floor=trials["trial_id"].map(known)).dropna(subset=["floor"]).groupby("seed")["floor"]
    if len(of_seed) == 0 or bool((of_seed.max() - of_seed.min() > 1e-9).any()):
        return None
    return math.fsum(of_seed.first()) / len(of_seed)


def along_axes(tables: Tables, name: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The final value of a metric along each axis of several values, mean over the other axes.

    Arms on which the axis does not act are given once, as a reference.
    """
    column = f"final_{name}"
    trials = finished(tables)
    if column not in trials.columns:
        return []
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
                references.append({"arm": arm} | _by_seed(rows, column))
            values = sorted(acting[axis].unique().tolist(), key=_order)
            points = [{"x": v} | _by_seed(acting[acting[axis] == v], column) for v in values]
            series += [{"arm": arm, "points": points}] if points else []
        found.append(
            {"axis": axis, "metric": name, "unit": metric(name).unit, "series": series, "references": references}
        )
    return found


def _by_seed(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    return summary({int(str(seed)): values.tolist() for seed, values in rows.groupby("seed")[column]})


def leaderboard(tables: Tables, study: str, arms: Sequence[str], tuned: Iterable[str]) -> list[dict[str, Any]]:
    """One row per arm and setting: final metrics over seeds, counts, size and cost; best mean final loss first."""
    compared = tables.compared()
    finals = [c for c in compared.columns if c.startswith("final_") and _is_metric(c)]
    board = []
    for arm in arms:
        of_arm = compared[compared["arm"] == arm]
        for setting, rows in by_setting(tables, of_arm):
            ok = rows[rows["status"] == "ok"]
            counts = {str(k): int(v) for k, v in sorted(rows["status"].fillna("not run").value_counts().items())}
            board.append(
                {
                    "study": study,
                    "arm": arm,
                    "setting": dict(setting),
                    "tuned": {key: sorted({plain(v) for v in rows[key].dropna()}) for key in tuned if key in rows},
                    "seeds": int(ok["seed"].nunique()),
                    "statuses": counts,
                    "metrics": {c: _by_seed(ok.dropna(subset=[c]), c) for c in finals},
                    "parameters": _common(rows["parameters"]),
                    "flops_alone": _common(rows["flops_alone"]),
                }
            )
    return sorted(board, key=board_order)


def board_order(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Sorts a leaderboard by its mean final loss; rows without one last."""
    mean = row["metrics"].get("final_val_loss", {}).get("mean")
    return (mean is None, mean or 0.0)


def _is_metric(column: str) -> bool:
    return column.removeprefix("final_").startswith(("val_loss", "val_accuracy", "excess_loss"))


def _common(column: pd.Series) -> float | int | None:
    """The value that all rows share, else their mean."""
    values = sorted({plain(v) for v in column.dropna()})
    if len(values) <= 1:
        return values[0] if values else None
    return float(column.dropna().mean())
