"""Copies on this machine of files that lie in a bucket and never change, so that each is fetched once.

    <cache>/loopsweep/<store>/parts/…      copies; `<cache>` is XDG_CACHE_HOME or ~/.cache
    <cache>/loopsweep/<store>/open/…       files on their way to or from the bucket
    <cache>/loopsweep/<store>/scratch/…    `Store.scratch`

A copy is admitted only with the digest that its record names and appears by renaming, so a torn download never counts
as a part. Nothing here is needed: whatever is removed is fetched again. When all copies together take more than
`MOST_BYTES`, those that were not used for the longest go, but none that was used within the last hour, since somebody
may be reading it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import StoreError

MOST_BYTES = 20 << 30
IDLE_SECONDS = 3600.0
_TRIM_EACH = 1 << 30
"""Bytes fetched between two looks at what all copies take."""


def cache_folder() -> Path:
    """Where copies of all stores lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loopsweep"


class Copies:
    """The copies of one store."""

    def __init__(self, cache: Path, store: str) -> None:
        """Of a store, in a folder that may be missing.

        Args:
            cache: the folder of all copies.
            store: what tells the store from others; no secrets in it.
        """
        self._cache = cache
        self.root = cache / hashlib.sha256(store.encode()).hexdigest()[:16]
        self._since_trim = _TRIM_EACH
        self._lock = threading.Lock()

    def get(self, name: str, *, size: int, digest: str, fetch: Callable[[Path], None], where: str) -> Path:
        """The copy of a file, fetched if it is not there.

        Args:
            name: of the file in its store.
            size: bytes.
            digest: SHA-256, hexadecimal.
            fetch: writes it to a path.
            where: it lies, for messages.

        Raises:
            StoreError: where it has another digest.
        """
        path = self.root / name
        with suppress(FileNotFoundError):
            if path.stat().st_size == size:
                os.utime(path)
                return path
        with self.passing() as fresh:
            fetch(fresh)
            if (found := fresh.stat().st_size) != size or digest_of(fresh) != digest:
                message = f"{where}: {found} bytes that are not those its record names"
                raise StoreError(f"{message}; run `loopsweep verify` to see what else is damaged")
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.replace(path)
        self._count(size)
        return path

    @contextmanager
    def passing(self) -> Iterator[Path]:
        """A path of a new file, which is gone at the end."""
        folder = self.root / "open"
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=folder)
        os.close(handle)
        try:
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)

    def _count(self, size: int) -> None:
        with self._lock:
            self._since_trim += size
            if self._since_trim < _TRIM_EACH:
                return
            self._since_trim = 0
        trim(self._cache, most=MOST_BYTES, before=time.time() - IDLE_SECONDS)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trim(cache: Path, *, most: int, before: float) -> None:
    """Removes copies, those unused for the longest first, until the rest takes at most so much.

    Args:
        cache: the folder of all copies.
        most: bytes.
        before: Unix seconds; what was used later stays.
    """
    found = []
    for kind in ("parts", "open"):
        for path in cache.glob(f"*/{kind}/**/*"):
            with suppress(FileNotFoundError):
                facts = path.stat()
                if path.is_file():
                    found.append((kind != "open", facts.st_mtime, facts.st_size, path))
    whole = sum(size for _, _, size, _ in found)
    for kept, used, size, path in sorted(found):  # what a killed process left in `open` goes first, whatever it takes
        if used < before and (whole > most or not kept):
            path.unlink(missing_ok=True)
            whole -= size
