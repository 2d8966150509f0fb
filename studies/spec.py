"""How a study is read: from the catalogue by name, or from a TOML file by path.

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
from studies.check import parse_study, printable
from studies.study import Arm, Nuisance, Search, Study

__all__ = ["Arm", "Nuisance", "Search", "Study", "catalogue", "load_study", "parse_study", "study_text"]

CATALOGUE = Path(__file__).parent / "catalogue"
MAX_BYTES = 1 << 20


def catalogue() -> list[Path]:
    """The studies that come with loopsweep, by name."""
    return sorted(CATALOGUE.glob("*.toml"))


def load_study(source: str | Path) -> Study:
    """A study by its name in the catalogue, or from a TOML file.

    Args:
        source: a bare name means the catalogue; a `Path`, or a text with a separator or ending in ``.toml``, a file.

    Raises:
        InputError: with every problem of the file, each naming file and key.
    """
    shown, path = _locate(source)
    return parse_study(_document(path, shown), file=shown)


def study_text(source: str | Path) -> bytes:
    """The text of the file that `load_study` reads.

    Raises:
        OSError: where it cannot be read.
    """
    return _locate(source)[1].read_bytes()


def _locate(source: str | Path) -> tuple[str, Path]:
    """How a source is called in messages, and its path."""
    shown = printable(str(source))
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    if isinstance(source, Path) or source.endswith(".toml") or any(s in source for s in separators):
        return shown, Path(source)
    names = {path.stem: path for path in catalogue()}
    if source in names:
        return shown, names[source]
    file = f"; the file is {shown}.toml" if Path(f"{shown}.toml").is_file() else ""
    message = f"no such study in the catalogue; {nearest(source, names)}, or give the path of a .toml file{file}"
    raise InputError([Problem(shown or "STUDY", message)])


def _document(path: Path, shown: str) -> dict[str, Any]:
    """The values of a TOML file."""

    def refuse(message: str) -> InputError:
        return InputError([Problem(shown, message)])

    try:
        if not path.exists():
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
