"""Where an Optuna storage lies: its URL, what of it may be shown, who may write to it, and whether it is sound.

``journal:///absolute/path`` (``journal://relative/path``), ``sqlite:///path`` or ``postgresql://user@host/database``.
Passwords are never printed, logged or recorded: whatever is said of a storage goes through `StorageUrl.shown` and
`StorageUrl.scrub`. Writers take turns, by a lock on a file beside a journal or SQLite file, by an advisory lock within
PostgreSQL; both end with the process that holds them. A storage that is damaged is put aside under another name, never
overwritten; a file that does not even begin as one is somebody else's, and is refused and left where it is.
"""

from __future__ import annotations

import fcntl
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from core.errors import InputError, Problem
from core.lineage import digest16

FORMS = "journal:///path, sqlite:///path or postgresql://user@host/database"
CONNECT_SECONDS = 10
LOCK_SECONDS = 60
"""How long a writer waits for another."""

_SECRETS = (
    re.compile(r"(?<=://)(?P<before>[^:/@]*:)(?P<secret>.+)(?=@)"),
    re.compile(r"(?P<before>[?&][^=&]*(?:password|secret|token)[^=&]*=)(?P<secret>[^&]+)", re.IGNORECASE),
)
"""Where a URL has its passwords."""


@dataclass(frozen=True, slots=True)
class StorageUrl:
    """A storage's URL; printing it shows no password."""

    _text: str
    kind: str
    """journal | sqlite | postgresql"""
    path: Path | None
    """Of a file; None for a server."""

    @property
    def secret(self) -> str:
        """The URL with its password, for the driver of the database alone."""
        return self._text

    @property
    def shown(self) -> str:
        """The URL as it may be printed."""
        text = self._text
        for pattern in _SECRETS:
            text = pattern.sub(r"\g<before>***", text)
        return text

    def __repr__(self) -> str:
        return self.shown

    def scrub(self, message: str) -> str:
        """A message about this storage without its passwords."""
        found = [match["secret"] for pattern in _SECRETS for match in pattern.finditer(self._text)]
        for secret in sorted({word for one in found for word in (one, unquote(one))}, key=len, reverse=True):
            message = message.replace(secret, "***")
        return message


def parse_storage_url(text: str, place: str) -> StorageUrl:
    """The storage that a URL names.

    Args:
        text: the URL.
        place: the option or argument that it was given as.

    Raises:
        InputError: for a URL of another form; it shows nothing of it but the scheme.
    """
    scheme, separator, rest = text.partition("://")
    kind = scheme.partition("+")[0]
    if not separator or kind not in ("journal", "sqlite", "postgresql") or not rest:
        got = f"one that begins with {scheme[:20]}://" if separator else "one without ://"
        raise InputError([Problem(place, f"must be {FORMS}, got {got}")])
    if kind == "postgresql":
        return StorageUrl(text, kind, None)
    # A journal's path follows the two slashes, as in file:///tmp/x; SQLite's follows a third, as SQLAlchemy reads it.
    path = rest if kind == "journal" else rest.removeprefix("/").partition("?")[0]
    if (kind == "sqlite" and not rest.startswith("/")) or not path or path == ":memory:":
        raise InputError([Problem(place, f"names no file, got {text!r}; write {kind}:///path")])
    return StorageUrl(text, kind, Path(path))


@contextmanager
def exclusive(url: StorageUrl) -> Iterator[None]:
    """While it lasts, no other process of ours writes to the storage.

    Raises:
        OSError: where the lock's file cannot be written.
        sqlalchemy.exc.SQLAlchemyError: where the server cannot be reached, or another writer holds on too long.
    """
    if url.path is None:
        with _advisory(url):
            yield
        return
    url.path.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{url.path}.writer").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _advisory(url: StorageUrl) -> Iterator[None]:
    """PostgreSQL's advisory lock; it ends with the connection."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        server_url(url), poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": CONNECT_SECONDS}
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
        key = int(digest16("loopsweep"), 16) >> 1  # one lock for the database, in 63 bits
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        yield


def server_url(url: StorageUrl) -> str:
    """The URL for SQLAlchemy, with the driver that is installed; SQLAlchemy's own default differs between versions."""
    scheme, _, rest = url.secret.partition("://")
    return f"postgresql+psycopg2://{rest}" if scheme == "postgresql" else url.secret


_BEGINNINGS = {"journal": b"{", "sqlite": b"SQLite format 3\0"}
"""What the files of a kind begin with."""


def refuse_foreign(url: StorageUrl) -> None:
    """Refuses a file that is no storage, before anything is made beside it.

    Raises:
        InputError: where the URL names such a file, or a folder.
        OSError: where it cannot be read.
    """
    if url.path is None or not url.path.exists():
        return
    beginning = _BEGINNINGS[url.kind]
    if url.path.is_file():
        with url.path.open("rb") as file:
            found = file.read(len(beginning))
        if found in (b"", beginning):
            return
    raise InputError(f"{url.shown} names what is no Optuna storage of this kind; nothing is changed, name another file")


def set_aside(url: StorageUrl) -> Path | None:
    """Puts a damaged file aside; the new name, or None where the storage is sound, absent, or no file.

    To be called by the writer whose turn it is.
    """
    if url.path is None or not url.path.exists() or url.path.stat().st_size == 0:
        return None
    if (_journal_is_sound if url.kind == "journal" else _sqlite_is_sound)(url.path):
        return None
    number = 1
    while (aside := Path(f"{url.path}.damaged-{number}")).exists():
        number += 1
    url.path.replace(aside)
    return aside


def _journal_is_sound(path: Path) -> bool:
    """Whether each line is whole: Optuna opens a journal whose last line was cut, and cannot write to it any more."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                json.loads(line)
            except ValueError:
                return False
            if not line.endswith(b"\n"):
                return False
    return True


def _sqlite_is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        try:
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
        except sqlite3.OperationalError:  # busy or not to be read: no damage
            return True
        except sqlite3.DatabaseError:
            return False
