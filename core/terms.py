"""Terms: the fields of a configuration section, each with its type, range, meaning and unit declared once.

A section is a frozen dataclass whose fields are made by `term`. From that one declaration come validation (`build`,
which reports every problem of a section at once), the canonical form and, in `studies`, the JSON Schema. Values are
normalised to the declared type (an integer given for a float becomes that float), so equal meaning is equal value.
"""

from __future__ import annotations

import difflib
import math
import operator
import types
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from core.errors import InputError, Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The allowed range of a number; ``None`` is no limit on that side."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def violated(self, value: float) -> str | None:
        """The rule that `value` breaks, in words, or None."""
        rules: tuple[tuple[float | None, str, Callable[[float, float], bool]], ...] = (
            (self.ge, "at least", operator.ge),
            (self.gt, "more than", operator.gt),
            (self.le, "at most", operator.le),
            (self.lt, "less than", operator.lt),
        )
        for limit, word, holds in rules:
            if limit is not None and not holds(value, limit):
                return f"must be {word} {limit:g}"
        return None


def term(
    default: Any = MISSING,
    doc: str = "",
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    identity: bool = True,
    later: bool = False,
) -> Any:
    """Declares a field of a section.

    Args:
        default: its value where the study is silent; a term without one is required.
        doc: its meaning, in one line, with the unit.
        ge: least value.
        gt: value it must exceed.
        le: largest value.
        lt: value it must stay below.
        identity: False for what is observed or how a trial is kept: not part of what the trial is.
        later: True for a term that came when trials were recorded already: its default is what those did, and is left
            out of the canonical form, so that their ids stay.
    """
    metadata = {"doc": doc, "bounds": Bounds(ge, gt, le, lt), "identity": identity, "later": later}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def hints(section: type) -> dict[str, Any]:
    """The evaluated annotations of a section's fields."""
    return _declared(cast("Hashable", section))[0]


def terms(section: type) -> dict[str, Field[Any]]:
    """The fields of a section by name, in order."""
    return _declared(cast("Hashable", section))[1]


@cache
def _declared(section: Any) -> tuple[dict[str, Any], dict[str, Field[Any]]]:
    return get_type_hints(section), {f.name: f for f in fields(section)}


MANY = 32
"""So many names are listed in a message."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`` — did you mean 'x'?`` for the closest of `known`, else the list of what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f" and {len(known) - MANY} more" if len(known) > MANY else ""
    return "known are " + ", ".join(sorted(known)[:MANY]) + more


def fixed_count(hint: Any) -> int | None:
    """How many entries a list of this type has (``tuple[int, int]``); None where any number goes."""
    arguments = get_args(hint)
    return None if get_origin(hint) is not tuple or Ellipsis in arguments else len(arguments)


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f'"{v}"' for v in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type_name(h) for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if (count := fixed_count(hint)) is not None:
            return f"a list of {count}, each {_type_name(item)}"
        if is_dataclass(item):
            return f"a list of tables of {', '.join(terms(cast(type, item)))}"
        return f"a list, each {_type_name(item)}"
    if is_dataclass(hint):
        return f"a table of {', '.join(terms(cast(type, hint)))}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a text"}.get(hint, str(hint))


def _convert(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`; raises TypeError where it is not of it (bool is never a number here)."""
    origin = get_origin(hint)
    if origin is Literal:
        if isinstance(value, str) and value in get_args(hint):
            return value
    elif origin in (Union, types.UnionType):
        # Exact matches first: `float | int` keeps 3 an integer and 0.3 a float.
        options = get_args(hint)
        tables = [option for option in options if is_dataclass(option)]
        if tables and isinstance(value, Mapping):
            return _convert(value, tables[0])
        for option in sorted(options, key=lambda o: o is not type(value)):
            try:
                return _convert(value, option)
            except TypeError:
                continue
    elif origin is tuple:
        if isinstance(value, (list, tuple)) and fixed_count(hint) in (None, len(value)):
            return _items(value, get_args(hint)[0])
    elif is_dataclass(hint):
        table = cast(type, hint)
        if isinstance(value, table):
            return value
        if isinstance(value, Mapping):
            return build(table, value)
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value) + 0.0  # −0.0 becomes 0.0: equal values must have one text
            except OverflowError:  # an integer beyond all floats; refused as what it would become
                return math.inf if value > 0 else -math.inf
    elif hint is type(None):
        if value is None:
            return None
    elif type(value) is hint:
        return value
    raise TypeError


def _items(values: Iterable[Any], hint: Any) -> tuple[Any, ...]:
    """The entries of a list; what is wrong inside its tables says in which, counted from 1."""
    items: list[Any] = []
    problems: list[Problem] = []
    for number, value in enumerate(values, start=1):
        try:
            items.append(_convert(value, hint))
        except InputError as error:
            problems += [Problem(f"[{number}].{problem.where}", problem.message) for problem in error.problems]
    if problems:
        raise InputError(problems)
    return tuple(items)


def check(section: type, name: str, value: Any) -> tuple[Any, str | None]:
    """One value of one term: the value in its declared type, and what is wrong with it (None: nothing).

    Of what is wrong inside tables each says its place in the value: ``[2].until.delta1: must be …``.
    """
    try:
        return _checked(section, name, value)
    except InputError as error:
        return value, "; ".join(str(problem) for problem in error.problems)


def _checked(section: type, name: str, value: Any) -> tuple[Any, str | None]:
    """`check` that raises what is wrong inside tables as InputError, whose places begin within the value."""
    hint = hints(section)[name]
    try:
        value = _convert(value, hint)
    except TypeError:
        options = [v for v in get_args(hint) if isinstance(v, str)] if get_origin(hint) is Literal else []
        near = difflib.get_close_matches(value, options, n=1) if isinstance(value, str) else []
        hint_text = f"; did you mean '{near[0]}'?" if near else ""
        return value, f"must be {_type_name(hint)}, got {value!r}{hint_text}"
    bounds: Bounds = terms(section)[name].metadata["bounds"]
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            if isinstance(number, float) and not math.isfinite(number):
                return value, f"must be a finite number, got {number!r}"
            if (rule := bounds.violated(number)) is not None:
                return value, f"{rule}, got {number!r}"
    return value, None


def build(section: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A section from plain values.

    Args:
        section: the dataclass to build.
        values: by term; what is missing takes its default.
        where: the dotted place of the section, for messages.

    Raises:
        InputError: with every unknown key, wrong type, value out of range and rule of the section that is broken.
    """
    problems: list[Problem] = []
    known = terms(section)
    clean: dict[str, Any] = {}
    prefix = f"{where}." if where else ""
    for name, value in values.items():
        if name not in known:
            problems.append(Problem(f"{prefix}{name}", f"unknown key; {nearest(name, known)}"))
            continue
        try:
            clean[name], wrong = _checked(section, name, value)
        except InputError as error:  # inside a table, or a list of tables
            problems += [
                Problem(f"{prefix}{name}{p.where if p.where.startswith('[') else f'.{p.where}'}", p.message)
                for p in error.problems
            ]
            continue
        if wrong is not None:
            problems.append(Problem(f"{prefix}{name}", wrong))
    for name, spec in known.items():
        if name not in values and spec.default is MISSING:
            problems.append(Problem(f"{prefix}{name}", f"is required: {spec.metadata['doc']}"))
    if not problems:
        built = section(**clean)
        rules = getattr(built, "rules", None)
        if rules is None:
            return built
        problems = [Problem(f"{prefix}{name}", message) for name, message in rules()]
        if not problems:
            return built
    raise InputError(problems)
