"""The spectrum and what is read off it: entropy, effective rank, negative mass; exact, or a density with its error.

One exact spectrum or one density of a lane serves all quantities of a probe. Wherever an exact spectrum is computed it
is among the findings (`exact_spectrum`), whichever quantity asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from core import spectrum as functionals
from core.findings import Finding, Value, failed
from core.probes import Probe
from core.quadrature import Density, density, krylov
from core.spectrum import Numbers

Row = tuple[str, Sequence[float], Sequence[float]]
"""(kind, eigenvalues ascending, weights that sum to 1)."""


def spectrum(probe: Probe) -> list[Finding]:
    """The eigenvalues, or their density."""
    if probe.is_exact:
        value = Value(method="exact", products=probe.size)
        return [
            Finding(values={"spectrum": value}, spectra=[exact_spectrum(probe, lane)]) for lane in range(probe.lanes)
        ]
    return [
        failed(["spectrum"], _method(probe), found)
        if isinstance(found, str)
        else Finding(
            values={"spectrum": Value(method=_method(probe), products=found.products)}, spectra=[_density_row(found)]
        )
        for found in probe.once("densities", _densities)
    ]


def entropy(probe: Probe) -> list[Finding]:
    """Matrix entropy."""
    return _functional(probe, "entropy", partial(functionals.entropy, size=probe.size))


def normalised_entropy(probe: Probe) -> list[Finding]:
    """Entropy over ln P."""
    return _functional(probe, "normalised_entropy", partial(functionals.normalised_entropy, size=probe.size))


def effective_rank(probe: Probe) -> list[Finding]:
    """Exponential of the entropy."""
    return _functional(probe, "effective_rank", partial(functionals.effective_rank, size=probe.size))


def negative_mass(probe: Probe) -> list[Finding]:
    """Share of Σ |λ| that is of negative eigenvalues."""
    return _functional(probe, "negative_mass", functionals.negative_mass)


def exact_spectrum(probe: Probe, lane: int) -> Row:
    """The exact spectrum of a lane as a row of `core.findings.Finding.spectra`; only where `Probe.is_exact`."""
    return probe.once("exact spectra", _exact_rows)[lane]


def _exact_rows(probe: Probe) -> list[Row]:
    return [("exact", exact.values.tolist(), [1.0 / probe.size] * probe.size) for exact in probe.exact]


def _density_row(found: Density) -> Row:
    values, weights = found.pooled
    return "slq", values.tolist(), weights.tolist()


def _functional(probe: Probe, name: str, functional: Callable[[Numbers, Numbers], float | None]) -> list[Finding]:
    """What a functional of (nodes, weights) gives for every lane."""
    return (
        [_exactly(probe, lane, name, functional) for lane in range(probe.lanes)]
        if probe.is_exact
        else [_sampled(probe, found, name, functional) for found in probe.once("densities", _densities)]
    )


def _exactly(probe: Probe, lane: int, name: str, functional: Callable[[Numbers, Numbers], float | None]) -> Finding:
    row = exact_spectrum(probe, lane)
    number = functional(np.array(row[1]), np.array(row[2]))
    failure = _ZERO if number is None else None
    return Finding(
        values={name: Value(number=number, method="exact", products=probe.size, failure=failure)}, spectra=[row]
    )


def _sampled(
    probe: Probe, found: Density | str, name: str, functional: Callable[[Numbers, Numbers], float | None]
) -> Finding:
    method = _method(probe) + (" (biased upwards)" if name in _HIGH else "")
    if isinstance(found, str):
        return failed([name], method, found)
    estimate = found.estimate(functional)
    if estimate is None:
        return failed([name], method, _ZERO, products=found.products)
    value = Value(number=estimate.number, method=method, error=estimate.error, products=found.products)
    return Finding(values={name: value}, spectra=[_density_row(found)])


_ZERO = "undefined: every eigenvalue is zero"
_HIGH = ("entropy", "normalised_entropy", "effective_rank")
"""Too high by quadrature: at 8 vectors of 48 nodes for each of 20 Hessians, the entropy by 0.031 nats in the mean."""


def _method(probe: Probe) -> str:
    return f"slq, {probe.measure.vectors} vectors of {probe.measure.nodes} nodes"


def _densities(probe: Probe) -> list[Density | str]:
    """By lane, its density, or why there is none."""
    vectors, nodes = probe.measure.vectors, probe.measure.nodes
    by_lane = probe.drive_each(
        vectors, lambda lane, index: krylov(probe.direction(lane, "density", index), nodes=nodes)
    )
    return [
        next((str(start.failure) for start in starts if start.failure), None)
        or density(starts, size=probe.size, nodes=nodes)
        for starts in by_lane
    ]
