"""Eigenvalues by rank: multiple ones as often as they are, no ghosts, honest bounds, within a budget."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse.linalg import eigsh
from torch import Tensor

from core.lanczos import Extreme, extremes
from core.ranks import Ranked, ranked
from tests.core.spectra import SPECTRA, drive_one, start, with_spectrum


def solve(matrix: Tensor, **options: Any) -> Ranked:
    """Runs the generator against one matrix."""
    size = len(matrix)
    again = {"again": partial(fresh, size)} | options
    return drive_one(ranked(start(size), **again), matrix.mv)


def fresh(size: int, number: int) -> Tensor:
    return start(size, 100 + number)


def numbers(found: Any) -> list[float]:
    return [e.value for e in found]


@pytest.mark.parametrize("count", [1, 3, 8, 25])
@pytest.mark.parametrize("name", SPECTRA)
def test_ranks_and_their_bounds(name: str, count: int) -> None:
    values = np.sort(SPECTRA[name])
    found = solve(with_spectrum(values), top=count, bottom=count, magnitude=count)
    given_ = min(count, len(values))
    size = np.abs(values).max()
    assert found.failure is None
    assert found.checked
    for some, true in (
        (found.top, values[::-1][:given_]),
        (found.bottom, values[:given_]),
        (found.magnitude, values[np.argsort(-np.abs(values), kind="stable")][:given_]),
    ):
        assert len(some) == given_
        for extreme, expected in zip(some, true, strict=True):
            assert extreme.value is not None
            assert extreme.error is not None
            assert extreme.error <= 2e-6 * size
            # Those nearer than the tolerance can't be told apart: a rank is off by thrice that at most.
            # -1 and 1 are of one size.
            off = min(abs(extreme.value - expected), abs(abs(extreme.value) - abs(expected)))
            assert off <= 3e-6 * size
            # The bound is a promise: some eigenvalue lies within it.
            assert np.abs(values - extreme.value).min() <= extreme.error + 1e-13 * size


def test_copies_that_one_chain_does_not_see_are_found_by_the_second() -> None:
    values = np.repeat(np.linspace(-1, 1, 60), 2)
    matrix = with_spectrum(values)
    once = solve(matrix, top=4, again=None)
    assert not once.checked
    assert numbers(once.top) != pytest.approx(np.sort(values)[::-1][:4], abs=1e-3)
    twice = solve(matrix, top=4)
    assert twice.checked
    assert numbers(twice.top) == pytest.approx(np.sort(values)[::-1][:4], abs=1e-9)


def test_copies_of_a_rank_beyond_the_last_change_nothing() -> None:
    found = solve(with_spectrum(SPECTRA["triplets"]), top=4)
    assert numbers(found.top) == [pytest.approx(v, rel=1e-9) for v in (9, 9, 9, 4)]


@pytest.mark.parametrize("seed", [7, 9, 14])
def test_a_look_that_found_something_confirms_nothing_of_before(seed: int) -> None:
    """Twins, of which a chain sees one each; the look that found the others used its space up with nothing beyond."""
    drawn = np.random.default_rng(seed)
    values = np.r_[drawn.standard_normal(16), np.repeat(drawn.standard_normal(8), 2), np.zeros(10)]
    found = solve(with_spectrum(values, seed), top=6, bottom=6)
    assert found.checked
    assert numbers(found.top) == pytest.approx(np.sort(values)[::-1][:6], abs=3e-6 * np.abs(values).max())
    assert numbers(found.bottom) == pytest.approx(np.sort(values)[:6], abs=3e-6 * np.abs(values).max())


@pytest.mark.parametrize("seed", [21, 81])
def test_what_converged_before_the_outermost_does_not_pass_for_it(seed: int) -> None:
    """The tolerance, of the largest, is wide against the gaps at the other end."""
    values = np.r_[5e4, np.random.default_rng(seed).standard_normal(79)]
    found = solve(with_spectrum(values, seed), bottom=4)
    assert found.checked
    assert numbers(found.bottom) == pytest.approx(np.sort(values)[:4], abs=3e-6 * 5e4)


def spectrum(drawn: np.random.Generator) -> np.ndarray:
    """Clusters, copies, gaps over decades, low rank, one end far above the other: parts of each."""
    size = int(drawn.integers(5, 61))
    parts = [
        drawn.standard_normal(size),
        np.repeat(drawn.standard_normal(-(-size // 3)), 3)[:size],
        np.zeros(size),
        drawn.choice([-1.0, 1.0], size) * 10.0 ** drawn.uniform(-8, 0, size),
        drawn.standard_normal() + 10.0 ** drawn.uniform(-10, -2) * drawn.standard_normal(size),
        10.0 ** drawn.uniform(0, 4) * np.eye(size)[0] + 1e-3 * drawn.standard_normal(size),
    ]
    some = drawn.choice(len(parts), 3, replace=False)
    return np.asarray(np.choose(drawn.integers(0, len(some), size), [parts[i] for i in some]))


def test_lists_that_are_settled_are_those_of_the_dense_solver() -> None:
    settled = 0
    for seed in range(100):
        drawn = np.random.default_rng(seed)
        values = np.sort(spectrum(drawn))
        count = int(drawn.integers(1, 9))
        found = solve(with_spectrum(values, seed), top=count, bottom=count, max_products=int(drawn.choice([20, 200])))
        if found.checked:
            settled += 1
            near = 3e-6 * np.abs(values).max()
            assert numbers(found.top) == pytest.approx(values[::-1][:count], rel=0, abs=near), seed
            assert numbers(found.bottom) == pytest.approx(values[:count], rel=0, abs=near), seed
    assert settled >= 60


def test_what_follows_the_top_may_be_a_copy_that_only_the_look_sees() -> None:
    found = solve(with_spectrum(np.r_[3.0, 2.0, 2.0, np.linspace(-1, 1, 60)]), top=2)
    assert numbers(found.top) == pytest.approx([3.0, 2.0])
    assert found.next is not None
    assert found.next.value == pytest.approx(2.0)


def test_a_look_costs_what_the_gap_behind_the_last_rank_asks_for() -> None:
    wide, narrow = (
        np.r_[np.linspace(5, 6, 4), np.linspace(-1, 1, 196)],
        np.r_[np.linspace(5, 6, 4), np.linspace(-1, 4.9, 196)],
    )
    looks = []
    for values in (wide, narrow):
        matrix = with_spectrum(values)
        looks.append(solve(matrix, top=4).products - solve(matrix, top=4, again=None).products)
    assert looks[0] < 12
    assert looks[0] < looks[1] / 2


def test_plain_lanczos_has_ghosts_here_and_this_has_none() -> None:
    values = np.r_[np.geomspace(1, 1e8, 30), -np.geomspace(1, 1e4, 10), np.linspace(-1, 1, 60)]
    matrix = with_spectrum(values)
    diagonal, off = [], []
    before, now, beta = torch.zeros(100).double(), start(100), 0.0
    for _ in range(100):  # the three-term recurrence as in textbooks
        product = matrix @ now - beta * before
        diagonal.append(float(now @ product))
        rest = product - diagonal[-1] * now
        beta = float(rest.norm())
        off.append(beta)
        before, now = now, rest / beta
    plain = eigvalsh_tridiagonal(diagonal, off[:-1])[::-1]
    true = np.sort(values)[::-1]
    assert plain[1] == pytest.approx(true[0], rel=1e-9)  # a copy of the largest, which is single
    found = solve(matrix, top=10)
    assert numbers(found.top) == [pytest.approx(v, rel=1e-6, abs=1) for v in true[:10]]
    assert found.products < 100


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 10**6), st.integers(1, 4))
def test_random_matrices(size: int, count: int, seed: int, copies: int) -> None:
    drawn = np.random.default_rng(seed).standard_normal(-(-size // copies))
    values = np.sort(np.tile(drawn, copies)[:size])
    found = solve(with_spectrum(values, seed), top=count, bottom=count)
    size_of = np.abs(values).max()
    assert numbers(found.top) == pytest.approx(values[::-1][:count], rel=1e-6, abs=3e-6 * size_of)
    assert numbers(found.bottom) == pytest.approx(values[:count], rel=1e-6, abs=3e-6 * size_of)


def test_as_scipy_finds_them_within_a_budget() -> None:
    matrix = with_spectrum(np.r_[np.random.default_rng(0).standard_normal(380) * 0.1, np.geomspace(1, 50, 20)])
    found = solve(matrix, top=12, max_products=60)
    expected = eigsh(matrix.numpy(), k=12, which="LA", v0=np.ones(400), return_eigenvectors=False)
    assert numbers(found.top) == pytest.approx(np.sort(expected)[::-1], rel=1e-10)
    assert found.checked


def test_vectors_are_eigenvectors_and_orthonormal() -> None:
    matrix = with_spectrum(SPECTRA["triplets"])
    found = solve(matrix, top=7, vectors=5)
    vectors = found.vectors
    assert vectors.shape == (5, len(matrix))
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(5).double(), rtol=0, atol=1e-12)
    for vector, extreme in zip(vectors, found.top, strict=False):
        residual = float((matrix @ vector - extreme.value * vector).norm())
        assert residual <= extreme.error + 1e-13 * 9


def test_the_ends_are_those_that_are_found_alone_bit_for_bit() -> None:
    matrix = with_spectrum(SPECTRA["spread"])
    for end, pick in (("max", "highest"), ("min", "lowest")):
        [alone] = drive_one(extremes(start(60), ends=[end]), matrix.mv)
        for options in ({"top": 1}, {"top": 5, "bottom": 5}, {"magnitude": 20, "again": None}):
            assert getattr(solve(matrix, **options), pick) == alone


@pytest.mark.parametrize("exponent", [-40, 7])
def test_a_scaled_matrix_has_scaled_eigenvalues(exponent: int) -> None:
    matrix = with_spectrum(SPECTRA["twins"])
    plain, scaled = solve(matrix, top=4, bottom=4), solve(matrix * 2.0**exponent, top=4, bottom=4)

    def times(some: Any) -> list[Extreme]:
        return [
            Extreme(value=e.value * 2.0**exponent, error=e.error * 2.0**exponent, products=e.products) for e in some
        ]

    assert numbers(scaled.top) == pytest.approx(numbers(times(plain.top)), rel=1e-12)
    assert numbers(scaled.bottom) == pytest.approx(numbers(times(plain.bottom)), rel=1e-12)
    assert scaled.products == plain.products


def test_the_order_of_coordinates_does_not_matter() -> None:
    matrix, order = with_spectrum(SPECTRA["clustered"]), torch.randperm(92, generator=torch.Generator().manual_seed(0))
    found = drive_one(ranked(start(92), partial(fresh, 92), top=6), matrix.mv)
    moved = drive_one(ranked(start(92)[order], lambda n: fresh(92, n)[order], top=6), matrix[order][:, order].mv)
    assert numbers(moved.top) == pytest.approx(numbers(found.top), rel=1e-12)


def test_a_budget_that_ends_too_early_gives_what_converged_and_says_so() -> None:
    values = np.r_[np.linspace(0, 1, 200), 40.0, 50.0]
    found = solve(with_spectrum(values), top=6, bottom=2, max_products=14)
    assert numbers(found.top) == [pytest.approx(50.0), pytest.approx(40.0)]
    assert found.bottom == ()
    assert found.products == 14
    assert not found.checked
    assert "6 of 8 eigenvalues not converged after 14 products" in str(found.failure)


@pytest.mark.parametrize("after", [0, 1, 30])
def test_a_product_that_is_not_finite_is_a_failure(after: int) -> None:
    matrix, calls = with_spectrum(SPECTRA["spread"]), [0]

    def product(vector: Tensor) -> Tensor:
        calls[0] += 1
        return matrix.mv(vector) * (float("nan") if calls[0] > after else 1.0)

    found = drive_one(ranked(start(60), partial(fresh, 60), top=20), product)
    assert found.top == ()
    assert found.failure == "a product is not finite"


def test_a_source_of_directions_that_never_changes_comes_to_an_end() -> None:
    found = solve(with_spectrum(SPECTRA["identity"]), top=5, again=lambda _: start(20, 3))
    assert len(found.top) == 2
    assert "3 of 5" in str(found.failure)
