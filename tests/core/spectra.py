"""Symmetric matrices with known eigenvalues, and one algorithm over one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from core.hessian import Products

T = TypeVar("T")


def start(size: int, seed: int = 1) -> Tensor:
    """A random unit vector."""
    drawn = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


def drive_one(run: Products[T], product: Callable[[Tensor], Tensor]) -> T:
    """What an algorithm finds over one matrix."""
    asked = next(run)
    while True:
        try:
            asked = run.send(product(asked))
        except StopIteration as finished:
            found: T = finished.value
            return found


def with_spectrum(values: np.ndarray, seed: int = 0) -> Tensor:
    """A dense symmetric matrix with these eigenvalues."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    matrix = torch.from_numpy((rotation * values) @ rotation.T)
    return (matrix + matrix.T) / 2


SPECTRA = {
    "spread": np.linspace(-3, 7, 60),
    "outlier": np.r_[np.full(1, 50.0), np.random.default_rng(0).normal(size=99) * 0.01],
    "clustered": np.r_[5 + 1e-3 * np.arange(6), -2 - 1e-3 * np.arange(6), np.linspace(-1, 1, 80)],
    "twins": np.r_[5.0, 5.0, -2.0, -2.0, np.linspace(-1, 1, 40)],
    "triplets": np.repeat(np.r_[9.0, 4.0, 3.0, -1.0, np.linspace(-0.5, 0.5, 30)], 3),
    "nearly-twins": np.r_[5.0, 5.0 + 1e-7, np.linspace(-1, 1, 60)],
    "mostly-zero": np.r_[np.zeros(90), 1e-3, 2.0, -0.5],
    "rank-one": np.r_[np.zeros(49), 3.0],
    "negative": -np.geomspace(1e-6, 1e3, 50),
    "tiny": np.linspace(-1e-12, 3e-12, 30),
    "identity": np.ones(20),
    "zero": np.zeros(20),
    "single": np.array([-4.0]),
    "pair": np.array([-1.0, 2.0]),
    "three": np.array([-1.0, 2.0, 2.0]),
}
