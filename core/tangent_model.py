"""The stacked model as a sequence of operations that run ahead and back, twice each (`core.tangent_rules`).

Which matrices there are, and the order in which embedding, blocks × loops and outputs are passed: the same for values
and for tangents. `core.model` has the architecture's legend; names and conventions are its.

Shapes: K lanes, B sequences, T positions, M = B·T, D width, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from core.architecture import Architecture
from core.layers import timesteps
from core.tangent_mixing import Folded, Heads, OneHead, Scaled, Tied
from core.tangent_rules import CrossEntropy, Gelu, Linear, NoNorm, Norm
from core.tangent_weights import Joined, Matrix


def joined(arch: Architecture) -> list[Joined]:
    """The matrices of the sweeps: embedding above positions; query, key and value side by side; the rest as it is."""
    table = ("embedding", "position") if arch.position == "learned" else ("embedding",)
    found = [Joined(name="table", parts=table, axis=-2)]

    def norm(name: str) -> None:
        if arch.norm != "none":
            found.append(Joined(name=f"{name}.gain", parts=(f"{name}.gain",)))
        if arch.norm == "layer":
            found.append(Joined(name=f"{name}.bias", parts=(f"{name}.bias",)))

    if arch.timestep:
        found.append(Joined(name="timestep", parts=("timestep",)))
    for block in arch.blocks:
        norm(f"{block}.attention_norm")
        projections = tuple(f"{block}.{name}" for name in ("query", "key", "value"))
        if _folds(arch):
            found += [Joined(name=name, parts=(name,)) for name in projections]
        else:
            found.append(Joined(name=f"{block}.projections", parts=projections))
        found.append(Joined(name=f"{block}.out", parts=(f"{block}.out",)))
        if arch.hidden:
            norm(f"{block}.mlp_norm")
            found += [Joined(name=f"{block}.{name}", parts=(f"{block}.{name}",)) for name in ("mlp_in", "mlp_out")]
    norm("norm")
    if not arch.tied:
        found.append(Joined(name="head", parts=("head",)))
    return found


def _folds(arch: Architecture) -> bool:
    """Whether attention is that of one head in two matrices, as in `core.model`."""
    return arch.heads == 1 and arch.position != "rotary"


class Model:
    """Embedding, blocks × loops, outputs: the order in which the operations of the two passes and sweeps run."""

    def __init__(
        self,
        matrices: Mapping[str, Matrix],
        inputs: Tensor,
        targets: Tensor,
        arch: Architecture,
        *,
        loops: int,
        injection: str,
        loss_on: str,
    ) -> None:
        """Lays out the operations; the matrices are those of `joined`, whose queries it scales in place."""
        self.inject = injection == "add"
        self.derived: list[Folded | Scaled | Tied] = []
        table = matrices["table"]
        if arch.tied:
            tied = Tied(table, arch.vocabulary)
            self.derived.append(tied)
            head = tied.head
        else:
            head = matrices["head"]
        scale = float((arch.width // arch.heads) ** -0.5) if arch.attention_scale == "sqrt" else 1.0
        mixers: dict[str, Callable[[], OneHead | Heads]] = {}
        for name in arch.blocks:
            if _folds(arch):
                query, key, value, out = (matrices[f"{name}.{part}"] for part in ("query", "key", "value", "out"))
                folded = Folded(query, key, value, out, scale=scale)
                self.derived.append(folded)
                mixers[name] = partial(OneHead, folded, arch, inputs.shape[2])
            else:
                projections = matrices[f"{name}.projections"]
                self.derived.append(Scaled(projections, arch.width, scale=scale))
                mixers[name] = partial(Heads, projections, matrices[f"{name}.out"], arch, inputs.shape[2])

        def blocks(names: Sequence[str]) -> list[_Block]:
            return [_Block(matrices, name, mixers[name]()) for name in names]

        self.embedding = _Embedding(table, inputs, arch)
        self.clock = _Clock(matrices["timestep"], loops) if arch.timestep else None
        self.prelude = blocks(arch.group("prelude"))
        self.loops = [blocks(arch.at_loop(loop)) for loop in range(loops)]
        ends = range(loops) if loss_on == "all" else range(loops - 1, loops)
        self.outputs = {
            loop: _Output(
                blocks(arch.group("coda")),
                _norm(matrices, "norm"),
                Linear(head),
                CrossEntropy(targets, weight=1 / len(ends), masked=arch.masked),
            )
            for loop in ends
        }

    def forward(self) -> Tensor:
        """The losses `[K]`."""
        self._ahead(self.embedding.forward(), _Block.forward, _Output.forward, _Clock.forward)
        losses = [output.loss for output in self.outputs.values()]
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total / len(losses)

    def backward(self) -> None:
        """The gradients, in the matrices."""
        self.embedding.backward(self._back(_Block.backward, _Output.backward, _Clock.backward))
        for derived in self.derived:
            derived.backward()

    def forward_tangent(self) -> None:
        """The change of the activations along the matrices' directions."""
        for derived in self.derived:
            derived.forward_tangent()
        self._ahead(
            self.embedding.forward_tangent(), _Block.forward_tangent, _Output.forward_tangent, _Clock.forward_tangent
        )

    def backward_tangent(self) -> None:
        """The changes of the gradients, in the matrices."""
        x_bar_dot = self._back(_Block.backward_tangent, _Output.backward_tangent, _Clock.backward_tangent)
        self.embedding.backward_tangent(x_bar_dot)
        for derived in self.derived:
            derived.backward_tangent()

    def _ahead(
        self,
        x: Tensor,
        block: Callable[[_Block, Tensor], Tensor],
        output: Callable[[_Output, Tensor], None],
        clock: Callable[[_Clock, Tensor, int], Tensor],
    ) -> None:
        for applied in self.prelude:
            x = block(applied, x)
        start = x
        for loop, blocks in enumerate(self.loops):
            if loop and self.inject:
                x = x + start
            if self.clock:
                x = clock(self.clock, x, loop)
            for applied in blocks:
                x = block(applied, x)
            if loop in self.outputs:
                output(self.outputs[loop], x)

    def _back(
        self,
        block: Callable[[_Block, Tensor], Tensor],
        output: Callable[[_Output], Tensor],
        clock: Callable[[_Clock, Tensor, int], None],
    ) -> Tensor:
        last = len(self.loops) - 1
        x = output(self.outputs[last])
        start: Tensor | None = None
        for loop in range(last, -1, -1):
            if loop < last and loop in self.outputs:
                x = x + output(self.outputs[loop])
            for applied in reversed(self.loops[loop]):
                x = block(applied, x)
            if self.clock:
                clock(self.clock, x, loop)
            if loop and self.inject:
                start = x if start is None else start + x
        if start is not None:
            x = x + start
        for applied in reversed(self.prelude):
            x = block(applied, x)
        return x


class _Embedding:
    """x = rows · table: one-hot rows of tokens, and of positions where they are learned, `[K, M, V (+ T)]`."""

    def __init__(self, table: Matrix, inputs: Tensor, arch: Architecture) -> None:
        K, B, T = inputs.shape
        V, learned = arch.vocabulary, arch.position == "learned"
        self.table = table
        self.rows = torch.zeros(K, B, T, table.value.shape[1], dtype=torch.float64, device=inputs.device)
        self.rows[..., :V] = F.one_hot(inputs, V)
        if learned:
            self.rows[..., V : V + T] = torch.eye(T, dtype=torch.float64, device=inputs.device)
        self.rows = self.rows.view(K, B * T, -1)
        self.rows_t = self.rows.mT

    def forward(self) -> Tensor:
        return torch.bmm(self.rows, self.table.value)

    def backward(self, x_bar: Tensor) -> None:
        self.table.gradient.baddbmm_(self.rows_t, x_bar)

    def forward_tangent(self) -> Tensor:
        return torch.bmm(self.rows, self.table.direction)

    def backward_tangent(self, x_bar_dot: Tensor) -> None:
        self.table.change.baddbmm_(self.rows_t, x_bar_dot)


class _Clock:
    """x += gain ∘ s(t) before loop t = 0, 1, …: linear in the gain, so its sweeps are its passes."""

    def __init__(self, gain: Matrix, loops: int) -> None:
        self.gain = gain
        self.numbers = timesteps(loops, gain.value.shape[-1], like=gain.value)

    def forward(self, x: Tensor, loop: int) -> Tensor:
        return x + self.gain.value * self.numbers[loop]

    def backward(self, x_bar: Tensor, loop: int) -> None:
        self.gain.gradient.addcmul_(x_bar.sum(1, keepdim=True), self.numbers[loop])

    def forward_tangent(self, x_dot: Tensor, loop: int) -> Tensor:
        return x_dot + self.gain.direction * self.numbers[loop]

    def backward_tangent(self, x_bar_dot: Tensor, loop: int) -> None:
        self.gain.change.addcmul_(x_bar_dot.sum(1, keepdim=True), self.numbers[loop])


class _Block:
    """x += attention(norm(x)); x += gelu(norm(x) mlp_in) mlp_out, where there is an MLP: one application."""

    def __init__(self, matrices: Mapping[str, Matrix], name: str, mixer: OneHead | Heads) -> None:
        self.norm, self.mixer = _norm(matrices, f"{name}.attention_norm"), mixer
        self.has_mlp = f"{name}.mlp_in" in matrices
        if self.has_mlp:
            self.mlp_norm = _norm(matrices, f"{name}.mlp_norm")
            self.mlp_in, self.mlp_out = Linear(matrices[f"{name}.mlp_in"]), Linear(matrices[f"{name}.mlp_out"])
            self.gelu = Gelu()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer.forward(self.norm.forward(x))
        if self.has_mlp:
            hidden = self.gelu.forward(self.mlp_in.forward(self.mlp_norm.forward(x)))
            x = x + self.mlp_out.forward(hidden)
        return x

    def backward(self, x_bar: Tensor) -> Tensor:
        if self.has_mlp:
            hidden_bar = self.gelu.backward(self.mlp_out.backward(x_bar))
            x_bar = self.mlp_norm.backward(self.mlp_in.backward(hidden_bar), x_bar)
        return self.norm.backward(self.mixer.backward(x_bar), x_bar)

    def forward_tangent(self, x_dot: Tensor) -> Tensor:
        x_dot = self.mixer.forward_tangent(self.norm.forward_tangent(x_dot), x_dot)
        if self.has_mlp:
            hidden_dot = self.gelu.forward_tangent(self.mlp_in.forward_tangent(self.mlp_norm.forward_tangent(x_dot)))
            x_dot = self.mlp_out.forward_tangent(hidden_dot, x_dot)
        return x_dot

    def backward_tangent(self, x_bar_dot: Tensor) -> Tensor:
        if self.has_mlp:
            hidden_bar_dot = self.gelu.backward_tangent(self.mlp_out.backward_tangent(x_bar_dot))
            x_bar_dot = self.mlp_norm.backward_tangent(self.mlp_in.backward_tangent(hidden_bar_dot), x_bar_dot)
        return self.norm.backward_tangent(self.mixer.backward_tangent(x_bar_dot), x_bar_dot)


class _Output:
    """Coda, norm, head and loss, at one loop."""

    def __init__(self, coda: list[_Block], norm: Norm | NoNorm, head: Linear, loss: CrossEntropy) -> None:
        self.coda, self.norm, self.head, self.entropy = coda, norm, head, loss

    def forward(self, x: Tensor) -> None:
        for block in self.coda:
            x = block.forward(x)
        self.loss = self.entropy.forward(self.head.forward(self.norm.forward(x)))

    def backward(self) -> Tensor:
        x_bar = self.norm.backward(self.head.backward(self.entropy.backward()), None)
        for block in reversed(self.coda):
            x_bar = block.backward(x_bar)
        return x_bar

    def forward_tangent(self, x_dot: Tensor) -> None:
        for block in self.coda:
            x_dot = block.forward_tangent(x_dot)
        self.entropy.forward_tangent(self.head.forward_tangent(self.norm.forward_tangent(x_dot)))

    def backward_tangent(self) -> Tensor:
        x_bar_dot = self.norm.backward_tangent(self.head.backward_tangent(self.entropy.backward_tangent()), None)
        for block in reversed(self.coda):
            x_bar_dot = block.backward_tangent(x_bar_dot)
        return x_bar_dot


def _norm(matrices: Mapping[str, Matrix], name: str) -> Norm | NoNorm:
    gain = matrices.get(f"{name}.gain")
    return NoNorm() if gain is None else Norm(gain, matrices.get(f"{name}.bias"))
