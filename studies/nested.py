"""Terms whose values are tables or lists of tables, as `schedule.stages`: checked part by part, and written as text.

`core.terms.check` judges one value; a list of stages holds many, each with a place of its own, and a study file is told
about all of them at once. What a stage and a criterion may say is declared in `core.config` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_args, get_origin

from core.config import TrainConfig, cross_rules
from core.errors import Problem
from core.lineage import canonical_json
from core.schedule_terms import ScheduleConfig, StageConfig
from core.terms import check, hints, nearest, terms


def checked(section: type, name: str, value: Any) -> tuple[Any, list[Problem]]:
    """One value of one term, and everything that is wrong with it.

    Args:
        section: the class that declares the term.
        name: of the term.
        value: as TOML gives it.

    Returns:
        The value in its declared type, and the problems; their places follow the term's name, as
        ``[2].until.delta1``, or are empty where the whole value is meant.
    """
    problems = list(_problems(section, name, value, ""))
    if problems:
        return value, problems
    clean, wrong = check(section, name, value)
    return clean, [] if wrong is None else [Problem("", wrong)]


def _problems(section: type, name: str, value: Any, place: str) -> Iterator[Problem]:
    hint = hints(section)[name]
    listed = listed_table(hint)
    if listed is not None and isinstance(value, (list, tuple)):
        yield from _in_list(listed, value, place)
    elif listed is not None:
        got = "one table" if isinstance(value, Mapping) else repr(value)
        way = "write [{…}, {…}], and as values of an axis [[{…}, {…}], [{…}]]"
        yield Problem(place, f"must be a list of tables, got {got}; {way}")
    elif (table := table_in(hint)) is not None and isinstance(value, Mapping):
        yield from _in_table(table, value, place)
    elif (wrong := check(section, name, value)[1]) is not None:
        yield Problem(place, wrong)


def _in_list(table: type, items: Sequence[Any], place: str) -> Iterator[Problem]:
    if not items:
        yield Problem(place, "must list at least one table, got []; drop the key, or write [{…}, {…}]")
    for number, item in enumerate(items, start=1):
        if isinstance(item, Mapping):
            yield from _in_table(table, item, f"{place}[{number}]")
        elif not isinstance(item, table):
            yield Problem(f"{place}[{number}]", f"must be a table of {', '.join(terms(table))}, got {item!r}")
    if table is StageConfig:
        yield from _ends(items, place)


def _in_table(table: type, values: Mapping[str, Any], place: str) -> Iterator[Problem]:
    for name, value in values.items():
        inner = f"{place}.{name}"
        if name in terms(table):
            yield from _problems(table, name, value, inner)
        else:
            yield Problem(inner, f"unknown key; {nearest(name, terms(table))}")


def _ends(stages: Sequence[Any], place: str) -> Iterator[Problem]:
    """Which stages must have an end, by the rules of `core.config`; where the ends lie is judged with the steps."""
    ended = ["until" in stage for stage in stages if isinstance(stage, Mapping)]
    if not stages or len(ended) < len(stages):
        return
    # Ends in order, each where one is given, so that nothing but their presence can be wrong.
    bare = tuple(StageConfig(until=number if end else None) for number, end in enumerate(ended, start=1))
    for where, message in cross_rules(TrainConfig(steps=len(bare) + 1), ScheduleConfig(kind="stages", stages=bare)):
        yield Problem(f"{place}{where.removeprefix('schedule.stages')}", message)


def listed_table(hint: Any) -> type | None:
    """The table of which a type is a list; None for other types."""
    return table_in(get_args(hint)[0]) if get_origin(hint) is tuple else None


def table_in(hint: Any) -> type | None:
    """The table that a type is, alone or beside others (``float | CriterionConfig``); None for other types."""
    options = (hint, *get_args(hint)) if get_origin(hint) is not tuple else ()
    return next((cast(type, option) for option in options if isinstance(option, type) and is_dataclass(option)), None)


def written(value: Any) -> Any:
    """A value as it is shown and recorded: lists and tables as canonical JSON text, all else as it is.

    A table says its choices (`criterion`) and what differs from the defaults, so equal values have equal texts and
    different ones, a step of 1 and a share of 1.0 too, different texts.
    """
    return canonical_json(_plain(value)) if isinstance(value, tuple) or is_dataclass(value) else value


def shown(value: Any) -> str:
    """A value in a message."""
    text = written(value)
    return repr(text) if text is value else str(text)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        found = {spec.name: (getattr(value, spec.name), spec.default) for spec in fields(value)}
        said = {"criterion"} | {name for name, (own, default) in found.items() if _typed(own) != _typed(default)}
        return {name: _plain(own) for name, (own, _) in found.items() if name in said}
    return value


def _typed(value: Any) -> tuple[type, Any]:
    return type(value), value
