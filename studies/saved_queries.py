"""Queries that come along: `studies/queries/*.sql`, each one SELECT with a question and parameters on top.

A file begins with comments: the question it answers, then a line per parameter with its default and meaning::

    -- What does it cost until the validation loss is first at or below a value?
    -- $loss = 2.0: nats per token

Values are bound as parameters of a prepared statement, never put into the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InputError, Problem
from core.terms import nearest

_FOLDER = Path(__file__).parent / "queries"
_PARAMETER = re.compile(r"-- \$(\w+) = (.+?): (.+)")
NAME = re.compile(r"[a-z][a-z0-9-]*")
"""A saved query's name: no SELECT looks like one."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What may be set in a query."""

    name: str
    default: Any
    doc: str


@dataclass(frozen=True, kw_only=True)
class SavedQuery:
    """One query that comes along."""

    name: str
    question: str
    parameters: tuple[Parameter, ...]
    sql: str


def saved_queries() -> list[SavedQuery]:
    """All of them, by name."""
    return [_parsed(path) for path in sorted(_FOLDER.glob("*.sql"))]


def saved_query(name: str) -> SavedQuery:
    """The query of a name.

    Raises:
        InputError: where there is none.
    """
    known = {query.name: query for query in saved_queries()}
    if name not in known:
        raise InputError([Problem("SQL", f"{name!r} is neither a SELECT nor a saved query; {nearest(name, known)}")])
    return known[name]


def _parsed(path: Path) -> SavedQuery:
    text = path.read_text(encoding="utf-8")
    first, *rest = text.splitlines()
    found = [match for line in rest if (match := _PARAMETER.fullmatch(line))]
    return SavedQuery(
        name=path.stem,
        question=first.removeprefix("-- "),
        parameters=tuple(Parameter(name=m[1], default=value(m[2].strip("'")), doc=m[3]) for m in found),
        sql=text,
    )


def value(text: str) -> Any:
    """A parameter's value as written on a command line: a whole number, a finite number, true or false, else text."""
    try:
        read = json.loads(text)
    except ValueError:
        return text
    if isinstance(read, bool | int) or (isinstance(read, float) and math.isfinite(read)):
        return read
    return text


def bound(query: SavedQuery, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a query's parameters: those given, else the defaults.

    Raises:
        InputError: for a parameter that the query does not have, or a value that is no number where it needs one.
    """
    known = {parameter.name: parameter.default for parameter in query.parameters}
    wrong = [name for name in given if name not in known]
    if wrong:
        hint = nearest(wrong[0], known) if known else "it has none"
        raise InputError([Problem(f"--set {wrong[0]}", f"the query {query.name} has no such parameter; {hint}")])
    for name, found in given.items():
        if (rule := _broken(known[name], found)) is not None:
            raise InputError([Problem(f"--set {name}", f"must be {rule}, as {known[name]}, got {found!r}")])
    return known | dict(given)


def _broken(default: Any, found: Any) -> str | None:
    """What a value must be to stand where a default does, if it is not."""
    if isinstance(default, str):
        return None
    kinds, rule = (int, "a whole number") if isinstance(default, int) else ((int, float), "a number")
    return None if isinstance(found, kinds) and not isinstance(found, bool) else rule


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """``name=value`` pairs of a command line.

    Raises:
        InputError: for a text without a name, and for a name that is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, rest = text.partition("=")
        if not sign or not name.isidentifier():
            raise InputError([Problem("--set", f"must be NAME=VALUE, as in loss=1.5, got {text!r}")])
        if name in found:
            raise InputError([Problem(f"--set {name}", "is given twice; leave one out")])
        found[name] = value(rest)
    return found
