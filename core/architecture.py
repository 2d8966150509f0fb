"""What a model is made of: its architecture, the names and shapes of its parameters, and their initial weights.

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

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.config import TrialConfig
from core.streams import stream


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
