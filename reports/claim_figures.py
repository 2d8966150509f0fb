"""The figure of the claims: each comparison in a row of its own scale, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import verdict_words, words
from reports.along_figures import along_figure
from reports.colours import FAINT, INK
from reports.panels import SIZE, Drawing, finished, short
from reports.ticks import log_ticks

MOST_TITLE = 72
"""Letters over a row."""


def claim_figures(
    prefix: str, study: Mapping[str, Any], claims: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> Iterator[Drawing]:
    """The figures of a study's claims that have an effect: seed by seed, with 0 and margin; and along an axis.

    Args:
        prefix: of its name.
        study: an entry of ``studies`` in ``report.json``.
        claims: of the study.
        colours: by arm.
    """
    rows = [
        (f"{number}" if not claim["parts"] else f"{number}.{i}", part)
        for number, claim in enumerate(claims, 1)
        if claim["along"] is None  # these have a figure of their own
        for i, part in enumerate(claim["parts"] or [claim], 1)
        if part["effect"] is not None
    ]
    if rows:
        yield _seeds(f"{prefix}-claims", study, rows, colours)
    along = [
        (number, claim)
        for number, claim in enumerate(claims, 1)
        if claim["along"] is not None and any(part["effect"] is not None for part in claim["parts"])
    ]
    if along:
        yield along_figure(f"{prefix}-claims-along", study, along, colours)


def _seeds(
    name: str, study: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]], colours: Mapping[str, str]
) -> Drawing:
    """Each comparison with its number, in a row of its own scale."""
    figure = Figure(figsize=(SIZE[0] * 1.1, 0.3 + 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (number, part) in zip(grid, rows, strict=True):
        _differences(axes, number, part, colours[part["arm"]])
    sns.despine(fig=figure, left=True)
    alt = " ".join(f"Claim {n}, {p['verdict']}: {verdict_words.difference(p)}." for n, p in rows)
    return finished(figure, name=name, study=study, kind="claims", title="Differences by seed", alt=alt)


def _differences(axes: Axes, number: str, part: Mapping[str, Any], colour: str) -> None:
    log = part["scale"] == "log"
    shown = math.exp if log else float
    values = [shown(d) for d in part["differences"]]
    sns.stripplot(x=values, y=[0.0] * len(values), ax=axes, color=colour, size=5, alpha=0.55, jitter=False, orient="h")
    if part["low"] is not None:
        axes.plot(
            [shown(part["low"]), shown(part["high"])], [0.28, 0.28], color=INK, linewidth=1.6, solid_capstyle="butt"
        )
    axes.plot([shown(part["effect"])], [0.28], "D", color=INK, markersize=5)
    axes.axvline(shown(0.0), color=FAINT, linewidth=1.2)
    edge = verdict_words.edge(part)
    if edge is not None:
        axes.axvline(edge, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.annotate("margin", (edge, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3),
                      textcoords="offset points", va="top", fontsize=9)  # fmt: skip
    axes.set_ylim(0.6, -0.45)
    axes.set_yticks([])
    if log:
        axes.set_xscale("log")
        axes.margins(x=0.06)
        log_ticks(axes, "x")
    what = words.place(part["quantity"], part["at"])
    unit = "ratio" if log else part["unit"]
    where = f", where {part['where']}" if part["where"] else ""
    title = f"{number}  {verdict_words.relation(part)}: {what}{'' if unit == '1' else f' ({unit})'}{where}"
    axes.set_title(short(title, MOST_TITLE), fontsize=10, fontweight="normal")
    axes.set_xlabel("")
    axes.grid(visible=True, axis="x")
