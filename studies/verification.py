"""Verification: is everything that the store promises still there, bit for bit?

Every part that a record or the newest manifest names is read and its digest compared; Parquet's own page checksums are
not looked at by its readers, so nothing else would notice a flipped bit. What is there but counts for nothing (parts
of a commit that was killed, foreign files, rows that lost against another record) is counted and is no damage. A
checkpoint is a cache outside the records: a damaged one is named, and is replayed when it is needed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from core.errors import StoreError
from studies.records import MANIFEST_NAME, RECORD_NAME, Part, names_in
from studies.schemas import TABLES
from studies.snapshot import Snapshot


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


def verify(root: Path, snapshot: Snapshot) -> VerifyReport:
    """Checks every part and checkpoint.

    Raises:
        FileNotFoundError: never for a part that is missing (that is damage), only for races of a compaction.
    """
    named = [(by, part) for table in TABLES.values() for _, by, part in snapshot.parts(table)]
    damaged = [line for by, part in named if (line := _damage(root, part, by)) is not None]
    rows = invisible = 0
    for table in TABLES.values():
        try:
            data, hidden = snapshot.resolve(table, ())
        except (StoreError, FileNotFoundError):  # among `damaged` already
            continue
        rows, invisible = rows + data.num_rows, invisible + hidden
    checked, broken = _checkpoints(root)
    return VerifyReport(
        parts=len(named),
        rows=rows,
        invisible=invisible,
        damaged=tuple(damaged),
        orphans=_orphans(root, snapshot),
        foreign=_foreign(root, snapshot),
        checkpoints=checked,
        damaged_checkpoints=broken,
    )


def _damage(root: Path, part: Part, by: str) -> str | None:
    path = root / part.path
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"{path}: {error.strerror or error} ({by} names it)"
    if len(content) != part.size:
        return f"{path}: {len(content)} bytes where {by} says {part.size}"
    if hashlib.sha256(content).hexdigest() != part.digest:
        return f"{path}: its digest is not that in {by}"
    return None


def _orphans(root: Path, snapshot: Snapshot) -> tuple[str, ...]:
    known = {part.path for table in TABLES.values() for _, _, part in snapshot.parts(table)}
    known |= snapshot.manifest.retired.keys()
    found = (f"parts/{table}/{name}" for table in TABLES for name in names_in(root / "parts" / table))
    return tuple(sorted(path for path in found if path.endswith(".parquet") and path not in known))


def _foreign(root: Path, snapshot: Snapshot) -> tuple[str, ...]:
    strange = [f"{path}: {reason}" for path, reason in snapshot.garbage]
    for folder, pattern in (("records", RECORD_NAME), ("manifests", MANIFEST_NAME)):
        strange += [f"{folder}/{name}" for name in names_in(root / folder) if not pattern.fullmatch(name)]
    for folder in names_in(root / "parts"):
        if folder not in TABLES:
            strange.append(f"parts/{folder}")
        else:
            strange += [f"parts/{folder}/{n}" for n in names_in(root / "parts" / folder) if not n.endswith(".parquet")]
    return tuple(sorted(strange))


def _checkpoints(root: Path) -> tuple[int, tuple[str, ...]]:
    """How many checkpoints there are, and those that cannot be loaded, or hold another state than their name says."""
    paths = sorted((root / "checkpoints").glob("*/*.safetensors"))
    if not paths:
        return 0, ()
    from core.checkpoint import load

    broken = []
    for path in paths:
        try:
            state = load(path)
        except StoreError as error:
            broken.append(str(error))
            continue
        if path.stem != f"{state.lineage}-{state.step}":
            broken.append(f"checkpoint {path} holds the state {state.lineage}-{state.step}; delete it")
    return len(paths), tuple(broken)
