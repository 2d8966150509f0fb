"""The public views of a study: what its trials' rows look like, whoever else trained on the same lineages.

Rows in the store belong to lineages; here each trial gets those on its own chain, at the steps that it asks for itself,
once each. The views are DuckDB relations over the store's Parquet parts: nothing is loaded until a query asks for it.
Their columns and keys are part of the contract (`docs/store.md`). What configurations and segments decide of `trials`
is computed in Python (`studies.trial_rows`); what follows from rows of metrics and events is SQL (`studies.drops`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from core.errors import InputError, Problem
from core.quantities import points
from core.terms import nearest
from studies.coverage import Coverage
from studies.dictionary import VIEW_DOCS, Entry, described, entries
from studies.drops import DROPS, EVENTS, FIRST_DROPS, SWITCH_COLUMNS
from studies.measured_views import measured_views
from studies.own_rows import grouped, known_ends, own_rows
from studies.schemas import HISTORY, STRATIFIED, metric
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

    def __init__(self, trials: Sequence[Trial], store: Store, *, config: Mapping[str, Any] | None = None) -> None:
        """Takes one look at the store; later commits do not show.

        Args:
            trials: of one study, or of several.
            store: with their results.
            config: settings of DuckDB.
        """
        self.connection = duckdb.connect(config=dict(config or {}))
        self.connection.execute("SET TimeZone = 'UTC'")
        _define(self.connection, trials, store)

    def arrow(self, name: str) -> pa.Table:
        """A view's rows, sorted by its key; fields have unit, meaning and class (`studies.dictionary`) as metadata.

        Raises:
            InputError: for an unknown view.
        """
        if name not in VIEWS:
            raise InputError([Problem(name, f"unknown view; {nearest(name, VIEWS)}")])
        rows = self.connection.sql(f"SELECT * FROM {name} ORDER BY {', '.join(_ORDER[name])}").to_arrow_table()  # noqa: S608 - a name of ours
        return rows.cast(pa.schema([described(name, field) for field in rows.schema]))

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
def open_views(trials: Sequence[Trial], store: Store) -> Iterator[Views]:
    """The views of some trials, closed at the end."""
    views = Views(trials, store)
    try:
        yield views
    finally:
        views.close()


_ORDER: Mapping[str, tuple[str, ...]] = {
    "trials": ("study", "arm", "role", "seed", "trial_id"),
    "metrics": ("trial_id", "step"),
    "curvature": ("trial_id", "step"),
    "curves": ("trial_id", "step", "quantity", "x"),
    "spectra": ("trial_id", "step", "kind"),
    "surfaces": ("trial_id", "step", "kind"),
    "events": ("trial_id", "step", "kind", "detail"),
    "checks": ("trial_id", "step"),
}


def _define(connection: Any, trials: Sequence[Trial], store: Store) -> None:
    for name in ("metrics", "curvature", "curves", "spectra", "surfaces", "events", "checks"):
        connection.register(f"_{name}", store.dataset(name))
    coverage = Coverage(store.read("segments"))
    chains = [coverage.chain(trial) for trial in trials]
    checks = store.dataset("checks")
    ends = known_ends(trials, frontiers(trials, checks))
    for name, rows in own_rows(grouped(trials, chains, ends), checks).items():
        connection.register(name, rows)
    strata = list(dict.fromkeys(name for task in _distinct_tasks(trials) for name in task.stratum_names))
    values = [*HISTORY, *(f"{base.name}_{stratum}" for base in STRATIFIED for stratum in strata)]
    there = set(store.dataset("metrics").schema.names)
    columns = [_column(name, there) for name in ("stage", "loops", "lr", *values, *_LAST_COLUMNS)]
    connection.execute(
        f"""CREATE VIEW metrics AS SELECT asked.trial_id, asked.step, {", ".join(columns)}
        FROM _asked AS asked JOIN _metrics AS m ON m.lineage = asked.lineage AND m.step = asked.step"""  # noqa: S608
    )
    asked = {id(trial.config.measure): trial.config.measure for trial in trials}.values()
    for statement in (*measured_views(points(asked)), _CHECKS, DROPS, EVENTS):
        connection.execute(statement)
    rows, varied = trial_rows(trials, chains, coverage, ends, store.read("calibrations"))
    connection.register("_trials", rows)
    connection.execute(_trials_view(varied, values))


def _distinct_tasks(trials: Iterable[Trial]) -> Iterable[Any]:
    """Each object that is a task of some trials, once."""
    return {id(trial.config.task): trial.config.task for trial in trials}.values()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(name: str, there: Iterable[str]) -> str:
    return f"m.{_quoted(name)}" if name in there else f"NULL::DOUBLE AS {_quoted(name)}"


_CHECKS = """CREATE VIEW checks AS SELECT own.trial_id, own.step, c.val_loss, c.train_loss, c.grad_norm
    FROM _checked AS own JOIN _checks AS c ON c.lineage = own.lineage AND c.step = own.step"""


# --- the view trials -------------------------------------------------------------------------------------------------


def _trials_view(varied: Sequence[str], values: Sequence[str]) -> str:
    """SQL of the view trials: the last and the best value of each metric, NULL unless the trial ended ok."""
    ended, ends, best = "CASE WHEN t.status = 'ok' THEN h.{0} END AS {0}", [], []
    for name in values:
        choose = "min" if metric(name).better == "lower" else "max"
        ends.append(f"any_value(m.{_quoted(name)}) FILTER (m.step = s.steps) AS {_quoted('final_' + name)}")
        best.append(f"{choose}(m.{_quoted(name)}) AS {_quoted('best_' + name)}")
    shown = [ended.format(_quoted(prefix + name)) for prefix in ("final_", "best_") for name in values]
    head = ["trial_id", "study", "arm", "role", "seed", "status", "setting", *varied, "config"]
    length = ["steps", "switch_step", "switches"]
    tail = ["parameters", "flops_alone", "flops_spent", "alone_s", "spent_s", "attempts"]
    tail += ["numerics_class", "pack_size", "error", "started_at", "finished_at", "provenance"]
    columns = [*(f"t.{_quoted(name)}" for name in head), *shown, *(f"t.{name}" for name in length)]
    columns += [*(f"d.{name}" for name in SWITCH_COLUMNS), *(f"t.{name}" for name in tail)]
    return f"""CREATE VIEW trials AS SELECT {", ".join(columns)} FROM _trials AS t LEFT JOIN (
        SELECT m.trial_id, {", ".join([*ends, *best])} FROM metrics AS m
        JOIN (SELECT DISTINCT trial_id, steps FROM _trials) AS s USING (trial_id) GROUP BY m.trial_id
    ) AS h USING (trial_id) LEFT JOIN ({FIRST_DROPS}) AS d USING (trial_id)"""  # noqa: S608 - names are the registry's, quoted
