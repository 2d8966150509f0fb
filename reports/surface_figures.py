"""Figures of loss surfaces: contours of the rise around the state, and cuts through the state along both axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.ticker import MaxNLocator

from reports import words
from reports.captions import counted, failures
from reports.colours import FAINT
from reports.panels import Drawing, finished, full_label, heading, label, lines, wide_panels
from reports.ticks import plain_ticks

_BANDS = 8
"""Bands of the contours above the state's own loss; their edges are 1 and 3 × powers of ten."""
_NAMED = 4
"""Contours of a surface that carry their height."""
_LINE, _MARK = "#1b1b1b", "#d62728"
"""Contours and the state: on coloured ground, so the same in light and dark."""
_AXES = ("the top eigenvector", "the second")

Entry = Mapping[str, Any]


def surface_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """The surfaces of a study, if it has any.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    entry = study["panels"]["surfaces"]
    if entry is None:
        return
    shown = [one for one in entry["series"] if one["surface"] is not None]
    if shown:
        yield _contours(prefix, study, entry, shown, colours)
    yield _cuts(prefix, study, entry, colours)


# --- contours --------------------------------------------------------------------------------------------------------


def _contours(prefix: str, study: Entry, entry: Entry, shown: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    rises = [np.asarray(one["surface"]["rise"]) for one in shown]
    lowest, highest = min(float(rise.min()) for rise in rises), max(float(rise.max()) for rise in rises)
    edges = levels(highest)
    bounds = [min(lowest, -edges[0]) * 1.001, 0.0, *edges, max(highest, edges[-1]) * 1.001]
    # Without the darkest shades, on which neither contours nor their heights could be read.
    shades = ["#e9e4da", *sns.color_palette("YlGnBu", len(bounds) + 1).as_hex()[: len(bounds) - 2]]
    columns = 2 if len(shown) in (1, 2, 4) else 3
    figure, grid, _ = wide_panels(len(shown), columns=columns, height=2.5 if columns == 3 else 3.75)
    reach = max(float(np.abs(one["surface"][axis]).max()) for one in shown for axis in "xy")
    norm, map_ = BoundaryNorm(bounds, len(shades)), ListedColormap(shades)
    for axes, one, rise in zip(grid, shown, rises, strict=True):
        x, y = one["surface"]["x"], one["surface"]["y"]
        axes.contourf(x, y, rise.T, levels=bounds, cmap=map_, norm=norm)
        _lines(axes, x, y, rise.T, [0.0, *edges])
        axes.plot(0.0, 0.0, "+", color=_MARK, markersize=10, markeredgewidth=2)
        axes.set_title(f"{label(one)}, seed {one['surface']['seed']}", color=colours[one["arm"]], fontsize=10)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=4, symmetric=True))
        plain_ticks(axes)
    figure.supxlabel(f"distance along {_AXES[0]}", fontsize=10.5)
    figure.supylabel(f"along {_AXES[1]}", fontsize=10.5)
    bar = figure.colorbar(
        ScalarMappable(norm, map_), ax=grid, ticks=[0.0, *edges], spacing="uniform", shrink=0.85, pad=0.02
    )
    bar.ax.set_yticklabels([words.tick(edge) for edge in (0.0, *edges)])
    bar.set_label("rise (nats/token)")
    bar.outline.set_visible(False)
    title = "The loss around the last state"
    heading(figure, title)
    said = "; ".join(
        f"{full_label(one)} (seed {one['surface']['seed']}) from {words.number(float(rise.min()))} to "
        f"{words.number(float(rise.max()))}"
        for one, rise in zip(shown, rises, strict=True)
    )
    alt = (
        f"Contours of the loss less that at the state (+), in nats/token, in the plane of the two top eigenvectors at "
        f"step {words.count(entry['step'])}, out to a distance of {words.number(reach)} in weight space; one trial an "
        f"arm, one scale of colours: {said}. Below 0 the loss is lower than at the state."
        f"{failures(study, 'loss_surface')}"
    )
    return finished(figure, name=f"{prefix}-surfaces", study=study, kind="surfaces", title=title, alt=alt)


def levels(highest: float) -> list[float]:
    """Edges of bands up to a rise: 1 and 3 × powers of ten, ascending, the largest of them below it."""
    if not highest > 0:
        return [1.0]
    power = math.floor(math.log10(highest))
    series = [factor * 10.0**exponent for exponent in range(power - _BANDS, power + 1) for factor in (1, 3)]
    return [edge for edge in series if edge < highest][-_BANDS + 1 :]


def _lines(axes: Axes, x: Sequence[float], y: Sequence[float], rise: Any, edges: Sequence[float]) -> None:
    """Contours, that of the state itself dashed; the outer ones with their height, the inner ones lie too close."""
    drawn = axes.contour(
        x, y, rise, levels=edges, colors=_LINE, linewidths=[1.0] + [0.6] * (len(edges) - 1),
        linestyles=["--"] + ["-"] * (len(edges) - 1), alpha=0.8,
    )  # fmt: skip
    there = [edge for edge in edges if 0.0 < edge < rise.max()]
    axes.clabel(drawn, levels=there[-_NAMED:], fmt=words.tick, fontsize=7.5, inline_spacing=2)


# --- cuts ------------------------------------------------------------------------------------------------------------


def _cuts(prefix: str, study: Entry, entry: Entry, colours: Mapping[str, str]) -> Drawing:
    figure, grid, _ = wide_panels(2, height=3.4)
    drawn = entry["series"]
    for number, axes in enumerate(grid):
        cuts = [one["cuts"][number] for one in drawn]
        means = [[{"x": p["x"], "mean": p["mean"], "low": None} for p in cut["points"]] for cut in cuts]
        ends = lines(axes, [one | {"points": mean} for one, mean in zip(drawn, means, strict=True)], colours, "x")
        bold = [line for line in axes.get_lines() if np.size(line.get_xdata())]  # others mark switches: none here
        for line, cut, (_, _, colour) in zip(bold, cuts, ends, strict=True):
            line.set_linewidth(2.2)
            for seed in cut["seeds"]:
                places = [point["x"] for point in cut["points"]]
                axes.plot(places, seed["rise"], color=colour, linewidth=0.7, alpha=0.45)
        axes.axhline(0.0, color=FAINT, linewidth=0.9)
        axes.axvline(0.0, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set_title(f"along {_AXES[number]}")
        axes.set(xlabel="distance from the state", ylabel="rise (nats/token)" if number == 0 else "")
        plain_ticks(axes)
    names = [label(one) for one in drawn]
    figure.legend(bold, names, loc="outside lower center", ncols=min(5, len(names)), frameon=False, fontsize=9)
    said = "; ".join(f"{full_label(one)} {_cut_words(one['cuts'][0])}" for one in drawn)
    second = "; ".join(f"{full_label(one)} {_cut_words(one['cuts'][1])}" for one in drawn)
    title = "Cuts through the last state"
    heading(figure, title)
    alt = (
        f"Rise of the loss along the two top eigenvectors at step {words.count(entry['step'])}, each seed thin, their "
        f"mean bold ({counted(drawn)}). Along {_AXES[0]}: {said}. Along {_AXES[1]}: {second}. The exponent of the rise "
        f"is 2 for a parabola (U) and 1 for a V.{failures(study, 'loss_surface')}"
    )
    return finished(figure, name=f"{prefix}-surface-cuts", study=study, kind="surfaces", title=title, alt=alt)


def _cut_words(cut: Entry) -> str:
    """The rise at both ends and the exponent, means over seeds."""
    first, last = cut["points"][0], cut["points"][-1]
    text = (
        f"{words.number(first['mean'])} at {words.number(first['x'])} and {words.number(last['mean'])} at "
        f"{words.number(last['x'])}"
    )
    if cut["exponent"]["mean"] is None:
        return f"{text}, no exponent"
    mean, low, high = words.estimate(*(cut["exponent"][name] for name in ("mean", "low", "high")))
    return f"{text}, exponent {mean}" + (f" [{low}, {high}]" if cut["exponent"]["low"] is not None else "")
