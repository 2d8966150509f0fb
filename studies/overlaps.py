"""Keys that two places of a study want: varied in two tables, or fixed by an arm and varied by an axis of it.

A search varies all that it varies by itself, so axes, nuisance axes and controls cannot stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import Problem
from studies.grid import Grid
from studies.study import Arm, Nuisance


def overlaps(
    document: Mapping[str, Any], arms: Sequence[Arm], axes: Grid, nuisance: Nuisance | None
) -> Iterator[Problem]:
    """The keys that are wanted twice, each as a problem of the place that is to give way.

    Args:
        document: the study's; its structure may be unsound, which is said elsewhere.
        arms: as far as they are sound.
        axes: of all arms.
        nuisance: what is tuned.
    """
    tuned = nuisance.axes.keys if nuisance else ()
    for key in axes.keys:
        if key in tuned:
            yield Problem(f'nuisance."{key}"', "stands in [axes] too; it is compared or tuned, not both")
    for arm in arms:
        if arm.match is None:  # the terms of a control lie over axes, which are checked where they stand
            yield from _of_arm(arm, document["arms"][arm.name], axes.keys, tuned)
    if "search" in document:
        varied = [name for name in ("axes", "nuisance", "where") if document.get(name)]
        varied += [f"arms.{arm.name}.axes" for arm in arms if arm.axes.keys and arm.match is None]
        for place in varied:
            yield Problem(place, "cannot stand beside [search] yet; put the keys into search.space as lists of choices")
        for arm in arms:
            if arm.match is not None:
                yield Problem(f"arms.{arm.name}.match", "cannot stand beside [search]; vary by axes what is matched")


def _of_arm(arm: Arm, table: Mapping[str, Any], common: Sequence[str], tuned: Sequence[str]) -> Iterator[Problem]:
    """What an arm varies that others vary for it, and what it fixes that is varied in it."""
    own = arm.axes.keys
    for key in own:
        if key in common:
            yield Problem(f'arms.{arm.name}.axes."{key}"', "stands in [axes] too; keep one of them")
        if key in tuned:
            yield Problem(f'arms.{arm.name}.axes."{key}"', "stands in [nuisance] too; it is compared or tuned")
    for key in (*common, *own, *tuned, *arm.space):
        section, _, name = key.partition(".")
        fixed = table.get(section)
        if not isinstance(fixed, dict):
            continue
        if name in fixed:
            yield Problem(f"arms.{arm.name}.{key}", "is fixed here and varied by an axis of this arm; keep one")
        other = {"schedule.stages": "kind", "schedule.kind": "stages"}.get(key)
        if other in fixed and fixed[other] != "stages":
            message = f"is fixed here, and an axis of this arm over {key} would displace it; keep one"
            yield Problem(f"arms.{arm.name}.schedule.{other}", message)
