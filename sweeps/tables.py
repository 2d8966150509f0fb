"""Tables and numbers for people: rich tables that are cut to no width when piped, and quantities in readable units."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from sweeps.output import clean

_PIPE_WIDTH = 100_000
"""Columns of a table that is not printed on a terminal: what reads it wants whole cells."""


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> str:
    """A table as text: numbers to the right, missing values as ``–``, cells neutralised.

    Args:
        columns: headings.
        rows: cells; None is a missing value, floats are shown with 5 significant digits.
        title: a line above it.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    grid = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    for index, name in enumerate(columns):
        values = [row[index] for row in cells if row[index] is not None]
        numeric = bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        right = numeric or (bool(values) and all(isinstance(v, Quantity) for v in values))
        grid.add_column(Text(clean(name)), justify="right" if right else "left", overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell(value)) for value in row))
    return render(grid)


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Facts as two aligned columns: what, and its value."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(clean(name), style="dim"), Text(cell(value)))
    return render(grid)


def render(renderable: Any) -> str:
    """What rich prints for `renderable` on the present stdout, without trailing spaces."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    buffer = StringIO()
    console = Console(
        file=buffer, force_terminal=terminal, width=None if terminal else _PIPE_WIDTH, highlight=False, emoji=False
    )
    console.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


class Quantity(str):
    """A number that already has its readable form; tables put it to the right."""


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return clean(value)


def count(number: int) -> Quantity:
    """A whole number with thin groups: ``12,345``."""
    return Quantity(f"{number:,}")


def flops(number: float) -> Quantity:
    """Floating-point operations in a readable unit: ``1.23 TFLOP``."""
    return Quantity(_scaled(number, 1000.0, ("", "k", "M", "G", "T", "P", "E", "Z")) + "FLOP")


def size(number: float) -> Quantity:
    """Bytes in a readable unit: ``1.23 MiB``."""
    return Quantity(_scaled(number, 1024.0, ("", "Ki", "Mi", "Gi", "Ti", "Pi")) + "B")


def duration(seconds: float | None) -> Quantity:
    """A span of time: ``8 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 4 h``; ``unknown`` for None."""
    if seconds is None:
        return Quantity("unknown")
    if seconds < 10:
        return Quantity(f"{seconds:.1f} s")
    whole = round(seconds)
    if whole < 60:
        return Quantity(f"{whole} s")
    if whole < 3600:
        return Quantity(f"{whole // 60} min {whole % 60:02d} s")
    if whole < 86400:
        return Quantity(f"{whole // 3600} h {whole % 3600 // 60:02d} min")
    return Quantity(f"{whole // 86400} d {whole % 86400 // 3600} h")


def plural(number: int, word: str, many: str | None = None) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number:,} {word if number == 1 else many or word + 's'}"


def _scaled(number: float, base: float, prefixes: Sequence[str]) -> str:
    value, index = float(number), 0
    while abs(value) >= base and index < len(prefixes) - 1:
        value, index = value / base, index + 1
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {prefixes[index]}"
