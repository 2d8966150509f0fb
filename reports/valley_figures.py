"""Figures of the valley at the last step: curves over ε, τ and rank, and their differences from the reference arm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports import words
from reports.captions import counted, estimate, failures, in_unit, listed
from reports.labels import slug
from reports.panels import Drawing, finished, full_label, lines, name_ends, panel
from reports.ticks import log_ticks, plain_ticks

_TITLES = {
    "kappa_valley": "Condition of the valley",
    "cumulative_force": "Cumulative force along the river",
    "eigenvalues_below": "Eigenvalues below τ",
    "river_share": "Updates along the river",
    "valley_hopping": "Valley hopping",
}

Entry = Mapping[str, Any]


def valley_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """A figure for each curve over ε, τ or rank at the last step, and one for its differences from the reference.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    for entry in study["panels"]["curves"]:
        drawn = [s for s in entry["series"] if s["points"]]
        if drawn:
            yield _curve(prefix, study, entry, drawn, colours)
        drawn = [s for s in entry["paired"]["series"] if s["points"]]
        if drawn:
            yield _paired(prefix, study, entry, drawn, colours)


def _curve(prefix: str, study: Entry, entry: Entry, drawn: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    figure, axes = panel()
    ends = lines(axes, drawn, colours, "x")
    name, title = entry["quantity"], _TITLES.get(entry["quantity"], str(entry["quantity"]))
    _scales(axes, entry, drawn, log=entry["log"])
    axes.set(title=title, ylabel=name + in_unit(entry["unit"], log=entry["log"]))
    name_ends(axes, ends)
    shown = listed([_at_tau(study, entry, s) for s in drawn], "; ")
    mean = "geometric mean" if entry["log"] else "mean"
    where = "; drawn where every trial has a value above 0" if entry["log"] else ""
    alt = (
        f"{title} at step {words.count(entry['step'])}: {entry['doc']}; {mean} over seeds with 95 % t interval "
        f"({counted(drawn)}{where}): {shown}.{failures(study, name)}"
    )
    return finished(figure, name=f"{prefix}-valley-{slug(name)}", study=study, kind="valleys", title=title, alt=alt)


def _paired(prefix: str, study: Entry, entry: Entry, drawn: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    """The same as ratios or differences from the reference arm, taken seed by seed."""
    reference, name = entry["paired"]["reference"], entry["quantity"]
    figure, axes = panel()
    ends = lines(axes, drawn, colours, "x")
    same, relation = (1.0, "/ that of") if entry["log"] else (0.0, "− that of")
    axes.axhline(same, color=colours[reference], linewidth=1.3, linestyle=(0, (2, 2)))
    ends.append((same, reference, colours[reference]))
    _scales(axes, entry, drawn, log=entry["log"])
    title = f"{_TITLES.get(name, name)}, seed by seed"
    axes.set(title=title, ylabel=f"{name} {relation} {reference}{' (log)' if entry['log'] else ''}")
    name_ends(axes, ends)
    shown = listed([_at_tau(study, entry, s) for s in drawn], "; ")
    kind = "Ratio to" if entry["log"] else "Difference from"
    mean = "geometric mean" if entry["log"] else "mean"
    alt = (
        f"{kind} {reference} in {name} at step {words.count(entry['step'])}, taken within a seed, {mean} over seeds "
        f"with 95 % t interval at each place by itself ({counted(drawn)}): {shown}."
    )
    return finished(
        figure, name=f"{prefix}-valley-{slug(name)}-paired", study=study, kind="valleys", title=title, alt=alt
    )


def _scales(axes: Axes, entry: Entry, drawn: Sequence[Entry], *, log: bool) -> None:
    """The x axis of thresholds, as far as something changes on it, or of ranks; and the y axis."""
    if entry["x"].startswith("rank"):
        axes.set_xlabel(entry["x"].removesuffix(", 1 …"))
        plain_ticks(axes, "x")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xscale("log")
        low, high = _moving(drawn)
        if low < high:
            axes.set_xlim(low / 1.5, high * 1.5)
        axes.set_xlabel(f"{entry['x']} (nats/token, log)")
        log_ticks(axes, "x")
    if log:
        axes.set_yscale("log")
        log_ticks(axes, "y")
    else:
        plain_ticks(axes, "y")


def _moving(drawn: Sequence[Entry]) -> tuple[float, float]:
    """From where to where on x some line is not flat, with a place to spare on either side."""
    places = sorted({p["x"] for s in drawn for p in s["points"]})
    moved = []
    for one in drawn:
        for before, after in pairwise(one["points"]):
            if not math.isclose(before["mean"], after["mean"], rel_tol=1e-3, abs_tol=1e-6):
                moved += [places.index(before["x"]), places.index(after["x"])]
    starts = [places.index(one["points"][0]["x"]) for one in drawn]
    if not moved:
        return places[0], places[-1]
    # A line that only begins further to the right is no reason to show what lies left of all lines.
    return places[max(min(starts), min(moved) - 1)], places[min(len(places) - 1, max(moved) + 1)]


def _at_tau(study: Entry, entry: Entry, series: Entry) -> tuple[float, str]:
    """The value of a line at the study's τ (or nearest to it), or at the first rank, and what is said of it."""
    ranked = entry["x"].startswith("rank")
    wanted = 1.0 if ranked else study["panels"]["tau"]
    at = min(series["points"], key=lambda p: abs(p["x"] - wanted) if ranked else max(p["x"] / wanted, wanted / p["x"]))
    place = words.count(at["x"]) if ranked else words.number(at["x"], 2)
    where = f"{entry['x'].partition(' ')[0]} {'' if ranked else '= '}{place}"
    return at["mean"], f"{full_label(series)} {estimate(at, log=entry['log'])} at {where}"
