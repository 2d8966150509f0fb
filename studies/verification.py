"""Verification: is everything that the store promises still there, bit for bit?

Every part that a record or the newest manifest names is read and its digest compared; Parquet's own page checksums are
not looked at by its readers, so nothing else would notice a flipped bit. What is there but counts for nothing (parts
of a commit that was killed, foreign files, rows that lost against another record) is counted and is no damage. A
checkpoint is a cache outside the records: a damaged one is named, and is replayed when it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import StoreError
from studies.copies import digest_of
from studies.place import Place
from studies.records import MANIFEST_NAME, RECORD_NAME, Part
from studies.schemas import TABLES
from studies.snapshot import Snapshot
from studies.states import listed, state_name


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification found."""

    parts: int
    """Parts named and checked."""
    rows: int
    """Visible rows."""
    invisible: int
    """Rows that another row of their key hides."""
    damaged: tuple[str, ...]
    """Named parts that are missing, altered or unreadable, one line each; empty in a sound store."""
    orphans: tuple[str, ...]
    """Parts that nobody names: a commit under way, or one that was killed."""
    foreign: tuple[str, ...]
    """Files in the store's folders that are nothing of ours, with the reason where they pass for records."""
    checkpoints: int
    """Checkpoints checked."""
    damaged_checkpoints: tuple[str, ...]
    """Checkpoints that will be replayed when they are needed, one line each."""

    @property
    def ok(self) -> bool:
        """Whether every row that was ever recorded can be read."""
        return not self.damaged


def verify(place: Place, snapshot: Snapshot) -> VerifyReport:
    """Checks every part and checkpoint.

    Raises:
        FileNotFoundError: never for a part that is missing (that is damage), only for races of a compaction.
    """
    named = [(by, part) for table in TABLES.values() for _, by, part in snapshot.parts(table)]
    damaged = [line for line in place.map(lambda entry: _damage(place, *entry), named) if line is not None]
    rows = invisible = 0
    for table in TABLES.values():
        try:
            data, hidden = snapshot.resolve(table, ())
        except (StoreError, FileNotFoundError):  # among `damaged` already
            continue
        rows, invisible = rows + data.num_rows, invisible + hidden
    checked, broken = _checkpoints(place)
    return VerifyReport(
        parts=len(named),
        rows=rows,
        invisible=invisible,
        damaged=tuple(damaged),
        orphans=_orphans(place, snapshot),
        foreign=_foreign(place, snapshot),
        checkpoints=checked,
        damaged_checkpoints=broken,
    )


def _damage(place: Place, by: str, part: Part) -> str | None:
    where = place.where(part.path)
    try:
        with place.opened(part.path) as path:
            size, digest = path.stat().st_size, digest_of(path)
    except OSError as error:
        return f"{where}: {error.strerror or error} ({by} names it)"
    if size != part.size:
        return f"{where}: {size} bytes where {by} says {part.size}"
    if digest != part.digest:
        return f"{where}: its digest is not that in {by}"
    return None


def _orphans(place: Place, snapshot: Snapshot) -> tuple[str, ...]:
    known = {part.path for table in TABLES.values() for _, _, part in snapshot.parts(table)}
    known |= snapshot.manifest.retired.keys()
    found = (f"parts/{table}/{name}" for table in TABLES for name in place.names(f"parts/{table}"))
    return tuple(sorted(path for path in found if path.endswith(".parquet") and path not in known))


def _foreign(place: Place, snapshot: Snapshot) -> tuple[str, ...]:
    strange = [f"{path}: {reason}" for path, reason in snapshot.garbage]
    for folder, pattern in (("records", RECORD_NAME), ("manifests", MANIFEST_NAME)):
        strange += [f"{folder}/{name}" for name in place.names(folder) if not pattern.fullmatch(name)]
    for name in place.names("parts"):
        table = name.partition("/")[0]
        if table not in TABLES or not name.endswith((".parquet", f"{table}/")):
            strange.append(f"parts/{name}")
    return tuple(sorted(strange))


def _checkpoints(place: Place) -> tuple[int, tuple[str, ...]]:
    """How many checkpoints there are, and those that cannot be loaded, or hold another state than their name says."""
    states = sorted(listed(place))
    if not states:
        return 0, ()
    from core.checkpoint import load

    def broken(entry: tuple[str, int, bool]) -> str | None:
        lineage, step, passing = entry
        name = state_name(lineage, step, passing=passing)
        try:
            with place.opened(name) as path:
                state = load(path)
        except FileNotFoundError:  # removed since it was listed
            return None
        except StoreError as error:
            return str(error)
        if (state.lineage, state.step) != (lineage, step):
            return f"checkpoint {place.where(name)} holds the state {state.lineage}-{state.step}; delete it"
        return None

    return len(states), tuple(line for line in place.map(broken, states) if line is not None)
