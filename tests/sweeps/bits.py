"""Whether a store holds of each trial what the trial gives alone, bit for bit: no row more, none less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from core.alone import Alone, train_alone
from core.config import TrialConfig
from core.lineage import links
from core.observation import evaluation_grid
from studies.coverage import Coverage, asked_of
from studies.expand import Trial
from studies.keys import probe_observed
from studies.schemas import table
from studies.store import Store
from studies.views import open_views
from studies.watchers import resolved

Key = tuple[str, int]
Row = Mapping[str, Any]

cached_alone = lru_cache(maxsize=4096)(train_alone)
"""`train_alone`, once for each configuration."""


def differences(trials: Sequence[Trial], store: Store) -> list[str]:
    """What of some trials, nothing of which is decided yet, is not as alone; a line each, empty where all is."""
    found: list[str] = []
    coverage = Coverage(store.read("segments"))
    tables = {name: store.read(name).to_pylist() for name in ("metrics", "curvature", "checks", "events")}
    by_key = {name: keyed(rows) for name, rows in tables.items()}
    allowed: set[Key] = set()
    for trial in resolved(trials, store):
        config, alone = trial.config, cached_alone(trial.config)
        name = f"{trial.trial_id} (seed {config.seed}, {config.schedule})"
        # One that cannot hold any more ends at its latest step, also where the trial diverges before it.
        if trial.ended[: len(alone.ended)] != alone.ended or (alone.status == "ok" and trial.ended != alone.ended):
            found.append(f"{name}: its criteria ended at {trial.ended}, alone at {alone.ended}")
            continue
        if (status := coverage.chain(trial).status) != alone.status:
            found.append(f"{name}: {status}, alone {alone.status}")
        probe = probe_observed(config.measure)
        mine: dict[str, Iterable[Row]] = {
            "metrics": alone.metrics,
            "curvature": [{"observed": probe, **row} for row in alone.curvature],
            "checks": alone.checks,
            "events": alone.events,
        }
        for kind, rows in mine.items():
            for row in rows:
                found += [f"{name}: {each}" for each in unlike(kind, row, by_key[kind].get(key(row)))]
        found += [f"{name}: {each}" for each in _extra(trial, alone, tables["events"])]
        allowed |= _asked(trial, config)
    keys = [(row["lineage"], row["step"]) for row in tables["metrics"]]
    found += [f"metrics {each} are asked by no trial" for each in sorted(set(keys) - allowed)]
    found += [f"metrics {each} are there twice" for each in sorted({k for k in keys if keys.count(k) > 1})]
    return found


def trained_twice(store: Store) -> list[str]:
    """Lineages of which some update is recorded more than once."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for row in store.read("segments").to_pylist():
        spans.setdefault(row["lineage"], []).append((row["start"], row["reached"]))
    return [
        f"{lineage}: {mine}"
        for lineage, mine in spans.items()
        if any(later[0] < earlier[1] for earlier, later in pairwise(sorted(mine)))
    ]


def rows_of(trials: Sequence[Trial], store: Store) -> dict[str, list[dict[str, Any]]]:
    """What a store holds of some trials, result columns alone, by table and trial.

    Not the tables as they are: how far a trunk went beyond the end of its last criterion hangs on who shared its pack.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    asked = resolved(trials, store)
    for name in ("metrics", "events", "checks"):
        execution = {column.name for column in table(name).columns if column.kind != "result"}
        of: dict[str, list[dict[str, Any]]] = {}
        for row in store.read(name).to_pylist():
            of.setdefault(row["lineage"], []).append({c: bits(v) for c, v in row.items() if c not in execution})
        found[name] = [
            {"trial": trial.trial_id, **row}
            for trial in asked
            for link, wants in zip(trial.links, asked_of(trial), strict=True)
            for row in of.get(link.lineage, ())
            if (row["step"] in wants.evaluate if name == "metrics" else link.start <= row["step"] <= link.end)
            and (name != "checks" or link.stage < len(trial.ended))
        ]
    return found


def view_differences(trials: Sequence[Trial], store: Store) -> list[str]:
    """What the public views say of some trials otherwise than alone: every row that is asked, and no other."""
    found, names = [], ("metrics", "curvature", "checks")
    mine: dict[str, dict[tuple[str, int], Row]] = {name: {} for name in names}
    for trial in trials:  # equal trials of several studies are one, observed as any of them asks
        alone = cached_alone(trial.config)
        for name in names:
            mine[name] |= {(trial.trial_id, row["step"]): row for row in getattr(alone, name)}
    with open_views(resolved(trials, store), store) as views:
        for name in names:
            theirs = {(row["trial_id"], row["step"]): row for row in views.arrow(name).to_pylist()}
            found += [f"view {name}: {each} only alone" for each in sorted(mine[name].keys() - theirs.keys())]
            found += [f"view {name}: {each} only recorded" for each in sorted(theirs.keys() - mine[name].keys())]
            for each in mine[name].keys() & theirs.keys():
                columns = mine[name][each].keys() & theirs[each].keys() - {"method", "error", "products"}
                found += [
                    f"view {name}: {each} {column} differs"
                    for column in columns
                    if bits(mine[name][each][column]) != bits(theirs[each][column])
                ]
        statuses = {row["trial_id"]: row["status"] for row in views.arrow("trials").to_pylist()}
    found += [
        f"view trials: {trial.trial_id} is {statuses[trial.trial_id]}"
        for trial in trials
        if statuses[trial.trial_id] != cached_alone(trial.config).status
    ]
    return found


def key(row: Row) -> tuple[Any, ...]:
    return row["lineage"], row["step"], row.get("observed"), row.get("kind")


def keyed(rows: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
    return {key(row): row for row in rows}


def unlike(kind: str, mine: Row, theirs: Row | None) -> list[str]:
    """The columns in which a recorded row is not the trial's own."""
    where = f"{kind} of {mine['lineage']} at {mine['step']}"
    if theirs is None:
        return [f"{where}: not recorded"]
    return [
        f"{where}: {column} is recorded as {theirs.get(column)!r}, alone {value!r}"
        for column, value in mine.items()
        if bits(theirs.get(column)) != bits(value)
    ]


def bits(value: Any) -> Any:
    """A value that is equal where all bits are."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Mapping):
        return sorted((name, bits(item)) for name, item in value.items())
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, tuple):
        return tuple(bits(item) for item in value)
    return value


def _extra(trial: Trial, alone: Alone, events: Iterable[Row]) -> list[str]:
    """Events that lie on the trial's chain and that it does not have alone."""
    known = {key(row) for row in alone.events}
    spans = {link.lineage: link for link in trial.links}
    mine = [
        row
        for row in events
        if (link := spans.get(row["lineage"])) is not None and link.start <= row["step"] <= link.end
    ]
    return [f"event {row} is not its own" for row in mine if key(row) not in known]


def _asked(trial: Trial, config: TrialConfig) -> set[Key]:
    """Where metrics of a trial's lineages may be: its own, and those that were asked before a criterion had ended."""
    chains = [links(config, trial.ended[:known]) for known in range(len(trial.ended) + 1)]
    ends = {link.end for chain in chains for link in chain}
    whole = evaluation_grid(config.train.steps, config.train.evaluate_every, ends)
    return {(link.lineage, step) for chain in chains for link in chain for step in whole}
