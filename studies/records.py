"""Commit records and manifests: which part files count.

A part counts when a record or the newest manifest names it, and not otherwise: a directory listing proves nothing. A
*record* names the parts of one commit. A *manifest* names the parts that compaction wrote, the records folded into them
and what it retired. Both are JSON with a digest over their own content, and both appear by `Place.publish_new`: wholly
or not at all, whoever is killed when, and of two that publish the same manifest number one wins.

Listing order matters against a compaction that runs meanwhile: records are listed before manifests, so a record that
was folded and removed before the listing is in the manifest that is read after it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import StoreError
from studies.place import Place

RECORD_NAME = re.compile(r"\d{19}-[0-9a-f]{8}\.json")
MANIFEST_NAME = re.compile(r"(\d{1,9})\.json")
_PART_PATH = re.compile(r"parts/[a-z]+/[0-9a-f]+\.parquet")
_OWN_PATH = re.compile(r"(parts/[a-z]+/[0-9a-f]+\.parquet|records/[0-9a-f-]+\.json|manifests/\d+\.json)")

Extents = Mapping[str, Sequence[tuple[int, int]]]
"""By lineage: ranges of steps (both ends included) on which a record has rows."""


class GarbageError(Exception):
    """A file that is no record: torn, foreign or altered. Readers pass over it, `verify` reports it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A Parquet file of one table, as its record describes it."""

    table: str
    path: str
    """Relative to the store, with ``/``."""
    digest: str
    """SHA-256 of the file, hexadecimal."""
    size: int
    """Bytes."""
    rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One commit: its parts, and where on the lineages its rows lie."""

    name: str
    parts: tuple[Part, ...]
    extents: Extents


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What compaction left: number 0 is the empty one before any compaction."""

    number: int
    parts: tuple[Part, ...] = ()
    folded: frozenset[str] = frozenset()
    """Names of the records whose rows are in `parts`, as long as their files may be there."""
    retired: Mapping[str, int] = field(default_factory=dict)
    """By path, relative to the store: time (ns since the epoch) at which a file ceased to count."""


# --- text form -------------------------------------------------------------------------------------------------------


def _sealed(body: dict[str, Any]) -> bytes:
    """JSON with the digest of its own content, one line."""
    return (_canonical(body | {"digest": _digest(body)}) + "\n").encode()


def _canonical(body: Any) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(body).encode()).hexdigest()


def _unsealed(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError as error:
        raise GarbageError(f"not JSON ({error})") from error
    if not isinstance(body, dict) or body.pop("digest", None) != _digest(body):
        raise GarbageError("its digest does not match its content")
    return body


def _part_body(part: Part) -> list[Any]:
    return [part.table, part.path, part.digest, part.size, part.rows, list(part.columns)]


def _part(body: Any) -> Part:
    table, path, digest, size, rows, columns = body
    if not _PART_PATH.fullmatch(path):  # a record never points outside the store
        raise ValueError(path)
    return Part(table=table, path=path, digest=digest, size=size, rows=rows, columns=tuple(columns))


def record_bytes(record: Record) -> bytes:
    """The file of a record."""
    extents = {lineage: [list(r) for r in ranges] for lineage, ranges in record.extents.items()}
    return _sealed({"name": record.name, "parts": [_part_body(p) for p in record.parts], "extents": extents})


def parse_record(data: bytes, name: str) -> Record:
    """The record in a file of that name (without ``.json``).

    Raises:
        GarbageError: where it is none.
    """
    body = _unsealed(data)
    try:
        extents = {lineage: tuple([(low, high) for low, high in r]) for lineage, r in body["extents"].items()}
        record = Record(name=body["name"], parts=tuple([_part(p) for p in body["parts"]]), extents=extents)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GarbageError(f"not a record ({error!r})") from error
    if record.name != name:
        raise GarbageError(f"it is the record {record.name} under another name")
    return record


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file of a manifest."""
    return _sealed(
        {
            "number": manifest.number,
            "parts": [_part_body(p) for p in manifest.parts],
            "folded": sorted(manifest.folded),
            "retired": dict(manifest.retired),
        }
    )


def parse_manifest(data: bytes, number: int) -> Manifest:
    """The manifest in a file of that number.

    Raises:
        GarbageError: where it is none.
    """
    body = _unsealed(data)
    try:
        manifest = Manifest(
            number=body["number"],
            parts=tuple([_part(p) for p in body["parts"]]),
            folded=frozenset(body["folded"]),
            retired=dict(body["retired"]),
        )
        if not all(map(_OWN_PATH.fullmatch, manifest.retired)):
            raise ValueError(sorted(manifest.retired))
    except (KeyError, TypeError, ValueError) as error:
        raise GarbageError(f"not a manifest ({error!r})") from error
    if manifest.number != number:
        raise GarbageError(f"it is manifest {manifest.number} under another name")
    return manifest


# --- listing ---------------------------------------------------------------------------------------------------------


def first_step(start: int, end: int) -> int:
    """The first step whose rows belong to a segment: that of its beginning is its parent's, but for step 0.

    A segment of no updates (a later measurement of a kept state) holds the rows of its one step.
    """
    return start if start in (0, end) else start + 1


def list_records(place: Place) -> list[str]:
    """Names of the files that may be records, ascending: the older the smaller."""
    return sorted(name[:-5] for name in place.names("records") if RECORD_NAME.fullmatch(name))


def result_files(place: Place) -> frozenset[str]:
    """All files below the folders of records, manifests and parts, whoever put them there."""
    folders = ("records", "parts", "manifests")
    return frozenset(f"{folder}/{name}" for folder in folders for name in place.names(folder))


def latest_manifest(place: Place) -> Manifest:
    """The newest manifest.

    Raises:
        StoreError: where it is damaged; the records folded into it may be gone, so it cannot be passed over.
    """
    gone = 0
    while True:
        found = [int(m[1]) for name in place.names("manifests") if (m := MANIFEST_NAME.fullmatch(name))]
        if not found:
            return Manifest(number=0)
        name = f"manifests/{max(found)}.json"
        try:
            return parse_manifest(place.read(name), max(found))
        except FileNotFoundError as error:
            if gone == max(found):  # twice: not removed by a newer one's compaction
                message = f"{place.where(name)}: the manifest cannot be opened; restore it from a backup"
                raise StoreError(message) from error
            gone = max(found)
        except GarbageError as error:
            message = f"{place.where(name)}: the manifest is damaged: {error}; restore it from a backup"
            raise StoreError(f"{message}, or move the store aside and run again") from error
