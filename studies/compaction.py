"""Compaction: the visible rows of many small parts as few large ones.

The rows that a snapshot shows are written as new parts, and manifest n + 1 is published under its number, which must be
free: of two compactors one wins, the other removes what it wrote. Commits go on meanwhile; a record that is not in the
manifest's list of folded ones simply stays beside it. What was folded is retired, with the time, and removed by a
compaction that finds it retired for longer than the grace period, so a reader that began before keeps its files.
Files that nobody names are left alone: they may be a commit under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from studies.parts import write_part
from studies.place import Place
from studies.records import Manifest, Part, manifest_bytes, result_files
from studies.schemas import TABLES
from studies.snapshot import Snapshot, Snapshots

MAX_ROWS = 2_000_000
"""Rows of one compacted part, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    """What a compaction did."""

    published: int | None
    """Number of the manifest, or None where there was nothing to fold or another compactor was first."""
    folded: int
    """Records folded into it."""
    parts: int
    """Parts it names."""
    rows: int
    """Visible rows in them."""
    removed: int
    """Retired files removed."""


def compact(
    place: Place, snapshots: Snapshots, *, grace_s: float = 3600.0, now: Callable[[], int] = time.time_ns
) -> CompactReport:
    """Folds all records into one manifest and removes what was retired longer ago than `grace_s`.

    Args:
        place: of the store.
        snapshots: of the same store.
        grace_s: how long a reader may go on using files that no longer count, in seconds.
        now: the clock, in nanoseconds since the epoch.

    Raises:
        StoreError: where a part is damaged; nothing is folded then.
    """
    snapshot, parts = snapshots.stable(lambda look: (look, _fold(place, look)))
    published: int | None = None
    if snapshot.records:
        manifest = _successor(snapshot, parts, now())
        if place.publish_new(f"manifests/{manifest.number}.json", manifest_bytes(manifest)):
            published = manifest.number
        else:
            place.remove(*(part.path for part in parts))
    return CompactReport(
        published=published,
        folded=len(snapshot.records) if published is not None else 0,
        parts=len(parts) if published is not None else 0,
        rows=sum(part.rows for part in parts) if published is not None else 0,
        removed=_remove(place, snapshots.take().manifest, now() - round(grace_s * 1e9)),
    )


def _fold(place: Place, snapshot: Snapshot) -> list[Part]:
    """Writes the visible rows of every table; the parts are durable on return."""
    parts: list[Part] = []
    if not snapshot.records:
        return parts
    try:
        for table in TABLES.values():
            data = snapshot.read(table, with_rank=True)
            for start in range(0, data.num_rows, MAX_ROWS):
                parts.append(write_part(place, table, data.slice(start, MAX_ROWS)))
    except BaseException:
        place.remove(*(part.path for part in parts))
        raise
    return parts


def _successor(snapshot: Snapshot, parts: list[Part], at: int) -> Manifest:
    """The next manifest: what is still to be removed from before, and what is retired now."""
    before = snapshot.manifest
    there = result_files(snapshot.place) if before.retired else frozenset()  # one listing asks less than each file
    retired = {path: since for path, since in before.retired.items() if path in there}
    old = [part.path for part in before.parts]
    if before.number:
        old.append(f"manifests/{before.number}.json")
    for record in snapshot.records:
        old += [f"records/{record.name}.json", *(part.path for part in record.parts)]
    retired |= dict.fromkeys(old, at)
    waiting = {name for name in before.folded if f"records/{name}.json" in retired}
    return Manifest(
        number=before.number + 1,
        parts=tuple(parts),
        folded=frozenset(waiting | {record.name for record in snapshot.records}),
        retired=retired,
    )


def _remove(place: Place, manifest: Manifest, before: int) -> int:
    """Removes files retired at or before a time; records first, since they name parts."""
    due = {path for path, since in manifest.retired.items() if since <= before}
    due &= result_files(place) if due else due
    records = {path for path in due if path.startswith("records/")}
    place.remove(*records)
    place.remove(*due - records)
    return len(due)
