"""The rows a report is made of, as pandas frames, and how they fall into arms, settings and seeds.

A *setting* is the values of the axes that act on a trial, without nuisance axes and search parameters: those are
tuned inside each arm, so they are no part of what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import pandas as pd

from reports.metrics import Metrics, pivoted
from studies.expand import Trial
from studies.where import Expression

Setting = tuple[tuple[str, Any], ...]
"""Axis values of a trial as sorted (dotted key, value) pairs."""

Made = TypeVar("Made")

SECTIONS = ("task.", "model.", "train.", "schedule.")


class Results(Protocol):
    """What `studies.load` gives: the public views of one study as frames."""

    @property
    def wanted(self) -> Sequence[Trial]:
        """The study's trials, as far as recorded rows decide them."""
        ...

    @property
    def confirmations(self) -> Mapping[str, Mapping[tuple[str, str], Sequence[int]]]:
        """By metric and setting (arm, trial_id under seed 0), the fresh seeds on which it was run again."""
        ...

    def trials(self) -> pd.DataFrame:
        """One row per (study, arm, trial_id)."""
        ...

    def evaluated(self) -> list[str]:
        """The columns of the view metrics in which some trial has a value."""
        ...

    def wide(self, metric: str) -> pd.DataFrame:
        """One of them by trial_id (rows) and step (columns), NaN where there is no value."""
        ...

    def curvature(self) -> pd.DataFrame:
        """One row per (trial_id, step)."""
        ...

    def curves(self) -> pd.DataFrame:
        """One row per (trial_id, step, quantity, x), with y."""
        ...

    def spectra(self) -> pd.DataFrame:
        """One row per (trial_id, step, kind), with eigenvalues and weights."""
        ...

    def surfaces(self) -> pd.DataFrame:
        """One row per (trial_id, step, kind), with x, y and z."""
        ...

    def events(self) -> pd.DataFrame:
        """Rows of trial_id, step, kind, detail."""
        ...

    def importances(self) -> pd.DataFrame:
        """One row per (arm, search, metric, evaluator, batch, key)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The views of one study, read once; rows in the order of their keys."""

    trials: pd.DataFrame
    metrics: Metrics
    curvature: pd.DataFrame
    curves: pd.DataFrame
    spectra: pd.DataFrame
    surfaces: pd.DataFrame
    events: pd.DataFrame
    axes: tuple[str, ...]
    """Columns of `trials` that hold the compared axes, sorted."""
    matched: Mapping[tuple[str, str], tuple[Setting, ...]] = field(default_factory=dict)
    """By arm and trial_id of a control (`studies.match`), the settings that it stands for."""
    _made: dict[tuple[Hashable, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By function and arguments, what was made of these very tables; see `once`."""

    @classmethod
    def read(cls, results: Results, *, tuned: Collection[str] = ()) -> Tables:
        """All views of a study.

        Args:
            results: as `studies.load` gives them.
            tuned: dotted keys of nuisance axes and search parameters.
        """
        trials = _sorted(results.trials(), ["arm", "seed", "trial_id"])
        axes = sorted(c for c in trials.columns if c.startswith(SECTIONS) and c not in tuned)
        return cls(
            trials=trials,
            metrics=Metrics(results.evaluated(), results.wide),
            curvature=_sorted(results.curvature(), ["trial_id", "step"]),
            curves=_sorted(results.curves(), ["trial_id", "step", "quantity", "x"]),
            spectra=_sorted(results.spectra(), ["trial_id", "step", "kind"]),
            surfaces=_sorted(results.surfaces(), ["trial_id", "step", "kind"]),
            events=_sorted(results.events(), ["trial_id", "step", "kind"]),
            axes=tuple(c for c in axes if trials[c].notna().any()),
            matched={(trial.arm, trial.trial_id): trial.matched for trial in results.wanted if trial.matched},
        )

    def wide(self, name: str) -> pd.DataFrame:
        """A column of metrics or of curvature by trial_id and step; empty where nobody has it."""
        if name not in self.metrics.columns and name in self.curvature.columns:
            return pivoted(self.curvature, name)
        return self.metrics.wide(name)

    def once(self, make: Callable[..., Made], *arguments: Hashable) -> Made:
        """What a pure function makes of these tables, made when it is first asked for. Nobody changes it."""
        key = make, *arguments
        if key not in self._made:
            self._made[key] = make(self, *arguments)
        made: Made = self._made[key]
        return made

    def compared(self, arm: str | None = None) -> pd.DataFrame:
        """The trials that are compared (not those of tuning or confirmation), of one arm or of all."""
        rows = self.trials[self.trials["role"] == "compare"]
        return rows if arm is None else rows[rows["arm"] == arm]

    def where(self, filters: Sequence[Expression]) -> Tables:
        """The compared trials of the settings that filters keep; an axis that does not act on a trial filters nothing.

        Of a control, the settings that it stands for are kept or not.
        """
        kept, matched = [], dict(self.matched)
        for index, name, stands_for in self.once(_stands_for):
            settings = tuple(setting for setting in stands_for if all(f.admits(dict(setting)) for f in filters))
            if settings:
                kept.append(index)
            if name in self.matched:
                matched[name] = settings
        return replace(self, trials=self.trials.loc[kept], matched=matched)

    def setting(self, row: Mapping[Any, Any], keys: Iterable[str] | None = None) -> Setting:
        """The setting of a trial, of all axes or of some."""
        return tuple((k, plain(row[k])) for k in (self.axes if keys is None else keys) if pd.notna(row[k]))

    def shared(self, *arms: pd.DataFrame) -> list[str]:
        """The axes that act on trials of each of some arms: those on which they are paired.

        On a control all axes act that act on the arm that it is matched to.
        """
        acting = set(self.axes).intersection(*(self.acting(rows) for rows in arms))
        return [axis for axis in self.axes if axis in acting]

    def pairings(self, row: Mapping[Any, Any], keys: Iterable[str]) -> tuple[Setting, ...]:
        """The settings of some axes under which a trial is paired: its own; of a control, those that it stands for."""
        matched = self.matched.get((row["arm"], row["trial_id"]))
        if matched is None:
            return (self.setting(row, keys),)
        settings = [dict(setting) for setting in matched]
        keys = tuple(keys)
        return tuple(dict.fromkeys(tuple((k, plain(s[k])) for k in keys if k in s) for s in settings))

    def acting(self, rows: pd.DataFrame) -> set[str]:
        """The axes that act on some trials of an arm; on a control, those of the arm that it is matched to."""
        names = zip(rows["arm"], rows["trial_id"], strict=True)
        found = [self.matched[name] for name in names if name in self.matched]
        if found:
            return {key for settings in found for setting in settings for key, _ in setting}
        return {axis for axis in self.axes if rows[axis].notna().any()}


def _stands_for(tables: Tables) -> list[tuple[Any, tuple[str, str], tuple[Setting, ...]]]:
    """Of each compared trial: its row, arm and id, and the settings that it stands for."""
    rows = tables.compared()
    found = []
    for index, row in zip(rows.index, rows[["arm", "trial_id", *tables.axes]].to_dict("records"), strict=True):
        name = row["arm"], row["trial_id"]
        found.append((index, name, tables.matched.get(name) or (tables.setting(row),)))
    return found


def _sorted(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return frame.sort_values(keys, kind="stable").reset_index(drop=True)


def plain(value: Any) -> Any:
    """A cell as plain Python; whole floats become integers, as columns with NULLs hold integers as floats."""
    cell = value.item() if hasattr(value, "item") else value
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
