"""Checks `[search]`, and what each arm searches of its own (`[arms.NAME] space`).

An arm's space is the common one with its own keys laid over it. What does not act on the arm is left out later, by
the walk over its settings (`studies.feasible`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from core.errors import Problem
from studies.grammar import SearchTable
from studies.grid import Convert
from studies.rungs import RUNG_KEY, halving_of, malformed
from studies.space import MAX_POINTS, Range, Space, parse_space
from studies.study import Arm, Search


def parse_search(
    document: Mapping[str, Any], arms: Sequence[Arm], convert: Convert, problems: list[Problem]
) -> tuple[Search | None, list[Arm]]:
    """The search of a study, None where there is none or it is unsound, and its arms with what each of them searches.

    Args:
        document: the study's; its structure may be unsound, which is said elsewhere.
        arms: as far as they are sound.
        convert: checks and converts one value of a key.
        problems: receives every problem found.
    """
    table = _table(document.get("search"))
    common = parse_space(_table(table.get("space")), "search.space", convert, problems)
    halving = _table(table.get("halving"))
    if halving:
        problems += filter(None, [malformed(halving.get("rungs", 3))])
    searched = []
    for arm in arms:
        place = f"arms.{arm.name}.space"
        own = parse_space(_table(_table(document["arms"])[arm.name].get("space")), place, convert, problems)
        if own and "search" not in document:
            problems.append(Problem(place, "acts only under [search]; add it, or list the values as axes"))
        searched.append(replace(arm, space={**common, **own}))
    if "search" not in document:
        return None, searched
    if "halving" in table:
        own_rungs = [arm.name for arm in searched if RUNG_KEY in arm.space and RUNG_KEY not in common]
        places = ["search.space"] * (RUNG_KEY in common) + [f"arms.{name}.space" for name in own_rungs]
        message = "is what the rungs of [search.halving] are; drop one of them"
        problems += [Problem(f'{place}."{RUNG_KEY}"', message) for place in places]
    spaces = {"search.space": common} | {f"arms.{arm.name}.space": arm.space for arm in searched}
    if not any(spaces.values()) and not _table(table.get("space")):
        message = 'is required: what is varied, at least 1 key, as "train.lr" = {low = 1e-4, high = 1e-2, log = true}'
        problems.append(Problem("search.space", message))
    try:
        search = _search(SearchTable.model_validate(table), common, problems)
    except ValidationError:  # the structure's check says so
        return None, searched
    problems += _points(spaces, grid=search.kind == "grid")
    return search, searched


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _search(table: SearchTable, space: Space, problems: list[Problem]) -> Search:
    def wrong(key: str, message: str) -> None:
        problems.append(Problem(f"search.{key}", message))

    if table.metric is not None and table.metrics is not None:
        wrong("metrics", "stands beside `metric`; keep one of them")
    metrics = tuple(table.metrics or [table.metric or "final_val_loss"])
    if repeated := [name for number, name in enumerate(metrics) if name in metrics[:number]]:
        wrong("metrics", f"must differ, got {repeated[0]!r} twice; drop one")
    if table.kind == "grid" and table.trials is not None:
        wrong("trials", 'does not act under kind = "grid", which has all its points; drop it')
    if table.kind != "grid" and table.trials is None:
        wrong("trials", "is required: settings per arm")
    if table.kind == "nsga2" and table.batch == 1:
        wrong("batch", 'is a generation under kind = "nsga2": at least 2 settings, got 1')
    if table.halving is not None and len(metrics) > 1:
        wrong("halving", f"ranks settings by one metric, got {len(metrics)} `metrics`; keep the one that decides")
    return Search(
        kind=table.kind,
        metrics=metrics,
        trials=table.trials,
        batch=table.batch,
        seed=table.seed,
        space=space,
        halving=None if table.halving is None else halving_of(table.halving),
    )


def _points(spaces: Mapping[str, Space], *, grid: bool) -> Iterator[Problem]:
    """Where a range does not say how many values a grid takes of it, or says so for no grid."""
    found: dict[int, tuple[str, Range]] = {}
    for place, space in spaces.items():
        for key, dimension in space.items():
            if isinstance(dimension, Range):  # what arms share is looked at once
                found.setdefault(id(dimension), (f'{place}."{key}".points', dimension))
    for place, dimension in found.values():
        if not grid and dimension.points is not None:
            yield Problem(place, 'acts only under kind = "grid"; drop it')
        elif grid and dimension.points is None and not dimension.integer:
            yield Problem(place, 'is required under kind = "grid": how many values of the range it takes')
        elif grid and dimension.points is None and dimension.high - dimension.low >= MAX_POINTS:
            yield Problem(place, f"is required: the range has more than {MAX_POINTS} whole numbers")
