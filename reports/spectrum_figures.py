"""Figures of spectra: |λ| by rank, quantiles over training, the ends over training, two arms rank by rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import words
from reports.captions import counted, estimate, failures, left_out
from reports.colours import FAINT, INK
from reports.labels import slug
from reports.panels import Drawing, finished, full_label, heading, label, lines, name_ends, panel, wide_panels
from reports.ticks import log_ticks, plain_ticks, symlog_axis

_BANDS = (0.12, 0.16, 0.24, 0.38)
"""How dense the bands of a fan are, from the widest to the narrowest."""

_SLQ = "stochastic Lanczos quadrature"

Entry = Mapping[str, Any]


def spectrum_figures(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    """The figures of a study's spectra that its rows give.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    panels = study["panels"]
    if panels["ranks"] is not None and any(one["points"] for one in panels["ranks"]["series"]):
        yield _ranks(prefix, study, colours)
    drawn = [one for one in panels["over_training"] if one["points"]]
    if drawn:
        yield _over_training(prefix, study, drawn, colours)
    drawn = [one for one in panels["fans"] if one["ranks"]]
    if drawn:
        yield _fans(prefix, study, drawn, colours)
    if panels["components"] is not None:
        yield from _components(prefix, study, colours)


# --- ranks -----------------------------------------------------------------------------------------------------------


def _ranks(prefix: str, study: Entry, colours: Mapping[str, str]) -> Drawing:
    entry = study["panels"]["ranks"]
    drawn = [one for one in entry["series"] if one["points"]]
    figure, (axes,), (strip,) = wide_panels(1, height=3.1, strip=0.22 * len(drawn) + 0.1)
    title = "|λ| by rank"
    ends = lines(axes, drawn, colours, "rank")
    axes.set_xscale("log")
    axes.set_yscale("log")
    log_ticks(axes, "x")
    log_ticks(axes, "y")
    axes.set(title=title, xlabel="rank from the largest (log)", ylabel="|λ| (nats/token, log)")
    name_ends(axes, ends)
    for place, one in enumerate(reversed(drawn)):
        _null_bar(strip, place, one["null"], colours[one["arm"]], f"{label(one)}: null space ")
    _bare(strip, len(drawn))
    shown = []
    for one in drawn:
        top, last = one["points"][0], one["points"][-1]
        shown.append(
            f"{full_label(one)} from {words.number(top['mean'])} to {words.number(last['mean'])} at rank "
            f"{words.count(last['rank'])}, null space {_percent(one['null']['mean'])}"
        )
    alt = (
        f"Absolute eigenvalues by rank at step {words.count(entry['step'])}, exact spectra, geometric mean over seeds "
        f"with 95 % t intervals ({counted(drawn)}{left_out(entry)}): {'; '.join(shown)}. Bars: share of eigenvalues "
        f"that are zero within rounding, which the ranks leave out.{failures(study, 'spectrum')}"
    )
    return finished(figure, name=f"{prefix}-ranks", study=study, kind="ranks", title=title, alt=alt)


def _null_bar(axes: Axes, place: int, null: Entry, colour: str, text: str) -> None:
    """The share of the null space as a labelled bar on 0 … 1."""
    axes.barh(place, 1.0, height=0.7, color="none", edgecolor=FAINT, linewidth=0.6)
    axes.barh(place, null["mean"], height=0.7, color=colour, linewidth=0)
    axes.annotate(
        f"{text}{_percent(null['mean'])}", (null["mean"], place), xytext=(5, 0), textcoords="offset points",
        va="center", fontsize=9, color=INK,
    )  # fmt: skip


def _bare(axes: Axes, rows: int) -> None:
    axes.set(xlim=(0, 1), ylim=(-0.6, rows - 0.4), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _percent(share: float) -> str:
    return f"{words.number(100 * share)} %"


# --- over training ---------------------------------------------------------------------------------------------------


def _over_training(prefix: str, study: Entry, drawn: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    tau, half = study["panels"]["tau"], len(study["panels"]["quantiles"]) // 2
    figure, grid, strips = wide_panels(len(drawn), height=2.7, strip=0.24)
    values = [v for one in drawn for point in one["points"] for v in point["quantiles"]]
    last = max(point["step"] for one in drawn for point in one["points"])
    for axes, strip, one in zip(grid, strips, drawn, strict=True):
        colour, steps = colours[one["arm"]], [point["step"] for point in one["points"]]
        for i in range(half):
            low, high = ([point["quantiles"][k] for point in one["points"]] for k in (i, -1 - i))
            axes.fill_between(steps, low, high, color=colour, alpha=_BANDS[i], linewidth=0)
        axes.plot(steps, [point["quantiles"][half] for point in one["points"]], color=colour, linewidth=1.6)
        symlog_axis(axes, tau, min(values), max(values))
        for edge in (-tau, tau):
            axes.axhline(edge, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set_title(label(one), color=colour)
        axes.set_xlim(0, last or 1)
        plain_ticks(axes, "x")
        if "slq" in one["kinds"]:
            strip.text(0.0, 0, "null space: not settled by quadrature", va="center", fontsize=9, color=INK)
        else:
            end = one["points"][-1]
            _null_bar(strip, 0, end["null"], colour, "null space at the end: ")
        _bare(strip, 1)
    _outer(figure, "step (updates)", "λ (nats/token, symlog)")
    by_kind = {
        how: [label(one) for one in drawn if kind in one["kinds"]]
        for kind, how in (("exact", "exact spectra"), ("slq", _SLQ))
    }
    known = {how: names for how, names in by_kind.items() if names}
    bulk = " By quadrature a few nodes stand for the bulk, so its inner bands and median are coarse."
    coarse = bulk if _SLQ in known else ""
    how = "; ".join(how if len(known) == 1 else f"{how}: {', '.join(names)}" for how, names in known.items())
    shown = []
    for one in drawn:
        first, end = one["points"][0], one["points"][-1]
        shown.append(
            f"{full_label(one)}: largest from {words.number(first['quantiles'][-1])} to "
            f"{words.number(end['quantiles'][-1])}, middle half from {_range(first, half)} to {_range(end, half)}"
        )
    title = "Spectrum over training"
    heading(figure, title)
    alt = (
        f"Quantiles of the eigenvalues over training ({how}), means over seeds ({counted(drawn)}): {'; '.join(shown)}. "
        f"Bands hold all, 98 %, 90 % and 50 % of the eigenvalues, the line is their median; the axis is linear below "
        f"τ = {words.tick(tau)} (dotted).{coarse}{failures(study, 'spectrum')}"
    )
    return finished(figure, name=f"{prefix}-spectrum", study=study, kind="spectra", title=title, alt=alt)


def _range(point: Entry, half: int) -> str:
    low, high = point["quantiles"][half - 1], point["quantiles"][half + 1]
    return f"[{words.number(low)}, {words.number(high)}]"


def _outer(figure: Figure, x: str, y: str) -> None:
    """Names of the axes, once for all panels."""
    figure.supxlabel(x, fontsize=10.5)
    figure.supylabel(y, fontsize=10.5)


def _fans(prefix: str, study: Entry, drawn: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    figure, grid, _ = wide_panels(len(drawn), height=2.7)
    points = [p for one in drawn for rank in one["ranks"] for p in rank["points"]]
    outer = [p for one in drawn for rank in one["ranks"] if rank["rank"] == 1 for p in rank["points"]]
    values = [p["mean"] for p in points] + [p["value"] for one in drawn for p in one["limit"]]
    bands = [p[k] for p in outer for k in ("low", "high") if p[k] is not None]
    sizes = sorted(abs(v) for v in values if v)
    linear = 10.0 ** math.floor(math.log10(sizes[len(sizes) // 2] / 10)) if sizes else 1.0
    last = max(p["step"] for p in points)
    shown = []
    for axes, one in zip(grid, drawn, strict=True):
        colour = colours[one["arm"]]
        for rank in one["ranks"]:
            steps = [p["step"] for p in rank["points"]]
            first = rank["rank"] == 1
            strength = 1.0 if first else max(0.25, 0.8 - 0.06 * rank["rank"])
            axes.plot(
                steps, [p["mean"] for p in rank["points"]], color=colour, alpha=strength,
                linewidth=1.8 if first else 0.9, marker="o" if len(steps) == 1 else None, markersize=3,
            )  # fmt: skip
            banded = [p for p in rank["points"] if first and p["low"] is not None]
            if banded:
                low, high = [p["low"] for p in banded], [p["high"] for p in banded]
                axes.fill_between([p["step"] for p in banded], low, high, color=colour, alpha=0.2, linewidth=0)
        symlog_axis(axes, linear, min(values + bands), max(values + bands))
        axes.axhline(0.0, color=FAINT, linewidth=1.0)
        if one["limit"]:
            steps, limit = [p["step"] for p in one["limit"]], [p["value"] for p in one["limit"]]
            axes.plot(steps, limit, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
            axes.annotate("(2 + 2μ)/η", (steps[-1], limit[-1]), xytext=(-2, -11), textcoords="offset points",
                          ha="right", fontsize=9)  # fmt: skip
        axes.set_title(label(one), color=colour)
        axes.set_xlim(0, last or 1)
        plain_ticks(axes, "x")
        shown.append(f"{full_label(one)} {_ends(one)}")
    _outer(figure, "step (updates)", "λ (nats/token, symlog)")
    title = "The ends of the spectrum over training"
    heading(figure, title)
    limits = (
        " Dashed: (2 + 2μ)/η, up to which SGD with momentum μ and learning rate η is stable."
        if any(one["limit"] for one in drawn)
        else ""
    )
    adam = (
        " AdamW's limit is not one on λ itself: see edge." if any(one["optimizer"] == "adamw" for one in drawn) else ""
    )
    alt = (
        f"Largest and smallest eigenvalues by rank over training, means over seeds, geometric where all have one sign "
        f"({counted(drawn)}); band: 95 % t interval of the outermost. At the last measurement: {'; '.join(shown)}."
        f"{limits}{adam}"
        f"{failures(study, 'eigenvalues', 'top_eigenvalue', 'bottom_eigenvalue')}"
    )
    return finished(figure, name=f"{prefix}-ends", study=study, kind="spectra", title=title, alt=alt)


def _ends(one: Entry) -> str:
    """The outermost eigenvalues at the last measurement, and how the largest stands to the limit."""
    limit = {p["step"]: p["value"] for p in one["limit"]}
    said = []
    for rank in one["ranks"]:
        if rank["rank"] == 1:
            end = rank["points"][-1]
            text = f"{words.number(end['mean'])} at the {rank['end']}"
            if rank["end"] == "top" and end["step"] in limit:
                bound = limit[end["step"]]
                text += f" ({words.number(end['mean'] / bound)} of the limit of {words.number(bound)})"
            said.append(text)
    return " and ".join(said)


# --- components ------------------------------------------------------------------------------------------------------


def _components(prefix: str, study: Entry, colours: Mapping[str, str]) -> Iterator[Drawing]:
    entry = study["panels"]["components"]
    reference = entry["reference"]
    rest = " On the right, where all are below τ, it is what differs in null space and size."
    for name, title, ylabel, level, tail in (
        ("share_smaller", f"Rank by rank against {reference}", f"share of ranks with |λ| below {reference}'s", 0.5, ""),
        ("more_below", f"Eigenvalues below τ against {reference}", f"count − that of {reference}", 0.0, rest),
    ):
        drawn = [one | {"points": one[name]} for one in entry["series"] if one[name]]
        if not drawn:
            continue
        figure, axes = panel()
        ends = lines(axes, drawn, colours, "x")
        axes.axhline(level, color=colours[reference], linewidth=1.3, linestyle=(0, (2, 2)))
        axes.set_xscale("log")
        if name == "share_smaller":
            axes.set_ylim(-0.03, 1.03)
        log_ticks(axes, "x")
        axes.set(title=title, xlabel="τ (nats/token, log)", ylabel=ylabel)
        plain_ticks(axes, "y")
        name_ends(axes, ends)
        tau = study["panels"]["tau"]
        shown = []
        for one in drawn:
            at = min(one["points"], key=lambda p: abs(math.log(p["x"] / tau)))
            shown.append(f"{full_label(one)} {estimate(at)} at τ = {words.number(at['x'], 2)}")
        what = {
            "share_smaller": f"Of the ranks at which both arms have an eigenvalue with |λ| ≤ τ, sorted upwards, the "
            f"share at which the arm's is smaller than that of {reference} (dashed: one half)",
            "more_below": f"Eigenvalues with |λ| ≤ τ outside the null space, count of the arm − that of {reference}",
        }[name]
        alt = (
            f"{what}, at step {words.count(entry['step'])}; pairs of trials of equal seed, mean over seeds with 95 % t "
            f"interval ({counted(drawn)}{left_out(entry)}): {'; '.join(shown)}.{tail}"
            f"{failures(study, 'spectrum')}"
        )
        yield finished(
            figure, name=f"{prefix}-components-{slug(name)}", study=study, kind="ranks", title=title, alt=alt
        )
