"""Figures of what a switch costs at first: the drop, and the steps until the loss is back, against the switch's step.

A point is a setting, mean over seeds (the median for recovery, since some trials never recover). Settings that differ
in a fixed switch alone are joined by a line, which carries their name; an arm of few settings has intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from reports import words
from reports.colours import FAINT
from reports.panels import Drawing, finished, mark, name_ends, panel
from reports.series import MOST_ROWS
from reports.ticks import plain_ticks

_MOST_ENDS = 12
"""Names at the right edge."""

Entry = Mapping[str, Any]


def switch_figures(prefix: str, study: Mapping[str, Any], colours: Mapping[str, str]) -> Iterator[Drawing]:
    """The two figures of a study that switches at several steps; of the first switch of each trial.

    Args:
        prefix: of their names.
        study: an entry of ``studies`` in ``report.json``.
        colours: by arm.
    """
    dropped = [arm for arm in study["switches"] if _known(arm, _drop)]
    if len({point["step"]["mean"] for arm in dropped for point in _known(arm, _drop)}) < 2:
        return  # the table says as much as points at a single step
    yield _drops(prefix, study, dropped, colours)
    recovered = [arm for arm in dropped if any(point["recovery"]["trials"] for point in arm["settings"])]
    if any(_known(arm, _recovery) for arm in recovered):  # else the table says that none is back
        yield _recoveries(prefix, study, recovered, colours)


def _drop(point: Entry) -> float | None:
    value: float | None = point["drop"]["mean"]
    return value


def _recovery(point: Entry) -> float | None:
    value: float | None = point["recovery"]["median"]
    return value


def _known(arm: Entry, value: Any) -> list[Entry]:
    """The settings of an arm that have a value."""
    return [point for point in arm["settings"] if value(point) is not None]


def _drops(prefix: str, study: Mapping[str, Any], arms: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    figure, axes = panel()
    title = "Drop at the switch"
    _points(axes, arms, _drop, colours)
    axes.axhline(0.0, color=FAINT, linewidth=1.2)
    axes.set(title=title, xlabel="step of the switch (updates)", ylabel="rise of the validation loss (nats/token)")
    _named(axes, arms, _drop, colours)
    found = [_range(arm, _drop, "nats/token") for arm in arms]
    alt = f"Rise of the validation loss at the switch against its step, mean over seeds: {'; '.join(found)}."
    name = f"{prefix}-switch-drop"
    return finished(figure, name=name, study=study, kind="switches", title=title, alt=alt)


def _recoveries(prefix: str, study: Mapping[str, Any], arms: Sequence[Entry], colours: Mapping[str, str]) -> Drawing:
    figure, axes = panel()
    title = "Updates until the loss is back"
    _points(axes, arms, _recovery, colours)
    axes.set_ylim(0.0, max([1.0, *(1.12 * (_recovery(p) or 0.0) for arm in arms for p in arm["settings"])]))
    for arm in arms:
        lost = [p["step"]["mean"] for p in arm["settings"] if _recovery(p) is None and p["recovery"]["trials"]]
        axes.plot(
            lost, [1.0] * len(lost), "^", transform=axes.get_xaxis_transform(), color=colours[arm["arm"]],
            markerfacecolor="none", markersize=6, clip_on=False,
        )  # fmt: skip
    axes.set(title=title, xlabel="step of the switch (updates)", ylabel="updates (median over trials)")
    _named(axes, arms, _recovery, colours)
    found, lost = [], sum(arm["recovery"]["never"] for arm in arms)
    for arm in arms:
        back, median = arm["recovery"], _range(arm, _recovery, "updates") if _known(arm, _recovery) else arm["arm"]
        never = f", {back['never']} of {back['trials']} trials not back by the end" if back["never"] else ""
        found.append(f"{median}{never}")
    alt = f"Updates from the switch until the validation loss is as before it, median over trials: {'; '.join(found)}."
    if lost:
        alt += " Open triangles at the top: half of the trials or more were not back by the end."
    name = f"{prefix}-switch-recovery"
    return finished(figure, name=name, study=study, kind="switches", title=title, alt=alt)


def _points(axes: Axes, arms: Sequence[Entry], value: Any, colours: Mapping[str, str]) -> None:
    for arm in arms:
        points, colour = _known(arm, value), colours[arm["arm"]]
        few = len(arm["settings"]) <= MOST_ROWS
        for line in _lines(arm, value).values():
            steps = [p["step"]["mean"] for p in line]
            axes.plot(steps, [value(p) for p in line], color=colour, linewidth=1.4 if few else 0.9, alpha=0.8)
        for p in points if few else ():
            _interval(axes, p, value(p), colour, drop=value is _drop)
        steps = [p["step"]["mean"] for p in points]
        size, alpha = (5.5, 1.0) if few else (3.5, 0.6)
        axes.plot(
            steps, [value(p) for p in points], mark(arm["arm"], colours), color=colour, markersize=size, alpha=alpha,
            markeredgewidth=0,
        )  # fmt: skip
    # All that switches is in range, also what has no value here.
    axes.set_xlim(0, 1.04 * max(p["step"]["max"] for arm in arms for p in arm["settings"]))
    plain_ticks(axes)


def _interval(axes: Axes, point: Entry, y: float, colour: str, *, drop: bool) -> None:
    """The t interval of the drop, and from where to where the steps of the switch reach."""
    step = point["step"]
    if drop and point["drop"]["low"] is not None:
        axes.plot([step["mean"]] * 2, [point["drop"]["low"], point["drop"]["high"]], color=colour, linewidth=1.5)
    if step["min"] < step["max"]:
        axes.plot([step["min"], step["max"]], [y, y], color=colour, linewidth=1.0, alpha=0.4)


def _lines(arm: Entry, value: Any) -> dict[str, list[Entry]]:
    """Settings with fixed switches at distinct steps, by what else they are (in words), in the order of the steps."""
    found: dict[str, list[Entry]] = {}
    for point in _known(arm, value):
        others = {key: v for key, v in point["setting"].items() if key != "schedule.switch"}
        found.setdefault(words.setting(others), []).append(point)
    return {
        name: sorted(line, key=lambda p: p["step"]["mean"])
        for name, line in found.items()
        if len({p["step"]["mean"] for p in line}) == len(line) > 1
        and all("schedule.switch" in p["setting"] for p in line)
    }


def _named(axes: Axes, arms: Sequence[Entry], value: Any, colours: Mapping[str, str]) -> None:
    """Names at the right edge, at the height of the last point: of the lines where they are few, else of the arms."""
    lines = {arm["arm"]: _lines(arm, value) for arm in arms}
    each = sum(max(1, len(found)) for found in lines.values()) <= _MOST_ENDS
    ends = []
    for arm in arms:
        name, points = arm["arm"], _known(arm, value)
        found = lines[name] if each and lines[name] else {"": sorted(points, key=lambda p: p["step"]["mean"])}
        ends += [(value(line[-1]), f"{name} {text}".strip(), colours[name]) for text, line in found.items() if line]
    name_ends(axes, ends)


def _range(arm: Entry, value: Any, unit: str) -> str:
    """The least and the greatest value of an arm's settings, and at which step."""
    points = _known(arm, value)
    least, most = min(points, key=value), max(points, key=value)
    if least is most:
        return f"{arm['arm']} {_at(least, value, unit)}"
    return f"{arm['arm']} from {_at(least, value, unit)} to {_at(most, value, unit)}"


def _at(point: Entry, value: Any, unit: str) -> str:
    shown = words.number(value(point)) if value is _drop else words.tick(value(point))
    return f"{shown} {unit} at step {words.count(point['step']['mean'])}"
