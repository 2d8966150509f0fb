"""The operations of the stacked model: embedding, blocks and head of some lanes, as one forward pass needs them.

Everything that is computed once per pass, however often a block is applied, is computed here. Shapes and conventions
are those of `core.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from core import mixing
from core.architecture import Architecture
from core.ragged import Parameters, Rows
from core.tied import tied_logits

NORM_EPS = 1e-5
"""Added to the variance (layer) or mean square (rms), as in GPT-2."""
ROTARY_BASE = 10_000.0
"""Base of the rotary frequencies (Su et al. 2021, arXiv 2104.09864)."""
ONE_HOT_TOKENS = 64
"""Up to so many tokens the embedding is a product with one-hot rows: its gradient is a matmul, not a scatter."""
EXPLICIT_LENGTH = 48
"""Up to this length several heads are computed explicitly too (measured on one core); one head always is."""
VECTOR = 64
"""Elements in which ATen's vectorised loops advance at most (two 512-bit registers of bytes … doubles)."""


def embed(params: Parameters, inputs: Tensor, arch: Architecture) -> Tensor:
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


class Layers:
    """The blocks of one forward pass, for some lanes: what is computed once per pass, however often a block is applied.

    `weights` are the parameters with the queries scaled; where attention is folded, a block has ``scores`` and
    ``mixture`` in place of its four matrices. All are laid out alike for any lanes: products of a transposed matrix
    may have other bits.
    """

    def __init__(self, weights: Parameters, arch: Architecture, length: int, rotation: Tensor | None, *, math: bool):
        self.weights, self.arch, self.length, self.rotation, self.math = weights, arch, length, rotation, math
        self.softmax = arch.attention == "softmax"

    @classmethod
    def of(cls, params: Parameters, arch: Architecture, length: int, *, math: bool) -> Layers:
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

    def map(self, change: Callable[[Tensor], Tensor], kinds: tuple[str, ...], *, rest: bool = False) -> Layers:
        """The weights whose names begin with one of `kinds`, changed; the rest is left behind, or stays as it is."""
        weights = {name: change(weight) for name, weight in self.weights.items() if name.startswith(kinds)}
        if rest:
            weights = {**self.weights, **weights}
        return Layers(weights, self.arch, self.length, self.rotation, math=self.math)

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
                hidden = gelu(torch.bmm(h, weights[f"{block}.mlp_in"]))
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


def gelu(x: Tensor) -> Tensor:
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
