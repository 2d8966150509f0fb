"""The ends of the spectrum."""

from __future__ import annotations

from core.findings import Finding, Value
from core.hessian import Products
from core.lanczos import Extreme, extremes
from core.probes import Probe


def lambda_max(probe: Probe) -> list[Finding]:
    """The largest eigenvalue."""
    return _end(probe, "lambda_max", "max")


def lambda_min(probe: Probe) -> list[Finding]:
    """The smallest eigenvalue."""
    return _end(probe, "lambda_min", "min")


def _end(probe: Probe, name: str, end: str) -> list[Finding]:
    found = probe.drive([(lane, _extreme(probe, lane, end)) for lane in range(probe.lanes)])
    return [
        Finding(
            values={
                name: Value(number=e.value, method="lanczos", error=e.error, products=e.products, failure=e.failure)
            }
        )
        for e in found
    ]


def _extreme(probe: Probe, lane: int, end: str) -> Products[Extreme]:
    start = probe.direction(lane, "start")
    (found,) = yield from extremes(start, ends=[end], max_products=probe.measure.products)
    return found
