"""Stochastic Lanczos quadrature: exact where it must be, moments, multiple eigenvalues, honest errors."""

from __future__ import annotations

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from core import spectrum
from core.hessian import drive
from core.quadrature import RULES, Density, density, krylov
from tests.core.quadratics import with_spectrum


def starts(size: int, count: int, seed: int) -> Tensor:
    drawn = torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)


def found(A: Tensor, *, vectors: int, nodes: int, seed: int = 0) -> Density:
    runs = [krylov(start, nodes=nodes) for start in starts(len(A), vectors, seed)]
    return density(drive(lambda v: v @ A, runs), size=len(A), nodes=nodes)


def functionals(size: int) -> dict[str, partial[float | None]]:
    return {
        "entropy": partial(spectrum.entropy, size=size),
        "effective_rank": partial(spectrum.effective_rank, size=size),
        "negative_mass": partial(spectrum.negative_mass),
    }


def network(size: int = 200) -> Tensor:
    """Like that of a small transformer: outliers on both sides, exact zeros, a bulk that crowds around zero."""
    draw = np.random.default_rng(0)
    outliers = [5.0, 3.1, 2.0, 1.2, 0.9, 0.7, -0.6, -1.0]
    zeros = np.zeros(size // 10)
    bulk = draw.laplace(0.01, 0.08, size - len(outliers) - len(zeros))
    return torch.from_numpy(np.concatenate([outliers, zeros, bulk]))


# --- where it is exact -----------------------------------------------------------------------------------------------


def test_with_a_node_for_every_row_it_is_the_exact_spectrum() -> None:
    values = torch.cat([torch.linspace(-1, 2, 20), torch.tensor([4.0, 9.0])]).double()
    whole = found(with_spectrum(values), vectors=2, nodes=40)
    nodes, weights = whole.pooled
    assert whole.products == 2 * len(values)
    assert nodes == pytest.approx(np.repeat(values.numpy(), 2), abs=1e-10)
    assert weights == pytest.approx(np.full(44, 1 / 44), rel=1e-12)
    for functional in functionals(22).values():
        estimate = whole.estimate(functional)
        assert estimate is not None
        assert estimate.number == pytest.approx(functional(values.numpy(), np.full(22, 1 / 22)), rel=1e-9)
        assert estimate.error < 1e-8


@pytest.mark.parametrize("rank", [1, 5, 29])
def test_a_projector_takes_two_products_and_its_eigenvalues_stay_multiple(rank: int) -> None:
    A = with_spectrum(torch.cat([torch.ones(rank), torch.zeros(30 - rank)]).double())
    many = found(A, vectors=400, nodes=8)
    assert many.products == 800
    nodes, weights = many.pooled
    assert sorted(set(nodes.round(10).tolist())) == [0.0, 1.0]
    assert weights[nodes > 0.5].sum() == pytest.approx(rank / 30, abs=4 * math.sqrt(2 / 30 / 400))
    few = found(A, vectors=8, nodes=8).estimate(functionals(30)["entropy"])
    assert few is not None
    assert abs(few.number - math.log(rank)) <= 3 * few.error


def test_a_zero_matrix_has_a_density_and_no_entropy() -> None:
    zero = found(torch.zeros(9, 9, dtype=torch.float64), vectors=3, nodes=8)
    nodes, weights = zero.pooled
    assert zero.products == 3
    assert nodes.tolist() == [0.0] * 3
    assert weights.sum() == pytest.approx(1)
    assert all(zero.estimate(functional) is None for functional in functionals(9).values())


@pytest.mark.parametrize("nodes", [4, 7, 12])
def test_its_moments_are_those_of_its_vectors(nodes: int) -> None:
    """The averaged rule of m nodes gives vᵀ p(A) v for every polynomial of degree 2 m − 3."""
    A = with_spectrum(torch.linspace(-1, 1.3, 150).double())  # no outlier: nothing converges, no weight is set
    vectors = starts(150, 3, 5)
    points, weights = found(A, vectors=3, nodes=nodes, seed=5).pooled
    powered = vectors
    for degree in range(2 * nodes - 2):
        expected = float((vectors * powered).sum(1).mean())
        assert float(np.sum(weights * points**degree)) == pytest.approx(expected, abs=1e-12)
        powered = powered @ A


# --- outliers --------------------------------------------------------------------------------------------------------


def test_an_outlier_weighs_what_one_eigenvalue_weighs() -> None:
    values = network()
    nodes, weights = found(with_spectrum(values), vectors=4, nodes=32, seed=1).pooled
    for outlier in (5.0, 3.1, 2.0, 1.2, -1.0):
        assert weights[np.abs(nodes - outlier) < 1e-3].sum() == pytest.approx(1 / 200, rel=1e-3)
    assert weights.sum() == pytest.approx(1, rel=1e-13)
    assert (np.diff(nodes) >= 0).all()


def test_an_outlier_that_is_multiple_keeps_the_weight_it_was_found_with() -> None:
    values = network()
    values[:3] = 5.0
    A = with_spectrum(values)
    weighed = []
    for seed in range(12):
        nodes, weights = found(A, vectors=8, nodes=24, seed=seed).pooled
        weighed.append(200 * weights[np.abs(nodes - 5) < 1e-3].sum())
    # The mean of 96 χ² of three degrees of freedom.
    assert np.mean(weighed) == pytest.approx(3, abs=3 * math.sqrt(6 / 96))
    assert np.std(weighed) > 0.3


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vectors", "nodes"), [(8, 16), (8, 32), (4, 24)])
def test_the_truth_is_within_three_errors_bias_included(vectors: int, nodes: int) -> None:
    values = network()
    A, exact = with_spectrum(values), np.full(200, 1 / 200)
    held: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    for seed in range(20):
        drawn = found(A, vectors=vectors, nodes=nodes, seed=seed)
        for name, functional in functionals(200).items():
            estimate, truth = drawn.estimate(functional), functional(values.numpy(), exact)
            assert estimate is not None
            assert truth is not None
            held.setdefault(name, []).append(abs(estimate.number - truth) <= 3 * estimate.error)
            errors.setdefault(name, []).append(estimate.error)
    assert all(np.mean(within) >= 0.95 for within in held.values()), {n: np.mean(x) for n, x in held.items()}
    assert np.mean(errors["entropy"]) < 0.5
    assert np.mean(errors["negative_mass"]) < 0.06


def test_the_quadrature_s_bias_falls_with_the_nodes_and_the_error_follows() -> None:
    values = network()
    A, exact = with_spectrum(values), np.full(200, 1 / 200)
    entropy = functionals(200)["entropy"]
    truth = entropy(values.numpy(), exact)
    off, errors = [], []
    for nodes in (8, 24, 72):
        estimate = found(A, vectors=32, nodes=nodes).estimate(entropy)
        assert estimate is not None
        off.append(abs(estimate.number - truth))
        errors.append(estimate.error)
    assert off[0] > 3 * off[1] > 0
    assert off[1] > 1.5 * off[2]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]


def test_the_scatter_falls_with_the_root_of_the_vectors_as_the_error_says() -> None:
    """Of the second moment, which the quadrature has exactly."""
    values = torch.linspace(-1, 1.3, 150).double()
    A, truth = with_spectrum(values), float(values.square().mean())
    off: dict[int, list[float]] = {2: [], 32: []}
    errors: list[float] = []
    for seed in range(25):
        for vectors, numbers in off.items():
            estimate = found(A, vectors=vectors, nodes=8, seed=seed).estimate(lambda x, w: float(np.sum(w * x**2)))
            assert estimate is not None
            numbers.append(estimate.number - truth)
            errors += [estimate.error] if vectors == 32 else []
    rms = {vectors: math.sqrt(np.mean(np.square(x))) for vectors, x in off.items()}
    assert 2.5 < rms[2] / rms[32] < 6.4  # √16
    assert np.mean(errors) == pytest.approx(rms[32], rel=0.25)


@pytest.mark.parametrize("c", [2.0**-30, 64.0])
def test_a_scaled_matrix_has_the_same_shares(c: float) -> None:
    A = with_spectrum(network())
    plain, scaled = found(A, vectors=3, nodes=20), found(c * A, vectors=3, nodes=20)
    for functional in functionals(200).values():
        assert scaled.estimate(functional) == plain.estimate(functional)  # to the bit, for a power of two


# --- cost ------------------------------------------------------------------------------------------------------------


def test_the_memory_of_many_starts_that_find_everything_grows_with_their_number_alone() -> None:
    """A table of all pairs of the 2,400 Ritz values would take 46 MB."""
    values = network(50)
    runs = [krylov(start, nodes=50) for start in starts(50, 48, 0)]
    A = with_spectrum(values)
    complete = drive(lambda v: v @ A, runs)
    tracemalloc.start()
    try:
        whole = density(complete, size=50, nodes=50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6
    estimate = whole.estimate(functionals(50)["negative_mass"])
    assert estimate is not None
    truth = float(values[values < 0].abs().sum() / values.abs().sum())
    assert estimate.number == pytest.approx(truth, abs=3 * estimate.error)


def test_the_bias_is_judged_over_a_bounded_number_of_rules() -> None:
    A = with_spectrum(network(300))
    assert len(found(A, vectors=2, nodes=48).late) == 7
    assert len(found(A, vectors=2, nodes=200).late) == RULES == 16


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_said(wrong: float) -> None:
    calls = []

    def product(vectors: Tensor) -> Tensor:
        calls.append(1)
        return vectors * (wrong if len(calls) == 3 else torch.linspace(1, 2, 20).double())

    [lost] = drive(product, [krylov(starts(20, 1, 0)[0], nodes=8)])
    assert lost.failure == "a product is not finite"
    assert lost.products == 3
