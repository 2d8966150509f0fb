"""The largest eigenvalue of each kind of matrix's own block of the Hessian.

The block of a kind is the Hessian with respect to all weights of that kind, over all layers, at the others' values: its
product is the whole one of a vector that is zero elsewhere, without what falls elsewhere. By Cauchy's interlacing no
block's eigenvalue exceeds the whole Hessian's λ_max. Each kind grows its own Krylov space, from a random vector in its
block, and all kinds of all lanes go in step.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from core.ends import as_value
from core.findings import Finding
from core.hessian import Products, transformed
from core.lanczos import Extreme, extremes
from core.probes import Probe


def block_lambda_max(probe: Probe) -> list[Finding]:
    """The largest eigenvalue of the block of every kind of matrix that the model has."""
    asked = [(lane, kind) for lane in range(probe.lanes) for kind in probe.kinds]
    found = dict(zip(asked, probe.drive([(lane, _extreme(probe, lane, kind)) for lane, kind in asked]), strict=True))
    return [
        Finding(values={f"block_lambda_max_{kind}": as_value(found[lane, kind]) for kind in probe.kinds})
        for lane in range(probe.lanes)
    ]


def _extreme(probe: Probe, lane: int, kind: str) -> Products[Extreme]:
    places = probe.kinds[kind]
    whole = probe.direction(lane, "block", kind)
    start = whole[places]
    start /= start.norm()
    run = extremes(start, ends=["max"], max_products=probe.measure.products)
    (found,) = yield from transformed(run, into=partial(_embedded, whole, places), back=lambda v: v[places])
    return found


def _embedded(like: Tensor, places: Tensor, part: Tensor) -> Tensor:
    """A vector `[P]` that is `part` at these places and zero elsewhere."""
    vector = like.new_zeros(len(like))
    vector[places] = part
    return vector
