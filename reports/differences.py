"""What the arms of a report differ in, and only that: the terms that act on their trials, with their values.

A term that does not act (the switch of an arm that never switches) is no difference, whatever stands in the file. Seeds
and what is measured are no terms of a trial's training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.config import TrialConfig
from core.lineage import acting_keys
from reports.tables import Tables
from studies.nested import written

MOST_VALUES = 6
"""Values of a term that a cell names."""

Terms = Mapping[str, Any]
"""By dotted key, the terms that act on a trial."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A study of a report."""

    name: str
    """As the report calls it; no other study of the report has it."""
    arms: Sequence[str]
    tables: Tables
    terms: Mapping[str, Terms]
    """By trial_id, as `acting_terms` gives them."""


def acting_terms(config: TrialConfig) -> dict[str, Any]:
    """The terms that act on a trial, its seed aside, by dotted key; tables and lists as text, as in the view trials."""
    pairs = [key.split(".", 1) for key in sorted(acting_keys(config) - {"seed"})]
    return {f"{section}.{name}": written(getattr(getattr(config, section), name)) for section, name in pairs}


def differences(sides: Sequence[Side]) -> dict[str, Any] | None:
    """The section ``differences`` of ``report.json``; None where no two arms differ.

    Returns:
        ``columns``: study and arm. ``rows``: key, and for each column the values that the arm's compared trials take,
        as text; None where the term acts on none of them.
    """
    columns, found = [], []
    for side in sides:
        for arm in side.arms:
            known = [side.terms[key] for key in side.tables.compared(arm)["trial_id"] if key in side.terms]
            if known:
                columns.append({"study": side.name, "arm": arm})
                found.append(values(known))
    rows = [
        {"key": key, "values": [cell(own.get(key)) for own in found]}
        for key in sorted({key for own in found for key in own})
        if len({own.get(key) for own in found}) > 1
    ]
    return {"columns": columns, "rows": rows} if rows else None


def values(trials: Iterable[Terms]) -> dict[str, tuple[Any, ...]]:
    """By term, the distinct values that some trials take: numbers by size, then texts."""
    found: dict[str, set[tuple[bool, Any]]] = {}
    for terms in trials:
        for key, value in terms.items():
            found.setdefault(key, set()).add((isinstance(value, bool), value))  # to a set, True and 1 are equal
    return {key: tuple(value for _, value in sorted(own, key=_order)) for key, own in found.items()}


def _order(entry: tuple[bool, Any]) -> tuple[int, float, str]:
    truth, value = entry
    number = isinstance(value, (int, float)) and not truth
    return (0, float(value), "") if number else (1, 0.0, text(value))


def cell(found: Sequence[Any] | None) -> str | None:
    """The values of a term, the first of many."""
    if found is None:
        return None
    more = f" … ({len(found)} values)" if len(found) > MOST_VALUES else ""
    return ", ".join(map(text, found[:MOST_VALUES])) + more


def text(value: Any) -> str:
    """A value as a study file has it, texts without their quotes."""
    return value if isinstance(value, str) else json.dumps(value)
