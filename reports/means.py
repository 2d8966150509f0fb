"""Means over seeds with 95 % t intervals, as everything that a report aggregates has them.

Trials of one seed are averaged first, so n counts seeds everywhere. On a log scale means are geometric.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import stats
from reports.tables import plain


def summary(seeds: Iterable[int], values: Iterable[float], *, log: bool = False) -> dict[str, Any]:
    """Mean, 95 % t interval and n over seeds of the mean of each seed; all None without values.

    Args:
        seeds: of each value.
        values: finite; on a log scale positive.
        log: a geometric mean.
    """
    by_seed: dict[int, list[float]] = defaultdict(list)
    for seed, value in zip(seeds, values, strict=True):
        by_seed[int(seed)].append(float(value))
    if not by_seed:
        return {"mean": None, "low": None, "high": None, "n": 0}
    means = [math.fsum(own) / len(own) for _, own in sorted(by_seed.items())]
    interval = stats.t_interval([math.log(mean) for mean in means] if log else means)
    edges = (interval.mean, interval.low, interval.high)
    mean, low, high = (math.exp(edge) if log and edge is not None else edge for edge in edges)
    return {"mean": mean, "low": low, "high": high, "n": interval.n}


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


def of_column(rows: pd.DataFrame, column: str, *, log: bool = False) -> dict[str, Any]:
    """`summary` of a column of some trials, of those that have it."""
    known = rows[rows[column].notna()]
    return summary(known["seed"].tolist(), known[column].tolist(), log=log)


def common(column: pd.Series) -> float | int | None:
    """The value that all rows share, else their mean."""
    values = sorted({plain(v) for v in column.dropna()})
    if len(values) <= 1:
        return values[0] if values else None
    return float(column.dropna().mean())
