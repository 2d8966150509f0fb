"""Verification: is everything that the store promises still there, bit for bit?

Every part that a record or the newest manifest names is read and its digest compared; Parquet's own page checksums are
not looked at by its readers, so nothing else would notice a flipped bit. What is there but counts for nothing (parts
of a commit that was killed, foreign files, rows that lost against another record) is counted and is no damage. A
checkpoint is a cache outside the records: a damaged one is named, and is replayed when it is needed.

Others may commit and compact meanwhile. Files are listed before anything is read and judged in the end: what is still
there and named by nobody counts for nothing. So what was on its way at the beginning is no garbage.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from dataclasses import dataclass

from core.errors import StoreError
from studies.copies import digest_of
from studies.place import Place
from studies.records import MANIFEST_NAME, RECORD_NAME, Part, result_files
from studies.schemas import TABLES
from studies.snapshot import Snapshot, Snapshots
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


def verify(place: Place, snapshots: Snapshots) -> VerifyReport:
    """Checks every part and checkpoint.

    Args:
        place: of the store.
        snapshots: of the same store.

    Raises:
        StoreError: where the newest manifest is damaged.
    """
    before = result_files(place)
    return snapshots.stable(lambda look: _verified(place, look, before, snapshots))


def _verified(place: Place, snapshot: Snapshot, before: Collection[str], snapshots: Snapshots) -> VerifyReport:
    """What a look at the store shows.

    Raises:
        FileNotFoundError: where a compaction has folded a part away meanwhile; one that is missing is damage.
    """
    named = _parts(snapshot)
    damages = list(zip(named, place.map(lambda entry: _damage(place, *entry), named), strict=True))
    rows = invisible = 0
    for table in TABLES.values():
        try:
            data, hidden = snapshot.resolve(table, ())
        except (StoreError, FileNotFoundError):  # among the damages already, or folded away
            continue
        rows, invisible = rows + data.num_rows, invisible + hidden
    checked, broken = _checkpoints(place)
    now = snapshots.take()
    still = {part.path for _, part in _parts(now)}
    for _, part in named:
        if part.path not in still and not place.exists(part.path):
            raise FileNotFoundError(errno.ENOENT, "folded away", place.where(part.path))
    orphans, foreign = _unnamed(place, before, still | now.manifest.retired.keys())
    return VerifyReport(
        parts=len(named),
        rows=rows,
        invisible=invisible,
        damaged=tuple(line for _, line in damages if line is not None),
        orphans=orphans,
        foreign=tuple(sorted((*(f"{path}: {reason}" for path, reason in now.garbage), *foreign))),
        checkpoints=checked,
        damaged_checkpoints=broken,
    )


def _parts(snapshot: Snapshot) -> list[tuple[str, Part]]:
    """The parts that count, each with the file that names it."""
    return [(by, part) for table in TABLES.values() for _, by, part in snapshot.parts(table)]


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


def _unnamed(place: Place, before: Collection[str], known: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of files that were there before: parts that nobody names, and what is nothing of ours; as far as still there."""
    orphans, foreign = list[str](), list[str]()
    for path in sorted(before):
        folder, _, name = path.partition("/")
        if folder == "parts":
            table = name.partition("/")[0]
            ours = table in TABLES and name.endswith((".parquet", f"{table}/"))
        else:
            ours = (RECORD_NAME if folder == "records" else MANIFEST_NAME).fullmatch(name) is not None
        stray = not ours or (path.endswith(".parquet") and path not in known)
        if stray and place.exists(path):
            (orphans if ours else foreign).append(path)
    return tuple(orphans), tuple(foreign)


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
            return str(error) if place.exists(name) else None  # likewise
        if (state.lineage, state.step) != (lineage, step):
            return f"checkpoint {place.where(name)} holds the state {state.lineage}-{state.step}; delete it"
        return None

    return len(states), tuple(line for line in place.map(broken, states) if line is not None)
