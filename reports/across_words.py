"""Comparisons across studies in words: one sentence each, and what makes it less than it looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports import words


def sentence(one: Mapping[str, Any]) -> str:
    """What a comparison says, of its first metric; of trials that ran in both, whether they agree to the last bit."""
    head = f"{one['arm']} of {one['study']} against that of {one['against']}"
    if one["refused"] is not None:
        return f"{head}: not compared, as {one['refused']}."
    if not one["metrics"]:
        return f"{head}: no final metric is in both."
    line = one["metrics"][0]
    return f"{head}: {finding(line)}.{_again(one, line)}"


def finding(line: Mapping[str, Any]) -> str:
    """The difference of one metric: how it lies, by how much, of how many seeds."""
    name = words.place(line["metric"].removeprefix("final_"), "final")
    if line["effect"] is None:
        return f"{name} is not compared, as {line['why']}"
    seeds = f"n = {words.plural(line['n'], 'seed')}"
    if line["effect"] == 0 and line["low"] in (None, 0):
        return f"{name} is equal ({seeds})"
    low, high = line["low"], line["high"]
    if line["scale"] == "log":
        three = words.estimate(*(None if v is None else math.exp(v) for v in (line["effect"], low, high)))
        said = f"{name} is {three[0]} times as much"
    else:
        down = line["effect"] < 0
        if down:
            low, high = (None if v is None else -v for v in (high, low))
        three = words.estimate(abs(line["effect"]), low, high)
        said = f"{name} is {'lower' if down else 'higher'} by {three[0]}{words.of_unit(line['unit'])}"
    inside = [f"95 % CI {three[1]} … {three[2]}"] if low is not None else []
    inside += [seeds, *([f"p_holm {words.p_value(line['p_holm'])}"] if line["p_holm"] is not None else [])]
    return f"{said} ({', '.join(inside)})"


def difference(line: Mapping[str, Any]) -> tuple[str, str]:
    """A cell of a table, and the interval below it: a difference, or a ratio on a log scale."""
    three = [line[name] for name in ("effect", "low", "high")]
    if line["scale"] == "log":
        three = [None if value is None else math.exp(value) for value in three]
    mean, low, high = words.estimate(*three)
    times = "× " if line["scale"] == "log" and line["effect"] is not None else ""
    return f"{times}{mean}", f"[{low}, {high}]" if line["low"] is not None else ""


def _again(one: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    said = ""
    if one["ran_twice"]:
        of = words.plural(one["ran_twice"], "trial")
        said += f" Of {of} that ran in both, it is equal to the last bit in {words.count(line['equal_bits'])}."
    if one["recorded_once"]:
        are = "is the very row" if one["recorded_once"] == 1 else "are the very rows"
        said += f" {words.plural(one['recorded_once'], 'trial')} {are} of the other, run once."
    return said


def unequal(what: str, name: str, other: str, least: float, most: float) -> str:
    """A flag: budgets of pairs that are not equal, with their ratios."""
    low, high = f"{least:.4g}", f"{most:.4g}"
    return f"Unequal {what}: a trial of {name} has {low if low == high else f'{low} … {high}'} times those of {other}."


def averaged(axes: Sequence[str]) -> list[str]:
    """A flag: axes by which nothing is paired."""
    if not axes:
        return []
    return [f"Not paired by {', '.join(axes)}: acts in one of the two only, so its values are averaged within a seed."]
