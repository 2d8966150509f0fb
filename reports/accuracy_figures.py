"""Figures of accuracy against what training kept fixed: the length of the problem, and the loops.

A line an arm or setting. Shaded is the range of lengths of training; a dot marks the loops of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports import words
from reports.captions import counted, task_prefix, titled, wrapped
from reports.colours import FAINT, PAPER
from reports.labels import slug
from reports.panels import Drawing, finished, full_label, lines, name_ends, panel
from reports.ticks import plain_ticks, value_ticks

TITLES = {
    "val_accuracy": "Tokens right",
    "val_exact": "Exact match",
    "val_exact_trained": "Exact match, trained lengths",
    "val_exact_longer": "Exact match, longer lengths",
    "val_loss": "Validation loss",
}
MOST = 10
"""Figures of loops at test time; of more, tasks with exact match have its own alone, on all and on longer lengths."""

Entry = Mapping[str, Any]


def length_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """Accuracy against length, a figure a task and metric.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    tasks = [entry["task"] for entry in study["lengths"]]
    for entry in study["lengths"]:
        for metric in entry["metrics"]:
            yield _length(task_prefix(prefix, entry["task"], tasks), study, entry, metric, colours)


def loop_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """Accuracy and loss against the loops at test time, a figure a task and metric; terms as of `length_figures`."""
    entries = study["loop_counts"]
    tasks = [entry["task"] for entry in entries]
    exact = {entry["task"] for entry in entries if entry["metric"] == "val_exact"}
    if len(entries) > MOST:
        kept = ("val_exact", "val_exact_longer")
        entries = [entry for entry in entries if entry["metric"] in kept or entry["task"] not in exact]
    for entry in entries:
        yield _loops(task_prefix(prefix, entry["task"], tasks), study, entry, colours)


def _length(prefix: str, study: Entry, entry: Entry, metric: Entry, colours: Mapping[str, str]) -> Drawing:
    figure, axes = panel()
    drawn, name = metric["series"], metric["metric"]
    span = entry["train_length"]
    if span is not None:
        axes.axvspan(span[0], span[1], color=FAINT, alpha=0.16, linewidth=0, zorder=0)
        axes.annotate("trained", (span[0], 0.0), xycoords=("data", "axes fraction"), xytext=(3, 3),
                      textcoords="offset points", fontsize=9)  # fmt: skip
    ends = lines(axes, drawn, colours, "x")
    if span is None:
        _ends_of_training(axes, drawn, colours)
    title = titled(TITLES[name], entry["task"])
    axes.set(title=wrapped(title), xlabel="length of the problem", ylabel=f"{name} (fraction)")
    places = [p["x"] for s in drawn for p in s["points"]]
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    fraction_axis(axes)
    name_ends(axes, ends)
    said = "; ".join(_means(row, name) for row in entry["rows"])
    shaded = f"trained on lengths {span[0]} to {span[1]} (shaded)" if span is not None else _ranges(drawn)
    alt = (
        f"{title} against length, mean over seeds with 95 % t interval at each length ({counted(drawn)}); {shaded}. "
        f"Mean over the trained → over the longer lengths: {said}."
    )
    return finished(figure, name=f"{prefix}-length-{slug(name)}", study=study, kind="lengths", title=title, alt=alt)


def _loops(prefix: str, study: Entry, entry: Entry, colours: Mapping[str, str]) -> Drawing:
    figure, axes = panel()
    drawn, name = entry["series"], entry["metric"]
    ends = lines(axes, drawn, colours, "x")
    places = sorted({p["x"] for s in drawn for p in s["points"]})
    value_ticks(axes, places, [words.tick(place) for place in places])
    for one in drawn:
        colour, confident = colours[one["arm"]], one["confident"]
        at = _on_line(one, math.log if axes.get_xscale() == "log" else float)
        if at is not None:
            axes.plot(*at, "o", color=colour, markersize=6.5, markeredgecolor=PAPER, zorder=5)
        if confident is not None:
            axes.plot(confident["loops"], confident["mean"], "D", color=colour, markersize=6, markerfacecolor="none",
                      markeredgewidth=1.5, zorder=5)  # fmt: skip
    title = titled(TITLES[name], entry["task"])
    axes.set(title=wrapped(title), xlabel="loops at test time", ylabel=f"{name} ({entry['unit']})")
    if entry["unit"] == "fraction":
        fraction_axis(axes)
    else:
        plain_ticks(axes, "y")
    name_ends(axes, ends)
    said = "; ".join(_at_loops(one, lower=name == "val_loss") for one in drawn)
    halting = ", diamond: halting by confidence" if any(one["confident"] for one in drawn) else ""
    alt = (
        f"{title}, by loops at test time, at step {words.count(entry['step'])}, mean over seeds with 95 % t interval "
        f"({counted(drawn)}; dot: the loops of training{halting}): {said}."
    )
    return finished(figure, name=f"{prefix}-loops-{slug(name)}", study=study, kind="loops", title=title, alt=alt)


def _on_line(one: Entry, scale: Callable[[float], float]) -> tuple[float, float] | None:
    """Where the loops of training lie on a line, between measured ones too; None outside of them."""
    trained, x = one["trained_loops"], [p["x"] for p in one["points"]]
    if trained is None or not x[0] <= trained <= x[-1]:
        return None
    return trained, float(np.interp(scale(trained), list(map(scale, x)), [p["mean"] for p in one["points"]]))


def _at_loops(one: Entry, *, lower: bool) -> str:
    """A line in words: at the loops of training, at its best and at the most loops."""
    points, trained = {p["x"]: p["mean"] for p in one["points"]}, one["trained_loops"]
    best = (min if lower else max)(points, key=lambda x: (points[x], (x != trained) == lower))
    said: dict[float, list[str]] = {}
    for x, word in ((trained, "trained"), (best, "the best"), (max(points), "")):
        if x in points:
            said.setdefault(x, []).extend([word] if word else [])
    at = [
        f"{words.number(points[x])} at {words.tick(x)}" + (f" ({', '.join(about)})" if about else "")
        for x, about in said.items()
    ]
    outside = f" (trained with {trained})" if trained is not None and trained not in points else ""
    return f"{full_label(one)}{outside} {', '.join(at)}"


def fraction_axis(axes: Axes) -> None:
    """A y axis of shares: all of 0 … 1, so that figures compare."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    plain_ticks(axes)


def _ends_of_training(axes: Axes, drawn: Sequence[Entry], colours: Mapping[str, str]) -> None:
    """A dot on each line at the longest length that it was trained on, where lines differ in it."""
    for one in drawn:
        longest = one["train_length"][1] if one["train_length"] is not None else None
        at = [(p["x"], p["mean"]) for p in one["points"] if p["x"] == longest]
        for x, y in at:
            axes.plot(x, y, "o", color=colours[one["arm"]], markersize=6, markeredgecolor=PAPER)


def _ranges(drawn: Sequence[Entry]) -> str:
    """On which lengths each line was trained, in words."""
    spans = [
        f"{full_label(one)} on {one['train_length'][0]} to {one['train_length'][1]}"
        for one in drawn
        if one["train_length"] is not None
    ]
    if not spans:
        return "its settings were trained on different lengths"
    return f"trained lengths (a dot at the longest): {', '.join(spans)}"


def _means(row: Entry, metric: str) -> str:
    trained, longer = (row["means"].get(f"{metric}_{span}", {}).get("mean") for span in ("trained", "longer"))
    return f"{full_label(row)} {_share(trained)} → {_share(longer)}"


def _share(value: float | None) -> str:
    return "–" if value is None else words.fixed(value, 3)
