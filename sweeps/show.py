"""One trial, or two: found by a beginning of its id, described by the terms that act, compared with another.

Pure functions of trials: which studies are searched and what is read from the store is the command's affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from core.config import TrialConfig, acting_keys, stages
from core.errors import InputError, Problem

if TYPE_CHECKING:
    from studies.expand import Trial

HEX = frozenset("0123456789abcdef")
_SHORTEST = 3
"""Digits of a beginning that is accepted: fewer name a trial only by luck."""


def find(beginning: str, trials: Iterable[Trial], *, searched: str) -> list[Trial]:
    """The trial whose id begins so: once for each study and arm that asks for it.

    Args:
        beginning: 3 to 16 hex digits.
        trials: of all the studies that are searched.
        searched: what was searched, for the message.

    Raises:
        InputError: if it is no beginning of an id, or names no trial, or several.
    """
    wanted = beginning.lower()
    if not _SHORTEST <= len(wanted) <= 16 or not set(wanted) <= HEX:
        raise InputError(
            f"a trial id is 16 hex digits, of which the first {_SHORTEST} or more will do, got {beginning!r}"
        )
    found = [trial for trial in trials if trial.trial_id.startswith(wanted)]
    ids = sorted({trial.trial_id for trial in found})
    if not ids:
        raise InputError([Problem(beginning, f"no such trial in {searched}; name its study with --study")])
    if len(ids) > 1:
        shown = ", ".join(ids[:4]) + (" …" if len(ids) > 4 else "")
        raise InputError([Problem(beginning, f"begins {len(ids)} trial ids, give more digits: {shown}")])
    return found


def acting(config: TrialConfig) -> dict[str, Any]:
    """The terms that act on a trial, by dotted key, in the order of the configuration."""
    keys, terms = acting_keys(config), {}
    for section, values in config.to_dict().items():
        for key, value in [(section, values)] if section == "seed" else _dotted(section, values):
            if key in keys:
                terms[key] = value
    return terms


def chain(trial: Trial) -> list[dict[str, Any]]:
    """The links of a trial's chain as plain values: lineage, start, end, loops."""
    return [
        {"lineage": link.lineage, "start": link.start, "end": link.end, "loops": link.loops} for link in trial.links
    ]


def plain_stages(config: TrialConfig) -> list[dict[str, Any]]:
    """The resolved stages as plain values."""
    return [asdict(stage) for stage in stages(config)]


def differing(first: TrialConfig, second: TrialConfig) -> list[tuple[str, Any, Any]]:
    """The acting terms in which two trials differ: (dotted key, value of the first, of the second).

    None stands where a term does not act.
    """
    a, b = acting(first), acting(second)
    return [(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]


def shared_steps(first: Trial, second: Trial) -> int:
    """The last step to which two trials have the same states; 0 if they differ from the start."""
    shared = 0
    for a, b in zip(first.links, second.links, strict=False):
        if a.lineage != b.lineage:
            break
        shared = min(a.end, b.end)
        if a.end != b.end:
            break
    return shared


def _dotted(section: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{section}.{name}", value) for name, value in values.items()]
