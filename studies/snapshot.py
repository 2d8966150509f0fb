"""What is visible: the newest manifest and the records beside it, and of each row key exactly one row.

A snapshot is one consistent look at the store. Where two of its sources wrote on the same steps of a lineage (two
drivers, other packings, a retry), the rows of each key are resolved: the highest rank shows (higher generation, then ok
or diverged before a failure), then the manifest's, then the one with the smallest record name. Whether any overlap is
told by the records alone, so resolution costs nothing where nothing was written twice.

Compaction may remove files while somebody reads. A part that has gone is looked for in a fresh snapshot; only one that
the fresh snapshot names as well is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from core.errors import StoreError
from studies.columns import Table
from studies.parts import column_names, part_files, read_part
from studies.place import Place
from studies.records import (
    GarbageError,
    Manifest,
    Part,
    Record,
    first_step,
    latest_manifest,
    list_records,
    parse_record,
)
from studies.schemas import RANK, SEGMENTS

T = TypeVar("T")

_SOURCE = pa.field("source", pa.int32())


class _GoneError(Exception):
    """A record was listed and is not there any more."""


@dataclass(frozen=True)
class Snapshot:
    """One look at a store."""

    place: Place
    manifest: Manifest
    records: tuple[Record, ...]
    """Not folded into the manifest, ascending by name."""
    garbage: tuple[tuple[str, str], ...] = ()
    """Files that pass for records by their name but are none, with the reason."""

    def parts(self, table: Table) -> list[tuple[int, str, Part]]:
        """The parts of a table: (source, who names it, part); source 0 is the manifest, the rest records in order."""
        named = [(0, f"manifests/{self.manifest.number}.json", p) for p in self.manifest.parts]
        for index, record in enumerate(self.records, start=1):
            named += [(index, f"records/{record.name}.json", part) for part in record.parts]
        return [entry for entry in named if entry[2].table == table.name]

    @cached_property
    def contested(self) -> frozenset[str]:
        """Lineages on which rows of two sources may share a key."""
        ranges: dict[str, list[tuple[int, int, int]]] = {}
        for index, record in enumerate(self.records, start=1):
            for lineage, extents in record.extents.items():
                ranges.setdefault(lineage, []).extend((low, high, index) for low, high in extents)
        if self.records and self.manifest.parts:
            for lineage, start, end in self._folded_segments(ranges):
                ranges[lineage].append((first_step(start, end), end, 0))
        return frozenset(lineage for lineage, found in ranges.items() if len(found) > 1 and _overlap(found))

    def _folded_segments(self, lineages: Iterable[str]) -> list[tuple[str, int, int]]:
        """(lineage, start, end) of the manifest's segments on these lineages."""
        found: list[tuple[str, int, int]] = []
        wanted = pa.array(list(lineages), pa.string())
        by = f"manifests/{self.manifest.number}.json"
        segments = [(by, part) for part in self.manifest.parts if part.table == SEGMENTS.name]
        for path in part_files(self.place, segments):
            data = read_part(path, SEGMENTS.schema(("lineage", "start", "end")))
            data = data.filter(pc.is_in(data["lineage"], value_set=wanted))
            found += zip(*(data[name].to_pylist() for name in ("lineage", "start", "end")), strict=True)
        return found

    def read(self, table: Table, columns: Sequence[str] | None = None, *, with_rank: bool = False) -> Any:
        """The visible rows of a table, sorted by its key.

        Raises:
            InputError: for a column that the table does not have.
            StoreError: where a part is damaged.
            FileNotFoundError: where a part is gone (see `stable`).
        """
        data, _ = self.resolve(table, columns)
        names = list(columns) if columns is not None else [n for n in data.column_names if n != RANK.name]
        return data.select([*names, RANK.name] if with_rank else names)

    def resolve(self, table: Table, columns: Sequence[str] | None = None) -> tuple[Any, int]:
        """The visible rows with key and rank, sorted by key, and how many rows are invisible."""
        named = self.parts(table)
        names = column_names(table, [part for _, _, part in named]) if columns is None else columns
        schema = table.schema([*table.key, *names]).append(RANK.field)
        pieces = []
        files = part_files(self.place, [(by, part) for _, by, part in named])
        for (source, _, _), path in zip(named, files, strict=True):
            rows = read_part(path, schema)
            pieces.append(rows.append_column(_SOURCE, pa.array(np.full(rows.num_rows, source, np.int32))))
        if not pieces:
            return schema.empty_table(), 0
        data = pa.concat_tables(pieces)
        order = [(name, "ascending") for name in table.key]
        if len({source for source, _, _ in named}) == 1 or not self._may_collide(table):
            return data.drop_columns([_SOURCE.name]).sort_by(order), 0
        data = data.sort_by([*order, (RANK.name, "descending"), (_SOURCE.name, "ascending")]).combine_chunks()
        first = first_of_key(data, table.key)
        visible = data.filter(pa.array(first)).drop_columns([_SOURCE.name])
        return visible, data.num_rows - visible.num_rows

    def dataset(self, table: Table) -> Any:
        """The visible rows as a pyarrow dataset: over the part files where no key was written twice.

        Raises:
            StoreError: where a part is damaged.
            FileNotFoundError: where a part is gone (see `stable`).
        """
        named = self.parts(table)
        schema = table.schema(column_names(table, [part for _, _, part in named]))
        if not named or (len({source for source, _, _ in named}) > 1 and self._may_collide(table)):
            return pyarrow.dataset.dataset(self.read(table))
        paths = [str(path) for path in part_files(self.place, [(by, part) for _, by, part in named])]
        return pyarrow.dataset.dataset(paths, schema=schema, format="parquet")

    def _may_collide(self, table: Table) -> bool:
        """Segments of other starts share no key whatever they cover, and rows on no lineage have no extents to ask."""
        return table.extent != ("step", "step") or table.name == "events" or bool(self.contested)


def _overlap(ranges: list[tuple[int, int, int]]) -> bool:
    """Whether ranges (low, high, source) of two sources share a step."""
    ranges.sort()
    high, source = ranges[0][1], ranges[0][2]
    for low, end, other in ranges[1:]:
        if low <= high and other != source:
            return True
        if end >= high:
            high, source = end, other
    return False


def first_of_key(data: Any, key: Sequence[str]) -> Any:
    """Of rows sorted by key: a mask `[rows]` of those whose key differs from the row before."""
    first = np.ones(data.num_rows, dtype=bool)
    if data.num_rows > 1:
        first[1:] = False
        for name in key:
            column = data[name]
            first[1:] |= pc.not_equal(column.slice(1), column.slice(0, data.num_rows - 1)).to_numpy()
    return first


class Snapshots:
    """Takes snapshots of one store; records never change, so each is read once."""

    def __init__(self, place: Place) -> None:
        """Of the store at a place."""
        self._place = place
        self._known: dict[str, Record | GarbageError] = {}

    def take(self) -> Snapshot:
        """The store as it is now.

        Raises:
            StoreError: where its newest manifest is damaged.
        """
        gone = ""
        while True:
            try:
                return self._take(gone)
            except _GoneError as error:
                gone = str(error)

    def _take(self, gone: str) -> Snapshot:
        names = list_records(self._place)
        manifest = latest_manifest(self._place)
        names = [name for name in names if name not in manifest.folded]
        fresh = [name for name in names if name not in self._known]
        unread: dict[str, str] = {}
        for name, found in zip(fresh, self._place.map(self._read, fresh), strict=True):
            if isinstance(found, Record | GarbageError):
                self._known[name] = found
            elif isinstance(found, FileNotFoundError) and name != gone:  # folded by a manifest newer than ours
                raise _GoneError(name)
            else:
                unread[name] = "it cannot be opened" if isinstance(found, FileNotFoundError) else str(found)
        records: list[Record] = []
        garbage: list[tuple[str, str]] = []
        for name in names:
            known = self._known.get(name)
            if isinstance(known, Record):
                records.append(known)
            else:
                garbage.append((f"records/{name}.json", unread.get(name) or str(known)))
        return Snapshot(self._place, manifest, tuple(records), tuple(garbage))

    def _read(self, name: str) -> Record | GarbageError | OSError:
        try:
            return parse_record(self._place.read(f"records/{name}.json"), name)
        except (GarbageError, OSError) as error:
            return error

    def stable(self, look: Callable[[Snapshot], T]) -> T:
        """`look` at a snapshot; at a fresh one where a part has gone meanwhile.

        Raises:
            StoreError: where a part is missing that the fresh snapshot names too.
        """
        gone: str | None = None
        while True:
            snapshot = self.take()
            try:
                return look(snapshot)
            except FileNotFoundError as error:
                missing = str(error.filename or error)  # Arrow's datasets name the file in the text alone
                if missing == gone:
                    message = f"{missing}: the part is missing, but a record names it"
                    raise StoreError(f"{message}; run `loopsweep verify` to see what else is damaged") from error
                gone = missing
