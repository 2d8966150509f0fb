"""Functionals of spectra: closed forms, brute force, invariances, and nothing where nothing is defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from core import spectrum
from core.quantities import NULL, THRESHOLDS

P = 60


def even(values: np.ndarray) -> np.ndarray:
    """The weights of an exact spectrum."""
    return np.full(len(values), 1 / len(values))


def network(seed: int, size: int = P) -> np.ndarray:
    """A few outliers, a bulk over ten orders of magnitude on both sides of zero, and zeros."""
    draw = np.random.default_rng(seed)
    outliers = [9.0, 4.0, -1.5]
    zeros = np.zeros(size // 6)
    bulk = 10 ** draw.uniform(-10, -1, size - len(outliers) - len(zeros)) * draw.choice([-1, 1, 1], size=1)
    bulk *= draw.choice([-1.0, 1.0], size=len(bulk))
    return draw.permutation(np.concatenate([outliers, zeros, bulk]))


# --- entropy, rank, mass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 17, P])
@pytest.mark.parametrize("scale", [1.0, -3.7, 1e-200, 1e200])
def test_a_projector_has_the_entropy_of_its_rank(rank: int, scale: float) -> None:
    values = np.zeros(P)
    values[:rank] = scale
    assert spectrum.entropy(values, even(values), size=P) == pytest.approx(math.log(rank), abs=1e-13)
    assert spectrum.effective_rank(values, even(values), size=P) == pytest.approx(rank, rel=1e-12)
    assert spectrum.normalised_entropy(values, even(values), size=P) == pytest.approx(
        math.log(rank) / math.log(P), abs=1e-13
    )
    assert spectrum.negative_mass(values, even(values)) == (1.0 if scale < 0 else 0.0)
    assert spectrum.null_count(values) == P - rank


@pytest.mark.parametrize("q", [0.1, 0.5, 0.97])
def test_a_geometric_spectrum_has_its_closed_form(q: float) -> None:
    """With p_i ∝ q^i: S = ln Z − ln q Σ i q^i / Z and Z = (1 − q^P) / (1 − q)."""
    values = q ** np.arange(P)
    Z = (1 - q**P) / (1 - q)
    moment = q * (1 - P * q ** (P - 1) + (P - 1) * q**P) / (1 - q) ** 2
    expected = math.log(Z) - math.log(q) * moment / Z
    assert spectrum.entropy(values, even(values), size=P) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_entropy_is_that_of_scipy(seed: int) -> None:
    values = network(seed)
    assert spectrum.entropy(values, even(values), size=P) == pytest.approx(stats.entropy(np.abs(values)), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("c", [0.125, 3.0, -7.1e-9])
def test_entropy_and_mass_do_not_know_scale_or_order(seed: int, c: float) -> None:
    values = network(seed)
    found = spectrum.entropy(values, even(values), size=P)
    assert spectrum.entropy(c * values, even(values), size=P) == pytest.approx(found, rel=1e-12)
    assert spectrum.entropy(values[::-1], even(values), size=P) == pytest.approx(found, rel=1e-13)
    mass = spectrum.negative_mass(values, even(values))
    assert mass is not None
    assert 0 < mass < 1
    assert spectrum.negative_mass(c * values, even(values)) == pytest.approx(mass if c > 0 else 1 - mass, rel=1e-12)
    assert mass == pytest.approx(-values[values < 0].sum() / np.abs(values).sum(), rel=1e-12)


def test_a_node_of_n_weights_is_n_eigenvalues() -> None:
    values, counts = np.array([-2.0, 0.0, 1.0, 5.0]), np.array([3, 10, 4, 1])
    written_out = np.repeat(values, counts)
    size = int(counts.sum())
    for functional in (spectrum.entropy, spectrum.effective_rank, spectrum.normalised_entropy):
        assert functional(values, counts / size, size=size) == pytest.approx(
            functional(written_out, even(written_out), size=size), rel=1e-13
        )
    assert spectrum.negative_mass(values, counts / size) == pytest.approx(6 / 15)


def test_a_zero_matrix_has_no_shares() -> None:
    zeros = np.zeros(7)
    for functional in (spectrum.entropy, spectrum.effective_rank, spectrum.normalised_entropy):
        assert functional(zeros, even(zeros), size=7) is None
    assert spectrum.negative_mass(zeros, even(zeros)) is None
    assert spectrum.null_count(zeros) == 7
    assert spectrum.kappa_valley(zeros, THRESHOLDS) == []
    assert spectrum.cumulative_force(zeros, THRESHOLDS) == [(t, 0.0) for t in THRESHOLDS]


def test_one_eigenvalue_has_an_entropy_but_no_normalised_one() -> None:
    one = np.array([-2.0])
    assert spectrum.entropy(one, even(one), size=1) == 0.0
    assert spectrum.normalised_entropy(one, even(one), size=1) is None


# --- near zero -------------------------------------------------------------------------------------------------------


def test_curves_on_a_spectrum_that_is_written_down() -> None:
    values = np.array([4.0, -100.0, 1e-3, 1e-10 * 0.999, -0.5])  # the fourth is zero beside 100
    assert spectrum.null(values) == NULL * 100
    assert spectrum.null_count(values) == 1
    assert spectrum.kappa_valley(values, [0.0, 1e-3, 0.4, 4.0, 99.9, 100.0]) == [
        (0.0, 100 / 1e-3),
        (1e-3, 200.0),
        (0.4, 200.0),
        (4.0, 1.0),
        (99.9, 1.0),
    ]
    below = [1e-11, 1e-3, 0.5, 4.0, 1e3]
    forces = spectrum.cumulative_force(values, below)
    assert [t for t, _ in forces] == below
    assert [y for _, y in forces] == pytest.approx([0.0, 1000.0, 1002.0, 1002.25, 1002.26], rel=1e-14)
    assert spectrum.eigenvalues_below(values, below) == list(zip(below, [0, 1, 2, 3, 4], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_those_of_their_definitions(seed: int) -> None:
    values = network(seed, 200)
    sizes = np.abs(values)
    real = sizes > NULL * sizes.max()
    assert spectrum.null_count(values) == np.count_nonzero(~real) > 0
    for e, kappa in spectrum.kappa_valley(values, THRESHOLDS):
        kept = sizes[real & (sizes > e)]
        assert kappa == kept.max() / kept.min() >= 1
    defined = [e for e, _ in spectrum.kappa_valley(values, THRESHOLDS)]
    assert defined == [e for e in THRESHOLDS if (sizes > e).any()]
    for (t, force), (_, count) in zip(
        spectrum.cumulative_force(values, THRESHOLDS), spectrum.eigenvalues_below(values, THRESHOLDS), strict=True
    ):
        kept = sizes[real & (sizes <= t)]
        assert count == len(kept)
        assert force == pytest.approx(math.fsum(1 / kept), rel=1e-13)
    assert count == len(values) - spectrum.null_count(values)


@pytest.mark.parametrize("c", [4.0, 2.0**-20])
def test_the_force_of_a_scaled_matrix_is_scaled_back(c: float) -> None:
    values = network(0)
    scaled = spectrum.cumulative_force(c * values, [c * t for t in THRESHOLDS])
    assert [y * c for _, y in scaled] == pytest.approx([y for _, y in spectrum.cumulative_force(values, THRESHOLDS)])
    assert [y for _, y in spectrum.kappa_valley(c * values, [c * t for t in THRESHOLDS])] == pytest.approx(
        [y for _, y in spectrum.kappa_valley(values, THRESHOLDS)]
    )
