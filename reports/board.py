"""The leaderboard: its rows, and which of them, which columns and how many digits pages show.

``report.json`` has every setting and every final metric; what is shown of them is decided here, once for all forms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reports import lengths, words
from reports.means import common, of_column
from reports.series import MOST_ROWS, by_setting
from reports.tables import Tables, plain
from reports.tasks import length_of, split

MOST_BEST = 3
"""Settings of an arm that a table shows where there are more than `series.MOST_ROWS`."""
_SHOWN = ("val_loss", "val_accuracy", "val_exact", "val_bits_per_byte")
"""Metrics of a leaderboard's columns, with their strata."""


def leaderboard(tables: Tables, study: str, arms: Sequence[str], tuned: Iterable[str]) -> list[dict[str, Any]]:
    """One row per task, arm and setting: final metrics over seeds, counts, size and cost.

    Task by task, since losses on different tasks do not compare; in each the best mean final loss first.
    """
    tuned = tuple(tuned)
    board = [
        {"study": study, "task": task.name, "arm": arm, "setting": dict(setting)} | _standing(rows, tuned)
        for task in split(tables)
        for arm in arms
        for setting, rows in by_setting(tables, task.tables.compared(arm))
    ]
    return sorted(board, key=board_order)


def arm_means(tables: Tables, study: str, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as of `leaderboard`, the mean over all settings of an arm, for arms of more than `MOST_ROWS` in a task."""
    found = []
    for task in split(tables):
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
        "metrics": {c: of_column(ok, c) for c in finals},
        "parameters": common(rows["parameters"]),
        "flops_alone": common(rows["flops_alone"]),
    }


def board_order(row: Mapping[str, Any]) -> tuple[str, bool, float]:
    """Sorts a leaderboard by task and in each by mean final loss; rows without one last."""
    mean = row["metrics"].get("final_val_loss", {}).get("mean")
    return (row["task"], mean is None, mean or 0.0)


def is_metric(column: str) -> bool:
    """Whether a leaderboard has a column; single lengths stand in a panel of their own."""
    return column.removeprefix("final_").startswith((*_SHOWN, "excess_loss")) and length_of(column) is None


# --- as pages show it ------------------------------------------------------------------------------------------------


def short(board: Sequence[Mapping[str, Any]], means: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is shown of a leaderboard: all settings of an arm, or its best few and the mean over all.

    Args:
        board: of ``report.json``, the best first.
        means: the rows of arms with too many settings.

    Returns:
        ``rows``, each with its ``rank`` among all settings of its task (None for a mean), and ``rest``: (arm, with its
        study where there are several; settings that are left out) for each such arm; in ``tasks`` the same by ``task``.
    """
    tasks = [
        {"task": task} | _short([row for row in board if row["task"] == task], [r for r in means if r["task"] == task])
        for task in dict.fromkeys(row["task"] for row in board)
    ]
    left: Counter[str] = Counter()
    for name, count in (one for task in tasks for one in task["rest"]):
        left[name] += count
    return {"rows": [row for task in tasks for row in task["rows"]], "rest": list(left.items()), "tasks": tasks}


def _short(board: Sequence[Mapping[str, Any]], means: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`short` of one task."""
    many = {(row["study"], row["arm"]): int(row["settings"]) for row in means}
    shown: list[dict[str, Any]] = []
    seen: dict[tuple[str, str], int] = {}
    for rank, row in enumerate(board, 1):
        arm = row["study"], row["arm"]
        seen[arm] = seen.get(arm, 0) + 1
        if arm not in many or seen[arm] <= MOST_BEST:
            shown.append({**row, "rank": rank, "settings": 1})
    shown += [{**row, "rank": None} for row in means]
    several = len({row["study"] for row in board}) > 1
    names = {key: f"{key[0]} {key[1]}" if several else key[1] for key in many}
    rest = [(names[key], count - MOST_BEST) for key, count in many.items()]
    return {"rows": sorted(shown, key=board_order), "rest": rest}


def columns(board: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that a leaderboard shows and some row has: whole before strata, simple before complex.

    Of ranges of lengths exact match alone; their table has the others.
    """
    names = dict.fromkeys(name for row in board for name, found in row["metrics"].items() if found["mean"] is not None)
    shown = [
        (_SHOWN.index(of), name.count("_"), not name.endswith(("low_ic", "trained")), name)
        for name in names
        if (of := base(name)) is not None and (of == "val_exact" or not name.endswith(lengths.RANGES))
    ]
    return [name for *_, name in sorted(shown)]


def base(name: str) -> str | None:
    """The metric of a column, without its stratum; None where a leaderboard does not show it."""
    return next((shown for shown in _SHOWN if name.removeprefix("final_").startswith(shown)), None)


def head(name: str) -> tuple[str, str]:
    """A column's head in two lines: ``val_loss``, ``low_ic``."""
    bare, of = name.removeprefix("final_"), base(name) or ""
    if of == "val_bits_per_byte":
        return "val_bits", "per_byte"
    return of, bare.removeprefix(of).removeprefix("_")


def decimals(board: Sequence[Mapping[str, Any]], name: str) -> int:
    """Decimals of a column: two digits of its narrowest interval, at least 3 and at most 6, or 4 of a share near 1."""
    summaries = [row["metrics"][name] for row in board if name in row["metrics"]]
    halves = [(s["high"] - s["low"]) / 2 for s in summaries if s["low"] is not None and s["high"] > s["low"]]
    most = 4 if name.startswith(("final_val_accuracy", "final_val_exact")) else 6
    return min(most, max(3, 1 - math.floor(math.log10(min(halves))))) if halves else 4


def cell(summary: Mapping[str, Any] | None, decimals: int) -> tuple[str, str]:
    """A mean and its interval; – where there is none."""
    if summary is None or summary["mean"] is None:
        return "–", ""
    if summary["low"] is None:
        return words.fixed(summary["mean"], decimals), ""
    low, high = words.fixed(summary["low"], decimals), words.fixed(summary["high"], decimals)
    return words.fixed(summary["mean"], decimals), f"[{low}, {high}]"
