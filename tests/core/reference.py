"""The slow reference: a looped transformer as an ordinary nn.Module, and an ordinary training loop for one trial.

Written for reading, straight from the formulas and with torch's own layers, attention and optimisers; `core` is tested
against it in float64, and `benchmarks/packs.py` measures packs against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from core.config import TrialConfig, trial_config
from core.draws import loop_draws
from core.lengths import batch_lengths
from core.lineage import stages
from core.schedule import Stage
from core.task_data import task_data

SMALL = {"states": 8, "chains": 4, "length": 16, "train_size": 0, "val_size": 64, "data_seed": 7}

PARITY = {
    "kind": "parity",
    "train_length": (2, 7),
    "test_length": (1, 9),
    "train_size": 0,
    "val_size": 40,
    "data_seed": 7,
}
BY_LENGTH = {"loops": 6, "loops_by": "length", "depth": 2, "heads": 2, "mlp_ratio": 2.0}

CASES: dict[str, dict[str, dict]] = {
    "toy": {},
    "single": {"schedule": {"kind": "single"}},
    "shift": {"schedule": {"kind": "shift", "switch": 0.5}},
    "deep": {"model": {"depth": 2, "prelude": 1, "coda": 1, "loops": 2}},
    "no_position": {"model": {"position": "none"}},
    "rotary": {"model": {"position": "rotary"}},
    "rotary_heads": {"model": {"position": "rotary", "heads": 2}},
    "heads": {"model": {"heads": 4}},
    "heads_long": {"model": {"heads": 2}, "task": {"length": 64}},
    "mlp": {"model": {"mlp_ratio": 2.0}},
    "layer": {"model": {"norm": "layer"}},
    "rms": {"model": {"norm": "rms"}},
    "gpt2": {"model": {"norm": "layer", "mlp_ratio": 4.0, "heads": 2, "depth": 2, "loops": 2}},
    "rms_tied_mlp": {"model": {"norm": "rms", "mlp_ratio": 4.0, "output": "tied"}},
    "tied": {"model": {"output": "tied"}},
    "injection": {"model": {"injection": "add"}},
    "injection_norm": {"model": {"injection": "add", "norm": "rms", "prelude": 1}},
    "timestep": {"model": {"timestep": "sinusoidal", "width": 15}},
    "backprop": {"model": {"backprop_loops": 1, "injection": "add", "norm": "layer", "prelude": 1}},
    "masked": {"task": PARITY},
    "masked_all": {"task": PARITY, "model": {"loss_on": "all", "coda": 1}},
    "by_length": {"task": PARITY, "model": {"loops": 5, "loops_by": "length", "loops_offset": -1}},
    "by_length_deep": {
        "task": PARITY | {"format": "next-token", "curriculum": 6},
        "model": BY_LENGTH | {"backprop_loops": 2, "injection": "add", "timestep": "sinusoidal", "norm": "layer"},
    },
    "loss_on_all": {"model": {"loss_on": "all", "coda": 1}},
    "linear": {"model": {"attention": "linear", "attention_scale": "none", "init_scale": 0.5}},
    "linear_heads": {"model": {"attention": "linear", "heads": 2}},
    "large_vocabulary": {"task": {"states": 80}, "model": {"output": "tied"}},
    "large_vocabulary_no_position": {"task": {"states": 80}, "model": {"position": "none"}},
    "odd_shape": {"task": {"states": 7, "length": 9}, "model": {"width": 10, "mlp_ratio": 1.5, "norm": "layer"}},
    "unit_width": {"model": {"width": 1, "mlp_ratio": 4.0}},
    "unit_hidden": {"model": {"width": 4, "mlp_ratio": 0.25}, "train": {"batch": 3}},
    "sgd": {"train": {"optimizer": "sgd", "lr": 0.1, "clip": 0.5}},
    "plain_sgd": {"train": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0}},
    "decay_clip_warmup": {"train": {"weight_decay": 0.1, "clip": 0.3, "warmup": 4, "beta1": 0.8, "beta2": 0.95}},
    "cosine": {"train": {"lr_schedule": "cosine", "warmup": 2, "lr_final": 0.1}},
    "wsd": {"train": {"lr_schedule": "wsd", "decay": 0.5, "lr_final": 0.1}},
}
"""Overrides of `case`, by name: every term of the model and of training is in one of them."""

SCHEDULES: dict[str, dict[str, dict]] = {
    "lr_factor": {"schedule": {"kind": "shift", "switch": 5, "lr_factor": 0.3}},
    "rewarm": {"schedule": {"kind": "shift", "switch": 5, "rewarm": 4}, "train": {"warmup": 3}},
    "reset": {"schedule": {"kind": "shift", "switch": 5, "optimizer": "reset"}},
    "reset_sgd": {
        "schedule": {"kind": "reverse", "switch": 5, "optimizer": "reset", "rewarm": 3},
        "train": {"optimizer": "sgd", "lr": 0.1},
    },
    "grow_all": {
        "schedule": {"kind": "grow", "lr_factor": 0.5, "rewarm": 3, "optimizer": "reset"},
        "train": {"weight_decay": 0.1, "clip": 0.5},
    },
    "rewarm_cosine": {
        "schedule": {"kind": "linear-grow", "ramp": 8, "rewarm": 2},
        "train": {"lr_schedule": "cosine", "lr_final": 0.1},
    },
    "reset_wsd": {
        "schedule": {"kind": "shift", "switch": 4, "optimizer": "reset", "rewarm": 6, "lr_factor": 2.0},
        "train": {"lr_schedule": "wsd", "decay": 5, "lr_final": 0.1},
    },
    "reset_in_decay": {
        "schedule": {"kind": "shift", "switch": 8, "optimizer": "reset", "rewarm": 2},
        "train": {"lr_schedule": "wsd", "decay": 8},
    },
    "listed": {
        "schedule": {
            "stages": [
                {"loops": 2, "until": 3, "lr_factor": 0.5, "rewarm": 5},
                {"loops": 2, "until": 0.5, "lr_factor": 0.5},
                {"loops": 1, "until": 9, "optimizer": "reset"},
                {"lr_factor": 2.0},
            ]
        }
    },
    "drawn": {"schedule": {"draw": "poisson-lognormal"}},
    "drawn_backprop": {
        "schedule": {"draw": "poisson-lognormal"},
        "model": {"injection": "add", "backprop_loops": 2, "norm": "rms", "prelude": 1, "timestep": "sinusoidal"},
    },
    "by_length_shift": {
        "task": PARITY,
        "schedule": {"kind": "shift", "switch": 5},
        "model": BY_LENGTH | {"loops_offset": 1},
    },
    "drawn_shift": {
        "schedule": {"kind": "shift", "switch": 5, "draw": "poisson-lognormal", "sigma": 1.0},
        "model": {"injection": "add", "loss_on": "all", "norm": "rms", "mlp_ratio": 2.0, "coda": 1},
    },
}
"""Likewise of schedules."""


def case(name: str, **train: object) -> TrialConfig:
    """The small trial of a case; keywords override its training terms."""
    given = (CASES | SCHEDULES)[name]
    return trial_config(
        {
            "task": (given["task"] if "kind" in given.get("task", {}) else SMALL | given.get("task", {})),
            "model": {"width": 16, "loops": 3} | given.get("model", {}),
            "train": {"steps": 12, "batch": 8, "lr": 3e-3, "evaluate_every": 6} | given.get("train", {}) | train,
            "schedule": given.get("schedule", {}),
            "seed": 3,
        }
    )


class PlainBlock(nn.Module):
    """Pre-norm attention, then an MLP where the configuration has one."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__()
        model = config.model
        D = model.width
        self.model = model
        self.attention_norm = plain_norm(model.norm, D)
        self.query, self.key, self.value, self.out = (nn.Linear(D, D, bias=False) for _ in range(4))
        if model.hidden:
            self.mlp_norm = plain_norm(model.norm, D)
            self.mlp_in = nn.Linear(D, model.hidden, bias=False)
            self.mlp_out = nn.Linear(model.hidden, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        model = self.model
        h = self.attention_norm(x)
        q, k, v = (m(h).view(B, T, model.heads, -1).transpose(1, 2) for m in (self.query, self.key, self.value))
        if model.position == "rotary":
            q, k = turn(q), turn(k)
        scale = q.shape[-1] ** -0.5 if model.attention_scale == "sqrt" else 1.0
        if model.attention == "softmax":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        else:
            y = (q @ k.transpose(-1, -2) * scale).tril() @ v
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        if model.hidden:
            x = x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))
        return x


class PlainModel(nn.Module):
    """The model of one trial."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__()
        model, task = config.model, config.task
        self.model = model
        self.embedding = nn.Embedding(task.vocabulary, model.width)
        if model.position == "learned":
            self.position = nn.Embedding(task.longest, model.width)
        if model.timestep != "none":
            self.timestep = nn.Parameter(torch.zeros(model.width))
        self.prelude = nn.ModuleList(PlainBlock(config) for _ in range(model.prelude))
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(model.depth))
        self.coda = nn.ModuleList(PlainBlock(config) for _ in range(model.coda))
        self.norm = plain_norm(model.norm, model.width)
        if model.output == "untied":
            self.head = nn.Linear(model.width, task.vocabulary, bias=False)

    def forward(self, tokens: Tensor, *, loops: int, injection: str, every: bool, backprop: int = 0) -> list[Tensor]:
        """Logits `[B, T, V]` after each loop, or after the last only; gradients through the last `backprop` loops."""
        x = self.embedding(tokens)
        if self.model.position == "learned":
            x = x + self.position.weight[: tokens.shape[1]]
        for block in self.prelude:
            x = block(x)
        start, outputs = x, []
        for loop in range(loops):
            if backprop and loop == loops - backprop > 0:
                x = x.detach()
            if loop > 0 and injection == "add":
                x = x + start
            if self.model.timestep != "none":
                x = x + self.timestep * clock(loop, x.shape[-1]).to(x.dtype)
            for block in self.blocks:
                x = block(x)
            if every or loop == loops - 1:
                y = x
                for block in self.coda:
                    y = block(y)
                outputs.append(F.linear(self.norm(y), self.head_weight))
        return outputs

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight if self.model.output == "tied" else self.head.weight

    def named(self) -> Iterator[tuple[str, nn.Parameter, bool]]:
        """Parameters under the names of `core.model`, and whether nn.Linear keeps them transposed."""
        for name, parameter in self.named_parameters():
            owner, _, kind = name.rpartition(".")
            if owner.endswith("norm"):
                yield f"{owner}.{'gain' if kind == 'weight' else 'bias'}", parameter, False
            elif name == "timestep":
                yield name, parameter, False
            else:
                yield owner, parameter, owner not in {"embedding", "position"}

    def take(self, parameters: Mapping[str, Tensor]) -> None:
        """Sets the weights from those of one trial."""
        given = dict(parameters)
        with torch.no_grad():
            for name, parameter, transposed in self.named():
                value = given.pop(name)
                parameter.copy_(value.T if transposed else value)
        assert not given, f"not in the reference: {sorted(given)}"

    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad.T if transposed else p.grad for name, p, transposed in self.named()}

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().T if transposed else p.detach() for name, p, transposed in self.named()}


def plain_norm(kind: str, width: int) -> nn.Module:
    match kind:
        case "layer":
            return nn.LayerNorm(width, eps=1e-5)
        case "rms":
            return nn.RMSNorm(width, eps=1e-5)
        case _:
            return nn.Identity()


def clock(loop: int, width: int) -> Tensor:
    """Sines of the loop's number times 10000^(−i/half), then the cosines."""
    half = math.ceil(width / 2)
    angles = [loop * 10_000.0 ** (-i / half) for i in range(half)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)[:width]


def turn(x: Tensor) -> Tensor:
    """Rotary positions as complex numbers: pair (i, i + half) turned by t · 10000^(−i/half)."""
    T, half = x.shape[-2], x.shape[-1] // 2
    angles = torch.arange(T, dtype=torch.float64)[:, None] * 10_000.0 ** (-torch.arange(half) / half).double()
    turned = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.cat((turned.real, turned.imag), -1).to(x.dtype)


def plain_loss(
    model: PlainModel,
    inputs: Tensor,
    targets: Tensor,
    *,
    loops: int | list[int],
    injection: str,
    loss_on: str,
    backprop: int = 0,
) -> Tensor:
    """Mean over the predicted tokens; `loops` of all sequences, or of each."""
    if isinstance(loops, list):
        each = [
            model(x[None], loops=r, injection=injection, every=False, backprop=backprop)
            for x, r in zip(inputs, loops, strict=True)
        ]
        return F.cross_entropy(torch.cat([y for (y,) in each]).flatten(0, 1), targets.flatten())
    outputs = model(inputs, loops=loops, injection=injection, every=loss_on == "all", backprop=backprop)
    return sum(F.cross_entropy(y.flatten(0, 1), targets.flatten()) for y in outputs) / len(outputs)


def plain_optimizer(config: TrialConfig, model: PlainModel) -> torch.optim.Optimizer:
    train = config.train
    if train.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=train.lr, momentum=train.momentum)
    kinds = {"betas": (train.beta1, train.beta2), "eps": train.eps, "weight_decay": train.weight_decay}
    return torch.optim.AdamW(model.parameters(), lr=train.lr, **kinds)


def plain_rate(config: TrialConfig, stage: Stage, update: int) -> float:
    """The learning rate of an update, 1 … steps, that lies in a stage."""
    train, floor = config.train, config.train.lr_final
    rate = train.lr * stage.acting.lr_factor
    for begin, updates in ((0, train.warmup), (stage.start, stage.acting.rewarm)):
        if update - begin < updates:
            rate *= (update - begin) / updates
    if train.lr_schedule == "cosine" and update > train.warmup:
        done = (update - train.warmup) / (train.steps - train.warmup)
        rate *= floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
    if train.lr_schedule == "wsd":
        left = train.steps - update
        rate *= min(1.0, floor + (1 - floor) * left / train.decay_steps)
    return rate


def plain_training(config: TrialConfig, parameters: Mapping[str, Tensor]) -> tuple[list[float], dict[str, Tensor]]:
    """Trains one trial in the ordinary way: losses of all updates, final weights."""
    train = config.train
    model = PlainModel(config).to(next(iter(parameters.values())).dtype)
    model.take(parameters)
    optimizer = plain_optimizer(config, model)
    data, losses = task_data(config), []
    for step in range(train.steps):
        stage = next(s for s in stages(config) if s.start <= step < s.end)
        acting, loops = stage.acting, stage.acting.loops
        if step == stage.start and acting.reset:
            optimizer = plain_optimizer(config, model)
        if acting.draw is not None:
            loops = int(loop_draws(config.seed, mean=loops, sigma=acting.draw, start=step, count=1)[0])
        inputs, targets = (torch.from_numpy(np.asarray(a)[0]) for a in data.batches(step, 1))
        if acting.offset is not None:
            lengths = batch_lengths(config.task, train.batch, step).tolist()
            loops = [min(max(1, length + acting.offset), acting.loops) for length in lengths]
        loss = plain_loss(
            model,
            inputs,
            targets,
            loops=loops,
            injection=acting.injection,
            loss_on=acting.loss_on,
            backprop=acting.backprop,
        )
        optimizer.zero_grad()
        loss.backward()
        if train.clip:
            norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in model.parameters()]))
            for p in model.parameters():
                p.grad.mul_(min(1.0, train.clip / norm))
        for group in optimizer.param_groups:
            group["lr"] = plain_rate(config, stage, step + 1)
        optimizer.step()
        losses.append(loss.item())
    return losses, model.weights()
