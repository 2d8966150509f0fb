"""A query's result as text or Parquet: table, csv, json, parquet.

Doubles are written with as many digits as bring back the same bits, and all rows are written. JSON is an array of row
objects; it has no form for NaN and infinities, which become null (the store holds none, a query can make them). Cells
are whole, but for the long texts of a table that is to fit a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import InputError, Problem
from core.terms import nearest
from studies.located import printable

FORMS = ("table", "csv", "json", "parquet")


LEAST_WIDTH = 12
"""Columns of text are cut to no less, whatever the terminal."""


def formatted(result: pa.Table, form: str, *, width: int | None = None) -> bytes:
    """A result in one of `FORMS`; text is UTF-8 and ends with a line break.

    Args:
        result: what the query gave.
        form: one of `FORMS`.
        width: characters of a line of a table where a narrow terminal shows it: its longest texts are cut, each with a
            ``…``, until lines fit or no text is longer than `LEAST_WIDTH`. Numbers never are.

    Raises:
        InputError: for an unknown form, and for values that Parquet has no form for.
    """
    if form not in FORMS:
        raise InputError([Problem("--format", f"unknown format {form!r}; {nearest(form, FORMS)}")])
    if form == "parquet":
        buffer = io.BytesIO()
        try:
            pq.write_table(_spans_as_text(result), buffer, compression="zstd")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise InputError([Problem("--format", f"parquet cannot hold the result ({error}); CAST it")]) from error
        return buffer.getvalue()
    rows = list(_rows(result))
    if form == "json":
        objects = (json.dumps(dict(zip(result.column_names, row, strict=True)), allow_nan=False) for row in rows)
        return ("[" + ",\n ".join(objects) + "]\n").encode()
    cells = [["" if value is None else _text(value) for value in row] for row in rows]
    return _csv(result.column_names, cells) if form == "csv" else _aligned(result, cells, width)


def _spans_as_text(result: pa.Table) -> pa.Table:
    """The same with intervals (differences of times) as texts, which Parquet has a form for."""
    for place, field in enumerate(result.schema):
        if pa.types.is_interval(field.type):
            texts = [None if span is None else _span(span) for span in result.column(place).to_pylist()]
            result = result.set_column(place, field.name, pa.array(texts, pa.string()))
    return result


def _span(span: Any) -> str:
    """An interval in SQL's words: ``1 month 3 days 00:01:02.5``."""
    months, days, nanoseconds = span
    words = [f"{count} {unit}{'s' * (abs(count) != 1)}" for count, unit in ((months, "month"), (days, "day")) if count]
    if nanoseconds or not words:
        seconds, rest = divmod(abs(nanoseconds), 10**9)
        point = f".{rest:09d}".rstrip("0").rstrip(".")
        sign = "-" * (nanoseconds < 0)
        words.append(f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}")
    return " ".join(words)


def _rows(result: pa.Table) -> Iterator[list[Any]]:
    """Rows of plain values."""
    columns = [[_plain(value) for value in column.to_pylist(maps_as_pydicts="strict")] for column in result.columns]
    for row in range(result.num_rows):
        yield [column[row] for column in columns]


def _plain(value: Any) -> Any:
    """A value that JSON has a form for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, pa.MonthDayNano):
        return _span(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _csv(names: list[str], cells: list[list[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(cells)
    return buffer.getvalue().encode()


def _aligned(result: pa.Table, cells: list[list[str]], width: int | None) -> bytes:
    """Columns aligned, numbers to the right; what would move a terminal's cursor is shown as its escape."""
    numeric = [pa.types.is_floating(f.type) or pa.types.is_integer(f.type) for f in result.schema]
    lines = [[printable(cell) for cell in row] for row in ([*result.column_names], *cells)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(numeric))]
    if width is not None:
        widths = _narrowed(widths, numeric, width)
        lines = [[_cut(c, w) for c, w in zip(row, widths, strict=True)] for row in lines]
    lines.insert(1, ["-" * width for width in widths])
    pads = [str.rjust if right else str.ljust for right in numeric]
    text = ("  ".join(p(c, w) for c, w, p in zip(row, widths, pads, strict=True)).rstrip() for row in lines)
    return ("\n".join(text) + "\n").encode()


def _narrowed(widths: list[int], whole: list[bool], width: int) -> list[int]:
    """Widths of columns so that lines have at most `width` characters, the widest cut first; some stay whole."""
    gaps = 2 * (len(widths) - 1)
    cap = max(widths, default=0)
    narrow = widths
    while sum(narrow) + gaps > width and cap > LEAST_WIDTH:
        cap -= 1
        narrow = [w if fixed else min(w, cap) for w, fixed in zip(widths, whole, strict=True)]
    return narrow


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def publish(path: Path, content: bytes) -> None:
    """Writes a file that appears wholly under its name, in place of one that is there, or not at all.

    Raises:
        OSError: which names the file, where it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        fresh.unlink(missing_ok=True)
