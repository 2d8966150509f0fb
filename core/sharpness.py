"""Sharpness by first derivatives: how much the loss rises over one step of ascent.

    SAM        L(w + ρ g/‖g‖) − L(w)                     Foret et al. 2021, arXiv 2010.01412, eq. 2
    adaptive   L(w + ρ T²g/‖Tg‖) − L(w),  T = diag |w|    Kwon et al. 2021 (ASAM), arXiv 2102.11600

Both are the rise within a ball, of radius ρ in ε or in T⁻¹ε, taken where the loss to first order is largest. The
adaptive one does not change when weights are scaled against one another so that the function stays. T acts on all
weights, biases and gains of norms too, as in the definition; the η that ASAM's training adds to |w|, and its leaving
out of biases, are no part of it, so a weight that is exactly zero stays.

The gradient and both losses are of the whole probe batch: in the words of SAM, m is its number of sequences, which the
method says. A step beyond where the loss turns down again can make either negative; that number is given as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from core.findings import Finding, Value
from core.probes import Probe


def sam_sharpness(probe: Probe) -> list[Finding]:
    """The rise over a step of length `measure.rho` along the gradient."""
    return _rise(probe, "sam_sharpness", probe.measure.rho, torch.ones_like, zero="the gradient is zero")


def adaptive_sharpness(probe: Probe) -> list[Finding]:
    """The rise over a step of length `measure.adaptive_rho` in units of each weight's size."""
    zero = "|w| · gradient is zero in every weight"
    return _rise(probe, "adaptive_sharpness", probe.measure.adaptive_rho, torch.abs, zero=zero)


def probe_grad_norm(probe: Probe) -> list[Finding]:
    """The norm of the gradient on the probe batch."""
    norms = [float(gradient.clone().norm()) for gradient in probe.gradient]
    return [Finding(values={"probe_grad_norm": Value(number=norm, method="gradient")}) for norm in norms]


def _rise(probe: Probe, name: str, rho: float, scale: Callable[[Tensor], Tensor], *, zero: str) -> list[Finding]:
    """The rise over a step of length rho in units of `scale` of the weights; `zero` says why there is no step."""
    method = f"one step of ascent, rho = {rho:g}, m = {probe.inputs.shape[1]}"
    # By lane on memory of its own: where a row of [K, P] begins may act on the bits of a sum over it.
    steps = [
        _step(weights.clone(), gradient.clone(), rho, scale)
        for weights, gradient in zip(probe.weights, probe.gradient, strict=True)
    ]
    moved = [weights if step is None else weights + step for weights, step in zip(probe.weights, steps, strict=True)]
    rises = (probe.losses(torch.stack(moved)) - probe.losses(probe.weights)).tolist()
    return [
        Finding(
            values={
                name: Value(method=method, failure=f"{zero}: no direction of ascent")
                if step is None
                else Value(number=rise, method=method)
            }
        )
        for step, rise in zip(steps, rises, strict=True)
    ]


def _step(weights: Tensor, gradient: Tensor, rho: float, scale: Callable[[Tensor], Tensor]) -> Tensor | None:
    """ρ T²g / ‖Tg‖; None where Tg is zero."""
    sizes = scale(weights)
    scaled = sizes * gradient
    norm = float(scaled.norm())
    return None if norm == 0.0 else sizes * scaled * (rho / norm)
