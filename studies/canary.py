"""Canaries: small files by which a node of a cluster shows that it sees the same store as the driver.

    canaries/<time>-<digest>    random bytes; the digest in the name is theirs

The driver plants one and hands its name round; whoever cannot read it, or reads something else under that name, works
on another place (a folder of this name that is not shared, another endpoint), and what it commits would never be seen.
Nothing of the results: those older than a day go when the next one is planted.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from studies.place import Place

FOLDER = "canaries"
DAY_NS = 86_400 * 10**9
_TOKEN = re.compile(r"(\d{19})-([0-9a-f]{32})")


def plant(place: Place, now: int) -> str:
    """Publishes a canary and removes those that are older than a day.

    Args:
        place: of the store.
        now: nanoseconds since the epoch.

    Returns:
        Its token, by which `sees` finds it.
    """
    old = [n for n in place.names(FOLDER) if (match := _TOKEN.fullmatch(n)) and int(match[1]) < now - DAY_NS]
    place.remove(*(f"{FOLDER}/{name}" for name in old))
    content = secrets.token_bytes(32)
    token = f"{now:019d}-{_digest(content)}"
    place.publish_new(f"{FOLDER}/{token}", content)  # its name is random: nobody can have taken it
    return token


def sees(place: Place, token: str) -> bool:
    """Whether the canary of this token is there, as it was planted.

    Raises:
        ValueError: for what is no token.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ValueError(f"a canary's token is <time>-<digest>, got {token!r}")
    try:
        return _digest(place.read(f"{FOLDER}/{token}")) == match[2]
    except FileNotFoundError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
