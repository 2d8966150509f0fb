"""The space of a search: by dotted key a range of numbers or a list of choices; and its grid of points.

A point of the grid is named by its number alone: the keys are its digits, the first the slowest, as axes are walked. So
10^12 points are counted and never listed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import Problem
from core.terms import nearest
from studies.grid import Convert, Grid

MAX_POINTS = 10_000
"""Points that one range may have in a grid."""
ENUMERATED = 64
"""Integer ranges up to this length are tried value by value when a study is read; of longer ones, the ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers between two ends, both included; integers where both ends are integers of an integer term."""

    low: float | int
    high: float | int
    log: bool = False
    """Drawn evenly in the logarithm; only above 0."""
    points: int | None = None
    """How many values a grid takes of it; None: every whole number."""

    @property
    def integer(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int)

    def probes(self) -> tuple[float | int, ...]:
        """The values at which rules between terms are tried."""
        if self.points is not None:
            return self.values()
        if isinstance(self.low, int) and isinstance(self.high, int) and self.high - self.low < ENUMERATED:
            return tuple(range(self.low, self.high + 1))
        return self.low, self.high

    def values(self) -> tuple[float | int, ...]:
        """The values that a grid takes: evenly spaced, on a logarithmic range by their ratio, both ends among them.

        Whole numbers are rounded and stand once; others have 12 digits, so that they do not depend on the machine.
        """
        if self.points is None:
            return tuple(range(int(self.low), int(self.high) + 1))
        shares = [place / (self.points - 1) for place in range(self.points)]
        if self.log:
            inner = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            inner = [self.low + (self.high - self.low) * share for share in shares]
        if self.integer:
            return tuple(dict.fromkeys([self.low, *map(round, inner[1:-1]), self.high]))
        return self.low, *(float(f"{value:.12g}") for value in inner[1:-1]), self.high


Space = Mapping[str, Range | tuple[Any, ...]]
"""By dotted key, in file order."""


def grid_values(dimension: Range | tuple[Any, ...]) -> Sequence[Any]:
    """The values that a grid takes of a dimension, in order."""
    return dimension.values() if isinstance(dimension, Range) else dimension


def grid_size(space: Space) -> int:
    """Number of points of the grid over a space."""
    return math.prod(len(grid_values(dimension)) for dimension in space.values())


def grid_points(space: Space, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """The points of these numbers, each in 0 … `grid_size` − 1; the first key is the slowest."""
    values = {key: grid_values(dimension) for key, dimension in space.items()}
    found = []
    for number in numbers:
        point: dict[str, Any] = {}
        rest = number
        for key in reversed(list(space)):
            rest, place = divmod(rest, len(values[key]))
            point[key] = values[key][place]
        found.append({key: point[key] for key in space})
    return found


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
    known = ("low", "high", "log", "points")
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
    points = value.get("points")
    if points is not None and (type(points) is not int or not 2 <= points <= MAX_POINTS):
        problems.append(Problem(f"{place}.points", f"must be 2 … {MAX_POINTS} points, got {points!r}"))
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
    elif isinstance(low, int) and points is not None and points > high - low + 1:
        whole = high - low + 1
        problems.append(Problem(f"{place}.points", f"must be at most the {whole} whole numbers of it, got {points}"))
    return None if problems else Range(low=low, high=high, log=log, points=points)


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
