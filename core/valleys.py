"""The valley and its river: what eigenvalues near zero decide, so from exact spectra alone, as curves over thresholds.

Stochastic quadrature puts a few nodes where hundreds of eigenvalues crowd around zero; it settles neither how many lie
below τ nor Σ 1/|λ|. Above the limit of exact spectra these quantities are refused, with the reason. Eigenvalues that
are zero within rounding are counted apart: Σ 1/|λ| over them is rounding, and 15 orders of magnitude of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core import spectrum
from core.densities import exact_spectrum
from core.findings import Finding, Value, failed
from core.probes import Probe
from core.quantities import THRESHOLDS
from core.spectrum import Numbers


def null_count(probe: Probe) -> list[Finding]:
    """How many eigenvalues are zero within rounding."""
    if not probe.is_exact:
        return refused(probe, "null_count")
    return [
        Finding(
            values={
                "null_count": Value(
                    number=float(spectrum.null_count(exact.values.cpu().numpy())), method="exact", products=probe.size
                )
            },
            spectra=[exact_spectrum(probe, lane)],
        )
        for lane, exact in enumerate(probe.exact)
    ]


def kappa_valley(probe: Probe) -> list[Finding]:
    """Condition of the valley over ε."""
    return _curve(probe, "kappa_valley", spectrum.kappa_valley)


def cumulative_force(probe: Probe) -> list[Finding]:
    """Cumulative force over τ."""
    return _curve(probe, "cumulative_force", spectrum.cumulative_force)


def eigenvalues_below(probe: Probe) -> list[Finding]:
    """Eigenvalues of magnitude up to τ."""
    return _curve(probe, "eigenvalues_below", spectrum.eigenvalues_below)


def _curve(
    probe: Probe, name: str, points: Callable[[Numbers, Sequence[float]], list[tuple[float, float]]]
) -> list[Finding]:
    if not probe.is_exact:
        return refused(probe, name)
    findings = []
    for lane, exact in enumerate(probe.exact):
        found = points(exact.values.cpu().numpy(), THRESHOLDS)
        failure = None if found else f"undefined: every |λ| is {THRESHOLDS[0]:g} at most"
        findings.append(
            Finding(
                values={name: Value(method="exact", products=probe.size, failure=failure)},
                curves=[(name, x, y) for x, y in found],
                spectra=[exact_spectrum(probe, lane)],
            )
        )
    return findings


def refused(probe: Probe, name: str) -> list[Finding]:
    """Nothing is found: the model is too large for an exact spectrum."""
    reason = f"needs the exact spectrum; P = {probe.size} exceeds measure.exact = {probe.measure.exact}, raise it"
    return [failed([name], "exact", reason) for _ in range(probe.lanes)]
