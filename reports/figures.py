"""The figures of a report, drawn from ``report.json`` alone: seaborn on a fixed style, one panel a file.

An arm has one colour in all figures. Lines carry their name at their end instead of a legend, so nothing is hidden and
nobody needs to tell colours apart; bands are 95 % t intervals over seeds. One panel a file lets a page arrange them:
side by side on a desk, stacked on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import words
from reports.accuracy_figures import length_figures, loop_figures
from reports.across_figures import across_figures
from reports.axis_figures import axis_figure, criterion_figure
from reports.captions import estimate, task_prefix, titled, wrapped
from reports.colours import FAINT, INK, of_arms
from reports.cost_figures import cost_figures
from reports.curvature_figures import curvature_figures
from reports.factor_figures import factor_figures, importance_figures
from reports.labels import prefixes, slug
from reports.map_figures import map_figures
from reports.panels import SIZE, Drawing, finished, full_label, lines, name_ends, panel, styled
from reports.spectrum_figures import spectrum_figures
from reports.surface_figures import surface_figures
from reports.switch_figures import switch_figures
from reports.ticks import log_ticks, plain_ticks
from reports.tree_figure import tree_alt, tree_figure, tree_title
from reports.valley_figures import valley_figures


def draw(report: Mapping[str, Any]) -> list[Drawing]:
    """Every figure of a report, study by study, in the order of reading; then what compares studies."""
    return list(drawn(report))


def drawn(report: Mapping[str, Any]) -> Generator[Drawing]:
    """As `draw`, one after the other; the style of the figures holds until the iterator is closed."""
    names = prefixes([study["name"] for study in report["studies"]])
    for prefix, study, execution in zip(names, report["studies"], report["provenance"]["studies"], strict=True):
        colours = of_arms(study["arms"])
        claims = [c for c in report["claims"] if c["study"] == study["name"]]
        with styled():
            yield from _claims(prefix, study, claims, colours)
            yield from _tree(prefix, study)
            for curve in study["curves"]:
                yield from _learning(_of_task(prefix, study, curve), study, curve, colours)
                yield from _paired(_of_task(prefix, study, curve), study, curve, colours)
            yield from length_figures(prefix, study, colours)
            yield from loop_figures(prefix, study, colours)
            yield from cost_figures(prefix, study, colours)
            for entry in study["along_axes"]:
                yield axis_figure(_of_task(prefix, study, entry), study, entry, colours)
            yield from factor_figures(prefix, study)
            yield from importance_figures(prefix, study, execution["importances"])
            yield from map_figures(prefix, study, colours)
            yield from switch_figures(prefix, study, colours)
            for entry in study["criterion_axes"]:
                yield criterion_figure(prefix, study, entry, colours)
            yield from curvature_figures(prefix, study, colours)
            yield from spectrum_figures(prefix, study, colours)
            yield from valley_figures(prefix, study, colours)
            yield from surface_figures(prefix, study, colours)
    with styled():
        yield from across_figures(report["across"], arm_colours(report))


def arm_colours(report: Mapping[str, Any]) -> dict[str, str]:
    """The colour of each arm by its name, over all studies of the report; of two that differ in it the first's."""
    found: dict[str, str] = {}
    for study in report["studies"]:
        found = of_arms(study["arms"]) | found
    return {arm: found[arm] for study in report["studies"] for arm in study["arms"]}


def _tree(prefix: str, study: Mapping[str, Any]) -> Iterator[Drawing]:
    """The stage tree, where trials share a past."""
    tree = study["tree"]
    if tree is None or tree["steps_alone"] == tree["steps_trained"]:
        return
    yield finished(
        tree_figure(tree), name=f"{prefix}-tree", study=study, kind="tree", title=tree_title(tree), alt=tree_alt(tree)
    )


def _of_task(prefix: str, study: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The prefix of figures of one task, where the study has several."""
    return task_prefix(prefix, entry["task"], [curve["task"] for curve in study["curves"]])


# --- kinds -----------------------------------------------------------------------------------------------------------


def _learning(
    prefix: str, study: Mapping[str, Any], curve: Mapping[str, Any], colours: Mapping[str, str]
) -> Iterator[Drawing]:
    drawn = [s for s in curve["series"] if s["points"]]
    if not drawn:
        return
    figure, axes = panel()
    ends = lines(axes, drawn, colours, "step")
    floor = curve["floor"]
    if floor is not None:
        axes.axhline(floor, color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)))
        ends.append((floor, "Bayes-optimal", FAINT))
    # The first evaluations are far above all that matters; the axis covers what is left after a tenth of the steps.
    _focus(axes, drawn, floor)
    title = titled(words.stratum(curve["metric"]), curve["task"])
    axes.set(title=wrapped(title), xlabel="step (updates)", ylabel=f"validation loss ({curve['unit']})")
    axes.set_xlim(0, max(p["step"] for s in drawn for p in s["points"]))
    plain_ticks(axes, "x")
    name_ends(axes, ends)
    finals = sorted((s["points"][-1]["mean"], full_label(s)) for s in drawn)
    shown = ", ".join(f"{name} {words.number(value)}" for value, name in finals)
    bayes = f"; the Bayes-optimal loss is {words.number(floor)}" if floor is not None else ""
    alt = f"Learning curves, {title}: final validation loss in {curve['unit']}, mean over seeds: {shown}{bayes}."
    name = f"{prefix}-curve-{slug(curve['metric'])}"
    yield finished(figure, name=name, study=study, kind="curves", title=title, alt=alt)


def _paired(
    prefix: str, study: Mapping[str, Any], curve: Mapping[str, Any], colours: Mapping[str, str]
) -> Iterator[Drawing]:
    """The same curves as differences from the reference arm, taken seed by seed: what the bands beside them hide."""
    drawn, reference = [s for s in curve["paired"]["series"] if s["points"]], curve["paired"]["reference"]
    if not drawn:
        return
    figure, axes = panel()
    ends = lines(axes, drawn, colours, "step")
    axes.axhline(0.0, color=colours[reference], linewidth=1.3, linestyle=(0, (2, 2)))
    ends.append((0.0, reference, colours[reference]))
    points = [p for s in drawn for p in s["points"]]
    last = max(p["step"] for p in points)
    late = [p[k] for p in points if p["step"] >= 0.05 * last for k in ("mean", "low", "high") if p[k] is not None]
    bottom, top = min(0.0, *late), max(0.0, *late)
    room = 0.06 * (top - bottom) or 1.0
    axes.set(
        title=wrapped(titled(f"{words.stratum(curve['metric'])}, seed by seed", curve["task"])),
        xlabel="step (updates)",
        ylabel=f"loss − that of {reference} ({curve['unit']})",
        xlim=(0, last or 1),
        ylim=(bottom - room, top + room),
    )
    plain_ticks(axes)
    name_ends(axes, ends)
    shown = ", ".join(f"{full_label(one)} {estimate(one['points'][-1])}" for one in drawn)
    title = titled(f"Difference from {reference}, {words.stratum(curve['metric'])}", curve["task"])
    alt = f"{title}, in {curve['unit']}, taken seed by seed: at the last evaluation {shown}."
    name = f"{prefix}-paired-{slug(curve['metric'])}"
    yield finished(figure, name=name, study=study, kind="curves", title=title, alt=alt)


def _focus(axes: Axes, series: Sequence[Mapping[str, Any]], floor: float | None) -> None:
    """Cuts the initial fall off the top where it would flatten everything else."""
    points = [p for s in series for p in s["points"]]
    last = max(p["step"] for p in points)
    late = [p["high"] if p["high"] is not None else p["mean"] for p in points if p["step"] >= 0.05 * last]
    bottom = min(
        [p["low"] if p["low"] is not None else p["mean"] for p in points] + ([floor] if floor is not None else [])
    )
    top = max(late)
    room = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    axes.set_ylim(bottom - room, top + room)


def _claims(
    prefix: str, study: Mapping[str, Any], claims: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> Iterator[Drawing]:
    """Each comparison in a row of its own scale: a dot a seed, the mean and its interval, 0 and the margin."""
    rows = [
        (f"{number}" if not claim["parts"] else f"{number}.{i}", part)
        for number, claim in enumerate(claims, 1)
        for i, part in enumerate(claim["parts"] or [claim], 1)
        if part["effect"] is not None
    ]
    if not rows:
        return
    figure = Figure(figsize=(SIZE[0] * 1.1, 0.3 + 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (number, part) in zip(grid, rows, strict=True):
        _differences(axes, number, part, colours[part["arm"]])
    sns.despine(fig=figure, left=True)
    alt = " ".join(f"Claim {n}, {p['verdict']}: {words.difference(p)}." for n, p in rows)
    name = f"{prefix}-claims"
    yield finished(figure, name=name, study=study, kind="claims", title="Differences by seed", alt=alt)


def _differences(axes: Axes, number: str, part: Mapping[str, Any], colour: str) -> None:
    log = part["scale"] == "log"
    shown = math.exp if log else float
    values = [shown(d) for d in part["differences"]]
    sns.stripplot(x=values, y=[0.0] * len(values), ax=axes, color=colour, size=5, alpha=0.55, jitter=False, orient="h")
    if part["low"] is not None:
        axes.plot(
            [shown(part["low"]), shown(part["high"])], [0.28, 0.28], color=INK, linewidth=1.6, solid_capstyle="butt"
        )
    axes.plot([shown(part["effect"])], [0.28], "D", color=INK, markersize=5)
    axes.axvline(shown(0.0), color=FAINT, linewidth=1.2)
    if part["expect"] == "not worse":
        allowed = math.log(part["margin"]) if log else part["margin"]
        edge = allowed if part["better"] == "lower" else -allowed
        axes.axvline(shown(edge), color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.annotate("margin", (shown(edge), 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3),
                      textcoords="offset points", va="top", fontsize=9)  # fmt: skip
    axes.set_ylim(0.6, -0.45)
    axes.set_yticks([])
    if log:
        axes.set_xscale("log")
        axes.margins(x=0.06)
        log_ticks(axes, "x")
    other = part["against"] if part["against"] is not None else f"{part['value']:g}"
    what = words.place(part["quantity"], part["at"])
    relation = f"{part['arm']} / {other}" if log else f"{part['arm']} − {other}"
    unit = "ratio" if log else part["unit"]
    axes.set_title(
        f"{number}  {relation}: {what}{'' if unit == '1' else f' ({unit})'}", fontsize=10, fontweight="normal"
    )
    axes.set_xlabel("")
    axes.grid(visible=True, axis="x")
