"""The bars under the figures of the entropy: which phase each line is in, by `reports.phases`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from reports import words
from reports.colours import INK
from reports.panels import full_label, label

Entry = Mapping[str, Any]

_STRENGTH = {"collapse": 0.25, "diversification": 0.55, "stabilization": 0.85}


def strip(axes: Axes, phases: Sequence[Entry], colours: Mapping[str, str], last: int) -> None:
    """A row a line: its phases over the steps as bars with their first letter."""
    for place, row in enumerate(reversed(phases)):
        for low, high, phase in stretches(row):
            axes.barh(
                place, high - low, left=low, height=0.72, color=colours[row["arm"]], alpha=_STRENGTH[phase], linewidth=0
            )
            if high - low >= 0.04 * last:
                axes.text((low + high) / 2, place, phase[0].upper(), ha="center", va="center", fontsize=8, color=INK)
        axes.annotate(
            label(row), (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=colours[row["arm"]], annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(0, last or 1), ylim=(-0.6, len(phases) - 0.4), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def stretches(row: Entry) -> list[tuple[int, int, str]]:
    """(first step, last step, phase) of a line, consecutive intervals of one phase together."""
    found: list[tuple[int, int, str]] = []
    for interval in row["intervals"]:
        if interval["phase"] is None:
            continue
        if found and found[-1][2] == interval["phase"] and found[-1][1] == interval["from"]:
            found[-1] = found[-1][0], interval["to"], interval["phase"]
        else:
            found.append((interval["from"], interval["to"], interval["phase"]))
    return found


def phase_words(row: Entry) -> str:
    """Its phases in words, and in how many trials they come in order."""
    said = ", ".join(f"{phase} {words.count(a)} to {words.count(b)}" for a, b, phase in stretches(row)) or "none"
    return f"{full_label(row)} {said} (in order in {row['in_order']} of {words.plural(row['trials'], 'trial')})"
