"""Figures of the curvature over training and of the valley: columns by step, with phases; curves over ε, τ and rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports import methods, phase_strip, words
from reports.captions import counted, failures, families, how_found
from reports.colours import FAINT
from reports.panels import (
    Drawing,
    finished,
    full_label,
    heading,
    label,
    lines,
    log_ticks,
    name_ends,
    panel,
    plain_ticks,
    wide_panels,
)

_PHASED = ("entropy", "effective_rank", "mutual_information")
"""Columns under which the phases are marked."""
_GROUPS = {
    "gradient-alignment": (("gradient_alignment_",), "Gradient alignment by kind of matrix", "cosine of the gradients"),
    "loop-parts": (
        ("same_loop_", "cross_loop_"),
        "The looped Hessian within a loop (same_loop) and across loops (cross_loop)",
        "nats/token",
    ),
}
"""Columns that stand together in one figure: their prefixes, its title and its y axis."""
_TABLED = ("block_lambda_max_", "null_count")
"""Columns that only the table shows."""
_TITLES = {
    "kappa_valley": "Condition of the valley",
    "cumulative_force": "Cumulative force along the river",
    "eigenvalues_below": "Eigenvalues below τ",
    "river_share": "Updates along the river",
    "valley_hopping": "Valley hopping",
}

Entry = Mapping[str, Any]


def curvature_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """A figure for each column of the curvature that was measured, or for each group of them.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    groups: dict[str, list[Entry]] = {}
    for curve in study["curvature"]:
        drawn = [s for s in curve["series"] if s["points"]]
        group = next((name for name, (heads, *_) in _GROUPS.items() if curve["metric"].startswith(heads)), None)
        if not drawn or curve["metric"].startswith(_TABLED):
            continue
        if group is not None:
            groups.setdefault(group, []).append({**curve, "series": drawn})
        else:
            yield _column(prefix, study, {**curve, "series": drawn}, colours)
    for group, curves in groups.items():
        yield _together(prefix, study, group, curves, colours)


def valley_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """A figure for each curve over ε, τ or rank at the last step, and one for its differences from the reference."""
    for entry in study["panels"]["curves"]:
        drawn = [s for s in entry["series"] if s["points"]]
        if drawn:
            yield _curve(prefix, study, entry, drawn, colours)
        drawn = [s for s in entry["paired"]["series"] if s["points"]]
        if drawn:
            yield _paired(prefix, study, entry, drawn, colours)


# --- over training ---------------------------------------------------------------------------------------------------


def _column(prefix: str, study: Entry, curve: Entry, colours: Mapping[str, str]) -> Drawing:
    name, drawn = curve["metric"], curve["series"]
    phases = [row for row in study["panels"]["phases"] if row["intervals"]] if name in _PHASED else []
    if phases:
        figure, (axes,), (bars,) = wide_panels(1, height=2.9, strip=0.2 * len(phases) + 0.05)
    else:
        figure, axes = panel()
    ends = lines(axes, drawn, colours, "step")
    if not methods.compare({text for s in drawn for text in s["methods"]}):
        ends = [(y, f"{text} ({families(s)})", colour) for (y, text, colour), s in zip(ends, drawn, strict=True)]
    log = all(s["log"] for s in drawn)
    if name == "edge":
        axes.axhline(1.0, color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)))
        ends.append((1.0, "limit of stability", FAINT))
    if log:
        axes.set_yscale("log")
        log_ticks(axes, "y")
    axes.set(title=name, xlabel="step (updates)", ylabel=name + _unit(curve["unit"], log=log))
    last = max(p["step"] for s in drawn for p in s["points"])
    axes.set_xlim(0, last or 1)
    plain_ticks(axes, "x" if log else "xy")
    name_ends(axes, ends)
    shown = ", ".join(
        f"{label(s)} {_estimate(s['points'][-1], log=s['log'])}"
        + (f" (step {words.count(s['points'][-1]['step'])})" if s["points"][-1]["step"] != last else "")
        for s in drawn
    )
    mean = "geometric mean" if log else "mean"
    alt = f"{name} over training, {mean} over seeds with 95 % t interval ({counted(drawn)}); at the last measurement: "
    alt += f"{shown}.{how_found(drawn, name)}"
    if name == "lambda_min" and study["panels"]["fans"]:
        alt += " Its geometric mean, which one seed moves less, is at the bottom of the ends of the spectrum."
    if phases:
        phase_strip.strip(bars, phases, colours, last)
        alt += (
            f" Phases by the rule, of more than half of the trials: {'; '.join(map(phase_strip.phase_words, phases))}."
        )
    return finished(
        figure, name=f"{prefix}-curvature-{name.replace('_', '-')}", study=study, kind="curvature", title=name,
        alt=alt + failures(study, name),
    )  # fmt: skip


def _together(prefix: str, study: Entry, group: str, curves: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    """Columns of one family, a small panel each, on one scale."""
    heads, title, ylabel = _GROUPS[group]
    head = heads[0] if len(heads) == 1 else ""
    bare = {curve["metric"]: curve["metric"].removeprefix(head) for curve in curves}
    columns = 3 if len(curves) > 4 else 2
    figure, grid, _ = wide_panels(len(curves), columns=columns, height=2.1, gap=0.09)
    values = [p[k] for c in curves for s in c["series"] for p in s["points"] for k in ("mean", "low", "high")]
    known = [v for v in values if v is not None]
    low, high = min(known), max(known)
    room, cosine = 0.05 * (high - low) or 1.0, group == "gradient-alignment"
    last = max(p["step"] for c in curves for s in c["series"] for p in s["points"])
    ends: dict[str, str] = {}
    for axes, curve in zip(grid, curves, strict=True):
        for _, text, colour in lines(axes, curve["series"], colours, "step"):
            ends[text] = colour
        axes.set(title=bare[curve["metric"]], xlabel="", ylabel="", xlim=(0, last or 1))
        if axes in grid[-columns:]:
            axes.set_xlabel("step (updates)")
        if cosine:
            axes.set_ylim(max(-1.02, low - room), min(1.02, high + room))
            axes.axhline(0.0, color=FAINT, linewidth=0.9)
        plain_ticks(axes)
    heading(figure, title)
    figure.supylabel(ylabel, fontsize=10.5)
    handles = [Line2D([], [], color=colour, linewidth=1.8) for colour in ends.values()]
    figure.legend(handles, list(ends), loc="outside lower center", ncols=min(5, len(ends)), frameon=False, fontsize=9)
    shown = "; ".join(
        f"{bare[curve['metric']]}: "
        + ", ".join(f"{label(s)} {words.number(s['points'][-1]['mean'])}" for s in curve["series"])
        for curve in curves
    )
    alt = (
        f"{title} over training, mean over seeds with 95 % t interval ({counted(curves[0]['series'])}); at the last "
        f"measurement: {shown}.{''.join(how_found(curve['series'], curve['metric']) for curve in curves)}"
        f"{failures(study, *(curve['metric'] for curve in curves))}"
    )
    return finished(figure, name=f"{prefix}-parts-{group}", study=study, kind="parts", title=title, alt=alt)


# --- over ε, τ and rank ----------------------------------------------------------------------------------------------


def _curve(prefix: str, study: Entry, entry: Entry, drawn: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    figure, axes = panel()
    ends = lines(axes, drawn, colours, "x")
    name, title = entry["quantity"], _TITLES.get(entry["quantity"], str(entry["quantity"]))
    _scales(axes, entry, drawn, log=entry["log"])
    axes.set(title=title, ylabel=name + _unit(entry["unit"], log=entry["log"]))
    name_ends(axes, ends)
    shown = "; ".join(f"{full_label(s)} {_at_tau(study, entry, s)}" for s in drawn)
    mean = "geometric mean" if entry["log"] else "mean"
    where = "; drawn where every trial has a value above 0" if entry["log"] else ""
    alt = (
        f"{title} at step {words.count(entry['step'])}: {entry['doc']}; {mean} over seeds with 95 % t interval "
        f"({counted(drawn)}{where}): {shown}.{failures(study, name)}"
    )
    slug = name.replace("_", "-")
    return finished(figure, name=f"{prefix}-valley-{slug}", study=study, kind="valleys", title=title, alt=alt)


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
    shown = "; ".join(f"{full_label(s)} {_at_tau(study, entry, s)}" for s in drawn)
    kind = "Ratio to" if entry["log"] else "Difference from"
    mean = "geometric mean" if entry["log"] else "mean"
    alt = (
        f"{kind} {reference} in {name} at step {words.count(entry['step'])}, taken within a seed, {mean} over seeds "
        f"with 95 % t interval at each place by itself ({counted(drawn)}): {shown}."
    )
    slug = name.replace("_", "-")
    return finished(figure, name=f"{prefix}-valley-{slug}-paired", study=study, kind="valleys", title=title, alt=alt)


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


def _at_tau(study: Entry, entry: Entry, series: Entry) -> str:
    """What a line says at the study's τ (or nearest to it), or at the first rank."""
    ranked = entry["x"].startswith("rank")
    wanted = 1.0 if ranked else study["panels"]["tau"]
    at = min(series["points"], key=lambda p: abs(p["x"] - wanted) if ranked else max(p["x"] / wanted, wanted / p["x"]))
    place = words.count(at["x"]) if ranked else words.number(at["x"], 2)
    return f"{_estimate(at, log=entry['log'])} at {entry['x'].partition(' ')[0]} {'' if ranked else '= '}{place}"


def _unit(unit: str, *, log: bool) -> str:
    """A unit and the scale in brackets; nothing where there is neither."""
    said = ", ".join([*([unit] if unit != "1" else []), *(["log"] if log else [])])
    return f" ({said})" if said else ""


def _estimate(point: Entry, *, log: bool = False) -> str:
    """A mean with its interval; on a log scale each with digits of its own."""
    three = [point[k] for k in ("mean", "low", "high")]
    mean, low, high = (words.significant(v) for v in three) if log else words.estimate(*three)
    return f"{mean} [{low}, {high}]" if point["low"] is not None else mean
