"""The ends of the spectrum, and how the gradient lies to the sharpest directions.

One Lanczos run a lane serves all that is asked in a measurement; each number is read where it converges by itself, so
that it has the same bits whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from core.findings import Finding, Value, failed
from core.hessian import Products
from core.lanczos import TOLERANCE, Extreme, extremes
from core.probes import Probe
from core.quantities import NULL
from core.ranks import Ranked, ranked

_SINGLE = {"lambda_max": "max", "lambda_min": "min"}
_RANKED = ("eigenvalues", "gradient_curvature", "valley_hopping")


def lambda_max(probe: Probe) -> list[Finding]:
    """The largest eigenvalue; its error bounds the distance to the nearest eigenvalue."""
    return _end(probe, "lambda_max")


def lambda_min(probe: Probe) -> list[Finding]:
    """The smallest eigenvalue; its error bounds the distance to the nearest eigenvalue."""
    return _end(probe, "lambda_min")


def _end(probe: Probe, name: str) -> list[Finding]:
    end = _SINGLE[name]
    if any(asked in _RANKED for asked in probe.measure.quantities):
        found = [run.highest if end == "max" else run.lowest for run in by_rank(probe)]
    else:
        ends = tuple(e for n, e in _SINGLE.items() if n == name or n in probe.measure.quantities)
        found = [run[ends.index(end)] for run in probe.once(f"ends {ends}", partial(_extremes, ends=ends))]
    return [Finding(values={name: as_value(extreme)}) for extreme in found]


def as_value(extreme: Extreme) -> Value:
    """What Lanczos found at an end of a spectrum, as it is recorded."""
    return Value(
        number=extreme.value,
        method="lanczos",
        error=extreme.error,
        products=extreme.products,
        failure=extreme.failure,
    )


def _extremes(probe: Probe, *, ends: Sequence[str]) -> list[list[Extreme]]:
    budget = probe.measure.products
    return probe.drive(
        [
            (lane, extremes(probe.direction(lane, "start"), ends=ends, max_products=budget))
            for lane in range(probe.lanes)
        ]
    )


def eigenvalues(probe: Probe) -> list[Finding]:
    """The `measure.top` largest and smallest eigenvalues, as curves by rank; multiple ones as often as they are.

    The error is the largest residual bound. Where the budget ends before all have converged, those are given that have,
    without a gap in the ranks, and the failure says how many have not. Where it ends before a look for missed
    eigenvalues was clean, the method says that they are not excluded.
    """
    return [_curves(run) for run in by_rank(probe)]


def _curves(run: Ranked) -> Finding:
    found = [*run.top, *run.bottom]
    value = Value(
        method=run.method,
        error=max((e.error for e in found if e.error is not None), default=None),
        products=run.products,
        failure=run.failure,
    )
    curves = {"top_eigenvalue": run.top, "bottom_eigenvalue": run.bottom}
    return Finding(
        values={"eigenvalues": value},
        curves=[
            (name, float(rank), e.value)
            for name, some in curves.items()
            for rank, e in enumerate(some, start=1)
            if e.value is not None
        ],
    )


def by_rank(probe: Probe) -> list[Ranked]:
    """By lane, the `measure.top` largest and smallest eigenvalues with the eigenvectors of the largest; found once."""
    return probe.once("ends by rank", _by_rank)


def _by_rank(probe: Probe) -> list[Ranked]:
    return probe.drive([(lane, _lane(probe, lane)) for lane in range(probe.lanes)])


def _lane(probe: Probe, lane: int) -> Products[Ranked]:
    top = probe.measure.top
    return ranked(
        probe.direction(lane, "start"),
        partial(probe.direction, lane, "start"),
        top=top,
        bottom=top,
        vectors=top,
        max_products=probe.measure.products,
    )


def gradient_curvature(probe: Probe) -> list[Finding]:
    """How the gradient g lies to the sharpest directions: |cos(g, v₁)|, and its share in the top eigenvectors.

    The share is ‖V g‖² / ‖g‖² with the rows of V the eigenvectors of the `measure.top` largest eigenvalues. With
    residuals R and a gap δ to the eigenvalues that follow, the eigenspace is off by an angle of at most
    sin Θ ≤ ‖R‖ / δ (Davis & Kahan 1970), the cosine thus by √2 sin Θ and the share by sin Θ: their errors. They are
    None where that gap is not known to be there, since the Ritz value that follows has not converged. Where it has, and
    agrees with the last of the top, there are no such eigenvectors, and no number.
    """
    return [
        _gradient(run, gradient, parameters=probe.size, top=probe.measure.top)
        for run, gradient in zip(by_rank(probe), probe.gradient, strict=True)
    ]


def _gradient(run: Ranked, gradient: Tensor, *, parameters: int, top: int) -> Finding:
    names, method, products = ("top_cosine", "top_share"), run.method, run.products
    norm = float(gradient.norm())
    if norm == 0.0:
        return failed(names, method, "the gradient is zero", products=products)
    along = [abs(float(vector @ gradient)) / norm for vector in run.vectors]
    asked = min(top, parameters)
    values = {}
    for name, count in zip(names, (1, asked), strict=True):
        if len(run.top) < count:
            reason = f"{count - len(run.top)} of {count} eigenvectors not found: {run.failure}"
            values[name] = Value(method=method, failure=reason, products=products)
            continue
        off = angle(run, count)
        number = along[0] if name == "top_cosine" else sum(cosine * cosine for cosine in along[:count])
        values[name] = Value(
            number=None if off.failure else min(number, 1.0),
            method=method,
            error=None if off.sine is None else min(1.0, off.sine * (2**0.5 if name == "top_cosine" else 1.0)),
            products=products,
            failure=off.failure,
        )
    return Finding(values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Angle:
    """Between the first Ritz vectors and the eigenspace that they stand for."""

    sine: float | None
    """At most this; None: no bound."""
    failure: str | None = None
    """Why there is no such eigenspace."""


def angle(run: Ranked, count: int) -> Angle:
    """The angle of the first `count` Ritz vectors, all of which have converged."""
    last, following = run.top[count - 1], run.top[count] if count < len(run.top) else run.next
    if following is None:
        return Angle(sine=0.0)
    (value, error), (after, beyond) = [(e.value or 0.0, e.error or 0.0) for e in (last, following)]
    size = max(abs(e.value or 0.0) for e in (run.top[0], run.highest, run.lowest))
    rounding = NULL * size
    gap = value - error - after - beyond - rounding
    if gap > 0.0:
        residual = sum((e.error or 0.0) ** 2 for e in run.top[:count]) ** 0.5
        return Angle(sine=(residual + rounding) / gap)
    if beyond <= TOLERANCE * size:
        return Angle(
            sine=None, failure=f"eigenvalues {count} and {count + 1} agree within their errors: any vector will do"
        )
    return Angle(sine=None)
