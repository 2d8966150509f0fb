"""Results in Python: the public views of a study as pandas frames, Arrow tables or the answer to a query.

``studies.load("quickstart").trials()``. One look at the store is taken when `load` is called; load again for what was
committed since.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from studies.confirm import read_confirmations
from studies.query import MEMORY_BYTES, run_query
from studies.shown import results_html
from studies.spec import load_study
from studies.store import Store
from studies.study import Study
from studies.views import Views
from studies.wanted import wanted

if TYPE_CHECKING:
    import pandas as pd


class Results:
    """The views of one study."""

    def __init__(self, study: Study, store: Store) -> None:
        """See `load`."""
        self.study = study
        self.store = store
        self.wanted = wanted(study, store)
        """Its trials, as far as recorded rows decide them, in canonical order."""
        self.confirmations = read_confirmations(study, store)
        """By metric and setting, the fresh seeds that `loopsweep confirm` chose; their trials are in `wanted`."""
        self._views = Views(self.wanted, store)

    def __repr__(self) -> str:
        """One line."""
        return f"Results({self.study.name!r}, trials={len(self.wanted)}, store={self.store.name!r})"

    def _repr_html_(self) -> str:
        """By arm, how trials ended and their mean final loss, where a notebook shows them."""
        return results_html(self.study, self.arrow("trials"))

    def trials(self) -> pd.DataFrame:
        """One row per (study, arm, trial_id)."""
        return self._frame("trials")

    def metrics(self) -> pd.DataFrame:
        """One row per (trial_id, step)."""
        return self._frame("metrics")

    def evaluated(self) -> list[str]:
        """The columns of `metrics` in which some trial has a value."""
        return self._views.evaluated()

    def wide(self, metric: str) -> pd.DataFrame:
        """One column of `metrics` by trial_id (rows) and step (columns), NaN where there is no value.

        It is read alone: of 10^7 evaluations it takes 80 MB where the frame of all columns takes gigabytes.

        Raises:
            InputError: for a name that is no column.
        """
        import pandas as pd

        ids, steps, values = self._views.wide(metric)
        return pd.DataFrame(values, index=pd.Index(ids, name="trial_id"), columns=pd.Index(steps, name="step"))

    def curvature(self) -> pd.DataFrame:
        """One row per (trial_id, step)."""
        return self._frame("curvature")

    def curves(self) -> pd.DataFrame:
        """One row per (trial_id, step, quantity, x)."""
        return self._frame("curves")

    def spectra(self) -> pd.DataFrame:
        """One row per (trial_id, step, kind)."""
        return self._frame("spectra")

    def surfaces(self) -> pd.DataFrame:
        """One row per (trial_id, step, kind); z: the loss at (x₀, y₀), (x₀, y₁) and so on."""
        return self._frame("surfaces")

    def events(self) -> pd.DataFrame:
        """Rows of trial_id, step, kind, detail."""
        return self._frame("events")

    def checks(self) -> pd.DataFrame:
        """What criteria saw: one row per (trial_id, step) of a trial's own criteria."""
        return self._frame("checks")

    def importances(self) -> pd.DataFrame:
        """One row per (arm, search, metric, evaluator, batch, key): of a search's keys, at the end of its batches."""
        return self._frame("importances")

    def arrow(self, table: str) -> pa.Table:
        """A view as an Arrow table, sorted by its key.

        Raises:
            InputError: for an unknown view.
        """
        return self._views.arrow(table)

    def sql(self, query: str, *, timeout_s: float = 60.0, memory_bytes: int = MEMORY_BYTES) -> pd.DataFrame:
        """The result of one SELECT over the views (see `studies.query`).

        Raises:
            InputError: where the query is refused, wrong, too slow or too large.
        """
        result = run_query(self.wanted, self.store, query, timeout_s=timeout_s, memory_bytes=memory_bytes)
        return _pandas(result)

    def _frame(self, name: str) -> pd.DataFrame:
        return _pandas(self.arrow(name))


def _pandas(table: pa.Table) -> pd.DataFrame:
    """A frame whose maps are dictionaries."""
    frame: pd.DataFrame = table.to_pandas(maps_as_pydicts="strict")
    return frame


def load(study: str | Path | Study, *, store: str | Path | Store | None = None) -> Results:
    """The results of a study.

    Args:
        study: a name in the catalogue, a path to a TOML file, or a checked study.
        store: an open store, or its directory; default: ``LOOPSWEEP_STORE``, else ``results``.

    Raises:
        InputError: where the study is wrong.
        StoreError: where the store is damaged.
    """
    if store is None:
        store = os.environ.get("LOOPSWEEP_STORE") or "results"
    checked = study if isinstance(study, Study) else load_study(study)
    return Results(checked, store if isinstance(store, Store) else Store.open(store))
