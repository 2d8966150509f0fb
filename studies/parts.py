"""Parts: rows of one table as a Parquet file of declared types.

Writing is strict: declared columns only, keys without null, floats finite or null. Reading takes the types from the
declaration and never from the file, checks each file's size against its record, and fills a column that a part lacks
with null. A row carries its `rank` (see `studies.schemas.RANK`), which settles who is visible where a key was written
more than once.
"""

from __future__ import annotations

import errno
import hashlib
import io
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import StoreError
from studies.columns import Table
from studies.place import Place
from studies.records import Extents, Part, first_step
from studies.schemas import FAILURES, RANK, STATUSES

Rows = Sequence[Mapping[str, Any]]


def typed(table: Table, rows: Any) -> Any:
    """Rows (mappings, or a pyarrow table) as a pyarrow table of declared types.

    Raises:
        InputError: for a column that the table does not have.
        ValueError: for a value of another type, a null in the key, or a float that is not finite.
    """
    if isinstance(rows, pa.Table):
        schema = table.schema([*table.key, *rows.column_names])
        columns = [_cast(rows, f) for f in schema]
        data = pa.Table.from_arrays(columns, schema=schema)
    else:
        names = dict.fromkeys(name for row in rows for name in row)
        schema = table.schema([*table.key, *names])
        try:
            data = pa.Table.from_pylist(list(rows), schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"table {table.name}: {error}") from error
    for name in table.key:
        if data[name].null_count:
            raise ValueError(f"table {table.name}: the key column {name} is null in {data[name].null_count} rows")
    for name in schema.names:
        if (value := _not_finite(data[name])) is not None:
            raise ValueError(f"table {table.name}: {name} must be finite or null, got {value}")
    return data


def _cast(rows: Any, column: Any) -> Any:
    if column.name not in rows.column_names:
        return pa.nulls(rows.num_rows, column.type)
    try:
        return rows[column.name].cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"column {column.name}: {error}") from error


def _not_finite(values: Any) -> float | None:
    """The first float in a column (also inside lists and maps) that is NaN or infinite."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_map(values.type):
        return _not_finite(values.items)
    if pa.types.is_list(values.type):
        return _not_finite(values.flatten())
    if not pa.types.is_floating(values.type):
        return None
    wrong = pc.filter(values, pc.invert(pc.is_finite(values)))
    return None if len(wrong) == 0 else float(wrong[0].as_py())


# --- where the rows of a commit lie ----------------------------------------------------------------------------------


def _rank(status: str, generation: int | None) -> int:
    return 2 * (generation or 0) + (status not in FAILURES)


def extents_of(segments: Any) -> Extents:
    """By lineage: the steps (both ends included) of its segments."""
    extents: dict[str, list[tuple[int, int]]] = {}
    for lineage, start, end in zip(*(segments[name].to_pylist() for name in ("lineage", "start", "end")), strict=True):
        extents.setdefault(lineage, []).append((first_step(start, end), end))
    return extents


def ranked(tables: Mapping[str, tuple[Table, Any]]) -> dict[str, Any]:
    """The tables of one commit with the column `rank`, taken from the segments that cover their rows.

    Raises:
        ValueError: for a row of a lineage that no segment of the same commit covers: it would be run again, since only
            segments tell what is recorded; or for a status that there is none of.
    """
    ranks: dict[str, list[tuple[int, int, int]]] = {}
    if "segments" in tables:
        data = tables["segments"][1]
        names = ("lineage", "start", "end", "status", "generation")
        columns = (data[n].to_pylist() if n in data.column_names else [None] * data.num_rows for n in names)
        for lineage, start, end, status, generation in zip(*columns, strict=True):
            if status not in STATUSES:
                raise ValueError(f"table segments: status must be one of {', '.join(STATUSES)}, got {status!r}")
            ranks.setdefault(lineage, []).append((start, end, _rank(status, generation)))
    return {name: data.append_column(RANK.field, _ranks(table, data, ranks)) for name, (table, data) in tables.items()}


def _ranks(table: Table, data: Any, ranks: Mapping[str, list[tuple[int, int, int]]]) -> Any:
    if table.extent is None:
        return pa.array(np.ones(data.num_rows, dtype=np.int32))
    if table.name == "segments":
        generations = data["generation"].to_pylist() if "generation" in data.column_names else [0] * data.num_rows
        pairs = zip(data["status"].to_pylist(), generations, strict=True)
        return pa.array([_rank(status, generation) for status, generation in pairs], pa.int32())
    at_start = table.name == "events"  # what happens as a segment begins (a switch) is its own
    found = []
    for lineage, step in zip(data["lineage"].to_pylist(), data["step"].to_pylist(), strict=True):
        covering = [
            rank
            for start, end, rank in ranks.get(lineage, ())
            if (start if at_start else first_step(start, end)) <= step <= end
        ]
        if not covering:
            raise ValueError(f"table {table.name}: no segment of this commit covers lineage {lineage}, step {step}")
        found.append(max(covering))
    return pa.array(found, pa.int32())


# --- files -----------------------------------------------------------------------------------------------------------


def write_part(place: Place, table: Table, data: Any) -> Part:
    """Writes a part under a name of its own, durably."""
    buffer = io.BytesIO()
    strings = [f.name for f in data.schema if pa.types.is_string(f.type)]
    pq.write_table(data, buffer, compression="zstd", use_dictionary=strings, row_group_size=1 << 18)
    content = buffer.getvalue()
    path = f"parts/{table.name}/{secrets.token_hex(12)}.parquet"
    place.write(path, content)
    names = tuple(name for name in data.column_names if name != RANK.name)
    digest = hashlib.sha256(content).hexdigest()
    return Part(table=table.name, path=path, digest=digest, size=len(content), rows=data.num_rows, columns=names)


def part_files(place: Place, named: Iterable[tuple[str, Part]]) -> list[Path]:
    """Files to open for parts, each of the size that its record says.

    Args:
        place: of the store.
        named: parts with the record or manifest that names each.

    Raises:
        FileNotFoundError: where one is gone (a compaction may have folded it since: look again).
        StoreError: where one has another size.
    """

    def file(entry: tuple[str, Part]) -> Path:
        by, part = entry
        path = place.local(part.path, size=part.size, digest=part.digest)
        size = path.stat().st_size
        if size != part.size:
            message = f"{place.where(part.path)}: {size} bytes where {by} says {part.size}"
            raise StoreError(f"{message}; run `loopsweep verify` to see what else is damaged")
        return path

    return place.map(file, named)


def read_part(path: Path, schema: Any) -> Any:
    """The rows of a part in exactly this schema; a column that the file lacks is null.

    Raises:
        FileNotFoundError: where the file is gone; it names the file, by which `Snapshots.stable` tells it from others.
        StoreError: where the file cannot be read as this table.
    """
    try:
        with pq.ParquetFile(path) as file:
            there = [name for name in schema.names if name in file.schema_arrow.names]
            data = file.read(columns=there)
        columns = [data[f.name].cast(f.type) if f.name in there else pa.nulls(data.num_rows, f.type) for f in schema]
    except FileNotFoundError as error:  # Arrow's names no file
        raise FileNotFoundError(errno.ENOENT, "no such part", str(path)) from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{path}: unreadable ({reason}); run `loopsweep verify` to see what is damaged") from error
    return pa.Table.from_arrays(columns, schema=schema)


def column_names(table: Table, parts: Iterable[Part]) -> list[str]:
    """All declared columns and the open ones that some part has, in the order of the table's schema."""
    open_ = {name for part in parts for name in part.columns}
    return list(table.schema({c.name for c in table.columns} | open_).names)
