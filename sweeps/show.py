"""One trial, or two: found by a beginning of its id, described from what is recorded, compared with another.

Everything is returned as plain values (what ``--json`` prints); how it looks is the command's affair. Rows are keyed by
lineage and step, so a trial's history is that of its links, whoever ran them, at the steps of its own: those that the
views have. What others asked for on the way is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.config import TrialConfig
from core.errors import InputError, Problem
from core.lineage import acting_keys

if TYPE_CHECKING:
    from studies.expand import Trial
    from studies.store import Store
    from studies.views import Views

HEX = frozenset("0123456789abcdef")
_SHORTEST = 3
"""Digits of a beginning that is accepted: fewer name a trial only by luck."""


def find(
    beginning: str, trials: Iterable[Trial], *, searched: str, next_step: str = "name its study with --study"
) -> list[Trial]:
    """The trial whose id begins so: once for each study and arm that asks for it.

    Args:
        beginning: 3 to 16 hex digits.
        trials: of all the studies that are searched.
        searched: what was searched, for the message.
        next_step: what to do where it is not found, for the message.

    Raises:
        InputError: if it is no beginning of an id, or names no trial, or several.
    """
    wanted = beginning.lower()
    if not _SHORTEST <= len(wanted) <= 16 or not set(wanted) <= HEX:
        raise InputError(f"a trial id is 16 hex digits (its first {_SHORTEST} or more will do), got {beginning!r}")
    found = [trial for trial in trials if trial.trial_id.startswith(wanted)]
    ids = sorted({trial.trial_id for trial in found})
    if not ids:
        raise InputError([Problem(beginning, f"no such trial in {searched}; {next_step}")])
    if len(ids) > 1:
        shown = ", ".join(ids[:4]) + (" …" if len(ids) > 4 else "")
        raise InputError([Problem(beginning, f"begins {len(ids)} trial ids, give more digits: {shown}")])
    once: dict[tuple[str, str, str], Trial] = {}
    for trial in found:
        once.setdefault((trial.study, trial.arm, trial.role), trial)
    return list(once.values())


def acting(config: TrialConfig) -> dict[str, Any]:
    """The terms that act on a trial, by dotted key, in the order of the configuration."""
    keys, terms = acting_keys(config), {}
    for section, values in config.to_dict().items():
        for key, value in [(section, values)] if section == "seed" else _dotted(section, values):
            if key in keys:
                terms[key] = value
    return terms


def said(config: TrialConfig, key: str) -> Any:
    """The value of a term as people are shown it: lists and tables as text."""
    from studies.nested import written

    section, _, name = key.partition(".")
    value = getattr(config, section)
    return written(getattr(value, name)) if name else value


def chain(trial: Trial) -> list[dict[str, Any]]:
    """The links of a trial's chain, as far as known, as plain values."""
    from studies.stage_words import acts_text

    return [
        {
            "start": link.start,
            "end": link.end,
            "stage": link.stage,
            "loops": link.loops,
            "draw": link.draw,
            "acts": ", ".join(acts_text(link)) or None,
            "lineage": link.lineage,
        }
        for link in trial.links
    ]


def criteria(trial: Trial, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The criteria that have begun to watch a trial: stage, from which step, where each ended it, and its terms.

    Args:
        trial: the trial.
        events: rows of its view `events`.
    """
    from studies.switches import watched

    fired = {row["step"]: json.loads(row["detail"])["fired"] for row in events if row["kind"] == "watcher"}
    return [
        {
            "stage": one.watch.stage,
            "start": one.watch.start,
            "ended": one.ended,
            "fired": None if one.ended is None else fired[one.ended],
            **one.watch.criterion.terms(),
        }
        for one in watched(trial)
    ]


def differing(first: TrialConfig, second: TrialConfig) -> list[tuple[str, Any, Any]]:
    """The acting terms in which two trials differ: (dotted key, value of the first, of the second).

    None stands where a term does not act.
    """
    a, b = acting(first), acting(second)
    return [(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]


def shared_steps(first: Trial, second: Trial, store: Store) -> tuple[int, bool]:
    """The last step to which two trials are known to have the same states, and whether there may come to be more.

    The step is 0 if they differ from the start; more may come where one waits for a criterion on what they share.
    """
    from studies.switches import frontiers

    known = frontiers((first, second), store.dataset("checks"))
    shared = 0
    for a, b in zip(first.links, second.links, strict=False):
        if a.lineage != b.lineage:
            break
        ends = [min(link.end, known.get(trial.trial_id, link.end)) for trial, link in ((first, a), (second, b))]
        shared = min(ends)
        waits = [end < link.end for end, link in zip(ends, (a, b), strict=True)]
        if any(waits):
            # Who is known to leave where the other has come, or before, shares no more.
            fixed = [end for end, wait in zip(ends, waits, strict=True) if not wait]
            return shared, not fixed or fixed[0] > shared
        if a.end != b.end:
            break
    return shared, False


def facts(uses: Sequence[Trial], store: Store, *, asking: Sequence[Trial] | None = None) -> dict[str, Any]:
    """All that is known of one trial.

    Args:
        uses: the trial, once for each study and arm that asks for it.
        store: where its rows are.
        asking: the trial, once for each measurement that is shown; None: those of `uses`.
    """
    import pyarrow as pa

    from studies.coverage import Coverage
    from studies.drops import SWITCH_COLUMNS
    from studies.views import open_views
    from sweeps.show_curvature import measured

    trial = uses[0]
    segments = store.read("segments")
    coverage = Coverage(segments)
    state = coverage.chain(trial)
    runs = segments.take(pa.array(sorted(set(state.rows)), pa.int64())).to_pylist()
    provenance = sorted({run.pop("provenance") or "{}" for run in runs})
    with open_views(uses, store) as views:
        row = views.arrow("trials").to_pylist()[0]
        events = views.arrow("events").drop_columns("trial_id").to_pylist()
        own = {name: _steps(views, name) for name in ("metrics", "checks")}
    return {
        "trial_id": trial.trial_id,
        "status": state.status,
        "waits": trial.watch is not None,
        "unmeasured": coverage.lacks_measurements(trial),
        "error": state.error,
        "asked_by": [{"study": use.study, "arm": use.arm, "role": use.role} for use in uses],
        "seed": trial.config.seed,
        "config": trial.config.to_dict(),
        "acting": acting(trial.config),
        "chain": chain(trial),
        "criteria": criteria(trial, events),
        "switch": {name: row[name] for name in ("switch_step", "switches", *SWITCH_COLUMNS)},
        "flops_alone": row["flops_alone"],
        **{name: _rows(trial, store, name, steps) for name, steps in own.items()},
        "curvature": [plain(row) for row in measured(uses if asking is None else asking, store)],
        "events": events,
        "segments": [plain(run) for run in runs],
        "provenance": [json.loads(text) for text in provenance],
        "files": _checkpoints(trial, store),
    }


def last_row(trial: Trial, store: Store) -> dict[str, Any]:
    """The metrics of a trial at its last recorded step; empty where nothing is recorded."""
    from studies.views import open_views

    with open_views((trial,), store) as views:
        own = _steps(views, "metrics")
    rows = _rows(trial, store, "metrics", own)
    return rows[-1] if rows else {}


def compared(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The numbers of two rows side by side, without those that are equal: (column, of the first, of the second)."""
    columns = [key for key in {**first, **second} if key != "lineage"]
    return [(key, first.get(key), second.get(key)) for key in columns if first.get(key) != second.get(key)]


def _steps(views: Views, name: str) -> set[int]:
    """The steps of a view of one trial."""
    return set(views.arrow(name)["step"].to_pylist())


def _rows(trial: Trial, store: Store, name: str, own: Set[int]) -> list[dict[str, Any]]:
    """The rows of a table on a trial's chain at some steps, in order; columns without any value are left out."""
    import pyarrow.compute as pc

    found = []
    for link in trial.links:
        first = 0 if link.start == 0 else link.start + 1
        steps = [step for step in own if first <= step <= link.end]
        if not steps:
            continue
        mine = (pc.field("lineage") == link.lineage) & pc.field("step").isin(steps)
        found += store.dataset(name).to_table(filter=mine).sort_by("step").to_pylist()
    kept = [key for key in (found[0] if found else ()) if any(row[key] is not None for row in found)]
    return [plain({key: row[key] for key in kept if key != "rank"}) for row in found]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what JSON has a form for: times as ISO 8601, maps as objects."""
    return {key: _value(value) for key, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    return value


def _checkpoints(trial: Trial, store: Store) -> list[str]:
    """The checkpoints on a trial's chain that are there."""
    from studies.states import listed, state_name

    ends = {link.lineage: link.end for link in trial.links}
    found = [state for state in listed(store.place) if state[1] <= ends.get(state[0], -1)]
    order = list(ends)
    return [
        store.place.where(state_name(lineage, step, passing=passing))
        for lineage, step, passing in sorted(found, key=lambda state: (order.index(state[0]), state[1]))
    ]


def _dotted(section: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{section}.{name}", value) for name, value in values.items()]
