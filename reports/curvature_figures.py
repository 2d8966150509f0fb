"""Figures of the curvature over training: a column of the table each, with phases, or several of one family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.lines import Line2D

from reports import methods, phase_strip, words
from reports.captions import MOST_SAID, counted, estimate, failures, families, how_found, in_unit, listed
from reports.colours import FAINT
from reports.labels import slug
from reports.panels import Drawing, finished, heading, label, lines, name_ends, panel, wide_panels
from reports.ticks import log_ticks, plain_ticks

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
    axes.set(title=name, xlabel="step (updates)", ylabel=name + in_unit(curve["unit"], log=log))
    last = max(p["step"] for s in drawn for p in s["points"])
    axes.set_xlim(0, last or 1)
    plain_ticks(axes, "x" if log else "xy")
    name_ends(axes, ends)
    shown = listed(
        [
            (
                s["points"][-1]["mean"],
                f"{label(s)} {estimate(s['points'][-1], log=s['log'])}"
                + (f" (step {words.count(s['points'][-1]['step'])})" if s["points"][-1]["step"] != last else ""),
            )
            for s in drawn
        ]
    )
    mean = "geometric mean" if log else "mean"
    alt = f"{name} over training, {mean} over seeds with 95 % t interval ({counted(drawn)}); at the last measurement: "
    alt += f"{shown}.{how_found(drawn, name)}"
    if name == "lambda_min" and study["panels"]["fans"]:
        alt += " Its geometric mean, which one seed moves less, is at the bottom of the ends of the spectrum."
    if phases:
        phase_strip.strip(bars, phases, colours, last)
        said = ", are the bars under it; the table counts them."
        if len(phases) <= MOST_SAID:
            said = f": {'; '.join(map(phase_strip.phase_words, phases))}."
        alt += f" Phases by the rule, of more than half of the trials{said}"
    return finished(
        figure, name=f"{prefix}-curvature-{slug(name)}", study=study, kind="curvature", title=name,
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
