"""Durations as Slurm writes them: ``HH:MM:SS``, or ``D-HH:MM:SS`` from a day on."""

from __future__ import annotations

import re

_FORM = re.compile(r"(?:([0-9]{1,3})-)?([0-9]{1,3}):([0-9]{2}):([0-9]{2})")


def slurm_time(seconds: int) -> str:
    """A duration in Slurm's form."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour:02}:{minute:02}:{second:02}"
    return f"{days}-{clock}" if days else clock


def seconds_of(text: str) -> int | None:
    """The seconds of a duration in Slurm's form; None where it is not in it."""
    match = _FORM.fullmatch(text)
    if match is None or int(match[3]) > 59 or int(match[4]) > 59 or (match[1] and int(match[2]) > 23):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
