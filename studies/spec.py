"""How a study is read: from the catalogue by name, or from a TOML file by path; with ``@SIZE`` behind it in that size.

A file is read once and everything that is wrong with it is said at once, one line per error: the file, the key, the
rule, the value got and the next step. `docs/studies.md` tells how to write one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from core.errors import InputError, Problem
from core.terms import nearest
from studies.check import parse_sizes, parse_study
from studies.located import printable
from studies.sizes import SMALL
from studies.study import Arm, Nuisance, Search, Study

__all__ = [
    "Arm",
    "Nuisance",
    "Search",
    "Study",
    "catalogue",
    "load_sizes",
    "load_study",
    "parse_study",
    "study_path",
    "study_text",
]

CATALOGUE = Path(__file__).parent / "catalogue"
MAX_BYTES = 1 << 20


def catalogue() -> list[Path]:
    """The studies that come with loopsweep, by name."""
    return sorted(CATALOGUE.glob("*.toml"))


def load_study(source: str | Path, *, size: str | None = None, folder: Path | None = None) -> Study:
    """A study by its name in the catalogue, or from a TOML file.

    Args:
        source: a bare name means the catalogue; a `Path`, or a text with a separator or ending in ``.toml``, a file.
            ``SOURCE@SIZE`` names one of its sizes, unless a file is called so.
        size: the same, of a source that names none.
        folder: at which relative paths in it begin; default: that of the file.

    Raises:
        InputError: with every problem of the file, each naming file and key.
    """
    shown, path, named = _locate(source)
    return parse_study(_document(path, shown), file=shown, size=size or named or SMALL, folder=folder or path.parent)


def load_sizes(source: str | Path) -> dict[str, Study]:
    """A study in each of its sizes, by the size's name, ``small`` first; the texts of that of `source` must be there.

    Raises:
        InputError: with every problem of the file, each naming file and key.
    """
    shown, path, named = _locate(source)
    return parse_sizes(_document(path, shown), file=shown, asked=named or SMALL, folder=path.parent)


def study_text(source: str | Path) -> tuple[bytes, str | None, Path]:
    """What `Store.keep_study` keeps of a study: the text of its file, its size (None for ``small``) and its folder.

    Raises:
        OSError: where it cannot be read.
    """
    _, path, size = _locate(source)
    return path.read_bytes(), size, path.parent


def study_path(source: str | Path) -> tuple[Path, str | None]:
    """The file of a study, and the size that is named, None for ``small``.

    Raises:
        InputError: where no study of that name is in the catalogue.
    """
    _, path, size = _locate(source)
    return path, size


def _locate(source: str | Path) -> tuple[str, Path, str | None]:
    """How a source is called in messages, without its size; its path; its size, None for ``small``."""
    text, size = _halves(source)
    shown = printable(text)
    if isinstance(source, Path) or text.endswith(".toml") or any(s in text for s in _SEPARATORS):
        return shown, Path(text), size
    names = {path.stem: path for path in catalogue()}
    if text in names:
        return shown, names[text], size
    file = f"; the file is {shown}.toml" if Path(f"{shown}.toml").is_file() else ""
    message = f"no such study in the catalogue, nor the path of a .toml file{file}; {nearest(text, names)}"
    raise InputError([Problem(shown or "STUDY", message)])


_SEPARATORS = [separator for separator in (os.sep, os.altsep) if separator]


def _halves(source: str | Path) -> tuple[str, str | None]:
    """A source and the size behind its last ``@``; None where that is ``small``, or belongs to the path of a file."""
    whole = str(source)
    text, at, size = whole.rpartition("@")
    of_path = any(s in size for s in _SEPARATORS) or (size.endswith(".toml") and not text.endswith(".toml"))
    if not at or of_path or _is_there(whole):
        return whole, None
    return text, None if size == SMALL else size


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _document(path: Path, shown: str) -> dict[str, Any]:
    """The values of a TOML file."""

    def refuse(message: str) -> InputError:
        return InputError([Problem(shown, message)])

    try:
        if not path.exists():
            if path.is_symlink():
                raise refuse(f"is a link to {path.readlink()}, which is not there; mend the link")
            beside = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.toml")], n=1)
            raise refuse(f"no such file{f'; did you mean {path.parent / beside[0]}?' if beside else ''}")
        if not path.is_file():
            raise refuse("must be a file, got a directory or device; name the study's TOML file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise refuse(f"must be at most {MAX_BYTES} bytes; a study is a page of text")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        byte = f"byte {content[error.start]:#04x} at position {error.start}"
        raise refuse(f"must be UTF-8, got {byte}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits, and lists nested as deep
        raise refuse(f"is not TOML: {error}") from error
