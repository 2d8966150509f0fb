"""The loss around a state: the probe-batch loss on a grid in the plane of the two top eigenvectors of the Hessian.

    z(a, b) = L(w + a v₁ + b v₂)      Li et al. 2018, arXiv 1712.09913, with eigenvectors in place of random directions

Coordinates are distances in weight space, the same for all trials, so that the surfaces of two arms compare as they
are: nothing is rescaled by the weights or by the curvature. An eigenvector's sign is arbitrary; each is taken so that
the loss does not fall along it to first order.

The losses are those of the plane that the Ritz vectors span, bit for bit. How far that plane's axes can be off the
eigenvectors is the error. Where neighbouring eigenvalues agree within their errors there are no such axes, and no
surface.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from core.ends import angle
from core.findings import Finding, Surface, Value, failed
from core.hessian import Products
from core.probes import Probe
from core.ranks import Ranked, ranked

_NAME = "loss_surface"
_AXES = 2


def loss_surface(probe: Probe) -> list[Finding]:
    """The loss on a square grid around the state, `measure.points` on either side of it, out to `measure.radius`.

    The error is the sine of the largest angle between an axis and its eigenvector, as far as it is known.
    """
    runs = probe.drive([(lane, _axes(probe, lane)) for lane in range(probe.lanes)])
    return [_surface(probe, lane, run) for lane, run in enumerate(runs)]


def _axes(probe: Probe, lane: int) -> Products[Ranked]:
    """The two largest eigenvalues with their eigenvectors; nothing else that is measured acts on their bits."""
    return ranked(
        probe.direction(lane, "start"),
        partial(probe.direction, lane, "start"),
        top=_AXES,
        vectors=_AXES,
        max_products=probe.measure.products,
    )


def _surface(probe: Probe, lane: int, run: Ranked) -> Finding:
    points, radius = probe.measure.points, probe.measure.radius
    side = 2 * points + 1
    method = f"lanczos{'' if run.checked else ', copies not looked for'}, {side} × {side} points within {radius:g}"
    if len(run.top) < _AXES:
        reason = f"{_AXES - len(run.top)} of {_AXES} eigenvectors not found: {run.failure}"
        return failed([_NAME], method, reason, products=run.products)
    angles = [angle(run, count) for count in range(1, _AXES + 1)]
    undefined = next((one.failure for one in angles if one.failure is not None), None)
    if undefined is not None:
        return failed([_NAME], method, undefined, products=run.products)
    places = [radius * place / points for place in range(-points, points + 1)]
    losses = _losses(probe, lane, [upward(v.clone(), probe.gradient[lane].clone()) for v in run.vectors], places)
    broken = sum(not math.isfinite(loss) for loss in losses)
    if broken:
        reason = f"the loss is not finite at {broken:,} of {side * side:,} points; lower measure.radius"
        return failed([_NAME], method, reason, products=run.products)
    sines = [one.sine for one in angles if one.sine is not None]
    error = min(1.0, max(sines)) if len(sines) == _AXES else None
    return Finding(
        values={_NAME: Value(method=method, error=error, products=run.products)},
        surfaces=[Surface(kind="top", x=places, y=places, z=losses)],
    )


def upward(vector: Tensor, gradient: Tensor) -> Tensor:
    """The vector `[P]` or its opposite: that along which the loss does not fall, to first order.

    Where it is flat, that whose largest component (the first of them) is positive.
    """
    slope = float(vector @ gradient)
    if slope == 0.0:
        slope = float(vector[vector.abs().argmax()])
    return -vector if slope < 0.0 else vector


def _losses(probe: Probe, lane: int, axes: list[Tensor], places: list[float]) -> list[float]:
    """The loss at every point, those along the second axis together; as many at once as a group has lanes."""
    weights, (first, second) = probe.weights[lane], axes
    grid = torch.tensor(places, dtype=torch.float64, device=weights.device)
    points, found = torch.cartesian_prod(grid, grid), list[float]()
    for low in range(0, len(points), probe.group):
        some = points[low : low + probe.group]
        moved = weights + some[:, :1] * first + some[:, 1:] * second
        found += probe.losses(moved, lanes=[lane] * len(some)).tolist()
    return found
