"""The rule for phases: Collapse, Diversification, Stabilization, read off the history of one trial's matrix entropy.

The paper names the phases and gives no rule; this one is ours. With S the matrix entropy of the Hessian at each
measurement and R = max S − min S over the trial:

1. *Stabilization* is the longest stretch up to the last measurement on which S keeps within ``flat · R``, of one
   interval at least. Where the mutual information I of successive Hessians was measured, its mean there must also be
   at least ``informed`` times its largest value in the trial: S may stand still while the Hessian turns.
2. What lies before it is cut where S turns by ``turn · R`` or more: smaller wiggles belong to the leg that they lie
   on, so a denser grid of measurements gives the same legs. A leg on which S falls by ``turn · R`` is *Collapse*: the
   shares |λ| / Σ |λ| gather on fewer directions and the bulk is left near 0 beside them.
3. A leg on which S rises by as much is *Diversification* if the outliers grow on it, λ_max at its end being larger
   than at its start. Where λ_max was not measured S alone decides.

Whatever else there is has no phase. R is the trial's own range, so the rule always finds its largest movement; how
large that was is what `dip` and `rise` say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Phase = Literal["collapse", "diversification", "stabilization"]

PHASES: tuple[Phase, ...] = ("collapse", "diversification", "stabilization")
"""In the order of the paper."""

TURN, FLAT, INFORMED = 0.2, 0.1, 0.5
"""The thresholds of the rule, where a caller names no others."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive measurements of one phase."""

    phase: Phase
    first: int
    """Index of the measurement at which it begins."""
    last: int
    """Index of the measurement at which it ends, above `first`; the next stretch may begin there."""


def stretches(
    entropy: Sequence[float],
    *,
    lambda_max: Sequence[float | None] | None = None,
    information: Sequence[float | None] | None = None,
    turn: float = TURN,
    flat: float = FLAT,
    informed: float = INFORMED,
) -> list[Stretch]:
    """The phases of one trial, in the order of its measurements.

    Args:
        entropy: [n] matrix entropy S at each measurement, in the order of steps, finite.
        lambda_max: [n] largest eigenvalue there; None where it was not measured.
        information: [n] mutual information I of successive Hessians there; None where it was not measured.
        turn: of the range of S, by which it must turn or move for a leg of its own, in (0, 1].
        flat: of the range of S, within which it stands still, in (0, 1).
        informed: of the largest I, that its mean on a stable stretch must reach, in [0, 1].

    Returns:
        Stretches without overlap; none below three measurements or where S never moves.
    """
    values = list(entropy)
    if len(values) < 3 or max(values) == min(values):
        return []
    span = max(values) - min(values)
    stable = _stable(values, information or [], flat * span, informed)
    found: list[Stretch] = []
    for first, last in _legs(values[: stable + 1], turn * span):
        change = values[last] - values[first]
        if change <= -turn * span:
            found.append(Stretch(phase="collapse", first=first, last=last))
        elif change >= turn * span and _grows(lambda_max or [], first, last):
            found.append(Stretch(phase="diversification", first=first, last=last))
    if stable < len(values) - 1:
        found.append(Stretch(phase="stabilization", first=stable, last=len(values) - 1))
    return found


def in_order(found: Sequence[Stretch]) -> bool:
    """Whether a Collapse is followed by a Diversification and that by a Stabilization, whatever lies between."""
    wanted = list(PHASES)
    for stretch in found:
        if wanted and stretch.phase == wanted[0]:
            wanted.pop(0)
    return not wanted


def dip(entropy: Sequence[float]) -> float:
    """How far S fell below its first value: S(first) − min S, in nats."""
    return entropy[0] - min(entropy)


def rise(entropy: Sequence[float]) -> float:
    """How far S came back from its least value: S(last) − min S, in nats."""
    return entropy[-1] - min(entropy)


def labels(found: Sequence[Stretch], measurements: int) -> list[Phase | None]:
    """The phase of each interval between consecutive measurements [measurements − 1]."""
    by_interval: list[Phase | None] = [None] * max(0, measurements - 1)
    for stretch in found:
        by_interval[stretch.first : stretch.last] = [stretch.phase] * (stretch.last - stretch.first)
    return by_interval


def _stable(values: Sequence[float], information: Sequence[float | None], within: float, informed: float) -> int:
    """Where the stable stretch begins; the last index where there is none."""
    last = len(values) - 1
    first, low, high = last, values[last], values[last]
    while first > 0 and max(high, values[first - 1]) - min(low, values[first - 1]) <= within:
        first -= 1
        low, high = min(low, values[first]), max(high, values[first])
    known = [one for one in information if one is not None]
    there = [one for one in information[first:] if one is not None]
    if known and (not there or math.fsum(there) / len(there) < informed * max(known)):
        return last
    return first


def _legs(values: Sequence[float], least: float) -> list[tuple[int, int]]:
    """(first, last) index between the turning points of a series: extremes from which it moves back by `least`."""
    points, low, high, direction = [0], 0, 0, 0
    for index, value in enumerate(values):
        low = index if value < values[low] else low
        high = index if value > values[high] else high
        if direction >= 0 and values[high] - value >= least:  # it has turned down from its highest
            points += [high] * (direction > 0 or high > 0)
            direction, low, high = -1, index, index
        elif direction <= 0 and value - values[low] >= least:
            points += [low] * (direction < 0 or low > 0)
            direction, low, high = 1, index, index
    if direction:  # the last leg goes to its extreme, what follows is too small for one of its own
        points.append(low if direction < 0 else high)
    return [(a, b) for a, b in pairwise(points) if b > a]


def _grows(lambda_max: Sequence[float | None], first: int, last: int) -> bool:
    if not lambda_max:
        return True
    before, after = lambda_max[first], lambda_max[last]
    return before is None or after is None or after > before
