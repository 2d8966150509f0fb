"""Figures along an axis of a study: the final loss, and the step at which criteria ended their stage.

Each is a mean over seeds and over the other axes with its 95 % t interval, a line an arm; dashed lines are arms on
which the axis does not act.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from reports import words
from reports.captions import titled, wrapped
from reports.labels import slug
from reports.panels import MOST_LETTERS, Drawing, finished, name_ends, panel, short
from reports.ticks import plain_ticks, value_ticks


def axis_figure(prefix: str, study: Mapping[str, Any], entry: Mapping[str, Any], colours: Mapping[str, str]) -> Drawing:
    """The final loss along an axis."""
    figure, axes = panel()
    key, title = entry["axis"], titled(words.stratum(entry["metric"]), entry["task"])
    shown = _along(axes, entry, colours)
    axes.set(title=wrapped(title), xlabel=key, ylabel=f"final validation loss ({entry['unit']})")
    best = min((p["mean"], s["arm"], p["x"]) for s in entry["series"] for p in s["points"] if p["mean"] is not None)
    alt = (
        f"Final validation loss along {key}, {title}: lowest at {shown[best[2]]} for {best[1]}, "
        f"{words.number(best[0])} {entry['unit']}."
    )
    name = f"{prefix}-axis-{slug(key)}-{slug(entry['metric'])}"
    return finished(figure, name=name, study=study, kind="axes", title=f"{key}: {title}", alt=alt)


def criterion_figure(
    prefix: str, study: Mapping[str, Any], entry: Mapping[str, Any], colours: Mapping[str, str]
) -> Drawing:
    """The step at which criteria ended their stage along an axis."""
    figure, axes = panel()
    key = entry["axis"]
    shown = _along(axes, entry, colours)
    axes.set(title=f"When the criterion ended its stage, by {key.rpartition('.')[2]}", xlabel=key)
    axes.set_ylabel("step (updates)")
    plain_ticks(axes, "y")
    found = "; ".join(
        f"{s['arm']} " + ", ".join(f"{words.number(p['mean'])} at {shown[p['x']]}" for p in _ends(s["points"]))
        for s in entry["series"]
    )
    alt = f"Step at which the criterion ended its stage along {key}, mean over seeds and the other axes: {found}."
    name = f"{prefix}-criterion-{slug(key)}"
    return finished(figure, name=name, study=study, kind="criteria", title=f"{key}: step", alt=alt)


def _ends(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first and the last."""
    return [points[0], points[-1]] if len(points) > 1 else list(points)


def _along(axes: Axes, entry: Mapping[str, Any], colours: Mapping[str, str]) -> dict[Any, str]:
    """Draws means and intervals along an axis, a category or a number, both at their places; values as texts."""
    values = sorted({p["x"] for s in entry["series"] for p in s["points"]}, key=lambda v: (isinstance(v, str), v))
    numeric = all(isinstance(v, (int, float)) for v in values)
    place = {v: float(v) if numeric else float(i) for i, v in enumerate(values)}
    ends = []
    for reference in entry["references"]:
        if reference["mean"] is None:
            continue
        colour = colours[reference["arm"]]
        axes.axhline(reference["mean"], color=colour, linewidth=1.3, linestyle=(0, (2, 2)))
        if reference["low"] is not None and len(entry["references"]) == 1:  # several bands would hide one another
            axes.axhspan(reference["low"], reference["high"], color=colour, alpha=0.12, linewidth=0)
        ends.append((reference["mean"], reference["arm"], colour))
    for series in entry["series"]:
        points, colour = [p for p in series["points"] if p["mean"] is not None], colours[series["arm"]]
        x, y = [place[p["x"]] for p in points], [p["mean"] for p in points]
        low = [p["mean"] - (p["mean"] if p["low"] is None else p["low"]) for p in points]
        high = [(p["mean"] if p["high"] is None else p["high"]) - p["mean"] for p in points]
        axes.errorbar(x, y, yerr=[low, high], fmt="o-" if numeric else "o", color=colour, capsize=3, linewidth=1.6)
        ends.append((y[-1], series["arm"], colour))
    shown = {value: words.setting({"": value}).removeprefix(" = ") for value in values}
    if numeric:
        value_ticks(axes, list(place.values()), list(shown.values()))
    else:
        room = max(8, MOST_LETTERS // len(shown))
        axes.set_xticks(list(place.values()), [short(text, room) for text in shown.values()])
    name_ends(axes, ends)
    return shown
