"""The figure of cost against loss: a point a setting, and the Pareto front where costs differ enough to have one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from reports import words
from reports.captions import task_prefix, titled, wrapped
from reports.colours import INK
from reports.panels import MOST_NAMES, Drawing, finished, label, mark, name_points, panel
from reports.series import MOST_ROWS
from reports.svg import place
from reports.ticks import log_ticks, plain_ticks

MOST_INTERVALS = 64
"""Points of a scatter that have intervals; more would hide the points."""
BULK = 0.9
"""Share of the settings whose losses, one and a half times as far as they reach, bound the axis of a scatter."""
MOST_SAID = 4
"""Settings on the front that the caption says one by one."""

Entry = Mapping[str, Any]


def cost_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """Cost against loss, a figure a task.

    Of an arm of many settings the best has its name, the others are small and without one, but on the front.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    tasks = [entry["task"] for entry in study["costs"]]
    for entry in study["costs"]:
        own = task_prefix(prefix, entry["task"], tasks)
        yield _cost(own, study, entry, colours)
        if entry["sharpness"]:
            yield _sharpness(own, study, entry, colours)


def _cost(prefix: str, study: Entry, entry: Entry, colours: Mapping[str, str]) -> Drawing:
    points = entry["points"]
    figure, axes = panel()
    named = _points(axes, points, colours)
    front = [point for point in points if point["front"]]
    costs = [point["flops_alone"] for point in points]
    room = (max(costs) / min(costs)) ** 0.1 * 1.1
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / room, max(costs) * room**2)
    log_ticks(axes, "x")
    above = _cut(axes, points)
    plain_ticks(axes, "y")
    title, unit = titled("Cost against loss", entry["task"]), entry["unit"]
    if front:
        _front(axes, front)
    axes.set(title=wrapped(title), xlabel="FLOPs of a trial alone (log)", ylabel=f"final validation loss ({unit})")
    if len(named) <= MOST_NAMES:
        place(figure)
        name_points(axes, named, [(point["flops_alone"], point["loss"]["mean"]) for point in points])
    best = min(points, key=lambda point: point["loss"]["mean"])
    alt = (
        f"{titled('Final validation loss against FLOPs alone', entry['task'])}, a point a setting: lowest is "
        f"{_said(best, unit)}; the cheapest is {_said(points[0], unit)}."
    )
    if front:
        each = "; ".join(_said(point, unit) for point in front)
        said = f": {each}." if len(front) <= MOST_SAID else "; the table has them."
        alt += f" On the Pareto front (the line): {len(front)} of {words.plural(len(points), 'setting')}{said}"
    if above:
        alt += f" Above the axis (triangles): {words.plural(above, 'setting')} of high loss."
    return finished(figure, name=f"{prefix}-cost", study=study, kind="cost", title=title, alt=alt)


def _sharpness(prefix: str, study: Entry, entry: Entry, colours: Mapping[str, str]) -> Drawing:
    """Loss against sharpness; a ring marks the settings on the front of cost, loss and sharpness."""
    points = [point for point in entry["points"] if point["sharpness"] is not None]
    figure, axes = panel()
    axes.set_xscale("log")
    for point in points:
        x, loss, colour = point["sharpness"], point["loss"], colours[point["arm"]]
        if len(points) <= MOST_INTERVALS and None not in (x["low"], loss["low"]):
            sides = [[x["mean"] - x["low"]], [x["high"] - x["mean"]]]
            up = [[loss["mean"] - loss["low"]], [loss["high"] - loss["mean"]]]
            axes.errorbar(x["mean"], loss["mean"], xerr=sides, yerr=up, fmt="none", ecolor=colour, alpha=0.4)
        axes.plot(x["mean"], loss["mean"], mark(point["arm"], colours), color=colour, markeredgewidth=0, markersize=5.5)
        if point["flat_front"]:
            axes.plot(x["mean"], loss["mean"], "o", color=INK, fillstyle="none", markersize=11, markeredgewidth=1.1)
    log_ticks(axes, "x")
    plain_ticks(axes, "y")
    title, unit = titled("Sharpness against loss", entry["task"]), entry["unit"]
    axes.set(title=wrapped(title), xlabel="λ_max at the last step (log)", ylabel=f"final validation loss ({unit})")
    if len(points) <= MOST_NAMES:
        place(figure)
        named = [(p["sharpness"]["mean"], p["loss"]["mean"], label(p), colours[p["arm"]]) for p in points]
        name_points(axes, named)
    flattest = min(points, key=lambda point: point["sharpness"]["mean"])
    front = [point for point in points if point["flat_front"]]
    each = ", ".join(label(point) for point in front) if len(front) <= MOST_SAID else "the table has them"
    alt = (
        f"{titled('Final validation loss against λ_max', entry['task'])}, a point a setting: flattest is "
        f"{label(flattest)}, λ_max {words.number(flattest['sharpness']['mean'])} at "
        f"{words.number(flattest['loss']['mean'])} {unit}. On the Pareto front of FLOPs, loss and sharpness (ringed): "
        f"{len(front)} of {words.plural(len(points), 'setting')}: {each}."
    )
    return finished(figure, name=f"{prefix}-sharpness", study=study, kind="cost", title=title, alt=alt)


def _points(axes: Axes, points: Sequence[Entry], colours: Mapping[str, str]) -> list[tuple[float, float, str, str]]:
    """Draws the settings; returns (cost, loss, name, colour) of those that are named."""
    settings: dict[str, list[Entry]] = {}
    for point in points:
        settings.setdefault(point["arm"], []).append(point)
    named = []
    for arm, own in settings.items():
        many, colour, sign = len(own) > MOST_ROWS, colours[arm], mark(arm, colours)
        best = min(own, key=lambda point: point["loss"]["mean"])
        for point in own:
            flops, loss = point["flops_alone"], point["loss"]
            plain = many and point is not best and not point["front"]
            if loss["low"] is not None and (not plain or len(points) <= MOST_INTERVALS):
                half = [[loss["mean"] - loss["low"]], [loss["high"] - loss["mean"]]]
                width, alpha, cap = (1.0, 0.35, 0) if plain else (1.5, 1.0, 3)
                axes.errorbar(
                    flops, loss["mean"], yerr=half, fmt="none", ecolor=colour, linewidth=width, alpha=alpha, capsize=cap
                )
            size = 6.0 if point is best or not many else 3.5 if plain else 4.5
            axes.plot(
                flops, loss["mean"], sign, color=colour, markeredgewidth=0, markersize=size, alpha=0.6 if plain else 1.0
            )
            if point is best or not many:
                text = f"{arm}, best of {len(own)}" if many else label(point)
                named.append((flops, loss["mean"], text, colour))
    return named


def _cut(axes: Axes, points: Sequence[Entry]) -> int:
    """Bounds the losses of many settings, lest a few bad ones flatten the others; returns how many are above."""
    means = sorted(point["loss"]["mean"] for point in points)
    if len(means) <= MOST_ROWS:
        return 0
    low, bulk = means[0], means[math.ceil(BULK * len(means)) - 1]
    limit = low + 1.5 * (bulk - low)
    if means[-1] <= limit:
        return 0
    ends = [point["loss"] for point in points if point["front"] or point["loss"]["mean"] == low]
    bottom = min([low, *(loss["low"] for loss in ends if loss["low"] is not None)])
    top = max([limit, *(loss["high"] for loss in ends if loss["high"] is not None)])
    above = [point for point in points if point["loss"]["mean"] > top]
    axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
    for point in above:
        axes.plot(point["flops_alone"], top, "^", color=INK, fillstyle="none", markersize=5, clip_on=False)
    return len(above)


def _front(axes: Axes, front: Sequence[Entry]) -> None:
    """The front as stairs: at each cost the lowest mean loss that is to be had for it."""
    right = axes.get_xlim()[1]
    x = [*(point["flops_alone"] for point in front), right]
    y = [*(point["loss"]["mean"] for point in front), front[-1]["loss"]["mean"]]
    axes.plot(x, y, drawstyle="steps-post", color=INK, linewidth=1.1, alpha=0.7, zorder=1)


def _said(point: Entry, unit: str) -> str:
    return f"{label(point)}, {words.number(point['loss']['mean'])} {unit} at {words.number(point['flops_alone'])} FLOPs"
