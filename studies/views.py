"""The public views of a study: what its trials' rows look like, whoever else trained on the same lineages.

Rows in the store belong to lineages; here each trial gets those on its own chain, at the steps that it asks for itself,
once each. The views are DuckDB relations over the store's Parquet parts: nothing is loaded until a query asks for it.
Their columns and keys are part of the contract (`docs/store.md`). What configurations and segments decide of `trials`
is computed in Python (`studies.trial_rows`); what follows from rows of metrics and events is SQL (`studies.drops`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import InputError, Problem
from core.lineage import Link
from core.quantities import QUANTITIES
from core.terms import nearest
from studies.coverage import ChainState, Coverage, asked_of
from studies.drops import DROPS, EVENTS, FIRST_DROPS, SWITCH_COLUMNS
from studies.schemas import FAILURES, HISTORY, STRATIFIED, metric, table
from studies.store import Store
from studies.switches import frontiers, own_checks, switches, watcher_events
from studies.trial_rows import trial_rows

if TYPE_CHECKING:
    from studies.expand import Trial

VIEWS = ("trials", "metrics", "curvature", "curves", "spectra", "events", "checks")
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
    "checks": ("trial_id", "step"),
}


def _described(view: str, field: pa.Field) -> pa.Field:
    """A column of a view with unit, class and meaning, as far as a table or the registry of metrics declares them."""
    if view != "trials":
        try:
            return field.with_metadata(table(view).column(field.name).field.metadata)
        except InputError:  # trial_id, which no table has
            return field
    if field.name in SWITCH_COLUMNS:
        _, unit, doc = SWITCH_COLUMNS[field.name]
        return field.with_metadata({"unit": unit, "doc": doc})
    try:
        found = metric(field.name)
    except InputError:
        return field
    return field.with_metadata({"unit": found.unit, "doc": found.doc})


def _define(connection: Any, trials: Sequence[Trial], store: Store) -> None:
    for name in ("metrics", "curvature", "curves", "spectra", "events", "checks"):
        connection.register(f"_{name}", store.dataset(name))
    coverage = Coverage(store.read("segments"))
    chains = [coverage.chain(trial) for trial in trials]
    checks = store.dataset("checks")
    ends = _ends(trials, frontiers(trials, checks))
    groups = _groups(trials, chains, ends)
    for name, rows in (
        ("_asked", _asked(groups)),
        ("_probed", _probed(groups)),
        ("_checked", _checked(groups)),
        ("_chains", _chains(groups)),
        ("_switches", _switches(groups)),
        ("_watchers", watcher_events([group.trials[0] for group in groups], checks)),
    ):
        connection.register(name, rows)
    strata = list(dict.fromkeys(name for task in _distinct_tasks(trials) for name in task.stratum_names))
    values = [*HISTORY, *(f"{base.name}_{stratum}" for base in STRATIFIED for stratum in strata)]
    there = set(store.dataset("metrics").schema.names)
    columns = [_column(name, there) for name in ("stage", "loops", "lr", *values, *_LAST_COLUMNS)]
    connection.execute(
        f"""CREATE VIEW metrics AS SELECT asked.trial_id, asked.step, {", ".join(columns)}
        FROM _asked AS asked JOIN _metrics AS m ON m.lineage = asked.lineage AND m.step = asked.step"""  # noqa: S608
    )
    for statement in (_CURVATURE, _CURVES, _SPECTRA, _CHECKS, DROPS, EVENTS):
        connection.execute(statement)
    rows, varied = trial_rows(trials, chains, coverage, ends, store.read("calibrations"))
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

_CHECKS = """CREATE VIEW checks AS SELECT own.trial_id, own.step, c.val_loss, c.train_loss, c.grad_norm
    FROM _checked AS own JOIN _checks AS c ON c.lineage = own.lineage AND c.step = own.step"""


# --- which rows are a trial's ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Group:
    """Trials with one id: they train the same, and may be observed differently."""

    trials: list[Trial]
    links: list[tuple[Link, int, int]]
    """Each link that the trial has come to, up to where it is known to be its own, and how far it is recorded there.

    What an attempt recorded beyond where the latest one ended (a divergence that was run again) is not among it.
    """
    settled: bool
    """All that each of them asks is recorded, to its end or to where it diverged."""

    @property
    def key(self) -> str:
        """Their id."""
        return self.trials[0].trial_id


def _ends(trials: Sequence[Trial], known: Mapping[str, int]) -> dict[str, list[int]]:
    """By trial_id: the step up to which each link is known to be the trial's own; `known` of those that wait."""
    ends: dict[str, list[int]] = {}
    for trial in trials:
        last = known.get(trial.trial_id)
        ends[trial.trial_id] = [link.end if last is None else min(link.end, last) for link in trial.links]
    return ends


def _groups(trials: Sequence[Trial], chains: Sequence[ChainState], ends: Mapping[str, Sequence[int]]) -> list[_Group]:
    """Trials by id, in the order in which they first come."""
    groups: dict[str, _Group] = {}
    for trial, chain in zip(trials, chains, strict=True):
        settled = chain.status is not None and chain.status not in FAILURES
        known = groups.get(trial.trial_id)
        if known is not None:
            known.trials.append(trial)
            groups[trial.trial_id] = replace(known, settled=known.settled and settled)
            continue
        links = []
        for link, state, end in zip(trial.links, chain.links, ends[trial.trial_id], strict=True):
            links.append((link, end, min(state.reached, end)))
            if state.reached < link.end:
                break
        groups[trial.trial_id] = _Group([trial], links, settled)
    return list(groups.values())


def _distinct_tasks(trials: Iterable[Trial]) -> Iterable[Any]:
    """Each object that is a task of some trials, once."""
    return {id(trial.config.task): trial.config.task for trial in trials}.values()


_Entry = tuple[str, str, npt.NDArray[np.int64]]
"""trial_id, lineage, steps."""


def _exploded(entries: Sequence[_Entry]) -> dict[str, Any]:
    """Columns trial_id, lineage and step, one row per step of each entry."""
    index = pa.array(np.repeat(np.arange(len(entries)), [len(steps) for _, _, steps in entries]))
    steps = [steps for _, _, steps in entries]
    return {
        "trial_id": pa.array([trial_id for trial_id, _, _ in entries], pa.string()).take(index),
        "lineage": pa.array([lineage for _, lineage, _ in entries], pa.string()).take(index),
        "step": pa.array(np.concatenate(steps) if steps else np.empty(0, np.int64)),
    }


class _Steps:
    """Steps up to a last one, as arrays; each worked out once, since the trials of a grid ask alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[tuple[int, ...], npt.NDArray[np.int64]]] = {}

    def until(self, steps: tuple[int, ...], last: int) -> npt.NDArray[np.int64]:
        """Those of some ascending steps that are at most `last`."""
        found = self._known.get((id(steps), last))
        if found is None:  # the steps are kept beside it, so that their identity stays theirs
            array = np.asarray(steps, dtype=np.int64)
            found = self._known[id(steps), last] = steps, array[array <= last]
        return found[1]

    def asked(self, group: _Group, link: int, kind: str, last: int) -> npt.NDArray[np.int64]:
        """Those that anyone of a group asks for on a link, to ``evaluate`` or to ``measure``."""
        if len(group.trials) == 1:
            return self.until(getattr(asked_of(group.trials[0])[link], kind), last)
        return self.until(tuple(sorted({s for t in group.trials for s in getattr(asked_of(t)[link], kind)})), last)


def _asked(groups: Iterable[_Group]) -> pa.Table:
    """The evaluations that are a trial's: trial_id, lineage, step."""
    steps = _Steps()
    return pa.table(
        _exploded(
            [
                (group.key, link.lineage, steps.asked(group, index, "evaluate", last))
                for group in groups
                for index, (link, _, last) in enumerate(group.links)
            ]
        )
    )


def _probed(groups: Iterable[_Group]) -> pa.Table:
    """The measurements that are a trial's: trial_id, lineage, step, probe (sequences), quantities."""
    entries: list[_Entry] = []
    probes: list[int] = []
    asked: list[list[str]] = []
    grids = _Steps()
    for group in groups:
        measures = [trial.config.measure for trial in group.trials if trial.config.measure.quantities]
        if not measures:
            continue
        probe = min(measure.probe for measure in measures)
        quantities = sorted({name for measure in measures for name in measure.quantities})
        for index, (link, _, last) in enumerate(group.links):
            steps = grids.asked(group, index, "measure", last)
            entries.append((group.key, link.lineage, steps))
            probes += [probe] * len(steps)
            asked += [quantities] * len(steps)
    columns = {"probe": pa.array(probes, pa.int64()), "quantities": pa.array(asked, pa.list_(pa.string()))}
    return pa.table(_exploded(entries) | columns)


def _checked(groups: Iterable[_Group]) -> pa.Table:
    """The checks that are a trial's: trial_id, lineage, step."""
    return pa.table(
        _exploded(
            [
                (group.key, lineage, np.arange(steps.start, steps.stop, steps.step, dtype=np.int64))
                for group in groups
                if group.trials[0].watch is not None or group.trials[0].ended
                for lineage, steps in own_checks(group.trials[0], group.links[-1][2])
            ]
        )
    )


def _chains(groups: Iterable[_Group]) -> pa.Table:
    """The links of each trial, as far as it has come: trial_id, lineage, start, end, reached."""
    rows = [(group.key, link.lineage, link.start, end, last) for group in groups for link, end, last in group.links]
    names = {"trial_id": _TEXT, "lineage": _TEXT, "start": _WHOLE, "end": _WHOLE, "reached": _WHOLE}
    return _table(rows, names)


def _switches(groups: Iterable[_Group]) -> pa.Table:
    """The switches that each trial has come to: trial_id, number (from 1), step, lineage after it, settled."""
    rows = [
        (group.key, number, link.start, link.lineage, group.settled)
        for group in groups
        for number, link in enumerate(switches([link for link, _, _ in group.links]), start=1)
    ]
    return _table(rows, {"trial_id": _TEXT, "number": _WHOLE, "step": _WHOLE, "lineage": _TEXT, "settled": pa.bool_()})


_TEXT, _WHOLE = pa.string(), pa.int64()


def _table(rows: Sequence[tuple[Any, ...]], types: Mapping[str, Any]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(types)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)]
    return pa.table(arrays, names=list(types))


# --- the view trials -------------------------------------------------------------------------------------------------


def _trials_view(varied: Sequence[str], values: Sequence[str]) -> str:
    """SQL of the view trials: the last and the best value of each metric, NULL unless the trial ended ok."""
    ended, ends, best = "CASE WHEN t.status = 'ok' THEN h.{0} END AS {0}", [], []
    for name in values:
        choose = "min" if metric(name).better == "lower" else "max"
        ends.append(f"any_value(m.{_quoted(name)}) FILTER (m.step = s.steps) AS {_quoted('final_' + name)}")
        best.append(f"{choose}(m.{_quoted(name)}) AS {_quoted('best_' + name)}")
    shown = [ended.format(_quoted(prefix + name)) for prefix in ("final_", "best_") for name in values]
    head = ["trial_id", "study", "arm", "role", "seed", "status", *varied, "config"]
    length = ["steps", "switch_step", "switches"]
    tail = ["parameters", "flops_alone", "flops_spent", "alone_s", "spent_s", "attempts"]
    tail += ["numerics_class", "pack_size", "error", "started_at", "finished_at", "provenance"]
    columns = [*(f"t.{_quoted(name)}" for name in head), *shown, *(f"t.{name}" for name in length)]
    columns += [*(f"d.{name}" for name in SWITCH_COLUMNS), *(f"t.{name}" for name in tail)]
    return f"""CREATE VIEW trials AS SELECT {", ".join(columns)} FROM _trials AS t LEFT JOIN (
        SELECT m.trial_id, {", ".join([*ends, *best])} FROM metrics AS m
        JOIN (SELECT DISTINCT trial_id, steps FROM _trials) AS s USING (trial_id) GROUP BY m.trial_id
    ) AS h USING (trial_id) LEFT JOIN ({FIRST_DROPS}) AS d USING (trial_id)"""  # noqa: S608 - names are the registry's, quoted
