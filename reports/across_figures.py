"""The figure of the comparisons across studies: differences of each arm with their intervals, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.figure import Figure

from reports import across_words
from reports.colours import FAINT, INK
from reports.panels import SIZE, Drawing, finished, short
from reports.ticks import plain_ticks

MOST_METRICS = 3
"""Metrics of a comparison that are drawn: the first, and those of its unit that come next."""
MOST_ROWS = 24
"""Rows that are drawn; where there would be more, the first metric alone is."""


def across_figures(across: Mapping[str, Any] | None, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """A forest plot of the differences that have an interval or a value.

    Args:
        across: the section of ``report.json``.
        colours: by arm.
    """
    compared = [one for one in across["comparisons"] if one["metrics"]] if across is not None else []
    if not compared:
        return
    of = compared[0]["metrics"][0]
    rows = _rows(compared, of, MOST_METRICS)
    if len(rows) > MOST_ROWS:
        rows = _rows(compared, of, 1)[:MOST_ROWS]
    if not rows:
        return
    figure = Figure(figsize=(SIZE[0] * 1.3, 1.1 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    sns.despine(fig=figure, left=True)
    axes.grid(visible=True, axis="x")
    axes.axvline(0.0, color=FAINT, linewidth=1.2)
    for place, (one, line) in enumerate(rows):
        if line["low"] is not None:
            axes.plot([line["low"], line["high"]], [place, place], color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.plot([line["effect"]], [place], "D", color=colours[one["arm"]], markersize=6)
    several = len({one["study"] for one, _ in rows}) > 1
    axes.set_yticks(range(len(rows)), [short(_name(one, line, several)) for one, line in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    against = compared[0]["against"]
    other = "each study" if several else compared[0]["study"]
    unit = "difference of logarithms" if of["scale"] == "log" else of["unit"]
    axes.set_xlabel(f"difference from {short(against)}{'' if unit == '1' else f' ({unit})'}")
    title = f"{other} against {against}"
    axes.set_title(f"{short(other)}\nagainst {short(against)}")
    plain_ticks(axes, "x")
    firsts = {(one["study"], one["arm"]): (one, line) for one, line in reversed(rows)}.values()
    alt = " ".join(f"{_arm(one, several)}: {across_words.finding(line)}." for one, line in reversed(firsts))
    yield finished(
        figure, name="across", study={"name": ""}, kind="across", title=title,
        alt=f"Differences from {against} within seeds, with 95 % t intervals. {alt}",
    )  # fmt: skip


def _rows(
    compared: Sequence[Mapping[str, Any]], of: Mapping[str, Any], most: int
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Comparison and metric of each row: what has a value, in the unit and on the scale of `of`."""
    found = []
    for one in compared:
        alike = [line for line in one["metrics"] if (line["unit"], line["scale"]) == (of["unit"], of["scale"])]
        found += [(one, line) for line in alike[:most] if line["effect"] is not None]
    return found


def _name(one: Mapping[str, Any], line: Mapping[str, Any], several: bool) -> str:
    return f"{_arm(one, several)}, {line['metric'].removeprefix('final_')}"


def _arm(one: Mapping[str, Any], several: bool) -> str:
    return f"{one['study']}: {one['arm']}" if several else str(one["arm"])
