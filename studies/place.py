"""Where a store lies: a directory, or the objects of a bucket below a prefix.

A place holds files by name, relative to its root and with ``/``, and is all that the store knows of disks and networks.
Results rest on two of its promises: `Place.write` and `Place.publish_new` are durable when they return and show wholly
or not at all, and of any number that publish one name exactly one wins. `studies.directory` keeps the second by hard
links, `studies.bucket` by conditional puts. Files of results never change and their names are random (or a digest of
what they hold), so that a local copy of one can't be stale.

What a place cannot do is raised as `StoreError` or `OSError`; a name that is not there as `FileNotFoundError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from core.errors import InputError, Problem

T = TypeVar("T")
S = TypeVar("S")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Place(Protocol):
    """Files by name."""

    @property
    def name(self) -> str:
        """How the place is called on the command line; `place_of` finds it again, in any process."""
        ...

    @property
    def way_out(self) -> str:
        """What must hold for this place to work, for messages: the second half of a sentence."""
        ...

    def where(self, name: str) -> str:
        """A file as people find it: its path or address."""
        ...

    def prove(self) -> None:
        """Makes sure that the place can be written and keeps its promises.

        Raises:
            StoreError: where it can't or doesn't.
        """
        ...

    def names(self, folder: str = "") -> Iterator[str]:
        """Names of all files below a folder, relative to it, in no telling order; none where it is not there."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """A new file under a random name, durable on return."""
        ...

    def publish_new(self, name: str, data: bytes) -> bool:
        """Publishes a file durably under a name that must be free; False, and nothing changed, where it is taken.

        Who publishes what is there already, byte for byte, may be told True: content that says who wrote it settles
        who was first.
        """
        ...

    def remove(self, *names: str) -> None:
        """Removes files, in no telling order, as far as they are there."""
        ...

    def local(self, name: str, *, size: int | None = None, digest: str | None = None) -> Path:
        """A path under which a file that never changes can be opened: itself, or a copy that is kept for a while.

        Args:
            name: of the file.
            size: bytes that a copy must have.
            digest: SHA-256 that a copy must have, hexadecimal. The file itself is not compared.
        """
        ...

    def opened(self, name: str) -> AbstractContextManager[Path]:
        """A path under which a file that may be replaced can be read meanwhile."""
        ...

    def replaced(self, name: str) -> AbstractContextManager[Path]:
        """A path to write; what lies there in the end takes the place of the file, which readers see whole."""
        ...

    def abandoned(self, folder: str, before: float) -> Iterator[str]:
        """Names below a folder, relative to it, of what was begun before a time (Unix seconds) and never published."""
        ...

    def scratch(self, name: str) -> Path:
        """A local directory, made if it is missing."""
        ...

    def map(self, function: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """`function` of each item, in order; several at a time where a place answers late."""
        ...


def place_of(name: str | Path) -> Place:
    """The place of a name: ``s3://BUCKET/PREFIX``, or a directory.

    Raises:
        InputError: for an address of another kind, and for an empty name.
    """
    if name == "":
        raise InputError([Problem("--store", "must be a directory or s3://BUCKET/PREFIX, got nothing")])
    scheme = None if isinstance(name, Path) else _SCHEME.match(name)
    if scheme is None:
        from studies.directory import Directory

        return Directory(Path(name))
    if scheme[1] != "s3":
        raise InputError([Problem("--store", f"must be a directory or s3://BUCKET/PREFIX, got {scheme[0]}…")])
    from studies.bucket import Bucket

    return Bucket(str(name))


def in_bucket(name: str) -> bool:
    """Whether a store of this name has no directory."""
    return _SCHEME.match(name) is not None
