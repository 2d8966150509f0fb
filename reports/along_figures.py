"""The figure of claims along an axis: the difference at each value with its interval, and how far a claim stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import verdict_words, words
from reports.colours import FAINT, INK, PAPER
from reports.panels import SIZE, Drawing, short
from reports.ticks import log_ticks, plain_ticks, symlog_axis, value_ticks

MOST_TITLE = 40
"""Letters over a panel."""
_WIDTH = 3.5  # of a panel, inches
MOST_MARGINS = 20
"""That an interval may reach on a linear axis; else it is logarithmic beyond two, so that the margin is seen."""
_MARKS = {"supported": "o", "undecided": "o", "contradicted": "X"}


def along_figure(
    name: str, study: Mapping[str, Any], rows: Sequence[tuple[int, Mapping[str, Any]]], colours: Mapping[str, str]
) -> Drawing:
    """A panel a claim along an axis, with its number; each has an effect at some value."""
    wide = min(3, len(rows))
    deep = math.ceil(len(rows) / wide)
    size = (_WIDTH * wide, 2.6 * deep) if wide > 1 else SIZE
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(deep, wide, squeeze=False).flat
    for axes, (number, claim) in zip(panels, rows, strict=False):
        _steps(axes, number, claim, colours[claim["arm"]])
    for axes in list(figure.axes)[len(rows) :]:
        axes.remove()
    sns.despine(fig=figure)
    alt = " ".join(
        f"Claim {number}: {', '.join(text for _, text in verdict_words.standings(claim))}." for number, claim in rows
    )
    return Drawing(
        name=name, study=study["name"], kind="along", title="Differences along an axis", alt=alt, figure=figure,
        full=wide > 2,
    )  # fmt: skip


def _steps(axes: Axes, number: int, claim: Mapping[str, Any], colour: str) -> None:
    """One claim: a point and an interval at each value, filled where it is supported, crossed where contradicted."""
    log = claim["scale"] == "log"
    shown = math.exp if log else float
    values = claim["along"]["values"]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    places = [float(value) for value in values] if numeric else [float(i) for i in range(len(values))]
    known = [(x, part) for x, part in zip(places, claim["parts"], strict=True) if part["effect"] is not None]
    axes.plot([x for x, _ in known], [shown(p["effect"]) for _, p in known], color=colour, linewidth=1.0, alpha=0.6)
    for x, part in known:
        if part["low"] is not None:
            axes.plot([x, x], [shown(part["low"]), shown(part["high"])], color=colour, linewidth=1.4)
        axes.plot(
            [x], [shown(part["effect"])], _MARKS[part["verdict"]], color=colour, markersize=6,
            markerfacecolor=PAPER if part["verdict"] == "undecided" else colour,
        )  # fmt: skip
    axes.axhline(shown(0.0), color=FAINT, linewidth=1.2)
    edge = verdict_words.edge(claim)
    if edge is not None:
        axes.axhline(edge, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
    _scale(axes, [part for _, part in known], claim, edge)
    order = sorted(range(len(places)), key=places.__getitem__)
    value_ticks(axes, [places[i] for i in order], [words.cell(values[i]) for i in order], inches=_WIDTH - 1)
    title = f"{number}  {words.place(claim['quantity'], claim['at'])}"
    where = f"\n{claim['where']}" if claim["where"] else ""
    axes.set_title(short(title, MOST_TITLE) + short(where, MOST_TITLE), fontsize=10, fontweight="normal")
    unit = "" if log or claim["unit"] == "1" else f" ({claim['unit']})"
    axes.set_ylabel(short(f"{verdict_words.relation(claim)}{unit}", MOST_TITLE))
    axes.set_xlabel(claim["along"]["key"])
    axes.grid(visible=True, axis="y")


def _scale(axes: Axes, parts: Sequence[Mapping[str, Any]], claim: Mapping[str, Any], edge: float | None) -> None:
    """The y axis: of ratios logarithmic; where the margin would be flattened, linear about it alone."""
    if claim["scale"] == "log":
        axes.set_yscale("log")
        log_ticks(axes, "y")
        return
    reach = [part[key] for part in parts for key in ("effect", "low", "high") if part[key] is not None]
    if edge is not None and max(map(abs, reach)) > MOST_MARGINS * abs(edge):
        symlog_axis(axes, 2 * abs(edge), min(reach), max(reach))
    plain_ticks(axes, "y")
