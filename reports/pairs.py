"""Which trials are compared with which: pairs of equal seed and equal shared setting, one difference per seed.

Two arms share the axes that act on both. A pair is a (seed, shared setting); on each side the trials of that pair
(several where an axis acts on one arm only) are averaged. A pair is complete when all its trials on both sides have
the metric. A control is paired by the settings that it is matched to (`studies.match`), whichever its own values are;
one that stands for several of them is in as many pairs. A setting that no seed has complete is left out; of the rest a
seed must have all, or it leaves n: else seeds would be averages over different settings. What left is counted.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from reports.tables import Setting, Tables

Scale = Literal["linear", "log"]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The paired differences of a claim, by seed in ascending order."""

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    """[n] arm − against; on a log scale the difference of natural logarithms."""
    settings: int
    """Shared settings averaged in each seed."""
    own: Mapping[str, int]
    """By arm on which an axis acts that does not act on the other: its settings that are averaged within a pair."""
    incomplete: int
    """Pairs (seed, setting) that lack a trial or its metric on either side."""
    dropped_seeds: tuple[int, ...]
    """Seeds with an incomplete pair in a setting that others have complete."""
    dropped_settings: tuple[Setting, ...]
    """Settings that are complete in no seed."""


NO_PAIRS = Pairs(seeds=(), differences=(), settings=0, own={}, incomplete=0, dropped_seeds=(), dropped_settings=())


class LogScaleError(Exception):
    """A value that has no logarithm; the message names it."""


def pair(
    tables: Tables,
    values: Mapping[str, float],
    *,
    arm: str,
    against: str | float,
    scale: Scale = "linear",
) -> Pairs:
    """The differences of two arms, or of an arm and a number.

    Args:
        tables: of the study.
        values: the metric by trial_id, for the trials that have it.
        arm: name of the arm.
        against: another arm, or the number to compare with (then a pair is a seed and setting of the arm alone).
        scale: of the difference.

    Raises:
        LogScaleError: on a log scale, where a value is not positive.
    """
    looked_at = ["arm", "seed", "trial_id", *tables.axes]  # whole rows are three times as slow
    left = tables.compared(arm)[looked_at]
    if isinstance(against, str):
        right = tables.compared(against)[looked_at]
        shared = tables.shared(left, right)
        sides = [_sides(tables, left, values, shared, scale), _sides(tables, right, values, shared, scale)]
        own = {arm: _own_settings(tables, left, shared), against: _own_settings(tables, right, shared)}
    else:
        reference = _scaled(against, scale, "the value to compare with")
        sides = [_sides(tables, left, values, None, scale)]
        sides.append(dict.fromkeys(sides[0], reference))
        own = {}
    first, second = sides
    complete: dict[Setting, dict[int, float]] = defaultdict(dict)
    keys = sorted(first.keys() | second.keys(), key=repr)
    for seed, setting in keys:
        a, b = first.get((seed, setting)), second.get((seed, setting))
        if a is not None and b is not None:
            complete[setting][seed] = a - b
    settings = [s for s in dict.fromkeys(setting for _, setting in keys) if s in complete]
    seeds = sorted({seed for seed, _ in keys})
    kept = [seed for seed in seeds if settings and all(seed in complete[s] for s in settings)]
    return Pairs(
        seeds=tuple(kept),
        differences=tuple(math.fsum(complete[s][seed] for s in settings) / len(settings) for seed in kept),
        settings=len(settings),
        own={name: count for name, count in own.items() if count > 1},
        incomplete=len(keys) - sum(map(len, complete.values())),
        dropped_seeds=tuple(seed for seed in seeds if settings and seed not in kept),
        dropped_settings=tuple(s for s in dict.fromkeys(setting for _, setting in keys) if s not in complete),
    )


def _sides(
    tables: Tables, rows: pd.DataFrame, values: Mapping[str, float], keys: Sequence[str] | None, scale: Scale
) -> dict[tuple[int, Setting], float | None]:
    """Mean of the metric by (seed, setting of `keys`); None where a trial of it is missing or lacks the metric.

    Without `keys` a setting is that of the trial itself.

    A trial is missing where its setting of all axes stands in another seed of the same shared setting.
    """
    found: dict[tuple[int, Setting], dict[Setting, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    asked: dict[Setting, set[Setting]] = defaultdict(set)
    for row in rows.to_dict("records"):
        value, full = values.get(row["trial_id"]), tables.setting(row)
        number = None if value is None else _scaled(value, scale, f"trial {row['trial_id']}")
        for shared in (full,) if keys is None else tables.pairings(row, keys):
            found[int(row["seed"]), shared][full].append(number)
            asked[shared].add(full)
    means: dict[tuple[int, Setting], float | None] = {}
    for (seed, shared), cells in found.items():
        numbers = [v for cell in cells.values() for v in cell]
        known = [v for v in numbers if v is not None]
        whole = len(known) == len(numbers) and cells.keys() == asked[shared]
        means[seed, shared] = math.fsum(known) / len(known) if whole else None
    return means


def _own_settings(tables: Tables, rows: pd.DataFrame, shared: Sequence[str]) -> int:
    """The most settings of an arm that have one setting of the shared axes."""
    settings = rows.to_dict("records")
    found = {(pairing, tables.setting(row)) for row in settings for pairing in tables.pairings(row, shared)}
    return max(Counter(setting for setting, _ in found).values(), default=0)


def _scaled(value: float, scale: Scale, where: str) -> float:
    if scale == "linear":
        return value
    if value <= 0:
        raise LogScaleError(f"{where} has {value:g}, which has no logarithm")
    return math.log(value)
