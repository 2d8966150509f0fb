"""The stacked model: a looped transformer whose every parameter has a leading trial axis `[K, …]`.

Functional: parameters are a plain dict of tensors, so training, curvature and checkpoints share one form, and K trials
of one shape run in one step. K = 1 is one trial. A lane's numbers must not depend on K or on its position by a bit, so

- matmuls are batched products with the lane as (part of) the batch axis; nothing is reduced over an axis whose inner
  axis is K; which kernel runs is chosen by the shape of one lane, never by K;
- elementwise functions with a vector and a scalar form (GELU) see lanes of whole vectors only (`_gelu`).

Shapes: K lanes, B sequences, T positions, D width, H heads, V tokens, F hidden width of the MLP.

    x = embedding[tokens] (+ position)      [K, B·T, D]
    prelude blocks; `depth` blocks × loops (+ injection, + timestep); coda blocks; norm; head → logits [K, B, T, V]
    block: x += attention(norm(x)) out; x += gelu(norm(x) mlp_in) mlp_out where there is an MLP

There are no biases but the norms' own: the paper's toy has none, and GPT-2-like blocks lose nothing without them. With
one head and no rotary positions the scores are `h (W_Q W_Kᵀ) hᵀ` and the mixture `P h (W_V W_O)`: the two products of
matrices are made once per forward pass and halve the projections (`core.mixing`); the same function and gradients.

Initial weights, normal with these standard deviations, each times `model.init_scale`; drawn by numpy from the stream
(seed, "init", name), so they depend on neither torch, device nor the other parameters:

    parameter            shape        standard deviation
    embedding            [V, D]       0.5, or 1/√D where it is also the head (tied)
    position             [T, D]       0.5, or 1/√D (tied), as the embedding
    timestep             [D]          the same
    *.query, key, value  [D, D]       1/√D
    *.out                [D, D]       1/√(D·2N), N = blocks applied at one loop (GPT-2's residual scaling)
    *.mlp_in             [D, F]       1/√D
    *.mlp_out            [F, D]       1/√(F·2N)
    head                 [D, V]       1/√D · 0.5
    *norm.gain, *norm.bias  [D]       1 and 0, exactly (init_scale does not act on them)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from core import mixing, ragged
from core.config import TrialConfig
from core.ragged import Parameters, Rows
from core.streams import stream
from core.tasks import IGNORE
from core.tied import tied_logits

NORM_EPS = 1e-5
"""Added to the variance (layer) or mean square (rms), as in GPT-2."""
ROTARY_BASE = 10_000.0
"""Base of the rotary frequencies (Su et al. 2021, arXiv 2104.09864)."""
ONE_HOT_TOKENS = 64
"""Up to so many tokens the embedding is a product with one-hot rows: its gradient is a matmul, not a scatter."""
EXPLICIT_LENGTH = 48
"""Up to this length several heads are computed explicitly too (measured on one core); one head always is."""
_LOOPED = ("blocks.", "timestep")
"""How the names of the weights inside the loop begin."""
_OUTPUTS = ("coda.", "norm.", "head", "embedding")
"""How the names of the weights behind the loop begin."""
VECTOR = 64
"""Elements in which ATen's vectorised loops advance at most (two 512-bit registers of bytes … doubles)."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What shapes the tensors and operations of one trial, without loops: those belong to a stage."""

    vocabulary: int
    context: int
    width: int
    heads: int
    depth: int
    prelude: int
    coda: int
    hidden: int
    """Hidden width of the MLP; 0 without one."""
    attention: str
    attention_scale: str
    norm: str
    position: str
    tied: bool
    timestep: bool = False
    """Whether the number of a loop is added to its input: gain ∘ its sinusoidal encoding."""
    masked: bool = False
    """Whether targets may be `core.tasks.IGNORE`: not every token is predicted."""
    copies: int = 1
    """Into how many equal parts the looped blocks fall, which take turns from loop to loop: 1, all of them at each
    loop; or as many as there are loops, each with its own, as in an unrolled model (`core.unrolled`)."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of all blocks in the order of their first application."""
        return (*self.group("prelude"), *self.group("blocks"), *self.group("coda"))

    @property
    def unit_axis(self) -> bool:
        """Whether a matrix has an axis of one: products of a lone lane then run as matrix × vector, to other bits."""
        return self.width == 1 or self.hidden == 1

    def group(self, name: str) -> tuple[str, ...]:
        """Names of the blocks of a group: ``prelude``, ``blocks`` (those inside the loop) or ``coda``."""
        size = {"prelude": self.prelude, "blocks": self.depth, "coda": self.coda}[name]
        return tuple(f"{name}.{index}" for index in range(size))

    def at_loop(self, loop: int) -> tuple[str, ...]:
        """Names of the blocks that a loop applies; the first is loop 0."""
        each = self.depth // self.copies
        first = loop % self.copies * each
        return self.group("blocks")[first : first + each]


def architecture(config: TrialConfig) -> Architecture:
    """The architecture of a trial."""
    model = config.model
    return Architecture(
        vocabulary=config.task.vocabulary,
        context=config.task.longest,
        width=model.width,
        heads=model.heads,
        depth=model.depth,
        prelude=model.prelude,
        coda=model.coda,
        hidden=model.hidden,
        attention=model.attention,
        attention_scale=model.attention_scale,
        norm=model.norm,
        position=model.position,
        tied=model.output == "tied",
        timestep=model.timestep != "none",
        masked=config.task.masked,
    )


def differs_alone(config: TrialConfig) -> bool:
    """Whether products of a batch of one can have other bits than in a larger batch: such a lane runs beside a copy.

    Always where a matrix has an axis of one (they run as matrix times vector), rarely under bf16.
    """
    return architecture(config).unit_axis or config.train.precision == "bf16"


def autocast(config: TrialConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which forward passes of a trial run, in training and evaluation."""
    if config.train.precision == "bf16":
        # A cast that were kept for all loops would sum their gradients in bf16.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return nullcontext()


def parameter_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of one trial (no trial axis), in canonical order."""
    D, F_ = arch.width, arch.hidden
    shapes: dict[str, tuple[int, ...]] = {"embedding": (arch.vocabulary, D)}

    def norm(name: str) -> None:
        if arch.norm != "none":
            shapes[f"{name}.gain"] = (D,)
        if arch.norm == "layer":
            shapes[f"{name}.bias"] = (D,)

    if arch.position == "learned":
        shapes["position"] = (arch.context, D)
    if arch.timestep:
        shapes["timestep"] = (D,)
    for block in arch.blocks:
        norm(f"{block}.attention_norm")
        for matrix in ("query", "key", "value", "out"):  # head h has columns h·D/H … of the first three, rows of `out`
            shapes[f"{block}.{matrix}"] = (D, D)
        if F_:
            norm(f"{block}.mlp_norm")
            shapes[f"{block}.mlp_in"] = (D, F_)
            shapes[f"{block}.mlp_out"] = (F_, D)
    norm("norm")
    if not arch.tied:
        shapes["head"] = (D, arch.vocabulary)
    return shapes


def init_parameters(config: TrialConfig, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The initial weights of one trial, no trial axis, on the CPU; see the table in the module's docstring."""
    arch = architecture(config)
    parameters: dict[str, Tensor] = {}
    for name, shape in parameter_shapes(arch).items():
        if name.endswith((".gain", ".bias")):
            parameters[name] = torch.full(shape, float(name.endswith(".gain")), dtype=dtype)
            continue
        deviation = _deviation(name, arch) * config.model.init_scale
        values = stream(config.seed, "init", name).standard_normal(shape) * deviation
        parameters[name] = torch.from_numpy(values).to(dtype)
    return parameters


def _deviation(name: str, arch: Architecture) -> float:
    residual = 2 * len(arch.blocks)
    match name.rpartition(".")[2]:
        case "embedding" | "position" | "timestep":
            return _root(arch.width) if arch.tied else 0.5
        case "query" | "key" | "value" | "mlp_in":
            return _root(arch.width)
        case "out":
            return _root(arch.width * residual)
        case "mlp_out":
            return _root(arch.hidden * residual)
        case "head":
            return 0.5 * _root(arch.width)
        case kind:
            raise ValueError(f"no initial deviation for the parameter {kind!r}")


def _root(terms: int) -> float:
    """1/√terms: the deviation at which a sum of so many products with numbers of variance 1 has variance 1."""
    return float(terms**-0.5)


# --- forward -------------------------------------------------------------------------------------------------------


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


def _entered(
    params: Parameters, inputs: Tensor, arch: Architecture, who: Rows, *, math: bool
) -> tuple[_Layers, Tensor]:
    """The layers, and the stream `[K, B·T, D]` before the first loop; both inside the loop in the order of `who`."""
    layers = _Layers.of(params, arch, inputs.shape[2], math=math)
    start = layers.apply(_embed(params, inputs, arch), arch.group("prelude"))
    return layers.map(who.sort, _LOOPED, rest=True), who.sort(start)


def _passes(
    layers: _Layers, start: Tensor, who: Rows, *, injection: str, backprop: int = 0
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


def _embed(params: Parameters, inputs: Tensor, arch: Architecture) -> Tensor:
    """Residual stream at the start, `[K, B·T, D]`."""
    K, B, T = inputs.shape
    V, D = arch.vocabulary, arch.width
    table = params["embedding"]
    positions = params["position"][:, :T] if arch.position == "learned" else None
    if V <= ONE_HOT_TOKENS:
        # One row per token with ones at the token and at V + its position: embedding and position in one product.
        rows = F.embedding(inputs, torch.eye(V, dtype=table.dtype, device=table.device))
        if positions is not None:
            places = torch.eye(T, dtype=table.dtype, device=table.device).expand(K, B, T, T)
            rows = torch.cat((rows, places), -1)
            table = torch.cat((table, positions), 1)
        return torch.bmm(rows.view(K, B * T, -1), table)
    lanes = torch.arange(K, device=inputs.device).view(K, 1)
    x = F.embedding(inputs.view(K, B * T) + lanes * V, table.reshape(K * V, D))
    if positions is None:
        return x
    return (x.view(K, B, T, D) + positions.unsqueeze(1)).view(K, B * T, D)


class _Layers:
    """The blocks of one forward pass, for some lanes: what is computed once per pass, however often a block is applied.

    `weights` are the parameters with the queries scaled; where attention is folded, a block has ``scores`` and
    ``mixture`` in place of its four matrices. All are laid out alike for any lanes: products of a transposed matrix
    may have other bits.
    """

    def __init__(self, weights: Parameters, arch: Architecture, length: int, rotation: Tensor | None, *, math: bool):
        self.weights, self.arch, self.length, self.rotation, self.math = weights, arch, length, rotation, math
        self.softmax = arch.attention == "softmax"

    @classmethod
    def of(cls, params: Parameters, arch: Architecture, length: int, *, math: bool) -> _Layers:
        """All lanes of a pack on sequences of one length."""
        weights = dict(params)
        D, H = arch.width, arch.heads
        scale = float((D // H) ** -0.5) if arch.attention_scale == "sqrt" else 1.0
        rotation = rotary_turns(length, arch, params["embedding"]) if arch.position == "rotary" else None
        for block in arch.blocks:
            query = weights.pop(f"{block}.query") * scale
            if H == 1 and rotation is None:
                key, value, out = (weights.pop(f"{block}.{name}") for name in ("key", "value", "out"))
                weights[f"{block}.scores"], weights[f"{block}.mixture"] = (
                    torch.bmm(query, key.mT),
                    torch.bmm(value, out),
                )
            else:
                weights[f"{block}.query"] = query
        return cls(weights, arch, length, rotation, math=math)

    def map(self, change: Callable[[Tensor], Tensor], kinds: tuple[str, ...], *, rest: bool = False) -> _Layers:
        """The weights whose names begin with one of `kinds`, changed; the rest is left behind, or stays as it is."""
        weights = {name: change(weight) for name, weight in self.weights.items() if name.startswith(kinds)}
        if rest:
            weights = {**self.weights, **weights}
        return _Layers(weights, self.arch, self.length, self.rotation, math=self.math)

    def clocked(self, x: Tensor, who: Rows, left: int) -> Tensor:
        """The stream of the rows that have at least `left` loops to go, with the timestep of each."""
        numbers = [loops - left for loops in who.loops if loops >= left]
        table = timesteps(numbers[0] + 1, self.arch.width, like=x)
        encoded = who.spread(table[torch.tensor(numbers, device=x.device)])
        return torch.addcmul(x, self.weights["timestep"].unsqueeze(1), encoded)

    def apply(self, x: Tensor, blocks: Sequence[str]) -> Tensor:
        """Blocks, by name, one after the other, on the residual stream `[K, B·T, D]`."""
        weights = self.weights
        for block in blocks:
            h = self.normalise(x, f"{block}.attention_norm")
            if f"{block}.scores" in weights:
                scores, mixture = weights[f"{block}.scores"], weights[f"{block}.mixture"]
                x = mixing.one_head(x, h, scores, mixture, self.length, softmax=self.softmax, math=self.math)
            else:
                x = torch.baddbmm(x, self.attend(h, block), weights[f"{block}.out"])
            if self.arch.hidden:
                h = self.normalise(x, f"{block}.mlp_norm")
                hidden = _gelu(torch.bmm(h, weights[f"{block}.mlp_in"]))
                x = torch.baddbmm(x, hidden, weights[f"{block}.mlp_out"])
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Coda, norm and head: `[K, B·T, D]` → `[K, B·T, V]`."""
        x = self.normalise(self.apply(x, self.arch.group("coda")), "norm")
        if self.arch.tied:
            return tied_logits(x, self.weights["embedding"], math=self.math)
        return torch.bmm(x, self.weights["head"])

    def attend(self, h: Tensor, block: str) -> Tensor:
        """Attention by heads, `[K, B·T, D]` → the same."""
        K, M, D = h.shape
        T, H = self.length, self.arch.heads
        weights = tuple(self.weights[f"{block}.{name}"] for name in ("query", "key", "value"))
        q, k, v = (torch.bmm(h, weight).view(-1, T, H, D // H).transpose(1, 2) for weight in weights)
        if self.rotation is not None:
            q, k = _rotate(q, self.rotation), _rotate(k, self.rotation)
        if self.softmax and T > EXPLICIT_LENGTH and not self.math:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        else:
            q, k, v = (part.reshape(-1, T, D // H) for part in (q, k, v))
            y = mixing.heads(q, k, v, softmax=self.softmax, math=self.math).view(-1, H, T, D // H)
        return y.transpose(1, 2).reshape(K, M, D)

    def normalise(self, x: Tensor, name: str) -> Tensor:
        """Normalisation of `[K, M, D]` over the width, with the lane's own affine terms."""
        D = x.shape[-1]
        match self.arch.norm:
            case "layer":
                gain, bias = self.weights[f"{name}.gain"], self.weights[f"{name}.bias"]
                return torch.addcmul(bias.unsqueeze(1), F.layer_norm(x, (D,), eps=NORM_EPS), gain.unsqueeze(1))
            case "rms":
                return F.rms_norm(x, (D,), eps=NORM_EPS) * self.weights[f"{name}.gain"].unsqueeze(1)
            case _:
                return x


def _gelu(x: Tensor) -> Tensor:
    """GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415) of `[K, M, F]`: the exact one, 4× faster than by tanh here.

    ATen computes whole vectors in one way and the last few elements of a tensor in another: a lane that is no whole
    number of vectors would see other bits in the middle of a pack than alone, so such lanes are computed one by one.
    """
    if x[0].numel() % VECTOR == 0:
        return F.gelu(x)
    return torch.stack([F.gelu(lane) for lane in x.unbind(0)])


def timesteps(count: int, width: int, *, like: Tensor) -> Tensor:
    """Sinusoidal encodings of the loops 0 … count − 1, `[count, D]` (Vaswani et al. 2017, arXiv 1706.03762, 3.5)."""
    half = -(-width // 2)
    frequencies = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(count, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.cat((angles.sin(), angles.cos()), 1)[:, :width].to(like)


def rotary_turns(T: int, arch: Architecture, like: Tensor) -> Tensor:
    """Cosines and sines of the rotary angles, `[2, T, D/H/2]`."""
    half = arch.width // arch.heads // 2
    frequencies = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(T, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.stack((angles.cos(), angles.sin())).to(like)


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotary positions on `[…, T, D/H]`: pairs (i, i + D/H/2) are turned by position × frequency i."""
    cos, sin = rotation
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
