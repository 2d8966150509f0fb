"""A place on disk: files in a directory, local or on a file system that several machines share.

A file appears by `Directory.publish_new`: written under a hidden name, synced, then linked to a name that must be free;
then the directory is synced. So it is there wholly or not at all, whoever is killed when, and of two that publish one
name one wins. It takes hard links; a file system without them is refused.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from core.errors import StoreError

T = TypeVar("T")
S = TypeVar("S")

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class Directory:
    """Files below a directory; see `studies.place.Place`."""

    def __init__(self, root: Path) -> None:
        """Of the directory, which may be missing until something is written."""
        self.root = root

    @property
    def name(self) -> str:
        """The directory's path."""
        return str(self.root)

    @property
    def way_out(self) -> str:
        """What must hold for this place to work."""
        return f"the store {self.root} must be a directory that can be written"

    def where(self, name: str) -> str:
        """The path of a file."""
        return str(self.root / name)

    def prove(self) -> None:
        """Makes the directory; that the file system has hard links shows with the first file that is published."""
        make_directory(self.root)

    def names(self, folder: str = "") -> Iterator[str]:
        """Names of all files below a folder; one with ``/`` at its end is an empty folder."""
        try:
            entries = os.scandir(self.root / folder)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                if entry.is_dir():
                    below = (f"{entry.name}/{name}" for name in self.names(f"{folder}/{entry.name}".lstrip("/")))
                    yield next(below, f"{entry.name}/")
                    yield from below
                else:
                    yield entry.name

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.root / name).exists()

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """A new file, durable on return."""
        path = self.root / name
        make_directory(path.parent)
        _write_synced(path, data)
        _sync_directory(path.parent)

    def publish_new(self, name: str, data: bytes) -> bool:
        """Publishes a file durably under a name that must be free; False, and nothing changed, where it is taken.

        Raises:
            StoreError: where the file system has no hard links, on which "must be free" rests.
        """
        path = self.root / name
        make_directory(path.parent)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        _write_synced(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A server of files that repeats a request, since its answer was lost, finds the name taken by ourselves.
            if temporary.stat().st_nlink == 1:
                return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                message = f"{path.parent}: the file system has no hard links, which publish results exactly once"
                raise StoreError(f"{message}; put the store on a file system that has them (--store DIR)") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
        return True

    def remove(self, *names: str) -> None:
        """Removes files, as far as they are there."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def local(self, name: str, *, size: int | None = None, digest: str | None = None) -> Path:  # noqa: ARG002
        """The file itself."""
        return self.root / name

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """The file itself."""
        path = self.root / name
        path.stat()  # raises where it is not there
        yield path

    @contextmanager
    def replaced(self, name: str) -> Iterator[Path]:
        """The file itself: who writes it must do so by renaming, as `core.checkpoint.save` does."""
        yield self.root / name

    def abandoned(self, folder: str, before: float) -> Iterator[str]:
        """Hidden files below a folder that were last written before a time."""
        for name in self.names(folder):
            if name.rpartition("/")[2].startswith("."):
                with suppress(FileNotFoundError):
                    if (self.root / folder / name).stat().st_mtime < before:
                        yield name

    def scratch(self, name: str) -> Path:
        """A directory of the store."""
        path = self.root / "scratch" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def map(self, function: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """One after the other: a disk answers at once."""
        return [function(item) for item in items]


def make_directory(path: Path) -> None:
    """A directory and what is missing above it, each entry durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Makes the entries of a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    """A new file with this content, durable but for its directory entry."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except BaseException:
        path.unlink(missing_ok=True)  # on a full disk its bytes are needed
        raise
    finally:
        os.close(handle)
