"""How near the optimiser is to its limit of stability: 1 = at the edge.

On a quadratic with a fixed preconditioner the update is a linear map of (weights, buffer). It is stable where no
eigenvalue of the (preconditioned) Hessian exceeds a limit (along negative ones it grows under any):

    SGD    λ_max(H)                  ≤ 2 (1 + μ) / η                 heavy ball: b ← μ b + g, w ← w − η b
    AdamW  λ_max(P^(−1/2) H P^(−1/2)) ≤ 2 (1 + β1) / ((1 − β1) η)     P = (1 − β1ⁿ) diag(√(v / (1 − β2ⁿ)) + ε)

(Cohen et al. 2021, arXiv 2103.00065, and 2022, arXiv 2207.14484: 2/η without momentum, 38/η at β1 = 0.9.) `edge` is the
eigenvalue over that limit; above 1 the steepest direction oscillates and grows, unless the loss bends back.

η and P are those of the update that led to these weights, so that all belongs to one update, and η is the `lr` of the
step's row; at step 0 under SGD, those of the first. n is the age of the moments, counted from where a stage reset them:
at n = 0 Adam has no preconditioner. Left out: weight decay, clipping, and that Adam's P moves: weights without a
gradient so far have P = ε, and edge is huge where the probe sees curvature there. The Hessian is of the probe batch,
not of what is trained on: small batches keep an optimiser below its edge, and a small training set that is learned by
heart has another edge than the validation set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.architecture import architecture, parameter_shapes
from core.checkpoint import TrialState
from core.config import TrialConfig
from core.ends import as_value, lambda_max
from core.findings import Finding, Value
from core.hessian import Products, transformed
from core.lanczos import Extreme, extremes
from core.lineage import Link
from core.optim import learning_rate
from core.probes import Probe


def edge(probe: Probe) -> list[Finding]:
    """The largest eigenvalue of the (preconditioned) Hessian over the optimiser's limit of stability."""
    lanes = list(zip(probe.configs, probe.chains, probe.states, strict=True))
    wrong = [_without_limit(config, chain[-1], state.step) for config, chain, state in lanes]
    able = [lane for lane, reason in enumerate(wrong) if reason is None]
    largest = _largest(probe, able)
    of = "raw" if probe.configs[0].train.optimizer == "sgd" else "preconditioned"  # the same in all lanes
    return [
        Finding(
            values={
                "edge": Value(method="lanczos", failure=reason)
                if reason is not None
                else _ratio(largest[lane], limit(config, chain[-1], state.step), of)
            }
        )
        for lane, (reason, (config, chain, state)) in enumerate(zip(wrong, lanes, strict=True))
    ]


def limit(config: TrialConfig, link: Link, step: int) -> float:
    """The largest eigenvalue of the (preconditioned) Hessian at which update `step` is stable on a quadratic.

    Args:
        config: the trial.
        link: the link that the update belongs to.
        step: number of the update; for step 0 that of the first.

    Returns:
        In nats per token and unit of weight squared under SGD, and unit of weight under AdamW. The learning rate must
        not be zero.
    """
    train = config.train
    rate = learning_rate(config, link, step)
    if train.optimizer == "sgd":
        return 2.0 * (1.0 + train.momentum) / rate
    return 2.0 * (1.0 + train.beta1) / ((1.0 - train.beta1) * rate)


def preconditioner(config: TrialConfig, link: Link, state: TrialState) -> Tensor:
    """The diagonal of AdamW's P `[P]` in its last update, float64, on the CPU, in canonical order.

    The moments must have seen an update.
    """
    train, age = config.train, state.step - link.reset
    names = parameter_shapes(architecture(config))
    second = torch.cat([state.optimizer[f"moment2/{name}"].double().flatten() for name in names])
    corrected = second / (1.0 - train.beta2**age)
    return (1.0 - train.beta1**age) * (corrected.sqrt() + train.eps)


def _without_limit(config: TrialConfig, link: Link, step: int) -> str | None:
    """Why there is no limit; None where there is one."""
    if learning_rate(config, link, step) == 0.0:
        return "the learning rate is zero: there is no limit"
    if config.train.optimizer == "adamw" and step == link.reset:
        return "the moments are zero before the first update: there is no preconditioner"
    return None


def _largest(probe: Probe, lanes: Sequence[int]) -> dict[int, Value]:
    """By lane, the largest eigenvalue of the (preconditioned) Hessian."""
    if lanes and probe.configs[0].train.optimizer == "sgd":  # the same in all lanes: products are shared with λ_max
        found = lambda_max(probe)
        return {lane: found[lane].values["lambda_max"] for lane in lanes}
    ends = probe.drive([(lane, _preconditioned(probe, lane)) for lane in lanes])
    return dict(zip(lanes, map(as_value, ends), strict=True))


def _preconditioned(probe: Probe, lane: int) -> Products[Extreme]:
    start = probe.direction(lane, "start")
    diagonal = preconditioner(probe.configs[lane], probe.chains[lane][-1], probe.states[lane])
    root = diagonal.to(start.device).rsqrt()
    run = extremes(start, ends=["max"], max_products=probe.measure.products)
    (found,) = yield from transformed(run, into=root.mul, back=root.mul)
    return found


def _ratio(largest: Value, most: float, of: str) -> Value:
    return replace(
        largest,
        number=None if largest.number is None else largest.number / most,
        method=f"lanczos, {of}, limit {most:.6g}",
        error=None if largest.error is None else largest.error / most,
    )
