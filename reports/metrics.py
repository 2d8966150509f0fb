"""The evaluations of a study, a metric at a time: values by trial and step, read when they are asked for.

A study of 10^4 trials may hold 10^7 evaluations of twenty columns; a report looks at a handful of them, one after the
other. What was read last is kept, since what looks at a loss mostly looks at it more than once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import pandas as pd

_KEPT = 3
"""Metrics kept at once: 80 MB each, of 10^7 evaluations."""


class Metrics:
    """The metrics that some trial has, each as a frame of trials and steps."""

    def __init__(self, columns: Sequence[str], read: Callable[[str], pd.DataFrame]) -> None:
        """Nothing is read yet.

        Args:
            columns: names of metrics that have a value somewhere.
            read: the frame of a metric: trial_id by step, NaN where there is no value.
        """
        self.columns = tuple(columns)
        self._read = read
        self._known: OrderedDict[str, pd.DataFrame] = OrderedDict()

    def wide(self, name: str) -> pd.DataFrame:
        """A metric of the trials that have it: trial_id (rows) by step, both ascending, NaN where there is none."""
        if name not in self._known:
            if name not in self.columns:
                return pd.DataFrame(index=pd.Index([], name="trial_id", dtype=object))
            frame = self._read(name)
            self._known[name] = frame.dropna(how="all").dropna(axis=1, how="all")
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return self._known[name]

    def last_steps(self) -> dict[str, int]:
        """By trial_id, the last step with a validation loss, which each evaluation has."""
        wide = self.wide("val_loss")
        if wide.empty:
            return {}
        there = wide.notna().to_numpy()
        last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
        return dict(zip(map(str, wide.index), wide.columns.to_numpy()[last].tolist(), strict=True))


def pivoted(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """A column of rows (trial_id, step) as `Metrics.wide` gives one; numbers only."""
    known = rows.loc[rows[name].notna(), ["trial_id", "step", name]]
    return known.pivot(index="trial_id", columns="step", values=name).astype(float)
