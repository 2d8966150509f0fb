"""The space of a search: by dotted key a range of numbers or a list of choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import Problem
from core.terms import nearest
from studies.grid import Convert, Grid

ENUMERATED = 64
"""Integer ranges up to this length are tried value by value when a study is read; of longer ones, the ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers between two ends, both included; integers where both ends are integers of an integer term."""

    low: float | int
    high: float | int
    log: bool = False
    """Drawn evenly in the logarithm; only above 0."""

    @property
    def integer(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int)

    def probes(self) -> tuple[float | int, ...]:
        """The values at which rules between terms are tried."""
        if isinstance(self.low, int) and isinstance(self.high, int) and self.high - self.low < ENUMERATED:
            return tuple(range(self.low, self.high + 1))
        return self.low, self.high


Space = Mapping[str, Range | tuple[Any, ...]]
"""By dotted key, in file order."""


def parse_space(table: Mapping[str, Any], where: str, convert: Convert, problems: list[Problem]) -> Space:
    """The space of a search; what is wrong is appended to `problems` and left out."""
    space: dict[str, Range | tuple[Any, ...]] = {}
    for key, value in table.items():
        place = f'{where}."{key}"'
        found: list[Problem] = []
        dimension = (
            _range(key, value, place, convert, found)
            if isinstance(value, dict)
            else _choices(key, value, place, convert, found)
        )
        problems += found
        if dimension is not None and not found:
            space[key] = dimension
    return space


def _choices(key: str, value: Any, place: str, convert: Convert, problems: list[Problem]) -> tuple[Any, ...] | None:
    if not isinstance(value, list) or len(value) < 2:
        problems.append(Problem(place, f"must be {{low, high}} or a list of at least 2 choices, got {value!r}"))
        return None
    choices = []
    for item in value:
        clean, found = convert(key, item)
        if found:
            problems += [Problem(f"{place}{problem.where}", problem.message) for problem in found]
            return None
        choices.append(clean)
    if any(isinstance(choice, tuple) for choice in choices):
        problems.append(Problem(place, "lists cannot be searched; make each of them an arm"))
        return None
    if len({(type(choice), choice) for choice in choices}) < len(choices):
        problems.append(Problem(place, f"choices must differ, got {value!r}"))
    return tuple(choices)


def _range(key: str, value: Mapping[str, Any], place: str, convert: Convert, problems: list[Problem]) -> Range | None:
    known = ("low", "high", "log")
    for name in value:
        if name not in known:
            problems.append(Problem(f"{place}.{name}", f"unknown key; {nearest(name, known)}"))
    ends = {}
    for name in ("low", "high"):
        if name not in value:
            problems.append(Problem(f"{place}.{name}", "is required: an end of the range, included"))
            continue
        clean, found = convert(key, value[name])
        problems += [Problem(f"{place}.{name}{problem.where}", problem.message) for problem in found]
        if not found and (isinstance(clean, bool) or not isinstance(clean, (int, float))):
            message = f"must be a number, got {clean!r}; list the choices instead"
            problems.append(Problem(f"{place}.{name}", message))
        ends[name] = clean
    log = value.get("log", False)
    if not isinstance(log, bool):
        problems.append(Problem(f"{place}.log", f"must be true or false, got {log!r}"))
    if problems:
        return None
    low, high = ends["low"], ends["high"]
    if type(low) is not type(high):
        problems.append(Problem(place, f"ends must be of one type, got {low!r} and {high!r}"))
    elif not low < high:
        problems.append(Problem(place, f"low must be below high, got {low!r} and {high!r}"))
    elif log and low <= 0:
        problems.append(Problem(f"{place}.low", f"a logarithmic range begins above 0, got {low!r}"))
    elif not math.isfinite(high - low):
        problems.append(Problem(place, f"the range must be finite, got {low!r} … {high!r}"))
    return None if problems else Range(low=low, high=high, log=log)


def probe_grids(space: Space) -> list[Grid]:
    """Grids of settings on which the rules between terms are tried.

    The whole product where it is small, else each key over all its values while the others stand at one of their ends.
    """
    values = {key: d.probes() if isinstance(d, Range) else d for key, d in space.items()}
    whole = Grid(factors=tuple(tuple(((key, value),) for value in values[key]) for key in space))
    if whole.size <= ENUMERATED**2:
        return [whole]
    return [
        Grid(
            factors=tuple(
                tuple(((key, value),) for value in (values[key] if key == walked else values[key][end:][:1]))
                for key in space
            )
        )
        for walked in space
        for end in (0, -1)
    ]
