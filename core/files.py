"""The files of a text task: which they are, what they are called, and the digest of what stands in them.

A pattern is a glob; ``python:`` before it means the folder of the standard library of the Python that runs. A file
counts once, however many patterns match it, and its name is its path below the deepest folder that holds all of them.
So the digest, which is what a trial keeps of its text, depends on names and contents alone: not on the order of the
patterns, nor on where the files lie.

Whoever plans reads the files to get the digest; whoever trains reads them again and compares. Reading is bounded. No
torch here: planning imports this file.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from core.errors import InputError, Problem

PYTHON = "python:"
"""Prefix of patterns below the standard library's folder."""
MAX_BYTES = 4 << 30
"""Of all files of a task together; a worker holds its text in memory."""
MAX_FILES = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFile:
    """One file of a text."""

    name: str
    """Path below the folder that all files share, with ``/``; those of the standard library begin with ``python:``."""
    path: Path
    size: int
    """Bytes, when it was listed."""

    def read(self) -> bytes:
        """Its content.

        Raises:
            InputError: where it cannot be read.
        """
        return read(self.path, "task.files")


def absolute(pattern: str, folder: Path) -> str:
    """A pattern as it holds anywhere: relative ones are those of `folder`, ``python:`` stays."""
    if pattern.startswith(PYTHON):
        return pattern
    return str(PurePath(glob.escape(str(folder.absolute())), pattern))  # an absolute pattern displaces the folder


def listed(patterns: Sequence[str]) -> tuple[TextFile, ...]:
    """The files that patterns match, by name; folders and hidden files are left out.

    Args:
        patterns: as `absolute` gives them.

    Raises:
        InputError: where a pattern matches no file, or all of them too many or too much.
    """
    library, own = set[Path](), set[Path]()
    for pattern in patterns:
        found = set(_matches(pattern))
        if not found:
            place = f" (in {_library()})" if pattern.startswith(PYTHON) else ""
            raise _refused(f"{pattern!r}{place} matches no file; mend the pattern (** stands for any folders)")
        (library if pattern.startswith(PYTHON) else own).update(found)
        if len(library) + len(own) > MAX_FILES:
            raise _refused(f"must match at most {MAX_FILES} files, got more with {pattern!r}; narrow the patterns")
    named = {path: f"{PYTHON}{path.relative_to(_library()).as_posix()}" for path in library}
    if rest := own - library:
        base = os.path.commonpath([path.parent for path in rest])
        named |= {path: path.relative_to(base).as_posix() for path in rest}
    files = [TextFile(name=name, path=path, size=_size(path)) for path, name in named.items()]
    if (total := sum(file.size for file in files)) > MAX_BYTES:
        held = f"{total / 2**30:.1f} GiB in {len(files)} files"
        raise _refused(f"must hold at most {MAX_BYTES >> 30} GiB, got {held}; narrow the patterns")
    return tuple(sorted(files, key=lambda file: file.name))


def _matches(pattern: str) -> Iterator[Path]:
    """Regular files, by absolute path; what is installed into the standard library's folder is no part of it."""
    inside = pattern.startswith(PYTHON)
    place = os.path.join(glob.escape(str(_library())), pattern.removeprefix(PYTHON)) if inside else pattern  # noqa: PTH118
    for count, found in enumerate(glob.iglob(place, recursive=True)):  # noqa: PTH207 - Path has no absolute patterns
        if count > 10 * MAX_FILES:
            raise _refused(f"{pattern!r} matches too many files and folders; narrow the pattern")
        path = Path(os.path.normpath(found))
        if inside and not path.is_relative_to(_library()):
            raise _refused(f"{pattern!r} must stay below the standard library; leave `..` and a leading / out")
        if inside and path.relative_to(_library()).parts[:1] in (("site-packages",), ("dist-packages",)):
            continue
        if path.is_file():
            yield path


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror}") from error


def read(path: Path, key: str) -> bytes:
    """The content of a file.

    Args:
        path: of the file.
        key: the dotted key that names it, for messages.

    Raises:
        InputError: where it cannot be read, or is larger than a text may be.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError([Problem(key, f"{path} cannot be read: {error.strerror}")]) from error
    if len(content) > MAX_BYTES:
        raise InputError([Problem(key, f"{path} must hold at most {MAX_BYTES >> 30} GiB; narrow the patterns")])
    return content


def digest(contents: Iterable[tuple[str, bytes]], tokenizer: bytes | None) -> str:
    """First 16 hex digits of the SHA-256 over the names and contents of a text, and over what makes tokens of it.

    Args:
        contents: name and content of each file, in the order of the names; taken one at a time.
        tokenizer: content of the tokenizer's file; None where the tokens are bytes.
    """
    whole = hashlib.sha256(b"bytes" if tokenizer is None else hashlib.sha256(tokenizer).digest())
    for name, content in contents:
        # A name holds no zero byte and the digest of a content has a fixed length: no two lists give the same bytes.
        whole.update(os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
    return whole.hexdigest()[:16]


def _refused(message: str) -> InputError:
    return InputError([Problem("task.files", message)])
