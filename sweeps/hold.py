"""A hold: what one driver says that it runs now, and its text form.

    {"driver": "9f…", "host": "node-3", "space": "…", "pid": 4711, "since": "…Z", "at": "…Z", "beat": 17,
     "runs": [[0, 300, ["1f2e…", …]], …], "ran": [[0, 200, ["77ab…", …]], …], "needs": ["77ab…", …]}

``runs`` are stretches (start, end] with the lineages that are trained over them, ``ran`` those that were recorded
lately, ``needs`` the lineages with passing states from which the driver is to begin. ``beat`` counts how often it was
written, so that each renewal changes the content. Anything else is no hold and holds nothing: torn, foreign and made-up
files are read as None.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

_DRIVER = re.compile(r"[0-9a-f]{16}")
_LINEAGE = re.compile(r"[0-9a-f]{16}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,100}")
TIME = "%Y-%m-%dT%H:%M:%SZ"


Stretches = Mapping[str, Sequence[tuple[int, int]]]
"""By lineage, stretches (start, end]."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What a driver runs."""

    driver: str
    """16 hexadecimal digits, drawn when it starts."""
    host: str
    space: str
    """Within which process ids are told apart: see `process_space`."""
    pid: int
    since: str
    """When the driver began, UTC by its own clock; to be shown."""
    at: str
    """When this was written, likewise."""
    beat: int
    runs: Stretches
    ran: Stretches
    """What was recorded lately: others that have planned before that do not know it yet."""
    needs: frozenset[str]
    """Lineages with passing states that it is to begin from."""

    @property
    def who(self) -> str:
        """The driver, for people."""
        return f"{self.host} pid {self.pid}, since {self.since}"

    @property
    def written(self) -> datetime:
        """When this was written, by the driver's clock."""
        return datetime.strptime(self.at, TIME).replace(tzinfo=UTC)

    @property
    def gone(self) -> bool:
        """Whether its process is known to have ended: it was on this machine, and nothing has its id any more."""
        if not self.space or self.space != process_space():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's process: it is there
            return False
        return False

    def holds(self, lineage: str, start: int, end: int) -> bool:
        """Whether it runs any part of a stretch."""
        return _overlap(self.runs.get(lineage, ()), start, end)


def hold_bytes(hold: Hold) -> bytes:
    """The text form of a hold."""
    names = ("driver", "host", "space", "pid", "since", "at", "beat")
    facts: dict[str, Any] = {name: getattr(hold, name) for name in names}
    facts["runs"] = _listed(hold.runs)
    facts["ran"] = _listed(hold.ran)
    facts["needs"] = sorted(hold.needs)
    return json.dumps(facts, separators=(",", ":")).encode()


def read_hold(driver: str, data: bytes) -> Hold | None:
    """The hold of a driver from its text form; None for whatever is none."""
    try:
        facts = json.loads(data)
        found = Hold(
            driver=_matches(facts["driver"], _DRIVER),
            host=_matches(facts["host"], _HOST),
            space=str(facts["space"]),
            pid=_whole(facts["pid"], least=1),
            since=_time(facts["since"]),
            at=_time(facts["at"]),
            beat=_whole(facts["beat"]),
            runs=_stretches(facts["runs"]),
            ran=_stretches(facts["ran"]),
            needs=frozenset(_matches(lineage, _LINEAGE) for lineage in facts["needs"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if found.driver == driver else None


def by_lineage(keys: Iterable[tuple[str, int, int]]) -> dict[str, list[tuple[int, int]]]:
    """Stretches, each (lineage, start, end), by lineage."""
    found: dict[str, list[tuple[int, int]]] = {}
    for lineage, start, end in keys:
        found.setdefault(lineage, []).append((start, end))
    return found


def host_name() -> str:
    """This machine's name, in the letters that a hold may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "unknown"


@cache
def process_space() -> str:
    """Equal for two processes if each sees the other's id: one boot of one kernel, one namespace of ids.

    Empty where the system does not tell; a holder is then never known to be gone, and expires.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the link's text names no file
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {space}".encode()).hexdigest()[:16]


def _listed(found: Stretches) -> list[tuple[int, int, list[str]]]:
    """By stretch, the lineages: the lanes of a pack share one."""
    lists: dict[tuple[int, int], list[str]] = {}
    for lineage, stretches in found.items():
        for stretch in stretches:
            lists.setdefault(stretch, []).append(lineage)
    return [(start, end, lineages) for (start, end), lineages in lists.items()]


def _stretches(value: Any) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for start, end, lineages in value:
        if _whole(start) >= _whole(end):
            raise ValueError("an empty stretch")
        for lineage in lineages:
            found.setdefault(_matches(lineage, _LINEAGE), []).append((start, end))
    return found


def _overlap(stretches: Iterable[tuple[int, int]], start: int, end: int) -> bool:
    return any(begin < end and start < last for begin, last in stretches)


def _matches(value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"not of the form {pattern.pattern}")
    return value


def _time(value: Any) -> str:
    return datetime.strptime(value, TIME).strftime(TIME)


def _whole(value: Any, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"not an integer from {least}")
    return value
