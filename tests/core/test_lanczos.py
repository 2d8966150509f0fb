"""Lanczos: the ends of a spectrum, honest bounds, and refusals instead of wrong numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.lanczos import ASYMMETRY, Extreme, extremes

BOTH = ("max", "min")


def solve(product: Callable[[Tensor], Tensor], size: int, **options: object) -> list[Extreme]:
    """Runs the generator against one matrix."""
    generator = torch.Generator().manual_seed(1)
    start, other = (torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(2))
    run = extremes(start / start.norm(), other / other.norm(), **({"ends": BOTH} | options))
    asked = next(run)
    while True:
        try:
            asked = run.send(product(asked))
        except StopIteration as finished:
            return finished.value


def with_spectrum(values: np.ndarray, seed: int = 0) -> Tensor:
    """A dense symmetric matrix with these eigenvalues."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    matrix = torch.from_numpy((rotation * values) @ rotation.T)
    return (matrix + matrix.T) / 2


SPECTRA = {
    "spread": np.linspace(-3, 7, 60),
    "outlier": np.r_[np.full(1, 50.0), np.random.default_rng(0).normal(size=99) * 0.01],
    "twins": np.r_[5.0, 5.0, -2.0, -2.0, np.linspace(-1, 1, 40)],
    "nearly-twins": np.r_[5.0, 5.0 + 1e-7, np.linspace(-1, 1, 60)],
    "mostly-zero": np.r_[np.zeros(90), 1e-3, 2.0, -0.5],
    "negative": -np.geomspace(1e-6, 1e3, 50),
    "tiny": np.linspace(-1e-12, 3e-12, 30),
    "identity": np.ones(20),
    "zero": np.zeros(20),
    "pair": np.array([-1.0, 2.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_ends_and_their_bounds(name: str) -> None:
    values = SPECTRA[name]
    matrix = with_spectrum(values)
    highest, lowest = solve(matrix.mv, len(values))
    size = np.abs(values).max()
    for found, true in ((highest, values.max()), (lowest, values.min())):
        assert found.value is not None
        assert found.error is not None
        assert found.failure is None
        assert found.error <= 1e-6 * size + 1e-300
        # The bound is a promise; the value is far better, since its error is of second order in the residual.
        assert abs(found.value - true) <= found.error + 1e-13 * size
        assert found.products <= len(values) + 1


def test_the_whole_space_is_exact() -> None:
    """Full reorthogonalisation: after P products nothing is left, whatever the tolerance; ghosts would go on."""
    values = np.r_[np.geomspace(1, 1e8, 30), -np.geomspace(1, 1e4, 10)]
    for found, true in zip(solve(with_spectrum(values).mv, 40, tolerance=1e-300), (1e8, -1e4), strict=True):
        assert found.value == pytest.approx(true, rel=1e-9)
        assert found.products <= 41


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_random_matrices(size: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(size)
    highest, lowest = solve(with_spectrum(values, seed).mv, size)
    assert (highest.value, lowest.value) == (
        pytest.approx(values.max(), rel=1e-8, abs=1e-9),
        pytest.approx(values.min(), rel=1e-8, abs=1e-9),
    )


def test_an_end_does_not_depend_on_what_else_is_asked() -> None:
    matrix = with_spectrum(SPECTRA["spread"])
    both = solve(matrix.mv, 60)
    assert solve(matrix.mv, 60, ends=("max",)) == both[:1]
    assert solve(matrix.mv, 60, ends=("min", "max")) == both[::-1]
    assert solve(matrix.mv, 60, ends=()) == []


@pytest.mark.parametrize("share", [1e-7, 1e-3, 0.5])
def test_an_asymmetric_product_is_refused(share: float) -> None:
    matrix = with_spectrum(SPECTRA["spread"])
    wrong = matrix + share * torch.from_numpy(np.random.default_rng(3).standard_normal(matrix.shape))
    for found in solve(wrong.mv, 60):
        assert found.value is None
        assert "not symmetric" in str(found.failure)
        assert found.products == 2


def test_rounding_is_no_asymmetry() -> None:
    noise = 1e-3 * ASYMMETRY * torch.from_numpy(np.random.default_rng(3).standard_normal((60, 60)))
    assert all(found.value is not None for found in solve((with_spectrum(SPECTRA["spread"]) + noise).mv, 60))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_product_that_is_not_finite_is_a_failure(bad: float, after: int) -> None:
    matrix, calls = with_spectrum(SPECTRA["spread"]), [0]

    def product(vector: Tensor) -> Tensor:
        calls[0] += 1
        return matrix.mv(vector) * (bad if calls[0] > after else 1.0)

    for found in solve(product, 60):
        assert found.value is None
        assert found.failure == "a product is not finite"


def test_an_end_that_does_not_converge_is_given_up_with_its_residual() -> None:
    highest, lowest = solve(with_spectrum(np.r_[np.linspace(0, 1, 80), 50.0]).mv, 81, max_products=8)
    assert highest.value == pytest.approx(50.0)  # an outlier is found at once
    assert lowest.value is None
    assert lowest.products == 8
    assert "not converged after 8 products" in str(lowest.failure)
    assert lowest.error is not None
    assert lowest.error > 50e-6
