"""Lanczos: the ends of a spectrum, honest bounds, and refusals instead of wrong numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.lanczos import Extreme, extremes
from tests.core.spectra import SPECTRA, drive_one, start, with_spectrum

BOTH = ("max", "min")


def solve(product: Callable[[Tensor], Tensor], size: int, **options: Any) -> list[Extreme]:
    """Runs the generator against one matrix."""
    return drive_one(extremes(start(size), **({"ends": BOTH} | options)), product)


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


@settings(max_examples=60)
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
