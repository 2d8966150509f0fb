"""Canaries: small files by which a node of a cluster shows that it sees the same store as the driver.

    canaries/<time>-<digest>    random bytes; the digest in the name is theirs

The driver plants one and hands its name round; whoever cannot read it, or reads something else under that name, works
on another place (a folder of the same name that is not shared), and what it commits would never be seen.
Nothing of the results: those older than a day go when the next one is planted.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from core.errors import StoreError
from studies.records import make_directory, names_in, publish_new

FOLDER = "canaries"
DAY_NS = 86_400 * 10**9
_TOKEN = re.compile(r"(\d{19})-([0-9a-f]{32})")


def plant(root: Path, now: int) -> str:
    """Publishes a canary and removes those that are older than a day.

    Args:
        root: of the store.
        now: nanoseconds since the epoch.

    Returns:
        Its token, by which `sees` finds it.
    """
    folder = root / FOLDER
    make_directory(folder)
    for name in names_in(folder):
        if (match := _TOKEN.fullmatch(name)) and int(match[1]) < now - DAY_NS:
            (folder / name).unlink(missing_ok=True)
    content = secrets.token_bytes(32)
    token = f"{now:019d}-{_digest(content)}"
    if not publish_new(folder / token, content):
        raise StoreError(
            f"{folder / token}: a file of this random name is there already; is the clock or the disk sound?"
        )
    return token


def sees(root: Path, token: str) -> bool:
    """Whether the canary of this token is there, as it was planted.

    Raises:
        ValueError: for what is no token.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ValueError(f"a canary's token is <time>-<digest>, got {token!r}")
    try:
        return _digest((root / FOLDER / token).read_bytes()) == match[2]
    except FileNotFoundError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
