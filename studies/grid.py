"""Axes as a grid of assignments: products of lists, zipped lists and unions of smaller grids.

A *factor* is a list of alternatives, each an assignment of one key (a plain axis) or of several that move together (a
zip group). A grid is the product of its factors and, where it has unions, of the concatenation of those. The order is
canonical: file order, the first factor slowest. `size` is arithmetic, so a product of 10^12 is refused, not walked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import Problem
from studies.nested import shown, written

Assignment = tuple[tuple[str, Any], ...]
"""Values of dotted keys, in the order of the axes."""

Convert = Callable[[str, Any], tuple[Any, list[Problem]]]
"""(dotted key, value) → (the value in its declared type, what is wrong with it, at places that follow the key)."""

MAX_VALUES = 100_000
"""Values that one axis may list; more is a mistake, and the file stays readable."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The assignments of a table of axes."""

    factors: tuple[tuple[Assignment, ...], ...] = ()
    unions: tuple[tuple[Grid, ...], ...] = ()
    """Each a list of grids whose assignments follow one another."""

    @property
    def size(self) -> int:
        """Number of assignments; 1 for no axes at all (the empty assignment)."""
        lengths = [len(factor) for factor in self.factors]
        return math.prod(lengths) * math.prod(sum(grid.size for grid in union) for union in self.unions)

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that it varies, each once, in order."""
        own = [key for factor in self.factors for key, _ in factor[0]]
        inner = [key for union in self.unions for grid in union for key in grid.keys]
        return tuple(dict.fromkeys([*own, *inner]))

    def values(self, key: str) -> list[Any]:
        """The values that it gives a key, in order; several times where other keys move with it."""
        own = [value for factor in self.factors for row in factor for name, value in row if name == key]
        return own + [value for union in self.unions for grid in union for value in grid.values(key)]

    def only(self, section: str) -> Grid:
        """The grid of the keys of one section, each of its assignments once in a factor."""
        prefix = f"{section}."
        factors = [
            tuple(dict.fromkeys(tuple(pair for pair in row if pair[0].startswith(prefix)) for row in factor))
            for factor in self.factors
        ]
        unions = tuple(tuple(grid.only(section) for grid in union) for union in self.unions)
        return Grid(factors=tuple(factors), unions=unions)

    def __iter__(self) -> Iterator[Assignment]:
        """The assignments in canonical order."""
        unions = (itertools.chain.from_iterable(union) for union in self.unions)
        for chosen in itertools.product(*self.factors, *unions):
            yield tuple(itertools.chain.from_iterable(chosen))


def joined(grids: Iterable[Grid]) -> Grid:
    """The product of grids, the first slowest (the unions after all the plain factors)."""
    grids = list(grids)
    return Grid(
        factors=tuple(factor for grid in grids for factor in grid.factors),
        unions=tuple(union for grid in grids for union in grid.unions),
    )


def parse_grid(table: Mapping[str, Any], where: str, convert: Convert, problems: list[Problem]) -> Grid:
    """The grid of a table of axes; what is wrong is appended to `problems` and left out.

    Args:
        table: ``"dotted.key" = [values]``, and the lists of tables ``zip`` and ``union``.
        where: the dotted place of the table, for messages.
        convert: checks and converts one value of a key.
        problems: receives every problem found.
    """
    factors: list[tuple[Assignment, ...]] = []
    unions: list[Grid] = []
    seen: dict[str, str] = {}

    def claim(key: str, place: str) -> None:
        if key in seen:
            problems.append(Problem(place, f"the axis stands already in {seen[key]}; keep one of them"))
        seen.setdefault(key, place)

    for key, value in table.items():
        if key in ("zip", "union"):
            continue
        place = f'{where}."{key}"'
        claim(key, place)
        values = _values(key, value, place, convert, problems)
        _refuse_repeats(values, place, problems)
        if values:
            factors.append(tuple(((key, item),) for item in values))
    for index, group in enumerate(_tables(table, "zip", where, problems), start=1):
        place = f"{where}.zip[{index}]"
        for key in group:
            claim(key, f'{place}."{key}"')
        if (factor := _zip(group, place, convert, problems)) is not None:
            factors.append(factor)
    for index, inner in enumerate(_tables(table, "union", where, problems), start=1):
        place = f"{where}.union[{index}]"
        if "union" in inner:
            problems.append(Problem(f"{place}.union", "a union holds no further union; list its tables side by side"))
        grid = parse_grid({k: v for k, v in inner.items() if k != "union"}, place, convert, problems)
        for key in grid.keys:
            if key in seen:
                message = f"the axis stands already in {seen[key]}; it goes into the product or into the union"
                problems.append(Problem(f'{place}."{key}"', message))
        if grid.factors:
            unions.append(grid)
    return Grid(factors=tuple(factors), unions=(tuple(unions),) if unions else ())


def _tables(table: Mapping[str, Any], name: str, where: str, problems: list[Problem]) -> list[Mapping[str, Any]]:
    """The non-empty tables of ``[[where.name]]``."""
    if name not in table:
        return []
    found = table[name]
    if not isinstance(found, list) or not found or not all(isinstance(item, dict) and item for item in found):
        message = f"must be a list of non-empty tables of axes, got {found!r}; write [[{where}.{name}]]"
        problems.append(Problem(f"{where}.{name}", message))
        return []
    return found


def _zip(
    group: Mapping[str, Any], place: str, convert: Convert, problems: list[Problem]
) -> tuple[Assignment, ...] | None:
    columns = {k: _values(k, v, f'{place}."{k}"', convert, problems) for k, v in group.items()}
    if not all(columns.values()):
        return None
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{length} of {key}" for key, length in lengths.items())
        problems.append(Problem(place, f"zipped lists must be equally long, got {got}"))
        return None
    rows = [tuple(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    _refuse_repeats(rows, place, problems, zipped=True)
    return tuple(rows)


def _values(key: str, value: Any, place: str, convert: Convert, problems: list[Problem]) -> list[Any]:
    """The converted values of one axis; empty where anything is wrong with it."""
    if isinstance(value, dict):
        inner = next(iter(value), "term")
        message = f'must be a list of values, got a table; write the dotted key in quotes: "{key}.{inner}" = [...]'
        problems.append(Problem(place, message))
        return []
    if not isinstance(value, list):
        problems.append(Problem(place, f"must be a list of values, got {value!r}; write [{value!r}]"))
        return []
    if not 1 <= len(value) <= MAX_VALUES:
        problems.append(Problem(place, f"must list 1 … {MAX_VALUES} values, got {len(value)}"))
        return []
    converted = []
    sound = True
    for number, item in enumerate(value, start=1):
        clean, found = convert(key, item)
        converted.append(clean)
        for problem in found:
            # Inside a list of tables the value's number is needed to find the place.
            problems.append(Problem(f"{place}[{number}]{problem.where}" if problem.where else place, problem.message))
            sound = False
        if any(not problem.where and problem.message.startswith(("unknown", "is not")) for problem in found):
            break  # about the key: once is enough
    return converted if sound else []


def _refuse_repeats(values: Sequence[Any], place: str, problems: list[Problem], *, zipped: bool = False) -> None:
    """Equal values would train the same trial twice; 1 and 1.0 count as equal only in the same type."""
    rows = [value if zipped else (("", value),) for value in values]
    seen: set[tuple[tuple[type, Any], ...]] = set()
    for row in rows:
        marked = tuple([(type(value), written(value)) for _, value in row])
        if marked in seen:
            got = ", ".join(f"{key} = {shown(value)}" if zipped else shown(value) for key, value in row)
            problems.append(Problem(place, f"values must differ, got {got} twice; drop one"))
            return
        seen.add(marked)
