"""Claims over the values of an axis: `each` asks value by value, `along` asks how far.

``each = "model.loops"`` makes a claim for each value, each of them one of the study's claims. ``along =
"schedule.switch"`` gives a claim a part for each value, in the order of the axis; `reports.claims` tests them in that
order and says up to which value the claim holds. Both take the values that all arms of the claim have that vary the
axis, and of those the ones that the claim's own `where` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InputError
from core.terms import nearest
from studies.grid import Grid
from studies.where import Expression, parse

MAX_PARTS = 1000
"""Comparisons that `each` and `along` may make of one claim."""


def filters(key: str, axes: Mapping[str, Grid], where: Sequence[Expression]) -> dict[Any, Expression]:
    """By value of an axis, in its order: the filter that keeps that value alone.

    Args:
        key: of the axis, dotted.
        axes: what the arms of the claim vary, by arm.
        where: filters of the claim; values that they drop are left out.

    Raises:
        InputError: where the key is no axis of theirs, or no value is left, or too many, or they are lists or tables.
    """
    lists = [grid.values(key) for grid in axes.values() if key in grid.keys]
    arms = " or ".join(axes)
    if not lists:
        known = list(dict.fromkeys(name for grid in axes.values() for name in grid.keys))
        hint = nearest(key, known) if known else "they have none" if len(axes) > 1 else "it has none"
        raise InputError(f"must be an axis of {arms}, got {key!r}; {hint}")
    if not all(isinstance(value, (bool, int, float, str)) for values in lists for value in values):
        raise InputError(f"must be an axis of numbers, texts or booleans, got {key!r}; claim with `where` instead")
    shared = [value for value in dict.fromkeys(lists[0]) if all(value in set(values) for values in lists[1:])]
    kept = [value for value in shared if all(one.admits({key: value}) for one in where)]
    if not kept:
        why = "`where` drops all of its values" if shared else "the arms have no value of it in common"
        raise InputError(f"{why}, got {key!r}; take another axis")
    if len(kept) > MAX_PARTS:
        raise InputError(f"must be at most {MAX_PARTS} values, got {len(kept)} of {key!r}; drop some by `where`")
    return {value: parse(f"{key} == {value!r}") for value in kept}
