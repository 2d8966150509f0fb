"""Learning curves: a loss over the steps with the Bayes-optimal value, and its differences from the reference arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from reports import words
from reports.captions import estimate, listed, titled, wrapped
from reports.colours import FAINT
from reports.labels import slug
from reports.panels import Drawing, finished, full_label, lines, name_ends, panel
from reports.ticks import plain_ticks


def curve_figures(
    prefix: str, study: Mapping[str, Any], curve: Mapping[str, Any], colours: Mapping[str, str]
) -> Iterator[Drawing]:
    """The figures of one loss.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        curve: one of its ``curves``.
        colours: by arm.
    """
    yield from _learning(prefix, study, curve, colours)
    yield from _paired(prefix, study, curve, colours)


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
    shown = listed([(value, f"{name} {words.number(value)}") for value, name in finals])
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
    finals = [(one["points"][-1], full_label(one)) for one in drawn]
    shown = listed([(last["mean"], f"{name} {estimate(last)}") for last, name in finals])
    title = titled(f"Difference from {reference}, {words.stratum(curve['metric'])}", curve["task"])
    alt = f"{title}, in {curve['unit']}, taken seed by seed: at the last evaluation {shown}."
    name = f"{prefix}-paired-{slug(curve['metric'])}"
    yield finished(figure, name=name, study=study, kind="curves", title=title, alt=alt)


def _focus(axes: Axes, series: Sequence[Mapping[str, Any]], floor: float | None) -> None:
    """Cuts the initial fall, and the width of its band, off where they would flatten everything else."""
    points = [p for s in series for p in s["points"]]
    last = max(p["step"] for p in points)
    late = [p for p in points if p["step"] >= 0.05 * last]
    top = max(p["high"] if p["high"] is not None else p["mean"] for p in late)
    lows = [p["low"] if p["low"] is not None else p["mean"] for p in late]
    bottom = min([*lows, *(p["mean"] for p in points), *([floor] if floor is not None else [])])
    room = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    axes.set_ylim(bottom - room, top + room)
