"""Sizes of a study: one question at several costs, ``small`` for a laptop and others, as ``paper``, for a cluster.

A document as it stands is the size ``small``. Each ``[sizes.NAME]`` is an overlay: the tables and keys of a study, of
which it holds those that differ. `sized` lays it over the document before anything else reads that, so a study of any
size is a study like all others, and nothing behind `studies.check` knows of sizes. What is wrong with a study of some
size is mapped back to where it is written, ``sizes.paper.base.train.steps``, by `at_overlay`.

Tables merge key by key, lists and values replace; an axis replaces the axis of its name and keeps its place in the
order. Arms and claims are those of the document: another size costs more, and asks the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import Problem
from core.schedule_terms import overlaid
from core.terms import nearest
from studies.grammar import NAME, NAME_RULE, SizeTable

SMALL = "small"
"""The size that is the document itself."""

_OVERLAID = tuple(SizeTable.model_fields)
"""What may differ between sizes."""


def overlays(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The overlays of a document by name, in file order; what is no table is left out (the grammar says so)."""
    sizes = document.get("sizes", {})
    if not isinstance(sizes, dict):
        return {}
    return {name: overlay for name, overlay in sizes.items() if isinstance(overlay, dict)}


def size_names(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The sizes of a study, `SMALL` first."""
    return tuple(dict.fromkeys([SMALL, *overlays(document)]))


def sized(document: Mapping[str, Any], size: str) -> dict[str, Any]:
    """The document of one size: without ``sizes``, and with that overlay over it.

    Args:
        document: as TOML gives it.
        size: one of `size_names`.
    """
    plain = {key: value for key, value in document.items() if key != "sizes"}
    if size == SMALL:
        return plain
    overlay = {key: value for key, value in overlays(document)[size].items() if key in _OVERLAID}
    arms = plain.get("arms")
    if isinstance(arms, dict) and isinstance(overlay.get("arms"), dict):
        overlay["arms"] = {name: arm for name, arm in overlay["arms"].items() if name in arms}
    return _merged(plain, overlay)


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """A table (of this name) under another: tables merge, all else replaces."""
    found = overlaid(lower, upper) if name == "schedule" else {**lower, **upper}
    for key, value in upper.items():
        if isinstance(value, dict) and isinstance(lower.get(key), dict):
            found[key] = _merged(lower[key], value, key)
    return found


def name_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Names in ``[sizes]`` that cannot be: of sizes, and of arms that the study does not have."""
    arms = document.get("arms")
    for size, overlay in overlays(document).items():
        if not re.fullmatch(NAME, size):
            yield Problem(f"sizes.{size}", f"{NAME_RULE}, got {size!r}")
        elif size == SMALL:
            yield Problem(f"sizes.{size}", "is the document itself; write its values outside [sizes], or rename it")
        theirs = overlay.get("arms")
        if isinstance(arms, dict) and isinstance(theirs, dict):
            for name in theirs:
                if name not in arms:
                    message = f"no such arm, and sizes add none; {nearest(name, arms)}"
                    yield Problem(f"sizes.{size}.arms.{name}", message)


def at_overlay(
    problems: Sequence[Problem], document: Mapping[str, Any], size: str, *, small: Sequence[Problem]
) -> Iterator[Problem]:
    """The problems of a study of one size as the file's: each at its place in the overlay, where it has one.

    Others are of keys outside the overlay that do not go with what is in it, and say so; where `small` has problems
    too they are left out, since they may be the same.

    Args:
        problems: of the document `sized`.
        document: the whole one.
        size: not `SMALL`.
        small: what is wrong with the study of size `SMALL`.
    """
    written = tuple(_places(overlays(document)[size], document))
    for problem in problems:
        if any(_within(problem.where, place) for place in written):
            yield Problem(f"sizes.{size}.{problem.where}", problem.message)
        elif not small:
            yield Problem(problem.where, f"{problem.message} (in size {size})")


def _places(upper: Mapping[str, Any], lower: Mapping[str, Any], prefix: str = "", name: str = "") -> Iterator[str]:
    """The places of what a table (of this name) changes, as messages name them: dotted keys of axes in quotes."""
    for key, value in upper.items():
        place = f'{prefix}"{key}"' if name in ("axes", "nuisance") and "." in key else f"{prefix}{key}"
        below = lower.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            yield from _places(value, below, f"{place}.", key)
        else:
            yield place


def _within(where: str, place: str) -> bool:
    return where == place or where.startswith((f"{place}.", f"{place}["))
