"""Stacked optimisers: K trials with their own learning rates, betas, decay and clip updated together over `[K, P]`.

Host numbers (learning rates, bias corrections) are computed per lane in Python floats and reach the device once per
block of steps; the update is a few elementwise passes over the flat buffers of `core.flat`, in place. Gradients are
reduced over the inner axis only, so a lane's bits do not depend on the pack.

Update n (1 … steps) takes the state at n − 1 to that at n, with gradient g and learning rate η(n) (`learning_rate`):

    clip    g ← g · min(1, clip / ‖g‖)                          (‖g‖ over all parameters; clip = 0: none)
    decay   w ← (1 − η · weight_decay) w                         (decoupled, both optimisers; all parameters)
    AdamW   m ← m + (1 − β1)(g − m);  v ← v + (1 − β2)(g² − v)
            w ← w − η · (m / (1 − β1ⁿ)) / (√(v / (1 − β2ⁿ)) + ε)     (Loshchilov & Hutter 2019, arXiv 1711.05101;
                                                                 n counts from where the stage reset m and v, if it did)
    SGD     b ← momentum · b + g;  w ← w − η b                   (as torch.optim.SGD, no dampening, no Nesterov)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from core.config import TrialConfig
from core.lineage import Link

SLOTS: Mapping[str, tuple[str, ...]] = {"adamw": ("moment1", "moment2"), "sgd": ("momentum",)}
"""Buffers of optimiser state beside the weights, each of their shape."""


def lr_factor(config: TrialConfig, link: Link, step: int) -> float:
    """The share of its stage's learning rate with which update `step` is made.

    Warm-up times re-warm-up times schedule (`schedule_share`), each in [0, 1]:

        warm-up    min(1, n / warmup)
        re-warm-up min(1, (n − s) / rewarm) in a stage that began at step s

    with n = `step`; the last update is made with exactly `train.lr_final` (where it is no warm-up).

    Args:
        config: the trial.
        link: the link that the update belongs to; it says whether the decay of a WSD schedule has begun.
        step: number of the update, 1 or later; beyond the trial's last update, where branches go, the schedule stays
            what it was there.
    """
    train = config.train
    warm = min(1.0, step / train.warmup) if train.warmup else 1.0
    if link.rewarm is not None:
        start, updates = link.rewarm
        warm *= min(1.0, (step - start) / updates)
    return warm * schedule_share(config, link, step)


def schedule_share(config: TrialConfig, link: Link, step: int) -> float:
    """The share of the learning rate that the schedule alone leaves at update `step`, in [0, 1]; see `lr_factor`.

        constant   1
        cosine     f + (1 − f)(1 + cos πt)/2, t = (n − warmup)/(steps − warmup) clipped to [0, 1]
        wsd        1 until the decay of the link begins at step d, then 1 − (1 − f) t, t = (n − d)/length, at most 1

    with n = `step` and f = `train.lr_final`.
    """
    train = config.train
    if train.lr_schedule == "cosine" and step > train.warmup:
        t = min(1.0, (step - train.warmup) / max(1, train.steps - train.warmup))
        return train.lr_final + (1.0 - train.lr_final) * 0.5 * (1.0 + math.cos(math.pi * t))
    if link.decay is not None:
        begin, length, final = link.decay
        return 1.0 - (1.0 - final) * min(1.0, max(0.0, (step - begin) / length))
    return 1.0


def learning_rate(config: TrialConfig, link: Link, step: int) -> float:
    """The learning rate of update `step`, its stage's factor included; for step 0 that of the first update."""
    return config.train.lr * link.lr_factor * lr_factor(config, link, max(1, step))


def coefficients(config: TrialConfig, link: Link, step: int) -> tuple[float, ...]:
    """The host numbers of update `step` of one trial, in the order that `update` takes them."""
    train = config.train
    lr = learning_rate(config, link, step)
    decay = 1.0 - lr * train.weight_decay
    if train.optimizer == "sgd":
        return decay, train.momentum, -lr
    # √(v / c2) + ε = (√v + ε √c2) / √c2: the correction moves from a pass over [K, P] into numbers per lane.
    updates = step - link.reset  # the moments' own age: they began as zero there
    root = math.sqrt(1.0 - train.beta2**updates)
    return decay, 1.0 - train.beta1, 1.0 - train.beta2, train.eps * root, -lr * root / (1.0 - train.beta1**updates)


def coefficient_block(
    configs: Sequence[TrialConfig], links: Sequence[Link], start: int, count: int, like: Tensor
) -> Tensor:
    """`coefficients` of the updates start + 1 … start + count of K lanes, `[count, C, K, 1]`, placed as `like`."""
    table = [
        [coefficients(config, link, step) for config, link in zip(configs, links, strict=True)]
        for step in range(start + 1, start + count + 1)
    ]
    host = torch.tensor(table, dtype=torch.float64)  # [count, K, C]
    return host.transpose(1, 2).unsqueeze(3).contiguous().to(like)


def clip_limits(configs: Sequence[TrialConfig], like: Tensor) -> Tensor | None:
    """Largest gradient norms `[K]`, infinite where a lane is not clipped; None where none is."""
    limits = [config.train.clip or math.inf for config in configs]
    return None if min(limits) == math.inf else torch.tensor(limits, dtype=like.dtype, device=like.device)


def norms(flat: Tensor) -> Tensor:
    """Euclidean norm of every lane of `[K, P]`: `[K]`."""
    norm: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norm


def clip(grad: Tensor, norm: Tensor, limits: Tensor | None) -> None:
    """Scales the gradients `[K, P]` whose norm `[K]` exceeds its limit down to it, in place."""
    if limits is not None:
        grad.mul_((limits / norm).clamp_(max=1.0).unsqueeze(1))  # an unclipped lane is multiplied by exactly 1


def update(
    weights: Tensor, grad: Tensor, slots: Sequence[Tensor], coefficients: Tensor, *, optimizer: str, decays: bool
) -> None:
    """One update of all lanes, in place.

    Args:
        weights: `[K, P]`.
        grad: `[K, P]`, clipped; used up.
        slots: the optimiser's buffers `[K, P]` in the order of `SLOTS`.
        coefficients: of this update, `[C, K, 1]`.
        optimizer: ``adamw`` or ``sgd``.
        decays: whether any lane decays its weights (for the others the factor is exactly 1).
    """
    if decays:
        weights.mul_(coefficients[0])
    if optimizer == "sgd":
        _, momentum, minus_lr = coefficients.unbind(0)
        (buffer,) = slots
        buffer.mul_(momentum).add_(grad)
        weights.addcmul_(buffer, minus_lr)
        return
    _, rate1, rate2, eps, minus_lr = coefficients.unbind(0)
    first, second = slots
    first.lerp_(grad, rate1)
    second.lerp_(grad.square_(), rate2)
    root = torch.sqrt(second, out=grad).add_(eps)
    weights.addcmul_(torch.div(first, root, out=grad), minus_lr)
