"""The results store: a directory of Parquet parts that commit records make visible.

    format.json                                  what this directory is
    parts/<table>/<random>.parquet               rows; they count only where a record or the manifest names them
    records/<time>-<random>.json                 one per commit: parts, digests, row counts, steps covered
    manifests/<n>.json                           what compaction folded; the highest n counts
    checkpoints/<2 hex>/<lineage>-<step>[.passing].safetensors    cache, outside the records (`studies.states`)
    studies/<digest>.toml                        the text of each study that was run here, so that ids can be looked up
    scratch/<name>/                              Ray's and Optuna's own files; nothing of the results
    canaries/<time>-<digest>                     by which nodes show that they see this store (`studies.canary`)

A commit is durable when `commit` returns and visible wholly or not at all. Any number of processes may commit, read and
compact at once; no lock is taken and none is needed. `studies.records` says how commits are published,
`studies.snapshot` which row of a key is visible, `docs/store.md` how to read a store without this package.

A directory that is not there yet reads as an empty store, so that a study can be planned before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset

from core.errors import InputError, StoreError
from studies import canary, compaction, parts, verification
from studies.compaction import CompactReport
from studies.records import Extents, Part, Record, make_directory, names_in, publish_new, record_bytes, sync_directory
from studies.schemas import RANK, SEGMENTS, table
from studies.snapshot import Snapshot, Snapshots, first_of_key
from studies.states import TORN_SECONDS, States, listed, remove_passing, state_path, torn
from studies.verification import VerifyReport

FORMAT = {"format": "loopsweep", "version": 1}

_SCRATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class KeptStudy:
    """The text of a study that was run in a store."""

    path: Path
    size: str | None
    """In which it was run; None for ``small``."""
    folder: Path | None
    """At which relative paths in it begin, where that was kept."""


class Store:
    """One results store. Holds nothing but its place and what it has read of the immutable records."""

    def __init__(self, root: Path, *, now: Callable[[], int] = time.time_ns) -> None:
        """See `open`, which checks that `root` is a store.

        Args:
            root: the directory.
            now: the clock, in nanoseconds since the epoch; names records in the order of time.
        """
        self.root = root
        self._now = now
        self._snapshots = Snapshots(root)

    @classmethod
    def open(cls, root: Path | str, *, create: bool = False) -> Store:
        """The store in a directory.

        Args:
            root: the directory; without `create` it may be missing, and reads as an empty store.
            create: make it a store if there is nothing in it.

        Raises:
            StoreError: where it is no store, of another version, or cannot be read or (with `create`) written.
        """
        store = cls(Path(root))
        with _disk(store.root):
            store._check(create)
        return store

    def _check(self, create: bool) -> None:
        path = self.root / "format.json"
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            found = None
        except ValueError as error:
            raise StoreError(f"{path}: not JSON; restore the line {json.dumps(FORMAT)}") from error
        if found is None:
            if self.root.exists() and any(not name.startswith(".") for name in names_in(self.root)):
                raise StoreError(f"{self.root}: not a store, and not empty; name another directory with --store DIR")
            if create:
                make_directory(self.root)
                publish_new(path, (json.dumps(FORMAT) + "\n").encode())
        elif found != FORMAT:
            version = found.get("version") if isinstance(found, dict) else found
            raise StoreError(f"{path}: version {version!r} of the format; this loopsweep reads {FORMAT['version']}")

    # --- writing ---

    def commit(self, tables: Mapping[str, Sequence[Mapping[str, Any]] | pa.Table]) -> str:
        """Records rows; they are durable and visible on return, all of them or (on an exception) none.

        Args:
            tables: rows by table. Rows on lineages must be covered by segments of the same commit, since only
                segments tell what is recorded. A key that comes twice is written once.

        Returns:
            The name of the record.

        Raises:
            InputError: for an unknown table or column.
            ValueError: for no rows at all, a float that is not finite, a null in a key, a row that no segment covers.
            StoreError: where the disk refuses.
        """
        named = {name: (table(name), parts.typed(table(name), rows)) for name, rows in tables.items() if len(rows)}
        if not named:
            raise ValueError("nothing to commit: every table is empty")
        data = parts.ranked(named)
        with _disk(self.root):
            if not (self.root / "format.json").exists():
                raise StoreError(f"{self.root}: not a store; open it with create=True")
            written: list[Part] = []
            for name, rows in data.items():
                definition = named[name][0]
                order = [*((column, "ascending") for column in definition.key), (RANK.name, "descending")]
                rows = rows.sort_by(order).combine_chunks()  # noqa: PLW2901
                rows = rows.filter(pa.array(first_of_key(rows, definition.key)))  # noqa: PLW2901
                make_directory(self.root / "parts" / name)
                written.append(parts.write_part(self.root, definition, rows))
            for name in data:
                sync_directory(self.root / "parts" / name)
            make_directory(self.root / "records")
            return self._publish(written, parts.extents_of(data[SEGMENTS.name]) if SEGMENTS.name in data else {})

    def _publish(self, written: list[Part], extents: Extents) -> str:
        while True:
            name = f"{self._now():019d}-{secrets.token_hex(4)}"
            record = Record(name=name, parts=tuple(written), extents=extents)
            if publish_new(self.root / "records" / f"{name}.json", record_bytes(record)):
                return name

    # --- reading ---

    def snapshot(self) -> Snapshot:
        """One consistent look at the store."""
        return self._snapshots.take()

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The visible rows of a table, sorted by its key.

        Args:
            name: of the table.
            columns: those wanted, in order; default: all that are declared, and the open ones that are there.

        Raises:
            InputError: for an unknown table or column.
            StoreError: where a record's part is missing or damaged.
        """
        definition = table(name)
        if columns is not None:
            definition.schema(columns)
        with _disk(self.root):
            return self._snapshots.stable(lambda look: look.read(definition, columns))

    def dataset(self, name: str) -> pyarrow.dataset.Dataset:
        """The visible rows of a table for a query engine: read as they are asked for, in no order.

        Where rows were written twice they are resolved in memory first.
        """
        definition = table(name)
        with _disk(self.root):
            return self._snapshots.stable(lambda look: look.dataset(definition))

    # --- paths ---

    def checkpoint(self, lineage: str, step: int, *, passing: bool = False) -> Path:
        """Where the state (lineage, step) lies, whether or not it is there; see `studies.states` for passing ones."""
        return state_path(self.root, lineage, step, passing=passing)

    def state(self, lineage: str, step: int) -> Path | None:
        """The file of the state (lineage, step), kept or passing; None where there is none."""
        paths = (self.checkpoint(lineage, step, passing=passing) for passing in (False, True))
        return next((path for path in paths if path.exists()), None)

    def states(self) -> States:
        """One look at the states that are there."""
        with _disk(self.root):
            return States((lineage, step) for lineage, step, _, _ in listed(self.root))

    def remove_passing(self, lineages: Collection[str], *, needed: Collection[tuple[str, int]] = ()) -> int:
        """Removes the passing states of some lineages but those at the addresses `needed`; returns how many.

        What killed writers left half written goes with them.
        """
        with _disk(self.root):
            for path in list(torn(self.root, lineages, before=self._now() / 1e9 - TORN_SECONDS)):
                path.unlink(missing_ok=True)
            return remove_passing(self.root, lineages, needed=needed)

    def keep_study(self, text: bytes, size: str | None = None, folder: Path | None = None) -> None:
        """Keeps the text of a study that is run here; no result rests on it.

        Args:
            text: of its file.
            size: in which it is run; None for ``small``.
            folder: at which relative paths in it begin, if it may have any.

        Raises:
            StoreError: where the disk refuses.
        """
        place = self.root / "studies"
        begin = b"" if folder is None else os.fsencode(folder.absolute())
        name = hashlib.sha256(text + begin).hexdigest()[:16] + ("" if size is None else f"@{size}")
        with _disk(self.root):
            if not (place / f"{name}.toml").exists():
                make_directory(place)
                if begin:
                    publish_new(place / f"{name}.folder", begin)
                publish_new(place / f"{name}.toml", text)

    def kept_studies(self) -> list[KeptStudy]:
        """The texts of the studies that were run here, in no telling order."""
        place = self.root / "studies"
        with _disk(self.root):
            names = names_in(place)
            stems = [name.removesuffix(".toml") for name in sorted(names) if name.endswith(".toml")]
            folders = {stem: (place / f"{stem}.folder").read_bytes() for stem in stems if f"{stem}.folder" in names}
        return [
            KeptStudy(
                path=place / f"{stem}.toml",
                size=stem.partition("@")[2] or None,
                folder=Path(os.fsdecode(folders[stem])) if stem in folders else None,
            )
            for stem in stems
        ]

    def scratch(self, name: str) -> Path:
        """A directory, made if it is missing, for files that are no results.

        Raises:
            InputError: for a name that could lead elsewhere.
        """
        if not _SCRATCH_NAME.fullmatch(name):
            raise InputError(f"a scratch name is letters, digits, '.', '_' and '-', got {name!r}")
        with _disk(self.root):
            path = self.root / "scratch" / name
            path.mkdir(parents=True, exist_ok=True)
            return path

    # --- nodes ---

    def plant_canary(self) -> str:
        """A token by which other processes tell with `sees_canary` whether they see this very store.

        Raises:
            StoreError: where the disk refuses.
        """
        with _disk(self.root):
            return canary.plant(self.root, self._now())

    def sees_canary(self, token: str) -> bool:
        """Whether the canary that `plant_canary` gave this token to lies in the store as it is seen from here.

        Raises:
            StoreError: where the store cannot be read.
        """
        with _disk(self.root):
            return canary.sees(self.root, token)

    # --- upkeep ---

    def verify(self) -> VerifyReport:
        """Checks every part by its digest, and counts what does not count."""
        with _disk(self.root):
            return verification.verify(self.root, self._snapshots.take())

    def compact(self, *, grace_s: float = 3600.0) -> CompactReport:
        """Folds small parts into few large ones; see `studies.compaction`."""
        with _disk(self.root):
            return compaction.compact(self.root, self._snapshots, grace_s=grace_s, now=self._now)


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    """What the disk refuses, as a `StoreError` that names the file."""
    try:
        yield
    except OSError as error:
        where = error.filename or root
        reason = error.strerror or str(error)
        raise StoreError(f"{where}: {reason}; the store {root} must be a directory that can be written") from error
