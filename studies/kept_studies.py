"""The texts of the studies that were run in a store, by which an id finds its trial; no result rests on them.

    studies/<digest>[@<size>].toml      the text, as it was run
    studies/<digest>[@<size>].folder    the folder at which relative paths in it begin, where it may have any

A name is a digest of text and folder, so a text is kept once however often it is run.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from studies.place import Place

_FOLDER = "studies"


@dataclass(frozen=True, kw_only=True)
class KeptStudy:
    """The text of a study that was run in a store."""

    path: Path
    """Of a file with the text."""
    size: str | None
    """In which it was run; None for ``small``."""
    folder: Path | None
    """At which relative paths in it begin, where that was kept."""


def keep(place: Place, text: bytes, size: str | None, folder: Path | None) -> None:
    """Keeps a text, unless it is there; see `studies.store.Store.keep_study`."""
    begin = b"" if folder is None else os.fsencode(folder.absolute())
    stem = hashlib.sha256(text + begin).hexdigest()[:16] + ("" if size is None else f"@{size}")
    if not place.exists(f"{_FOLDER}/{stem}.toml"):
        if begin:
            place.publish_new(f"{_FOLDER}/{stem}.folder", begin)
        place.publish_new(f"{_FOLDER}/{stem}.toml", text)


def kept(place: Place) -> list[KeptStudy]:
    """All texts, in no telling order."""
    names = set(place.names(_FOLDER))
    stems = [name.removesuffix(".toml") for name in sorted(names) if name.endswith(".toml")]

    def study(stem: str) -> KeptStudy:
        begin = place.read(f"{_FOLDER}/{stem}.folder") if f"{stem}.folder" in names else None
        return KeptStudy(
            path=place.local(f"{_FOLDER}/{stem}.toml"),
            size=stem.partition("@")[2] or None,
            folder=None if begin is None else Path(os.fsdecode(begin)),
        )

    return place.map(study, stems)
