"""Curves of the explorer: columns of metrics and curvature over the steps, by trial or, of many trials, by setting.

A page has room for `MOST_POINTS` numbers. A history keeps at most `MOST_STEPS` of its evaluations, evenly, with the
first and the last. Where even so the trials would leave room for less than `LEAST_COLUMNS` columns, a line is the mean
over the seeds of a setting, at the steps that all its finished trials have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.quantities import COLUMNS
from reports import tasks
from reports.explorer_trials import Source, head, short

MOST_POINTS = 80_000
MOST_STEPS = 40
LEAST_COLUMNS = 4
_COLUMNS = ("val_loss", "val_exact", "val_accuracy", "val_bits_per_byte")
_LAST = ("train_loss", "grad_norm")

Curve = tuple[tuple[int, ...], tuple[float, ...]]
"""Steps, ascending, and values."""


def of_steps(sources: Sequence[Source], trials: pd.DataFrame) -> dict[str, Any]:
    """The part of the section that speaks of steps.

    Returns:
        ``single``: whether a line is a trial. ``lines``: the places of its trials among `trials`, by line. ``grids``:
        lists of steps. ``metrics``: as `reports.explorer_trials.head`, with ``curves``: by line the place of its grid
        and its values, or None.
    """
    single = len(trials) * MOST_STEPS * LEAST_COLUMNS <= MOST_POINTS
    lines = [(i,) for i in range(len(trials))] if single else _settings(sources, trials)
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(trials["study"], trials["trial_id"], strict=True)):
        places[key].append(i)
    grids: dict[tuple[int, ...], int] = {}
    metrics, room = [], MOST_POINTS
    for name in _followed(sources):
        histories = _histories(sources, name, places)
        drawn = [_mean([histories[i] for i in line if i in histories], len(line)) for line in lines]
        room -= sum(len(curve[0]) for curve in drawn if curve is not None)
        if room < 0:
            break
        coded = [
            None if curve is None else [grids.setdefault(curve[0], len(grids)), [short(v) for v in curve[1]]]
            for curve in drawn
        ]
        if any(curve is not None for curve in coded):
            metrics.append(head(name) | {"curves": coded})
    return {
        "single": single,
        "lines": [list(line) for line in lines],
        "grids": [list(grid) for grid in grids],
        "metrics": metrics,
    }


def _settings(sources: Sequence[Source], trials: pd.DataFrame) -> list[tuple[int, ...]]:
    """The finished compared trials of each study, arm and setting."""
    found: dict[Any, list[int]] = defaultdict(list)
    ended = trials[(trials["status"] == "ok") & (trials["role"] == "compare")]
    tables = {source.name: source.tables for source in sources}
    keys = sorted({axis for source in sources for axis in source.tables.axes})
    for place, row in zip(ended.index, ended[["study", "arm", *keys]].to_dict("records"), strict=True):
        found[row["study"], row["arm"], tables[row["study"]].setting(row)].append(int(place))
    return [tuple(places) for places in found.values()]


def _followed(sources: Sequence[Source]) -> list[str]:
    """Columns with a history, in the order of their weight."""
    there = {name for source in sources for name in source.tables.metrics.columns}
    measured = {str(c) for s in sources for c in s.tables.curvature.columns if s.tables.curvature[c].notna().any()}
    strata = sorted(
        (c for c in there if c.startswith("val_loss_") and tasks.length_of(c) is None),
        key=lambda c: (c.endswith("high_ic"), c),
    )
    losses = [_COLUMNS[0], *strata, *_COLUMNS[1:]]
    return [c for c in losses if c in there] + [c for c in COLUMNS if c in measured] + [c for c in _LAST if c in there]


def _histories(
    sources: Sequence[Source], name: str, places: Mapping[tuple[str, str], Sequence[int]]
) -> dict[int, Curve]:
    """By place of a trial, its history of a column."""
    found: dict[int, Curve] = {}
    for source in sources:
        wide = source.tables.wide(name)
        steps, values = wide.columns.to_numpy(), wide.to_numpy()
        for key, own in zip(wide.index, values, strict=True):
            kept = _kept(np.flatnonzero(~np.isnan(own)))
            curve = (tuple(steps[kept].tolist()), tuple(own[kept].tolist()))
            for place in places.get((source.name, str(key)), ()):
                found[place] = curve
    return found


def _kept(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of the places of a history, those that a thinned one has: evenly, with the first and the last."""
    if len(places) <= MOST_STEPS:
        return places
    most, last = MOST_STEPS - 1, len(places) - 1
    cells = np.arange(len(places)) * most // last
    return places[np.flatnonzero(np.diff(cells, prepend=-1))]


def _mean(curves: Sequence[Curve], trials: int) -> Curve | None:
    """The mean of a line's curves at the steps that all its trials have; None without a curve of each."""
    if not curves or len(curves) < trials:
        return None
    if len(curves) == 1:
        return curves[0]
    steps = sorted(set.intersection(*(set(steps) for steps, _ in curves)))
    values = [dict(zip(*curve, strict=True)) for curve in curves]
    return (tuple(steps), tuple(float(np.mean([own[step] for own in values])) for step in steps)) if steps else None
