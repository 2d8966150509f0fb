"""Ticks of axes in plain numbers, on linear, logarithmic and symmetric logarithmic scales; each has its room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports import words


def plain_ticks(axes: Axes, which: str = "xy") -> None:
    """Ticks of these axes as plain numbers, minor ones without a number."""
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if name in which:
            axis.set_major_formatter(FuncFormatter(lambda value, _: words.tick(value)))
            axis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))


def value_ticks(axes: Axes, places: Sequence[float], names: Sequence[str], *, inches: float = 4.4) -> None:
    """Ticks of the x axis at these ascending places, without the names that would touch others; the ends keep theirs.

    Places that lie more evenly on a logarithmic axis get one.

    Args:
        axes: whose ticks they are; its limits are final.
        places: in data, ascending.
        names: of the places.
        inches: about how long the axis is.
    """
    if min(places) > 0 and max(places) >= 8 * min(places):
        logs = [math.log(place) for place in places]
        if _unevenness(logs) < _unevenness(places):
            axes.set_xscale("log")
    to_unit = axes.transScale.transform
    at = [float(to_unit((place, 1.0))[0]) for place in places]
    wide = (at[-1] - at[0]) or 1.0
    room = [(0.097 * len(name) + 0.088) / inches for name in names]  # as a share of the axis, for text of this size
    kept = [0]
    for i in range(1, len(at)):
        last = i == len(at) - 1
        clear = (at[i] - at[kept[-1]]) / wide >= (room[i] + room[kept[-1]]) / 2
        before_last = last or (at[-1] - at[i]) / wide >= (room[i] + room[-1]) / 2
        if last and not clear and len(kept) > 1:
            kept.pop()
        if last or (clear and before_last):
            kept.append(i)
    axes.set_xticks([], minor=True)
    axes.set_xticks(list(places), [name if i in kept else "" for i, name in enumerate(names)])


def _unevenness(places: Sequence[float]) -> float:
    """The largest gap over the smallest, of ascending places."""
    gaps = [b - a for a, b in pairwise(places)]
    return max(gaps) / min(gaps)


def log_ticks(axes: Axes, which: Literal["x", "y"]) -> None:
    """Ticks at 1, 2, 5 × powers of ten, more within one decade; few powers alone on three or more; evenly on a half."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = math.log10(high / low)
    steps: tuple[float, ...] = (1, 2, 5) if decades < (3 if which == "y" else 2.2) else (1,)
    if decades < 1:
        steps = (1, 1.5, 2, 3, 5, 7)
    every = max(1, math.ceil(decades / (7.5 if which == "y" else 5.5)))
    axis = axes.xaxis if which == "x" else axes.yaxis
    places = [s * 10.0**p for p in powers if p % every == 0 for s in steps]
    if high / low < 3.2:
        places = [float(v) for v in MaxNLocator(nbins=5).tick_values(low, high)]
    axis.set_ticks([place for place in places if low <= place <= high])
    axis.set_ticks([], minor=True)
    plain_ticks(axes, which)


def symlog_axis(axes: Axes, linear: float, low: float, high: float) -> None:
    """A y axis that is linear up to ±`linear` and logarithmic beyond, over low … high, with few ticks."""
    room = 1.6
    bottom = low * room if low < -linear else -linear
    top = high * room if high > linear else linear
    # Each half of the linear stretch is at least a tenth of the axis: 0 and ±linear would else be written into another.
    decades = math.log10(top / linear) + math.log10(bottom / -linear)
    axes.set_yscale("symlog", linthresh=linear, linscale=max(0.5, decades / 8))
    axes.set_ylim(bottom, top)
    places = [0.0]
    every = max(1, math.ceil(math.log10(max(top, -bottom) / linear) / 3))
    first = math.ceil(math.log10(linear) - 1e-9)
    for sign, end in ((1, top), (-1, -bottom)):
        places += [sign * 10.0**p for p in range(first, math.floor(math.log10(end)) + 1, every)]
    axes.set_yticks(sorted(places))
    axes.set_yticks([], minor=True)
    plain_ticks(axes, "y")
