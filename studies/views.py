"""The public views of a study: what its trials' rows look like, whoever else trained on the same lineages.

Rows in the store belong to lineages; here each trial gets those on its own chain, at the steps that it asks for itself,
once each. The views are DuckDB relations over the store's Parquet parts: nothing is loaded until a query asks for it.
Their columns and keys are part of the contract (`docs/store.md`); `trials` alone is computed from the configurations
and the segments, in Python.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from core.errors import InputError, Problem
from core.flops import flops_alone, parameters
from core.lineage import canonical_json
from core.quantities import QUANTITIES
from core.terms import nearest
from studies.cost import alone_seconds, spent_shares, step_times
from studies.coverage import ChainState, Coverage, asked_steps
from studies.schemas import HISTORY, STRATIFIED, metric, table
from studies.store import Store

if TYPE_CHECKING:
    from studies.expand import Trial

VIEWS = ("trials", "metrics", "curvature", "curves", "spectra", "events")
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
        """A view's rows, sorted by its key; each metric has its unit in its field's metadata.

        Raises:
            InputError: for an unknown view.
        """
        if name not in VIEWS:
            raise InputError([Problem(name, f"unknown view; {nearest(name, VIEWS)}")])
        rows = self.connection.sql(f"SELECT * FROM {name} ORDER BY {', '.join(_ORDER[name])}").to_arrow_table()  # noqa: S608 - a name of ours
        return rows.cast(pa.schema([_described(name, field) for field in rows.schema]))

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
    "events": ("trial_id", "step", "kind", "detail"),
}


def _described(view: str, field: pa.Field) -> pa.Field:
    """A column of a view with unit, class and meaning, as far as a table or the registry of metrics declares them."""
    if view != "trials":
        try:
            return field.with_metadata(table(view).column(field.name).field.metadata)
        except InputError:  # trial_id, which no table has
            return field
    try:
        found = metric(field.name)
    except InputError:
        return field
    return field.with_metadata({"unit": found.unit, "doc": found.doc})


def _define(connection: Any, trials: Sequence[Trial], store: Store) -> None:
    for name in ("metrics", "curvature", "curves", "spectra", "events"):
        connection.register(f"_{name}", store.dataset(name))
    coverage = Coverage(store.read("segments"))
    chains = [coverage.chain(trial) for trial in trials]
    distinct = _distinct(trials)
    # What an attempt recorded beyond where the latest one ended (a divergence that was run again) does not show.
    reached = {t.trial_id: [link.reached for link in chain.links] for t, chain in zip(trials, chains, strict=True)}
    connection.register("_asked", _asked(distinct, reached))
    connection.register("_probed", _probed(distinct, reached))
    connection.register("_chains", _chains(distinct, reached))
    strata = list(dict.fromkeys(name for trial in trials for name in trial.config.task.stratum_names))
    values = [*HISTORY, *(f"{base.name}_{stratum}" for base in STRATIFIED for stratum in strata)]
    there = set(store.dataset("metrics").schema.names)
    columns = [_column(name, there) for name in ("stage", "loops", "lr", *values, *_LAST_COLUMNS)]
    connection.execute(
        f"""CREATE VIEW metrics AS SELECT asked.trial_id, asked.step, {", ".join(columns)}
        FROM _asked AS asked JOIN _metrics AS m ON m.lineage = asked.lineage AND m.step = asked.step"""  # noqa: S608
    )
    connection.execute(_CURVATURE)
    connection.execute(_CURVES)
    connection.execute(_SPECTRA)
    connection.execute(_EVENTS)
    rows, varied = _trial_rows(trials, chains, coverage, store)
    connection.register("_trials", rows)
    connection.execute(_trials_view(varied, values))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(name: str, there: Iterable[str]) -> str:
    return f"m.{_quoted(name)}" if name in there else f"NULL::DOUBLE AS {_quoted(name)}"


_MATCHED = """FROM _probed AS asked JOIN _{table} AS c ON c.lineage = asked.lineage AND c.step = asked.step
    AND CAST(json_extract(c.observed, '$.probe') AS BIGINT) = asked.probe
    AND list_has_any(CAST(json_extract(c.observed, '$.quantities') AS VARCHAR[]), asked.quantities)"""
"""What a trial asks for itself, whatever another study measured at the same state."""

_CURVATURE = f"""CREATE VIEW curvature AS SELECT asked.trial_id, asked.step,
    {
    ", ".join(
        f"arg_min(c.{_quoted(q)}, c.observed) FILTER (list_contains(asked.quantities, '{q}')) AS {_quoted(q)}"
        for q in QUANTITIES
    )
},
    {
    ", ".join(
        f"list_reduce(list(map_from_entries(list_filter(map_entries(c.{name}), "
        f"lambda entry: list_contains(asked.quantities, entry.key))) "
        f"ORDER BY c.observed DESC) FILTER (c.{name} IS NOT NULL), lambda a, b: map_concat(a, b)) AS {name}"
        for name in ("method", "error", "products")
    )
}
    {_MATCHED.format(table="curvature")} GROUP BY asked.trial_id, asked.step"""
"""Of several observations with one probe (a quantity added later), each quantity comes from the first that has it."""

_CURVES = f"""CREATE VIEW curves AS SELECT asked.trial_id, asked.step, c.quantity, c.x, arg_min(c.y, c.observed) AS y
    {_MATCHED.format(table="curves")} GROUP BY ALL"""

_SPECTRA = f"""CREATE VIEW spectra AS SELECT asked.trial_id, asked.step, c.kind,
    arg_min(c.eigenvalues, c.observed) AS eigenvalues, arg_min(c.weights, c.observed) AS weights
    {_MATCHED.format(table="spectra")} GROUP BY ALL"""

_EVENTS = """CREATE VIEW events AS SELECT chain.trial_id, e.step, e.kind, e.detail
    FROM _chains AS chain JOIN _events AS e
    ON e.lineage = chain.lineage AND e.step BETWEEN chain.start AND chain."end"
    AND (e.kind <> 'divergence' OR e.step = chain.reached + 1)"""


# --- which rows are a trial's ----------------------------------------------------------------------------------------


def _distinct(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials grouped by id: those of a group train the same, and may be observed differently."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.trial_id].append(trial)
    return list(groups.values())


def _exploded(entries: Sequence[tuple[str, str, tuple[int, ...]]]) -> dict[str, Any]:
    """Columns trial_id, lineage and step from (trial_id, lineage, steps), one row per step."""
    counts = np.array([len(steps) for _, _, steps in entries], dtype=np.int64)
    index = pa.array(np.repeat(np.arange(len(entries)), counts))
    steps = [np.asarray(steps, dtype=np.int64) for _, _, steps in entries]
    return {
        "trial_id": pa.array([trial_id for trial_id, _, _ in entries], pa.string()).take(index),
        "lineage": pa.array([lineage for _, lineage, _ in entries], pa.string()).take(index),
        "step": pa.array(np.concatenate(steps) if steps else np.empty(0, np.int64)),
    }


_Reached = Mapping[str, Sequence[int]]
"""By trial_id: the step up to which each of its links is recorded."""


def _asked(groups: Sequence[Sequence[Trial]], reached: _Reached) -> pa.Table:
    """The evaluations that are a trial's: trial_id, lineage, step."""
    entries = []
    for group in groups:
        key = group[0].trial_id
        for index, link in enumerate(group[0].links):
            entries.append((key, link.lineage, _steps(group, index, 0, reached[key][index])))
    return pa.table(_exploded(entries))


def _steps(group: Sequence[Trial], link: int, kind: int, last: int) -> tuple[int, ...]:
    """The steps up to the last one that a group of equal trials asks for on a link; kind 0 evaluates, 1 measures."""
    if len(group) == 1:
        steps: Iterable[int] = asked_steps(group[0].config)[link][kind]
    else:
        steps = sorted({step for trial in group for step in asked_steps(trial.config)[link][kind]})
    return tuple([step for step in steps if step <= last])


def _probed(groups: Sequence[Sequence[Trial]], reached: _Reached) -> pa.Table:
    """The measurements that are a trial's: trial_id, lineage, step, probe (sequences), quantities."""
    entries: list[tuple[str, str, tuple[int, ...]]] = []
    probes: list[int] = []
    asked: list[list[str]] = []
    for group in groups:
        measures = [trial.config.measure for trial in group if trial.config.measure.quantities]
        if not measures:
            continue
        probe = min(measure.probe for measure in measures)
        quantities = sorted({name for measure in measures for name in measure.quantities})
        key = group[0].trial_id
        for index, link in enumerate(group[0].links):
            steps = _steps(group, index, 1, reached[key][index])
            entries.append((key, link.lineage, steps))
            probes += [probe] * len(steps)
            asked += [quantities] * len(steps)
    columns = {"probe": pa.array(probes, pa.int64()), "quantities": pa.array(asked, pa.list_(pa.string()))}
    return pa.table(_exploded(entries) | columns)


def _chains(groups: Sequence[Sequence[Trial]], reached: _Reached) -> pa.Table:
    """The links of each trial: trial_id, lineage, start, end, reached."""
    rows = [
        (trials[0].trial_id, link.lineage, link.start, link.end, last)
        for trials in groups
        for link, last in zip(trials[0].links, reached[trials[0].trial_id], strict=True)
    ]
    kinds = (pa.string(), pa.string(), pa.int64(), pa.int64(), pa.int64())
    columns = zip(*rows, strict=True) if rows else ((),) * 5
    arrays = [pa.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(arrays, names=["trial_id", "lineage", "start", "end", "reached"])


# --- the view trials -------------------------------------------------------------------------------------------------


def _trial_rows(
    trials: Sequence[Trial], chains: Sequence[ChainState], coverage: Coverage, store: Store
) -> tuple[pa.Table, list[str]]:
    """One row per trial, without what the view takes from its metrics; and the varied keys."""
    shares = spent_shares(trials, chains, coverage)
    times = step_times(store.read("calibrations"))
    columns: dict[str, Any] = {name: pa.array([read(t) for t in trials], kind) for name, kind, read in _FROM_TRIAL}
    columns |= {name: pa.array([read(c) for c in chains], kind) for name, kind, read in _FROM_CHAIN}
    columns["flops_spent"] = pa.array([share and share.flops for share in shares], pa.float64())
    columns["spent_s"] = pa.array([share and share.seconds for share in shares], pa.float64())
    alone = [alone_seconds(trial, chain, times) for trial, chain in zip(trials, chains, strict=True)]
    columns["alone_s"] = pa.array(alone, pa.float64())
    varied = list(dict.fromkeys(key for trial in trials for key in trial.varied))
    for key in varied:
        columns[key] = _varied_column([trial.varied.get(key) for trial in trials])
    return pa.table(columns), varied


def _switch_step(trial: Trial) -> int | None:
    return next((link.start for link in trial.links if link.stage > 0), None)


def _of_last(column: str) -> Callable[[ChainState], Any]:
    return lambda chain: chain.coverage.value(column, chain.rows[-1]) if chain.rows else None


_FROM_TRIAL: tuple[tuple[str, Any, Callable[[Trial], Any]], ...] = (
    ("trial_id", pa.string(), lambda t: t.trial_id),
    ("study", pa.string(), lambda t: t.study),
    ("arm", pa.string(), lambda t: t.arm),
    ("role", pa.string(), lambda t: t.role),
    ("seed", pa.int64(), lambda t: t.config.seed),
    ("config", pa.string(), lambda t: canonical_json(t.config.to_dict())),
    ("steps", pa.int64(), lambda t: t.config.train.steps),
    ("switch_step", pa.int64(), _switch_step),
    ("parameters", pa.int64(), lambda t: parameters(t.config)),
    ("flops_alone", pa.int64(), lambda t: flops_alone(t.config)),
)

_TIME = pa.timestamp("us", tz="UTC")

_FROM_CHAIN: tuple[tuple[str, Any, Callable[[ChainState], Any]], ...] = (
    ("status", pa.string(), lambda c: c.status),
    ("attempts", pa.int32(), lambda c: c.attempts),
    ("numerics_class", pa.string(), lambda c: "; ".join(c.numerics_classes) or None),
    ("pack_size", pa.int32(), _of_last("pack_size")),
    ("error", pa.string(), lambda c: c.error),
    ("started_at", _TIME, lambda c: c.started_at),
    ("finished_at", _TIME, lambda c: c.finished_at),
    ("provenance", pa.string(), _of_last("provenance")),
)


def _varied_column(values: Sequence[Any]) -> Any:
    """Values of an axis as one type: integers, numbers, truth values or text; lists as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    for kind, allowed in (
        (pa.bool_(), {bool}),
        (pa.int64(), {int}),
        (pa.float64(), {int, float}),
        (pa.string(), {str}),
    ):
        if kinds <= allowed:
            return pa.array([float(v) if v is not None and pa.types.is_floating(kind) else v for v in values], kind)
    plain = [None if v is None else canonical_json(list(v) if isinstance(v, tuple) else v) for v in values]
    return pa.array(plain, pa.string())


def _trials_view(varied: Sequence[str], values: Sequence[str]) -> str:
    """SQL of the view trials: the last and the best value of each metric, NULL unless the trial ended ok."""
    ended, ends, best = "CASE WHEN t.status = 'ok' THEN h.{0} END AS {0}", [], []
    for name in values:
        choose = "min" if metric(name).better == "lower" else "max"
        ends.append(f"any_value(m.{_quoted(name)}) FILTER (m.step = s.steps) AS {_quoted('final_' + name)}")
        best.append(f"{choose}(m.{_quoted(name)}) AS {_quoted('best_' + name)}")
    shown = [ended.format(_quoted(prefix + name)) for prefix in ("final_", "best_") for name in values]
    head = ["trial_id", "study", "arm", "role", "seed", "status", *varied, "config"]
    tail = ["steps", "switch_step", "parameters", "flops_alone", "flops_spent", "alone_s", "spent_s", "attempts"]
    tail += ["numerics_class", "pack_size", "error", "started_at", "finished_at", "provenance"]
    columns = [*(f"t.{_quoted(name)}" for name in head), *shown, *(f"t.{_quoted(name)}" for name in tail)]
    return f"""CREATE VIEW trials AS SELECT {", ".join(columns)} FROM _trials AS t LEFT JOIN (
        SELECT m.trial_id, {", ".join([*ends, *best])} FROM metrics AS m
        JOIN (SELECT DISTINCT trial_id, steps FROM _trials) AS s USING (trial_id) GROUP BY m.trial_id
    ) AS h USING (trial_id)"""  # noqa: S608 - names are the registry's, quoted
