"""The tasks that the trials of a study were set, and the columns of lengths that they fill.

A loss at sixteen hops and one at two are no numbers of one axis. So what compares settings beyond the claims, accuracy
against length or loops, maps, the Pareto front, is made for each task by itself: the trials that are validated on the
same thing. Terms that act on the training alone (`TRAINED_ON`) make no other task.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from core.task_terms import TRAINED_ON
from reports import words
from reports.tables import Tables

_LENGTH = re.compile(r"_len_(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a study."""

    name: str
    """What it differs in from the study's others (``parity``, ``p_hop, hops = 16``); empty where it is the only one."""
    terms: tuple[dict[str, Any], ...]
    """The terms of the task of each compared trial, in their order."""
    tables: Tables
    """Those of the study with the task's compared trials alone."""


def length_of(column: str) -> int | None:
    """The length whose stratum a column holds: 12 of ``final_val_exact_len_12``; None for any other column."""
    found = _LENGTH.search(column)
    return int(found[1]) if found else None


def split(tables: Tables) -> list[Task]:
    """The tasks of a study's compared trials, by kind and then by the terms that differ within it; at least one.

    Axes that tell tasks apart are none within a task, so no setting names them again.
    """
    return tables.once(_split)


def _split(tables: Tables) -> list[Task]:
    rows = tables.compared().reset_index(drop=True)
    if rows.empty:
        return [Task(name="", terms=(), tables=tables)]
    texts = [_task(text) for text in rows["config"]]
    known = {text: json.loads(text) for text in dict.fromkeys(texts)}  # few, of however many trials
    terms = [known[text] for text in texts]
    of_kind: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(terms):
        of_kind[str(one.get("kind", ""))].append(place)
    found = []
    for kind in sorted(of_kind):
        places = of_kind[kind]
        alike = [known[text] for text in dict.fromkeys(texts[place] for place in places)]
        keys = sorted({key for one in alike for key in one} - {"kind"} - TRAINED_ON)
        differ = [key for key in keys if len({_text(one.get(key)) for one in alike}) > 1]
        named = {text: tuple(_text(known[text].get(key)) for key in differ) for text in known}
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place in places:
            groups[named[texts[place]]].append(place)
        inside = {f"task.{key}" for key in differ} | ({"task.kind"} if len(of_kind) > 1 else set())
        for own in sorted(groups.values(), key=lambda own: [_order(terms[own[0]].get(key)) for key in differ]):
            values = {key: terms[own[0]].get(key) for key in differ}
            shown = [*([kind] if len(of_kind) > 1 else []), *([words.setting(values)] if values else [])]
            trials = rows.loc[own].reset_index(drop=True)
            axes = tuple(axis for axis in tables.axes if axis not in inside and trials[axis].notna().any())
            found.append(
                Task(
                    name=", ".join(shown),
                    terms=tuple(terms[place] for place in own),
                    tables=replace(tables, trials=trials, axes=axes),
                )
            )
    return found


@lru_cache(maxsize=1 << 16)
def _task(config: str) -> str:
    """The task of a configuration, as canonical JSON; a report asks for that of each trial several times."""
    return json.dumps(json.loads(config).get("task", {}), sort_keys=True)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size before all else by its text."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, _text(value))
