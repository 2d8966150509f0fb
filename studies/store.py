"""The results store: a directory of Parquet parts that commit records make visible.

    format.json                                  what this directory is
    parts/<table>/<random>.parquet               rows; they count only where a record or the manifest names them
    records/<time>-<random>.json                 one per commit: parts, digests, row counts, steps covered
    manifests/<n>.json                           what compaction folded; the highest n counts
    checkpoints/<2 hex>/<lineage>-<step>[.passing].safetensors    cache, outside the records (`studies.states`)
    studies/<digest>.toml                        the text of each study that was run here, so that ids can be looked up
    holds/<driver>.json                          what each driver runs now; no result rests on it (`sweeps.holds`)
    scratch/<name>/                              Ray's and Optuna's own files; nothing of the results
    canaries/<time>-<digest>                     by which nodes show that they see this store (`studies.canary`)

A commit is durable when `commit` returns and visible wholly or not at all. Any number of processes may commit, read and
compact at once; no lock is taken and none is needed. `studies.records` says how commits are published,
`studies.snapshot` which row of a key is visible, `docs/store.md` how to read a store without this package.

A directory that is not there yet reads as an empty store, so that a study can be planned before anything is written.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset

from core.errors import InputError, StoreError
from studies import canary, compaction, hold_files, kept_studies, parts, verification
from studies.compaction import CompactReport
from studies.directory import Directory
from studies.kept_studies import KeptStudy
from studies.place import Place, place_of
from studies.records import Extents, Part, Record, record_bytes
from studies.schemas import RANK, SEGMENTS, table
from studies.snapshot import Snapshot, Snapshots, first_of_key
from studies.states import (
    TORN_SECONDS,
    States,
    listed,
    load_state,
    remove_passing,
    remove_torn,
    save_state,
    state_name,
)
from studies.verification import VerifyReport

if TYPE_CHECKING:
    from core.checkpoint import TrialState

FORMAT = {"format": "loopsweep", "version": 1}
_FORMAT_NAME = "format.json"

_SCRATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Store:
    """One results store. Holds nothing but its place and what it has read of the immutable records."""

    def __init__(self, root: Path | str, *, now: Callable[[], int] = time.time_ns) -> None:
        """See `open`, which checks that there is a store.

        Args:
            root: the directory, or the address of a place in a bucket.
            now: the clock, in nanoseconds since the epoch; names records in the order of time.
        """
        self.place = place_of(root)
        self._now = now
        self._snapshots = Snapshots(self.place)

    @property
    def name(self) -> str:
        """What `open` finds this store by, in any process: its directory or address."""
        return self.place.name

    @property
    def root(self) -> Path:
        """The directory of the store.

        Raises:
            StoreError: where it lies in a bucket.
        """
        if not isinstance(self.place, Directory):
            raise StoreError(f"{self.name}: has no folder; copy its objects into one to work on files")
        return self.place.root

    @classmethod
    def open(cls, root: Path | str, *, create: bool = False) -> Store:
        """The store at a place.

        Args:
            root: the directory, or ``s3://BUCKET/PREFIX``; without `create` there may be nothing, which reads as an
                empty store.
            create: make it a store if there is nothing; refuse a place that does not keep what a store rests on.

        Raises:
            StoreError: where it is no store, of another version, or cannot be read or (with `create`) written.
        """
        store = cls(root)
        with _refusals(store.place):
            store._check(create=create)
        return store

    def _check(self, *, create: bool) -> None:
        where = self.place.where(_FORMAT_NAME)
        found = self._format()
        if found is None and any(not name.startswith(".") for name in self.place.names()):
            found = self._format()  # another process may have made this a store between the two looks
            if found is None:
                raise StoreError(f"{self.name}: not a store, and not empty; name another place with --store")
        if found is not None and found != FORMAT:
            version = found.get("version") if isinstance(found, dict) else found
            rule = f"version {version!r} of the format; this loopsweep reads {FORMAT['version']}"
            raise StoreError(f"{where}: {rule}; use the loopsweep that wrote it, or another --store")
        if create:
            self.place.prove()
            if found is None and not self.place.publish_new(_FORMAT_NAME, (json.dumps(FORMAT) + "\n").encode()):
                self._check(create=False)  # another process was first, perhaps of another version

    def _format(self) -> Any:
        """What ``format.json`` says; None where it is not there."""
        try:
            return json.loads(self.place.read(_FORMAT_NAME))
        except FileNotFoundError:
            return None
        except ValueError as error:
            where = self.place.where(_FORMAT_NAME)
            raise StoreError(f"{where}: not JSON; restore the line {json.dumps(FORMAT)}") from error

    @property
    def exists(self) -> bool:
        """Whether something was ever made a store here."""
        with _refusals(self.place):
            return self.place.exists(_FORMAT_NAME)

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
            StoreError: where the place refuses.
        """
        named = {name: (table(name), parts.typed(table(name), rows)) for name, rows in tables.items() if len(rows)}
        if not named:
            raise ValueError("nothing to commit: every table is empty")
        data = parts.ranked(named)

        def write(name: str) -> Part:
            definition, rows = named[name][0], data[name]
            order = [*((column, "ascending") for column in definition.key), (RANK.name, "descending")]
            rows = rows.sort_by(order).combine_chunks()
            rows = rows.filter(pa.array(first_of_key(rows, definition.key)))
            return parts.write_part(self.place, definition, rows)

        with _refusals(self.place):
            if not self.place.exists(_FORMAT_NAME):
                raise StoreError(f"{self.name}: not a store; open it with create=True")
            written = self.place.map(write, data)
            return self._publish(written, parts.extents_of(data[SEGMENTS.name]) if SEGMENTS.name in data else {})

    def _publish(self, written: list[Part], extents: Extents) -> str:
        while True:
            name = f"{self._now():019d}-{secrets.token_hex(4)}"
            record = Record(name=name, parts=tuple(written), extents=extents)
            if self.place.publish_new(f"records/{name}.json", record_bytes(record)):
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
        with _refusals(self.place):
            return self._snapshots.stable(lambda look: look.read(definition, columns))

    def dataset(self, name: str) -> pyarrow.dataset.Dataset:
        """The visible rows of a table for a query engine: read as they are asked for, in no order.

        Where rows were written twice they are resolved in memory first.
        """
        definition = table(name)
        with _refusals(self.place):
            return self._snapshots.stable(lambda look: look.dataset(definition))

    # --- states ---

    def checkpoint(self, lineage: str, step: int, *, passing: bool = False) -> Path:
        """Where the state (lineage, step) lies in a directory, whether or not it is there."""
        return self.root / state_name(lineage, step, passing=passing)

    def save_state(self, state: TrialState, *, passing: bool = False) -> None:
        """Saves a state, replacing what is there; see `studies.states` for passing ones.

        Raises:
            StoreError: where it cannot be written.
        """
        with _refusals(self.place):
            save_state(self.place, state, passing=passing)

    def load_state(self, lineage: str, step: int) -> TrialState | None:
        """The state (lineage, step), kept or passing; None where there is none, or a damaged one, which is removed."""
        with _refusals(self.place):
            return load_state(self.place, lineage, step)

    def has_state(self, lineage: str, step: int) -> bool:
        """Whether the state (lineage, step) is there, kept or passing."""
        with _refusals(self.place):
            names = (state_name(lineage, step, passing=passing) for passing in (False, True))
            return any(self.place.exists(name) for name in names)

    def states(self) -> States:
        """One look at the states that are there."""
        with _refusals(self.place):
            return States((lineage, step) for lineage, step, _ in listed(self.place))

    def remove_passing(self, lineages: Collection[str], *, needed: Collection[tuple[str, int]] = ()) -> int:
        """Removes the passing states of some lineages but those at the addresses `needed`; returns how many.

        What killed writers left half written goes with them.
        """
        with _refusals(self.place):
            remove_torn(self.place, lineages, before=self._now() / 1e9 - TORN_SECONDS)
            return remove_passing(self.place, lineages, needed=needed)

    def remove_passing_state(self, lineage: str, step: int) -> None:
        """Removes the passing state (lineage, step), if it is there."""
        with _refusals(self.place):
            self.place.remove(state_name(lineage, step, passing=True))

    # --- beside the results ---

    def keep_study(self, text: bytes, size: str | None = None, folder: Path | None = None) -> None:
        """Keeps the text of a study that is run here; no result rests on it.

        Args:
            text: of its file.
            size: in which it is run; None for ``small``.
            folder: at which relative paths in it begin, if it may have any.

        Raises:
            StoreError: where the place refuses.
        """
        with _refusals(self.place):
            self.place.prove()
            kept_studies.keep(self.place, text, size, folder)

    def kept_studies(self) -> list[KeptStudy]:
        """The texts of the studies that were run here, in no telling order."""
        with _refusals(self.place):
            return kept_studies.kept(self.place)

    def write_hold(self, driver: str, data: bytes) -> None:
        """Says, in place of what was said before, what a driver runs; see `studies.hold_files`."""
        with _refusals(self.place):
            hold_files.write(self.place, driver, data)

    def holds(self) -> dict[str, bytes]:
        """By driver, what its hold says; also those of drivers that are gone."""
        with _refusals(self.place):
            return hold_files.read(self.place)

    def remove_hold(self, driver: str) -> None:
        """Removes the hold of a driver, if it is there."""
        with _refusals(self.place):
            hold_files.remove(self.place, driver)

    def scratch(self, name: str) -> Path:
        """A directory on this machine, made if it is missing, for files that are no results.

        Raises:
            InputError: for a name that could lead elsewhere.
        """
        if not _SCRATCH_NAME.fullmatch(name):
            raise InputError(f"a scratch name is letters, digits, '.', '_' and '-', got {name!r}")
        with _refusals(self.place):
            return self.place.scratch(name)

    # --- nodes ---

    def plant_canary(self) -> str:
        """A token by which other processes tell with `sees_canary` whether they see this very store.

        Raises:
            StoreError: where the place refuses.
        """
        with _refusals(self.place):
            return canary.plant(self.place, self._now())

    def sees_canary(self, token: str) -> bool:
        """Whether the canary that `plant_canary` gave this token to lies in the store as it is seen from here.

        Raises:
            StoreError: where the store cannot be read.
        """
        with _refusals(self.place):
            return canary.sees(self.place, token)

    # --- upkeep ---

    def verify(self) -> VerifyReport:
        """Checks every part by its digest, and counts what does not count."""
        with _refusals(self.place):
            return verification.verify(self.place, self._snapshots)

    def compact(self, *, grace_s: float = 3600.0) -> CompactReport:
        """Folds small parts into few large ones; see `studies.compaction`."""
        with _refusals(self.place):
            self.place.prove()
            return compaction.compact(self.place, self._snapshots, grace_s=grace_s, now=self._now)


@contextmanager
def _refusals(place: Place) -> Iterator[None]:
    """What a disk refuses, as a `StoreError` that names the file."""
    try:
        yield
    except OSError as error:
        where = error.filename or place.name
        raise StoreError(f"{where}: {error.strerror or error}; {place.way_out}") from error
