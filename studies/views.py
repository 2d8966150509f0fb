"""The public views of a study: what its trials' rows look like, whoever else trained on the same lineages.

Rows in the store belong to lineages; here each trial gets those on its own chain, at the steps that it asks for itself,
once each. The views are DuckDB relations over the store's Parquet parts: nothing is loaded until a query asks for it.
Their columns and keys are part of the contract (`docs/store.md`). What configurations and segments decide of `trials`
is computed in Python (`studies.trial_rows`); what follows from rows of metrics and events is SQL (`studies.drops`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset

from core.errors import InputError, Problem
from core.quantities import points
from core.terms import nearest
from studies.coverage import Coverage
from studies.dictionary import VIEW_DOCS, Entry, described, entries
from studies.drops import DROPS, EVENTS, FIRST_DROPS, SWITCH_COLUMNS
from studies.measured_views import measured_views
from studies.metrics import HISTORY, STRATIFIED, metric
from studies.own_rows import grouped, known_ends, own_rows
from studies.store import Store
from studies.switches import frontiers
from studies.trial_rows import trial_rows

if TYPE_CHECKING:
    from studies.expand import Trial

VIEWS = tuple(VIEW_DOCS)
"""The names that a query may read."""

_LAST_COLUMNS = ("tokens", "flops_alone")


class Views:
    """The views of some trials, on a DuckDB connection of their own."""

    def __init__(
        self,
        trials: Sequence[Trial],
        store: Store,
        *,
        config: Mapping[str, Any] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        """Takes one look at the store; later commits do not show.

        Args:
            trials: of one study, or of several.
            store: with their results.
            config: settings of DuckDB.
            only: the columns of the view `trials` that are wanted; default: all.
        """
        self.connection = duckdb.connect(config=dict(config or {}))
        self.connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        self.files: list[str] = []
        """Those of the store that the views read."""
        for name in ("metrics", "curvature", "curves", "spectra", "surfaces", "events", "checks", "importances"):
            self.files += _rows_of(self.connection, name, store.dataset(name))
        self._there = frozenset(store.dataset("metrics").schema.names)
        _define(self.connection, trials, store, there=self._there, only=only)

    def arrow(self, name: str) -> pa.Table:
        """A view's rows, sorted by its key; fields have unit, meaning and class (`studies.dictionary`) as metadata.

        Raises:
            InputError: for an unknown view.
        """
        if name not in VIEWS:
            raise InputError([Problem(name, f"unknown view; {nearest(name, VIEWS)}")])
        rows = self.connection.sql(f"SELECT * FROM {name} ORDER BY {', '.join(_ORDER[name])}").to_arrow_table()  # noqa: S608 - a name of ours
        return rows.cast(pa.schema([described(name, field) for field in rows.schema]))

    def evaluated(self) -> list[str]:
        """The metrics of which some trial has a value, in the order of the view ``metrics``."""
        columns = self.connection.sql("SELECT * FROM metrics LIMIT 0").columns
        names = [name for name in columns if name in self._there and name != "step"]
        counts = ", ".join(f"count(m.{_quoted(name)})" for name in names) or "1"
        found = self.connection.sql(f"SELECT {counts} FROM {_OWN_METRICS}").fetchall()[0]  # noqa: S608
        return [name for name, count in zip(names, found, strict=False) if count]

    def wide(self, name: str) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """A metric of all trials at all steps at which any of them is evaluated; other columns are not read.

        Args:
            name: a column of the view ``metrics``.

        Returns:
            The ids of the trials that were evaluated; the steps; values ``[trials, steps]``, NaN where there is none.

        Raises:
            InputError: for a name that the view does not have.
        """
        known = self.connection.sql("SELECT * FROM metrics LIMIT 0").columns
        if name not in known:
            raise InputError([Problem(name, f"unknown metric; {nearest(name, known)}")])
        trials = self.connection.sql("SELECT DISTINCT place, trial_id FROM _spans ORDER BY trial_id").fetchall()
        rows = np.empty(1 + max((place for place, _ in trials), default=0), np.int64)
        rows[[place for place, _ in trials]] = np.arange(len(trials))
        steps = (
            self.connection.sql("SELECT DISTINCT step FROM _grids ORDER BY step").to_arrow_table()["step"].to_numpy()
        )
        values = np.full((len(trials), len(steps)), np.nan)
        if name in self._there:
            column = f"m.{_quoted(name)}"
            sql = f"SELECT s.place, m.step, {column}::DOUBLE AS x FROM {_OWN_METRICS} WHERE {column} IS NOT NULL"  # noqa: S608
            for batch in self.connection.sql(sql).to_arrow_reader(1 << 18):
                place, step, x = (batch.column(i).to_numpy() for i in range(3))
                values[rows[place], np.searchsorted(steps, step)] = x
        return [trial_id for _, trial_id in trials], steps, values

    def dictionary(self, name: str) -> list[Entry]:
        """The columns of a view with type, unit and meaning; no row is read.

        Raises:
            InputError: for an unknown view.
        """
        if name not in VIEWS:
            raise InputError([Problem(name, f"unknown view; {nearest(name, VIEWS)}")])
        empty = self.connection.sql(f"SELECT * FROM {name} LIMIT 0")  # noqa: S608 - a name of ours
        return entries(name, empty.to_arrow_table().schema)

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


@contextmanager
def open_views(trials: Sequence[Trial], store: Store, *, only: Collection[str] | None = None) -> Iterator[Views]:
    """The views of some trials, closed at the end; see `Views`."""
    views = Views(trials, store, only=only)
    try:
        yield views
    finally:
        views.close()


_OWN_METRICS = """_metrics AS m JOIN _spans AS s ON s.lineage = m.lineage
    SEMI JOIN _grids AS g ON g.grid = s.grid AND g.step = m.step"""
"""The evaluations of trials. The semi join comes last: joined first, grids and spans would be a row each evaluation."""

_ORDER: Mapping[str, tuple[str, ...]] = {
    "trials": ("study", "arm", "role", "seed", "trial_id"),
    "metrics": ("trial_id", "step"),
    "curvature": ("trial_id", "step"),
    "curves": ("trial_id", "step", "quantity", "x"),
    "spectra": ("trial_id", "step", "kind"),
    "surfaces": ("trial_id", "step", "kind"),
    "events": ("trial_id", "step", "kind", "detail"),
    "checks": ("trial_id", "step"),
    "importances": ("study", "arm", "search", "metric", "evaluator", "batch", "key"),
}


def _rows_of(connection: Any, name: str, rows: pyarrow.dataset.Dataset) -> list[str]:
    """Makes the rows of a table the relation ``_<name>``; the files that it reads.

    Part files are DuckDB's own to read, many times as fast as through Arrow, and it then knows how many rows there are,
    without which it joins them the wrong way round. Types are those declared, whatever a file says.
    """
    if not isinstance(rows, pyarrow.dataset.FileSystemDataset):
        connection.register(f"_{name}", rows)
        return []
    files = ", ".join("'" + file.replace("'", "''") + "'" for file in rows.files)
    read = f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
    there = set(connection.sql(f"SELECT * FROM {read} LIMIT 0").columns)  # noqa: S608 - files of the store
    types = connection.from_arrow(rows.schema.empty_table()).types
    columns = [
        f"{_quoted(column) if column in there else 'NULL'}::{kind} AS {_quoted(column)}"
        for column, kind in zip(rows.schema.names, types, strict=True)
    ]
    connection.execute(f"CREATE VIEW _{name} AS SELECT {', '.join(columns)} FROM {read}")  # noqa: S608 - names are ours
    return list(rows.files)


def _define(
    connection: Any, trials: Sequence[Trial], store: Store, *, there: Collection[str], only: Collection[str] | None
) -> None:
    coverage = Coverage(store.read("segments"))
    chains = [coverage.chain(trial) for trial in trials]
    checks = store.dataset("checks")
    ends = known_ends(trials, frontiers(trials, checks))
    for name, rows in own_rows(grouped(trials, chains, ends), checks).items():
        connection.register(f"{name}_rows", rows)
        connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM {name}_rows")  # noqa: S608 - a name of ours
    strata = list(dict.fromkeys(name for task in _distinct_tasks(trials) for name in task.stratum_names))
    values = [*HISTORY, *(f"{base.name}_{stratum}" for base in STRATIFIED for stratum in strata)]
    columns = [_column(name, there) for name in ("stage", "loops", "lr", *values, *_LAST_COLUMNS)]
    connection.execute(
        f"CREATE VIEW metrics AS SELECT s.trial_id, m.step, {', '.join(columns)} FROM {_OWN_METRICS}"  # noqa: S608
    )
    asked = {id(trial.config.measure): trial.config.measure for trial in trials}.values()
    names = pa.array(sorted({trial.study for trial in trials}), pa.string())
    connection.register("_studies", pa.table({"study": names}))
    for statement in (*measured_views(points(asked)), _CHECKS, _IMPORTANCES, DROPS, EVENTS):
        connection.execute(statement)
    rows, varied = trial_rows(trials, chains, coverage, ends, store.read("calibrations"), only=only)
    connection.register("_trials_rows", rows)
    connection.execute("CREATE TEMP TABLE _trials AS SELECT * FROM _trials_rows")
    connection.execute(_trials_table(varied, values, there, only))


def _distinct_tasks(trials: Iterable[Trial]) -> Iterable[Any]:
    """Each object that is a task of some trials, once."""
    return {id(trial.config.task): trial.config.task for trial in trials}.values()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(name: str, there: Iterable[str]) -> str:
    return f"m.{_quoted(name)}" if name in there else f"NULL::DOUBLE AS {_quoted(name)}"


_CHECKS = """CREATE VIEW checks AS SELECT own.trial_id, own.step, c.val_loss, c.train_loss, c.grad_norm
    FROM _checked AS own JOIN _checks AS c ON c.lineage = own.lineage AND c.step = own.step"""


_IMPORTANCES = """CREATE VIEW importances AS
    SELECT study, arm, search, metric, evaluator, batch, key, value, n FROM _importances
    WHERE study IN (SELECT study FROM _studies)"""


# --- the view trials -------------------------------------------------------------------------------------------------


def _trials_table(
    varied: Sequence[str], values: Sequence[str], there: Collection[str], only: Collection[str] | None
) -> str:
    """SQL of the relation trials: the last and the best value of each metric, NULL unless the trial ended ok.

    It is a table and not a view, since every query by configuration joins it, and working it out goes through all rows
    of metrics. Metrics that no part holds are NULL without being looked at, what is not wanted not even that.
    """
    head = ["trial_id", "study", "arm", "role", "seed", "status", "setting", *varied, "config"]
    length = ["steps", "switch_step", "switches"]
    tail = ["parameters", "flops_alone", "flops_spent", "alone_s", "spent_s", "attempts"]
    tail += ["numerics_class", "pack_size", "error", "started_at", "finished_at", "provenance"]
    columns = [(name, f"t.{_quoted(name)}") for name in head]
    for prefix, rows in (("final_", "f"), ("best_", "b")):
        for name in values:
            found = f"CASE WHEN t.status = 'ok' THEN {rows}.{_quoted(name)} END" if name in there else "NULL::DOUBLE"
            columns.append((prefix + name, f"{found} AS {_quoted(prefix + name)}"))
    columns += [(name, f"t.{name}") for name in length]
    columns += [(name, f"d.{name}") for name in SWITCH_COLUMNS]
    columns += [(name, f"t.{name}") for name in tail]
    chosen = {name: column for name, column in columns if only is None or name in only}
    last = [name for name in values if name in there and f"final_{name}" in chosen]
    best = [name for name in values if name in there and f"best_{name}" in chosen]
    bests = ", ".join(f"{_BETTER[metric(name).better]}({_quoted(name)}) AS {_quoted(name)}" for name in best)
    joins = ""
    if last:
        joins += f"""LEFT JOIN (SELECT m.trial_id, {", ".join(f"m.{_quoted(name)}" for name in last)} FROM metrics AS m
            JOIN own ON own.trial_id = m.trial_id AND own.steps = m.step) AS f USING (trial_id) """  # noqa: S608 - likewise
    if best:
        joins += f"LEFT JOIN (SELECT trial_id, {bests} FROM metrics GROUP BY trial_id) AS b USING (trial_id) "  # noqa: S608 - likewise
    if not chosen.keys().isdisjoint(SWITCH_COLUMNS):
        joins += f"LEFT JOIN ({FIRST_DROPS}) AS d USING (trial_id)"
    return f"""CREATE TEMP TABLE trials AS WITH own AS MATERIALIZED (SELECT DISTINCT trial_id, steps FROM _trials)
        SELECT {", ".join(chosen.values())} FROM _trials AS t {joins}"""  # noqa: S608 - names are the registry's, quoted


_BETTER = {"lower": "min", "higher": "max"}
