"""One trial, or two: found by a beginning of its id, described from what is recorded, compared with another.

Everything is returned as plain values (what ``--json`` prints); how it looks is the command's affair. Rows are keyed by
lineage and step, so a trial's history is that of its links, whoever ran them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.config import TrialConfig
from core.errors import InputError, Problem
from core.lineage import acting_keys

if TYPE_CHECKING:
    from studies.expand import Trial
    from studies.store import Store

HEX = frozenset("0123456789abcdef")
_SHORTEST = 3
"""Digits of a beginning that is accepted: fewer name a trial only by luck."""


def find(beginning: str, trials: Iterable[Trial], *, searched: str) -> list[Trial]:
    """The trial whose id begins so: once for each study and arm that asks for it.

    Args:
        beginning: 3 to 16 hex digits.
        trials: of all the studies that are searched.
        searched: what was searched, for the message.

    Raises:
        InputError: if it is no beginning of an id, or names no trial, or several.
    """
    wanted = beginning.lower()
    if not _SHORTEST <= len(wanted) <= 16 or not set(wanted) <= HEX:
        raise InputError(f"a trial id is 16 hex digits (its first {_SHORTEST} or more will do), got {beginning!r}")
    found = [trial for trial in trials if trial.trial_id.startswith(wanted)]
    ids = sorted({trial.trial_id for trial in found})
    if not ids:
        raise InputError([Problem(beginning, f"no such trial in {searched}; name its study with --study")])
    if len(ids) > 1:
        shown = ", ".join(ids[:4]) + (" …" if len(ids) > 4 else "")
        raise InputError([Problem(beginning, f"begins {len(ids)} trial ids, give more digits: {shown}")])
    return found


def acting(config: TrialConfig) -> dict[str, Any]:
    """The terms that act on a trial, by dotted key, in the order of the configuration."""
    keys, terms = acting_keys(config), {}
    for section, values in config.to_dict().items():
        for key, value in [(section, values)] if section == "seed" else _dotted(section, values):
            if key in keys:
                terms[key] = value
    return terms


def chain(trial: Trial) -> list[dict[str, Any]]:
    """The links of a trial's chain as plain values: lineage, start, end, loops."""
    return [
        {"lineage": link.lineage, "start": link.start, "end": link.end, "loops": link.loops} for link in trial.links
    ]


def differing(first: TrialConfig, second: TrialConfig) -> list[tuple[str, Any, Any]]:
    """The acting terms in which two trials differ: (dotted key, value of the first, of the second).

    None stands where a term does not act.
    """
    a, b = acting(first), acting(second)
    return [(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]


def shared_steps(first: Trial, second: Trial) -> int:
    """The last step to which two trials have the same states; 0 if they differ from the start."""
    shared = 0
    for a, b in zip(first.links, second.links, strict=False):
        if a.lineage != b.lineage:
            break
        shared = min(a.end, b.end)
        if a.end != b.end:
            break
    return shared


def facts(uses: Sequence[Trial], store: Store) -> dict[str, Any]:
    """All that is known of one trial.

    Args:
        uses: the trial, once for each study and arm that asks for it.
        store: where its rows are.
    """
    from studies.coverage import Coverage

    trial = uses[0]
    segments = store.read("segments")
    state = Coverage(segments).chain(trial)
    runs = segments.take(sorted(set(state.rows))).to_pylist()
    provenance = sorted({run.pop("provenance") or "{}" for run in runs})
    return {
        "trial_id": trial.trial_id,
        "status": state.status,
        "error": state.error,
        "asked_by": [{"study": use.study, "arm": use.arm, "role": use.role} for use in uses],
        "seed": trial.config.seed,
        "config": trial.config.to_dict(),
        "acting": acting(trial.config),
        "chain": chain(trial),
        "metrics": _rows(trial, store, "metrics"),
        "curvature": _rows(trial, store, "curvature"),
        "events": _rows(trial, store, "events"),
        "segments": [_plain(run) for run in runs],
        "provenance": [json.loads(text) for text in provenance],
        "files": _checkpoints(trial, store),
    }


def last_row(trial: Trial, store: Store) -> dict[str, Any]:
    """The metrics of a trial at its last recorded step; empty where nothing is recorded."""
    rows = _rows(trial, store, "metrics")
    return rows[-1] if rows else {}


def compared(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The numbers of two rows side by side, without those that are equal: (column, of the first, of the second)."""
    columns = [key for key in {**first, **second} if key != "lineage"]
    return [(key, first.get(key), second.get(key)) for key in columns if first.get(key) != second.get(key)]


def _rows(trial: Trial, store: Store, name: str) -> list[dict[str, Any]]:
    """The rows of a table on a trial's chain, by step; columns without any value are left out."""
    import pyarrow.compute as pc

    found = []
    for link in trial.links:
        first = 0 if link.start == 0 else link.start + 1
        step = pc.field("step")
        mine = (pc.field("lineage") == link.lineage) & (step >= first) & (step <= link.end)
        found += store.dataset(name).to_table(filter=mine).sort_by("step").to_pylist()
    kept = [key for key in (found[0] if found else ()) if any(row[key] is not None for row in found)]
    return [_plain({key: row[key] for key in kept if key != "rank"}) for row in found]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
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
    found = []
    for link in trial.links:
        folder = store.checkpoint(link.lineage, link.end).parent
        steps = sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{link.lineage}-*.safetensors"))
        found += [str(store.checkpoint(link.lineage, step)) for step in steps if step <= link.end]
    return found


def _dotted(section: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{section}.{name}", value) for name, value in values.items()]
