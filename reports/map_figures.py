"""Heat maps of a metric over two axes of an arm: the better the darker, the best framed, what is missing hatched.

Beside each value of an axis stand the parameters of its cells where they all have the same, and their FLOPs alone. A
pointer on a cell brings up all that is known of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports import words
from reports.captions import estimate, titled, wrapped
from reports.colours import FAINT
from reports.panels import SIZE, Drawing
from reports.ticks import plain_ticks

MOST = 12
"""Maps of a study that are drawn."""
_NAMED = 12
"""Columns up to which cells show their values."""
_DARK = "#1b1b1b"
"""Values and the frame of the best: on coloured ground, so the same in light and dark."""
_WHAT = {"val_loss": "validation loss", "val_exact": "exact match"}

Entry = Mapping[str, Any]


def map_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """The first `MOST` maps of a study.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    for number, entry in enumerate(study["maps"][:MOST], 1):
        yield _map(f"{prefix}-map{number}", study, entry, colours)


def _map(name: str, study: Entry, entry: Entry, colours: Mapping[str, str]) -> Drawing:
    across, down = entry["x"]["values"], entry["y"]["values"]
    known = {(cell["x"], cell["y"]): cell for cell in entry["cells"] if cell["mean"] is not None}
    grid = np.array([[known[x, y]["mean"] if (x, y) in known else np.nan for x in across] for y in down])
    wide = max(SIZE[0], 2.6 + 0.68 * len(across)) if len(across) <= _NAMED else 8.4
    figure = Figure(figsize=(wide, max(SIZE[1], 1.5 + 0.46 * len(down))), layout="constrained")
    axes = figure.subplots()
    shades = sns.color_palette("YlGnBu", 256).as_hex()[:160]  # dark enough to tell apart, light enough to write on
    lower = entry["better"] == "lower"
    named = len(across) <= _NAMED
    decimals = max(0, 3 - max(0, int(np.floor(np.log10(np.nanmax(np.abs(grid)) or 1.0)))))
    texts = [[words.fixed(value, decimals) if np.isfinite(value) else "" for value in row] for row in grid]
    sns.heatmap(
        grid, ax=axes, cmap=ListedColormap(shades[::-1] if lower else shades), linewidths=0.8, linecolor="none",
        annot=np.array(texts) if named else None, fmt="", annot_kws={"color": _DARK, "fontsize": 9},
        cbar_kws={"pad": 0.02},
    )  # fmt: skip
    most = max(cell["n"] for cell in known.values())
    whole = [cell for cell in known.values() if cell["n"] == most]
    best = (min if lower else max)(whole, key=lambda cell: cell["mean"])
    parts = _overlay(axes, entry, known, most)
    place = across.index(best["x"]), down.index(best["y"])
    axes.add_patch(Rectangle(place, 1, 1, facecolor="none", edgecolor=_DARK, linewidth=2.0, zorder=3))
    axes.invert_yaxis()
    power = _power(entry["cells"])
    for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        values = entry[side]["values"]
        axis.set_ticks([place + 0.5 for place in range(len(values))], _ticks(entry, side, power), rotation=0)
        axis.set_tick_params(length=0, labelsize=9)
    axes.set(xlabel=_axis(entry, "x", power), ylabel=_axis(entry, "y", power))
    bar: Any = axes.collections[0].colorbar
    bar.outline.set_visible(False)
    plain_ticks(bar.ax, "y")
    what = _WHAT[entry["metric"]]
    bar.set_label(f"{entry['unit']}, darker is better")
    both = f"{_last(entry['x']['axis'])} × {_last(entry['y']['axis'])}"
    title = titled(f"{entry['arm']}, {both}: {what}", entry["task"])
    axes.set_title(wrapped(title), color=colours[entry["arm"]])
    alt = _alt(entry, known, best, title)
    return Drawing(
        name=name, study=study["name"], kind="maps", title=title, alt=alt, figure=figure, parts=parts, full=wide > 6.4
    )


def _overlay(axes: Axes, entry: Entry, known: Mapping[tuple[Any, Any], Entry], most: int) -> dict[str, str]:
    """Hatches what is missing, marks means of fewer seeds than the most; gives by part what a cell says."""
    asked = {(cell["x"], cell["y"]): cell for cell in entry["cells"]}
    parts = {}
    for row, y in enumerate(entry["y"]["values"]):
        for column, x in enumerate(entry["x"]["values"]):
            cell = known.get((x, y))
            gid = f"cell-{row}-{column}"
            parts[gid] = _cell(entry, asked.get((x, y)), x, y)
            where: dict[str, Any] = {"xy": (column, row), "width": 1, "height": 1, "gid": gid, "zorder": 4}
            if cell is None:
                axes.add_patch(
                    Rectangle(**where, facecolor="none", edgecolor=FAINT, hatch="////", linewidth=0.0, alpha=0.6)
                )
                continue
            axes.add_patch(Rectangle(**where, facecolor=_DARK, edgecolor="none", alpha=0.0))
            if cell["n"] < most:
                axes.annotate(f"n {cell['n']}", (column + 0.96, row + 0.03), ha="right", va="bottom", fontsize=6.5,
                              color=_DARK)  # fmt: skip
    return parts


def _cell(entry: Entry, cell: Entry | None, x: Any, y: Any) -> str:
    """What is known of a cell, for those who do not see its colour or want more than its mean."""
    at = words.setting({entry["x"]["axis"]: x, entry["y"]["axis"]: y})
    if cell is None:
        return f"{at}: not in the study"
    costs = [f"{words.number(v)} FLOPs" for v in dict.fromkeys(cell["flops_alone"] or ())]
    size = [f"{words.count(cell['parameters'])} parameters"] if cell["parameters"] is not None else []
    lost = [f"{cell['lost']} of {words.plural(cell['trials'], 'trial')} without a value"] if cell["lost"] else []
    about = ", ".join([f"n = {words.plural(cell['n'], 'seed')}", *lost, *size, " to ".join(costs)])
    if cell["mean"] is None:
        return f"{at}: no value ({about})"
    return f"{at}: {estimate(cell)}{words.of_unit(entry['unit'])} ({about})"


def _alt(entry: Entry, known: Mapping[tuple[Any, Any], Entry], best: Entry, title: str) -> str:
    across, down = entry["x"], entry["y"]
    lower = entry["better"] == "lower"
    worst = (max if lower else min)(known.values(), key=lambda cell: cell["mean"])
    seeds = sorted({cell["n"] for cell in known.values()})
    counted = f"n = {words.plural(seeds[0], 'seed')} in each cell"
    if len(seeds) > 1:
        counted = f"n = {seeds[0]} to {seeds[-1]} seeds, said in cells of fewer than {seeds[-1]}"
    missing = len(across["values"]) * len(down["values"]) - len(known)
    hatched = f", {words.plural(missing, 'cell')} without a value hatched" if missing else ""
    said = [
        f"{word} {words.number(cell['mean'])} at " + words.setting({across["axis"]: cell["x"], down["axis"]: cell["y"]})
        for word, cell in (("lowest" if lower else "highest", best), ("highest" if lower else "lowest", worst))
    ]
    return (
        f"{title}: the final value ({entry['unit']}) at {len(across['values'])} × {len(down['values'])} places, mean "
        f"over seeds ({counted}{hatched}): {said[0]} (framed), {said[1]}."
    )


# --- axes ------------------------------------------------------------------------------------------------------------


def _last(axis: str) -> str:
    return axis.rpartition(".")[2]


def _power(cells: Sequence[Entry]) -> int:
    """Power of ten in which all FLOPs are said: that of the least."""
    least = min((cell["flops_alone"][0] for cell in cells if cell["flops_alone"]), default=1.0)
    return int(np.floor(np.log10(least)))


def _axis(entry: Entry, side: str, power: int) -> str:
    """What stands beside each value."""
    sized, priced = _notes(entry, side)
    notes = [*(["parameters"] if sized else []), *([f"FLOPs alone (1e{power})"] if priced else [])]
    return " · ".join([_last(entry[side]["axis"]), *notes])


def _ticks(entry: Entry, side: str, power: int) -> list[str]:
    """Values with their parameters and FLOPs, the least and the greatest of their cells."""
    sized, priced = _notes(entry, side)
    found = []
    for value in entry[side]["values"]:
        cells = [cell for cell in entry["cells"] if cell[side] == value]
        lines = [words.tick(value), *([words.count(cells[0]["parameters"])] if sized else [])]
        if priced:
            flops = [end / 10.0**power for cell in cells for end in cell["flops_alone"] or ()]
            ends = (words.number(end, 2) for end in ((min(flops), max(flops)) if flops else ()))
            lines.append("–".join(dict.fromkeys(ends)))
        found.append("\n".join(lines) if side == "x" else " · ".join(lines))
    return found


def _notes(entry: Entry, side: str) -> tuple[bool, bool]:
    """Whether parameters stand beside an axis, where its values alone decide them, and FLOPs, where they differ."""
    of_value = [
        {cell["parameters"] for cell in entry["cells"] if cell[side] == value} for value in entry[side]["values"]
    ]
    everywhere = {cell["parameters"] for cell in entry["cells"]}
    sized = len(everywhere) > 1 and None not in everywhere and all(len(one) == 1 for one in of_value)
    return sized, len({end for cell in entry["cells"] for end in cell["flops_alone"] or ()}) > 1
