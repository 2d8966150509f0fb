"""Probes in tests: tiny models of every kind, at weights off their initial values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from core.checkpoint import TrialState
from core.config import TrialConfig, trial_config
from core.curvature import Measured, measure
from core.findings import Rows
from core.lineage import links
from core.pack import initial_state
from core.probes import Probe, longest_first
from core.task_data import task_data
from core.train import train_segments

TINY = {"states": 5, "chains": 4, "length": 4, "val_size": 16, "train_size": 0}
MODELS: dict[str, dict[str, Any]] = {
    "toy": {"width": 4, "loops": 3},
    "layer-mlp": {"width": 4, "loops": 2, "norm": "layer", "mlp_ratio": 1.25},
    "rms-rotary-linear": {"width": 4, "loops": 2, "norm": "rms", "position": "rotary", "attention": "linear"},
    "heads-all-tied": {
        "width": 4,
        "heads": 2,
        "loops": 2,
        "norm": "layer",
        "mlp_ratio": 1.0,
        "loss_on": "all",
        "injection": "add",
        "output": "tied",
    },
    "coda": {"width": 2, "loops": 2, "coda": 1, "prelude": 1, "loss_on": "all"},
}
"""Every term of the model is in one of them."""
WITHOUT_ANSWERS = frozenset(
    {
        "val_exact_confident",
        "val_exact_oracle",
        "oracle_loops",
        "val_exact_loops",
        "val_exact_trained_loops",
        "val_exact_longer_loops",
    }
)
"""Columns and curves that a task has no value for that predicts every token, as the one of these trials."""
TRAIN = partial(train_segments, device="cpu")


def config(model: str | dict[str, Any] = "toy", *, task: dict[str, Any] | None = None, **measured: Any) -> TrialConfig:
    """A trial with a model of the table, or another, that measures λ_max on 6 sequences, or as given."""
    return trial_config(
        {
            "task": task if task and "kind" in task else TINY | (task or {}),
            "model": MODELS[model] if isinstance(model, str) else model,
            "measure": {"quantities": ("lambda_max",), "probe": 6} | measured,
        }
    )


def state(config: TrialConfig, *, noise: float = 0.3) -> TrialState:
    """The trial at step 0 with weights off their initial values, norms included."""
    draw = torch.Generator().manual_seed(config.seed)
    start = initial_state(config)
    parameters = {
        name: p + noise * torch.randn(p.shape, generator=draw, dtype=p.dtype) for name, p in start.parameters.items()
    }
    return replace(start, parameters=parameters)


def seeds(base: TrialConfig, count: int) -> list[TrialConfig]:
    """Trials that differ in their seeds."""
    return [replace(base, seed=seed) for seed in range(count)]


def held_out(configs: Sequence[TrialConfig]) -> tuple[Tensor, Tensor]:
    """Their validation sets, inputs and targets `[K, N, T]`."""
    sets = [task_data(config).validation() for config in configs]
    return torch.stack([torch.from_numpy(s.inputs) for s in sets]), torch.stack(
        [torch.from_numpy(s.targets) for s in sets]
    )


def probe(configs: Sequence[TrialConfig], states: Sequence[TrialState] | None = None) -> Probe:
    """A probe of these trials in their first link; at `state`, or at the states given."""
    inputs, targets = held_out(configs)
    order = longest_first(configs[0], links(configs[0])[0], configs[0].measure.probe)
    chosen = slice(configs[0].measure.probe) if order is None else order[0]
    return Probe(
        configs=configs,
        chains=[links(config)[:1] for config in configs],
        states=[state(config) for config in configs] if states is None else states,
        inputs=inputs[:, chosen],
        targets=targets[:, chosen],
        train=TRAIN,
    )


def measured(
    configs: Sequence[TrialConfig],
    states: Sequence[TrialState] | None = None,
    *,
    tokens: tuple[Tensor, Tensor] | None = None,
    link: int = 0,
) -> list[Rows]:
    """The rows of these trials in one of their links; at `state`, or at the states given."""
    states = [state(config) for config in configs] if states is None else states
    lanes = [
        Measured(config=config, chain=links(config)[: link + 1], state=at)
        for config, at in zip(configs, states, strict=True)
    ]
    return measure(lanes, *(held_out(configs) if tokens is None else tokens), train=TRAIN)
