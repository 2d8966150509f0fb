"""Trace and Frobenius norm of the Hessian: exact where there is an exact spectrum, from random signs elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from core.densities import exact_spectrum
from core.findings import Estimate, Finding, Value
from core.hutchinson import Sample, sample
from core.hutchinson import frobenius as norm_of
from core.hutchinson import trace as trace_of
from core.probes import Probe


def trace(probe: Probe) -> list[Finding]:
    """The sum of the eigenvalues."""
    return _found(probe, "trace", torch.sum, trace_of)


def frobenius(probe: Probe) -> list[Finding]:
    """The root of the sum of their squares."""
    return _found(probe, "frobenius", torch.linalg.vector_norm, norm_of)


def _found(
    probe: Probe,
    name: str,
    exactly: Callable[[torch.Tensor], torch.Tensor],
    sampled: Callable[[Sequence[Sample]], Estimate],
) -> list[Finding]:
    if probe.is_exact:
        return [
            Finding(
                values={name: Value(number=float(exactly(exact.values)), method="exact", products=probe.size)},
                spectra=[exact_spectrum(probe, lane)],
            )
            for lane, exact in enumerate(probe.exact)
        ]
    vectors = probe.measure.vectors
    method = f"hutchinson, {vectors} vectors"
    return [
        Finding(values={name: Value(number=e.number, method=method, error=e.error, products=vectors)})
        for e in map(sampled, probe.once("hutchinson", _samples))
    ]


def _samples(probe: Probe) -> list[list[Sample]]:
    """By lane, `measure.vectors` samples; one pass serves both quantities."""
    return probe.drive_each(
        probe.measure.vectors, lambda lane, index: sample(probe.direction(lane, "hutchinson", index))
    )
