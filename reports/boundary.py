"""Whether what was tuned lies at the end of what was tried: the best value is then perhaps further out.

For each nuisance axis, the value that won in each setting; for each dimension of a search, the value of the best
setting of each arm. An end that is also the end of what the term may be (a weight decay of 0) is no boundary: nothing
lies beyond it. Of a continuous range the outer `MARGIN` on either side counts as its end: no draw falls on it exactly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeGuard

from core.terms import terms
from reports import words
from reports.tables import Results, Tables
from studies.confirm import chosen, ranking, settings
from studies.expand import Trial
from studies.settings import known_keys
from studies.space import Range
from studies.study import Search, Study

MARGIN = 0.05
"""Share of a continuous range that counts as its end, in the logarithm where it is drawn there."""

End = Literal["lowest", "highest"]


def boundaries(study: Study, results: Results, tables: Tables) -> list[dict[str, Any]]:
    """The tuned values that lie at an end of what was tried, by arm and key, each with a ``sentence``.

    ``settings`` of ``of`` settings of the arm have their best value there; ``low`` and ``high`` are the ends.
    """
    if study.search is not None:
        found = list(_searched(study, study.search, results, tables))
    elif study.nuisance is not None:
        found = list(_tuned(study.nuisance.axes.keys, results.wanted))
    else:
        found = []
    return [entry | {"sentence": words.boundary([entry])} for entry in found]


def sentences(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The same in sentences, one for all arms that tried the same."""
    alike: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        alike[tuple(entry[name] for name in ("kind", "key", "end", "low", "high"))].append(entry)
    return [words.boundary(own) for own in alike.values()]


def _tuned(keys: Iterable[str], trials: Iterable[Trial]) -> Iterable[dict[str, Any]]:
    tried: dict[tuple[str, str], set[float]] = defaultdict(set)
    won: dict[tuple[str, str], list[float]] = defaultdict(list)
    keys, trials = tuple(keys), tuple(trials)
    for trial in trials:
        for key in keys if trial.role == "tune" else ():
            if _numeric(value := trial.varied.get(key)):
                tried[trial.arm, key].add(value)
    for own in settings(trials).values():
        for key in keys:
            if _numeric(value := own[0].varied.get(key)):
                won[own[0].arm, key].append(value)
    for (arm, key), values in won.items():
        yield from _entries(arm, key, values, tried[arm, key], kind="nuisance")


def _searched(study: Study, search: Search, results: Results, tables: Tables) -> Iterable[dict[str, Any]]:
    if len(search.metrics) > 1 or search.metric not in tables.trials.columns:  # several have no single best
        return
    rows: list[dict[Any, Any]] = tables.trials[["trial_id", "status", search.metric]].to_dict("records")
    spaces = {arm.name: arm.space for arm in study.arms}
    for arm in dict.fromkeys(trial.arm for trial in results.wanted):
        own = [trial for trial in results.wanted if trial.arm == arm]
        for best in chosen(ranking(own, rows, search.metric), top=1):
            for key, dimension in spaces[arm].items():
                value = best.trial.varied.get(key)
                if not _numeric(value):
                    continue
                if isinstance(dimension, Range):
                    ends = {dimension.low, dimension.high}
                    yield from _entries(arm, key, [_outermost(value, dimension)], ends, kind="search", value=value)
                elif all(map(_numeric, dimension)):
                    yield from _entries(arm, key, [value], set(dimension), kind="search")


def _outermost(value: float, within: Range) -> float:
    """The end of a continuous range that a value is nearly at, else the value itself."""
    if within.integer or within.low == within.high:
        return value
    scale = math.log if within.log else float
    place = (scale(value) - scale(within.low)) / (scale(within.high) - scale(within.low))
    return within.low if place <= MARGIN else within.high if place >= 1 - MARGIN else value


def _entries(
    arm: str,
    key: str,
    values: Collection[float],
    tried: Collection[float],
    *,
    kind: Literal["nuisance", "search"],
    value: float | None = None,
) -> Iterable[dict[str, Any]]:
    """An entry for each end of what was tried at which some value lies, where the term could go further."""
    if len(tried) < 2:
        return
    ends: Mapping[End, float] = {"lowest": min(tried), "highest": max(tried)}
    for end, limit in ends.items():
        there = sum(one == limit for one in values)
        if there and not _last(key, limit, end):
            yield {
                "kind": kind,
                "arm": arm,
                "key": key,
                "end": end,
                "value": limit if value is None else value,
                "low": min(tried),
                "high": max(tried),
                "settings": there,
                "of": len(values),
            }


def _last(key: str, limit: float, end: End) -> bool:
    """Whether a term has no value beyond this one, in the sections that declare it."""
    sign = -1 if end == "lowest" else 1
    beyond = limit + sign if isinstance(limit, int) else math.nextafter(limit, sign * math.inf)
    name = key.partition(".")[2]
    sections = known_keys().get(key, ())
    return bool(sections) and all(terms(s)[name].metadata["bounds"].violated(beyond) is not None for s in sections)


def _numeric(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
