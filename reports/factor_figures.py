"""Figures of what a final value depends on: shares of the variance on full grids, importances of searched keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import seaborn as sns

from reports.captions import titled
from reports.colours import FAINT, INK, PALETTE
from reports.importances import EVALUATORS, WORDS
from reports.labels import slug
from reports.panels import Drawing, finished, panel, short

MOST_BARS = 12
LETTERS = 58
"""Letters of a title that fit into the width of a figure."""
NAMES = {"val_loss": "final loss", "val_exact": "final exact match"}


def factor_figures(prefix: str, study: Mapping[str, Any]) -> Iterator[Drawing]:
    """Bars of ω² with 95 % intervals, one figure a grid and metric."""
    for number, entry in enumerate(study["factors"]):
        if not entry["terms"]:
            continue
        shown = [term for term in entry["terms"] if term["omega2"] is not None][:MOST_BARS]
        figure, axes = panel(1.3 + 0.34 * len(shown))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        names = [term["name"] for term in shown]
        # Seeds are no factor of the study: grey.
        colours = [FAINT if term["kind"] == "seeds" else PALETTE[0] for term in shown]
        sns.barplot(
            x=[term["omega2"] for term in shown],
            y=names,
            hue=names,
            palette=colours,
            saturation=1,
            legend=False,
            ax=axes,
        )
        for place, term in enumerate(shown):
            axes.plot([term["low"], term["high"]], [place, place], color=INK, linewidth=1.4, solid_capstyle="butt")
        arms = ", ".join(entry["arms"])
        title = titled(f"{arms}: what the {NAMES[entry['metric']]} depends on", entry["task"])
        labels = [short(name) for name in names]
        axes.set(title=_beside(labels, title), xlabel="share of the variance (ω²)", ylabel="")
        axes.set_yticks(range(len(names)), labels)
        axes.set_xlim(0, min(1.0, 1.05 * max(term["high"] for term in shown) or 1.0))
        yield finished(
            figure,
            name=f"{prefix}-factors-{slug(entry['metric'])}-{number}",
            study=study,
            kind="factors",
            title=title,
            alt=entry["sentence"],
        )


def importance_figures(
    prefix: str, study: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> Iterator[Drawing]:
    """Bars of the share of each searched key, by both evaluators; one figure an arm and objective.

    Args:
        prefix: of their names.
        study: the section of the study.
        entries: of `reports.importances`.
    """
    for number, entry in enumerate(entries):
        rows = [
            {"key": row["key"], "share": row[name], "evaluator": WORDS[name]}
            for row in entry["keys"][:MOST_BARS]
            for name in EVALUATORS
            if row[name] is not None
        ]
        figure, axes = panel(1.5 + 0.45 * min(MOST_BARS, len(entry["keys"])))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        columns = {name: [row[name] for row in rows] for name in ("share", "key", "evaluator")}
        colours = dict(zip(WORDS.values(), (INK, FAINT), strict=True))
        sns.barplot(
            x=columns["share"], y=columns["key"], hue=columns["evaluator"], palette=colours, saturation=1, ax=axes
        )
        title = f"{entry['arm']}: importance for {entry['metric']}"
        axes.set(title=_beside(columns["key"], title), xlabel="share of the importance", ylabel="")
        axes.legend(title="", frameon=False, loc="lower right")
        yield finished(
            figure,
            name=f"{prefix}-importances-{number}",
            study=study,
            kind="importances",
            title=title,
            alt=entry["sentence"],
        )


def _beside(labels: Sequence[str], title: str) -> str:
    """A title in lines that fit beside the names of the bars, whose letters are a fifth narrower than its own."""
    return textwrap.fill(title, max(16, min(40, LETTERS - round(0.82 * max(map(len, labels))))))
