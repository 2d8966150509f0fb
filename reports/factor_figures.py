"""Figures of factor effects: the share of the variance of each, with its interval."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import seaborn as sns

from reports.captions import titled
from reports.colours import FAINT, INK, PALETTE
from reports.panels import Drawing, finished, panel

MOST_BARS = 12
WIDTH = 36
"""Letters of a title that fit beside the names of the bars."""
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
        axes.set(title=textwrap.fill(title, WIDTH), xlabel="share of the variance (ω²)", ylabel="")
        axes.set_xlim(0, min(1.0, 1.05 * max(term["high"] for term in shown) or 1.0))
        slug = re.sub(r"[^a-z0-9]+", "-", f"{entry['metric']}-{number}")
        yield finished(
            figure,
            name=f"{prefix}-factors-{slug}",
            study=study,
            kind="factors",
            title=title,
            alt=entry["sentence"],
        )
