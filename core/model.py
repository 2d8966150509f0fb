"""The stacked model: a looped transformer whose every parameter has a leading trial axis `[K, …]`.

Functional: parameters are a plain dict of tensors, so training, curvature and checkpoints share one form, and K trials
of one shape run in one step. K = 1 is one trial. A lane's numbers must not depend on K or on its position by a bit, so

- matmuls are batched products with the lane as (part of) the batch axis; nothing is reduced over an axis whose inner
  axis is K; which kernel runs is chosen by the shape of one lane, never by K;
- elementwise functions with a vector and a scalar form (GELU) see lanes of whole vectors only (`core.layers`).

Shapes: K lanes, B sequences, T positions, D width, H heads, V tokens, F hidden width of the MLP.

    x = embedding[tokens] (+ position)      [K, B·T, D]
    prelude blocks; `depth` blocks × loops (+ injection, + timestep); coda blocks; norm; head → logits [K, B, T, V]
    block: x += attention(norm(x)) out; x += gelu(norm(x) mlp_in) mlp_out where there is an MLP

There are no biases but the norms' own: the paper's toy has none, and GPT-2-like blocks lose nothing without them. With
one head and no rotary positions the scores are `h (W_Q W_Kᵀ) hᵀ` and the mixture `P h (W_V W_O)`: the two products of
matrices are made once per forward pass and halve the projections (`core.mixing`); the same function and gradients.
Parameters and their initial weights: `core.architecture`; the operations: `core.layers`; here, the order in which they
run, and the loss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from core import ragged
from core.architecture import Architecture
from core.layers import Layers, embed
from core.ragged import Parameters, Rows
from core.tasks import IGNORE

_LOOPED = ("blocks.", "timestep")
"""How the names of the weights inside the loop begin."""
_OUTPUTS = ("coda.", "norm.", "head", "embedding")
"""How the names of the weights behind the loop begin."""


def forward(
    params: Parameters,
    inputs: Tensor,
    arch: Architecture,
    *,
    loops: int | Sequence[int],
    by_sequence: Sequence[int] | None = None,
    injection: str = "none",
    math_attention: bool = False,
) -> Tensor:
    """Logits of the last loop.

    Args:
        params: by name, each `[K, …]`; see `parameter_shapes`.
        inputs: tokens, int64 `[K, B, T]` with T ≤ context.
        arch: the architecture.
        loops: times that the looped blocks are applied, for all lanes or for each. A lane gets the bits of values and
            gradients that it gets alone with the same loops, and `[r] * K` those of r; but for K = 1 where a matrix
            has an axis of one (`Architecture.unit_axis`): there `[r]` gives what r gives in larger packs.
        by_sequence: the loops of each sequence of a lane, falling, the same in all lanes; `loops` is then not read.
        injection: ``none`` or ``add``: the loop's input is added again before each further loop.
        math_attention: attention by plain operations whatever the shape: fused kernels have no second derivative.
            Lanes of different loops are then computed one by one.

    Returns:
        `[K, B, T, V]`.
    """
    run = partial(_last_logits, arch=arch, injection=injection, backprop=0, math=math_attention)
    if by_sequence is not None:
        return run(params, (inputs,), ragged.of_sequences(by_sequence, length=inputs.shape[2]))
    return ragged.compute(run, params, (inputs,), loops, one_by_one=math_attention, never_alone=arch.unit_axis)


def forward_at(
    params: Parameters, inputs: Tensor, arch: Architecture, *, at: Collection[int], injection: str = "none"
) -> Iterator[Tensor]:
    """Logits after each of some numbers of loops, in one pass up to the largest: the bits that `forward` gives.

    Args:
        params: by name, each `[K, …]`.
        inputs: tokens, int64 `[K, B, T]` with T ≤ context.
        arch: the architecture.
        at: numbers of loops, each ≥ 1; of all lanes and sequences.
        injection: see `forward`.

    Yields:
        `[K, B, T, V]` for each number, ascending.
    """
    who = ragged.alike(inputs.shape[0], max(at))
    layers, start = _entered(params, inputs, arch, who, math=False)
    for loops, (x, _) in enumerate(_passes(layers, start, who, injection=injection), start=1):
        if loops in at:
            yield layers.logits(x).view(*inputs.shape, arch.vocabulary)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Next-token cross-entropy in nats, `[K, B, T]`, of logits `[K, B, T, V]` and targets `[K, B, T]`.

    Zero where the target is `core.tasks.IGNORE`.
    """
    V = logits.shape[-1]
    losses = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), reduction="none", ignore_index=IGNORE)
    return losses.view(targets.shape)


def loss(
    params: Parameters,
    inputs: Tensor,
    targets: Tensor,
    arch: Architecture,
    *,
    loops: int | Sequence[int],
    by_sequence: Sequence[int] | None = None,
    injection: str = "none",
    loss_on: str = "last",
    backprop: int = 0,
    math_attention: bool = False,
) -> Tensor:
    """Mean next-token cross-entropy of each lane in nats per predicted token.

    Args:
        params: by name, each `[K, …]`.
        inputs: tokens, int64 `[K, B, T]`.
        targets: tokens to predict, int64 `[K, B, T]`; `core.tasks.IGNORE` where none is, if the task is masked.
        arch: the architecture.
        loops: times that the looped blocks are applied, for all lanes or for each; see `forward`.
        by_sequence: the loops of each sequence; see `forward`.
        injection: see `forward`.
        loss_on: ``last``, or ``all`` for the mean over the outputs of a lane's loops (each through coda, norm, head).
        backprop: gradients flow through the last so many loops; 0: through all. The value is the same.
        math_attention: see `forward`.

    Returns:
        `[K]`.
    """
    run = partial(
        _mean_losses, arch=arch, injection=injection, every=loss_on == "all", backprop=backprop, math=math_attention
    )
    if by_sequence is not None:
        return run(params, (inputs, targets), ragged.of_sequences(by_sequence, length=inputs.shape[2]))
    return ragged.compute(run, params, (inputs, targets), loops, one_by_one=math_attention, never_alone=arch.unit_axis)


def _entered(params: Parameters, inputs: Tensor, arch: Architecture, who: Rows, *, math: bool) -> tuple[Layers, Tensor]:
    """The layers, and the stream `[K, B·T, D]` before the first loop; both inside the loop in the order of `who`."""
    layers = Layers.of(params, arch, inputs.shape[2], math=math)
    start = layers.apply(embed(params, inputs, arch), arch.group("prelude"))
    return layers.map(who.sort, _LOOPED, rest=True), who.sort(start)


def _passes(
    layers: Layers, start: Tensor, who: Rows, *, injection: str, backprop: int = 0
) -> Iterator[tuple[Tensor, int]]:
    """The residual stream after each pass through the looped blocks, and how many of its rows have just begun.

    Args:
        layers: their looped blocks in the order of `who`.
        start: the stream before the first loop, in that order.
        who: which rows pass when; all of them at the last pass, together.
        injection: see `forward`.
        backprop: see `loss`.
    """
    x, before, last = start, 0, len(who.active)
    for number, active in enumerate(who.active):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (not backprop or number >= last - backprop)):
            if before and injection == "add":
                x = x + who.take(start, 0, before)
            if active > before:
                # A tensor of its own: what flows back into it is summed before it joins what the injections bring.
                begun = who.take(start, before, active)
                begun = begun.view_as(begun)
                x = who.join(x, begun) if before else begun
            # A piece of the weights for each pass by itself: their gradients then add up pass by pass, as alone.
            at = layers if active == who.active[-1] else layers.map(partial(who.weights, count=active), _LOOPED)
            if layers.arch.timestep:
                x = at.clocked(x, who, last - number)
            x = at.apply(x, layers.arch.at_loop(number))
        yield x, active - before
        before = active


def _last_logits(
    params: Parameters,
    tokens: tuple[Tensor, ...],
    who: Rows,
    *,
    arch: Architecture,
    injection: str,
    backprop: int,
    math: bool,
) -> Tensor:
    """Logits `[K, B, T, V]` after each row's last loop."""
    (inputs,) = tokens
    layers, start = _entered(params, inputs, arch, who, math=math)
    for x, _ in _passes(layers, start, who, injection=injection, backprop=backprop):
        last = x
    return layers.logits(who.restore(last)).view(*inputs.shape, arch.vocabulary)


def _mean_losses(
    params: Parameters,
    tokens: tuple[Tensor, ...],
    who: Rows,
    *,
    arch: Architecture,
    injection: str,
    every: bool,
    backprop: int,
    math: bool,
) -> Tensor:
    """Mean loss `[K]` of each lane, over its last loop or over all of its loops."""
    inputs, targets = tokens
    if not every:
        logits = _last_logits(params, (inputs,), who, arch=arch, injection=injection, backprop=backprop, math=math)
        return means(token_losses(logits, targets), targets, arch.masked)
    if isinstance(who, ragged.Sequences):
        raise ValueError('sequences of different loops go with loss_on = "last" only')
    layers, start = _entered(params, inputs, arch, who, math=math)
    layers, targets = layers.map(who.sort, _OUTPUTS, rest=True), who.sort(targets)
    total = torch.zeros(0)
    for x, begun in _passes(layers, start, who, injection=injection):
        K = x.shape[0]
        at, truth = layers.map(partial(ragged.part, low=0, high=K), _OUTPUTS), ragged.part(targets, 0, K)
        # One after the other: a stack of [K] vectors would be reduced over an axis whose inner axis is K.
        mean = means(token_losses(at.logits(x).view(*truth.shape, arch.vocabulary), truth), truth, arch.masked)
        if begun < K:
            gone_on = total + ragged.part(mean, 0, K - begun)
            mean = torch.cat((gone_on, ragged.part(mean, K - begun, K))) if begun else gone_on
        total = mean
    return who.restore(total / total.new_tensor(who.loops))


def means(losses: Tensor, targets: Tensor, masked: bool) -> Tensor:
    """Mean `[K]` of token losses `[K, B, T]`, over the predicted tokens if targets are masked."""
    K = losses.shape[0]
    if not masked:
        return losses.view(K, -1).mean(1)
    return losses.view(K, -1).sum(1) / (targets != IGNORE).view(K, -1).sum(1)
