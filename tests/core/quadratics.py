"""Probes of a quadratic: real trials and states, and a loss whose every derivative is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.architecture import Architecture
from core.checkpoint import TrialState
from core.config import TrialConfig, trial_config
from core.hessian import StackedHessian
from core.lineage import links
from core.probes import Probe
from tests.core.probing import TRAIN, state


@dataclass(frozen=True, kw_only=True)
class Quadratic(Probe):
    """The loss of lane k is ½ wᵀ A_k w."""

    matrices: Tensor
    """A `[K, P, P]`."""

    def loss(
        self,
        params: dict[str, Tensor],
        *,
        lanes: Sequence[int] | None = None,
        loops: int | None = None,
        arch: Architecture | None = None,
    ) -> Tensor:
        matrices = self.matrices if lanes is None else self.matrices[list(lanes)]
        w = torch.cat([p.reshape(len(p), -1) for p in params.values()], 1)
        return torch.stack([0.5 * w[k] @ matrices[k] @ w[k] for k in range(len(w))])

    def hessian(self, lanes: Sequence[int]) -> StackedHessian:
        weights = {name: p[list(lanes)] for name, p in self.params.items()}
        return StackedHessian(lambda params: self.loss(params, lanes=lanes), weights)


def config(**train: Any) -> TrialConfig:
    """The smallest trial: 24 weights."""
    return trial_config(
        {
            "task": {"states": 2, "chains": 2, "length": 2, "val_size": 2, "train_size": 0},
            "model": {"width": 2},
            "train": {"precision": "float64"} | train,
            "measure": {"probe": 2},
        }
    )


def quadratic(
    configs: Sequence[TrialConfig], matrices: Tensor, states: Sequence[TrialState] | None = None
) -> Quadratic:
    """A probe of these trials at `state`, or at the states given, whose losses have these Hessians `[K, P, P]`."""
    tokens = torch.zeros(len(configs), 2, 2, dtype=torch.int64)
    return Quadratic(
        configs=configs,
        chains=[links(config)[:1] for config in configs],
        states=[state(config) for config in configs] if states is None else states,
        inputs=tokens,
        targets=tokens,
        train=TRAIN,
        matrices=matrices,
    )


def with_spectrum(values: Tensor, seed: int = 0) -> Tensor:
    """A dense symmetric matrix with these eigenvalues."""
    draw = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=draw))
    matrix = (rotation * values) @ rotation.T
    return (matrix + matrix.T) / 2
