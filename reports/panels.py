"""What the figures are drawn with: the style, panels, lines with bands, names beside them.

Names stand at the ends of lines and beside points instead of in a legend, so nothing is hidden and nobody has to match
colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reports import words
from reports.colours import FAINT, INK, PAPER
from reports.svg import to_svg

STYLE: dict[str, Any] = {
    "svg.hashsalt": "loopsweep",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the layout does not depend on the machine's fonts
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 10.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "axes.unicode_minus": True,
}
SIZE = (5.4, 3.5)
MOST_NAMES = 16
"""Points of a scatter that are named; more names would hide what they name."""
MOST_LETTERS = 44
"""Of a name in a figure; captions and tables have all of it."""
MOST_BANDS = 8
"""Lines of a figure that have bands; more bands would hide the lines."""
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.5, 1.4, 1.5)), (0, (9, 2)))


Kind = Literal[
    "claims",
    "along",
    "tree",
    "curves",
    "lengths",
    "loops",
    "cost",
    "axes",
    "factors",
    "importances",
    "maps",
    "switches",
    "criteria",
    "curvature",
    "parts",
    "spectra",
    "ranks",
    "valleys",
    "surfaces",
    "across",
]
"""The panels of a page that hold figures."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure of a report."""

    name: str
    """Of its file, without ``.svg``."""
    study: str
    """Its label; empty where it is of several."""
    kind: Kind
    """Which panel of the page it stands in."""
    title: str
    alt: str
    """What it shows, with the numbers that matter."""
    figure: Figure = field(repr=False, compare=False)
    """As matplotlib has it, to be changed or saved otherwise."""
    parts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """By id of an artist, what that part shows."""
    full: bool = False
    """As wide as the page."""

    @cached_property
    def svg(self) -> str:
        """Its SVG; made when first asked for, since placing and writing take most of a figure's time."""
        with styled():
            return to_svg(self.figure, name=self.name, alt=self.alt, parts=self.parts)

    def _repr_html_(self) -> str:
        """The figure, where a notebook shows it."""
        return self.svg


def finished(figure: Figure, *, name: str, study: Mapping[str, Any], kind: Kind, title: str, alt: str) -> Drawing:
    """A finished figure; the terms are those of `Drawing`."""
    return Drawing(name=name, study=study["name"], kind=kind, title=title, alt=alt, figure=figure)


@contextmanager
def styled() -> Iterator[None]:
    """The style of all figures, inside the block only."""
    with sns.axes_style("ticks"), mpl.rc_context(cast("Any", STYLE)):
        yield


def panel(height: float = SIZE[1]) -> tuple[Figure, Axes]:
    """An empty figure of one panel; heights in inches."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, axis="y")
    sns.despine(fig=figure)
    return figure, axes


def label(series: Mapping[str, Any]) -> str:
    """How a series is called: its arm, and its setting, or of how many settings it is the mean or the best."""
    if series.get("settings", 1) > 1:
        return f"{series['arm']}, {'best' if series['best'] else 'mean'} of {series['settings']}"
    return f"{series['arm']} ({words.setting(series['setting'])})" if series["setting"] else str(series["arm"])


def full_label(series: Mapping[str, Any]) -> str:
    """`label`, with the setting that is the best of many."""
    chosen = f" ({words.setting(series['setting'])})" if series.get("best") else ""
    return label(series) + chosen


def short(name: str, most: int = MOST_LETTERS) -> str:
    """A name that leaves room for what it names."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def mark(arm: str, colours: Mapping[str, str]) -> str:
    """The mark of an arm's points: of arms beyond the palette, whose colours come again, another one."""
    return "oDsv"[_lap(arm, colours) % 4]


def _lap(arm: str, colours: Mapping[str, str]) -> int:
    """How many arms before this one have its colour."""
    before = list(colours)[: list(colours).index(arm)]
    return sum(colours[other] == colours[arm] for other in before)


def _dashes(series: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> list[Any]:
    """Settings of one arm share its colour and differ in their dashes, as do arms of one colour."""
    seen: dict[str, int] = {}
    found = []
    for one in series:
        number = seen.setdefault(one["arm"], _lap(one["arm"], colours))
        found.append(_DASHES[number % len(_DASHES)])
        seen[one["arm"]] += 1
    return found


def lines(
    axes: Axes, series: Sequence[Mapping[str, Any]], colours: Mapping[str, str], x: str
) -> list[tuple[float, str, str]]:
    """Draws means and bands; returns (last value, name, colour) for the names at the right."""
    ends = []
    for one, dash in zip(series, _dashes(series, colours), strict=True):
        colour = colours[one["arm"]]
        at = [p[x] for p in one["points"]]
        mean = [p["mean"] for p in one["points"]]
        axes.plot(at, mean, color=colour, linestyle=dash, linewidth=1.8)
        banded = [p for p in one["points"] if p["low"] is not None]
        if banded and len(series) <= MOST_BANDS:
            low, high = [p["low"] for p in banded], [p["high"] for p in banded]
            axes.fill_between([p[x] for p in banded], low, high, color=colour, alpha=0.14, linewidth=0)
        if len(at) == 1:
            axes.plot(at, mean, "o", color=colour, markersize=5)
        by_x = dict(zip(at, mean, strict=True))
        switched = [s for s in one.get("switch_steps", []) if x == "step" and s in by_x]
        axes.plot(switched, [by_x[s] for s in switched], "o", color=colour, markersize=5, markeredgecolor=PAPER)
        ends.append((mean[-1], label(one), colour))
    return ends


def name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right edge, at the height of their lines, pushed apart where they would touch."""
    low, high = axes.get_ylim()
    to_unit = axes.transScale.transform
    bottom, top = (to_unit((1, y))[1] for y in (low, high))
    wanted = sorted(((to_unit((1, y))[1] - bottom) / (top - bottom), name, colour) for y, name, colour in ends)
    gap = min(0.072, 1.0 / max(1, len(wanted)))
    heights: list[float] = []
    for y, _, _ in wanted:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    if heights and heights[-1] > 1.0:  # slide the stack down from the top
        heights[-1] = 1.0
        for i in range(len(heights) - 2, -1, -1):
            heights[i] = min(heights[i], heights[i + 1] - gap)
    for height, (y, name, colour) in zip(heights, wanted, strict=True):
        axes.annotate(
            short(name), xy=(1.0, y), xytext=(1.045, height), xycoords="axes fraction", textcoords="axes fraction",
            va="center", ha="left", color=colour, fontsize=10, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 0, "shrinkB": 0,
                        "relpos": (0.0, 0.5)},
        )  # fmt: skip


def name_points(
    axes: Axes, points: Sequence[tuple[float, float, str, str]], among: Sequence[tuple[float, float]] = ()
) -> None:
    """Names beside their points: of eight places the first that touches the fewest other names and points.

    Args:
        axes: in their final places.
        points: x, y, name and colour.
        among: x and y of points without a name.
    """
    at = [axes.transData.transform((x, y)) * 72 / axes.figure.dpi for x, y in (*((p[0], p[1]) for p in points), *among)]
    taken = [(x - 4.0, y - 4.0, x + 4.0, y + 4.0) for x, y in at]
    for i, (x, y, whole, colour) in enumerate(points):
        name = short(whole)
        wide, high = 6.3 * len(name), 12.0
        right, left = 7.0, -7.0 - wide
        places = [(right, up) for up in (3, -14, 14, -25, 25)] + [(left, up) for up in (3, -14, 14)]
        boxes = {
            (dx, dy): (at[i][0] + dx, at[i][1] + dy, at[i][0] + dx + wide, at[i][1] + dy + high) for dx, dy in places
        }
        place = min(places, key=lambda one: sum(_overlap(boxes[one], other) for other in taken))
        taken.append(boxes[place])
        axes.annotate(name, (x, y), xytext=place, textcoords="offset points", color=colour, fontsize=10)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def heading(figure: Figure, title: str) -> None:
    """The title of a figure whose panels have names of their own."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")


def wide_panels(
    count: int, *, columns: int = 2, height: float = 2.5, strip: float = 0.0, gap: float = 0.04
) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure of several small panels, a strip under each where `strip`, its height, is above 0; all in inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    ratios = [height, strip] if strip else [height]
    size = 8.4 if columns > 1 else 5.4, (sum(ratios) + 0.35) * rows
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=gap))
    grid = figure.subplots(rows * len(ratios), columns, squeeze=False, height_ratios=ratios * rows)
    main = [grid[len(ratios) * (i // columns), i % columns] for i in range(rows * columns)]
    strips = [grid[2 * (i // columns) + 1, i % columns] for i in range(rows * columns)] if strip else []
    for axes in (*main[count:], *strips[count:]):
        axes.remove()
    for axes in main[:count]:
        axes.grid(visible=True, axis="y")
    sns.despine(fig=figure)
    return figure, main[:count], strips[:count]
