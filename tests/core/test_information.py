"""Mutual information of Hessians: closed forms, invariances, and the second Hessian at the trial's own later state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.information import entropy_of, mutual_information, mutual_information_of
from core.probes import Probe, eigen
from tests.core import packs, probing

MEASURE: dict[str, Any] = {"quantities": ("mutual_information",), "lag": 3, "probe": 4}


def entropy(shares: Sequence[float]) -> float:
    """−Σ p ln p of shares that need not sum to 1 yet."""
    total = sum(map(abs, shares))
    return -sum(abs(p) / total * math.log(abs(p) / total) for p in shares if p)


def diagonal(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def symmetric(size: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, dtype=torch.float64, generator=draw)
    return matrix + matrix.mT


def shared(a: Tensor, b: Tensor) -> float:
    found = mutual_information_of(eigen(a), eigen(b))
    assert found is not None
    return found


def probe(configs: Sequence[TrialConfig]) -> Probe:
    return probing.probe(configs)


# --- matrices ------------------------------------------------------------------------------------------------------


def test_the_entropy_of_a_matrix_is_that_of_its_eigenvalues_magnitudes() -> None:
    assert entropy_of(diagonal(3.0, -1.0, 0.0)) == pytest.approx(entropy([0.75, 0.25]), rel=1e-14)
    assert entropy_of(torch.eye(7).double()) == pytest.approx(math.log(7), rel=1e-14)
    matrix = symmetric(6, 0)
    assert entropy_of(matrix) == pytest.approx(entropy(torch.linalg.eigvalsh(matrix).tolist()), rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]), ([4.0, -2.0, 1.0], [1.0, 1.0, -6.0]), ([0.9, 0.1, 0.0], [0.1, 0.9, 0.0])],
)
def test_of_diagonal_matrices_it_is_that_of_their_shares(a: list[float], b: list[float]) -> None:
    expected = entropy(a) + entropy(b) - entropy([x * y for x, y in zip(a, b, strict=True)])
    assert shared(diagonal(*a), diagonal(*b)) == pytest.approx(expected, rel=1e-12)


def test_it_is_negative_where_diagonals_are_opposed() -> None:
    """Two nearly pure states whose product is the mixed one: no bound for matrices without a unit diagonal."""
    assert shared(diagonal(0.9, 0.1), diagonal(0.1, 0.9)) == pytest.approx(2 * entropy([0.9, 0.1]) - math.log(2))
    assert shared(diagonal(0.9, 0.1), diagonal(0.1, 0.9)) < 0


def test_directions_of_rank_one_share_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 5, dtype=torch.float64, generator=draw)
    assert shared(torch.outer(u, u), -torch.outer(v, v)) == pytest.approx(0.0, abs=1e-12)


def test_of_matrices_with_one_unit_diagonal_it_is_the_formula_of_gram_matrices() -> None:
    """Two by two with diagonal ½: |a ± ½| are the eigenvalues, and the product again has such a form."""
    a, b = 0.3, -0.1
    one, other = (torch.tensor([[0.5, c], [c, 0.5]], dtype=torch.float64) for c in (a, b))
    expected = entropy([0.5 + a, 0.5 - a]) + entropy([0.5 + b, 0.5 - b]) - entropy([0.25 + a * b, 0.25 - a * b])
    assert expected > 0
    assert shared(one, other) == pytest.approx(expected, rel=1e-12)


def test_it_is_symmetric_and_no_scale_acts_on_it() -> None:
    a, b = symmetric(8, 1), symmetric(8, 2)
    value = shared(a, b)
    assert shared(b, a) == pytest.approx(value, rel=1e-12)
    assert shared(-1e6 * a, 1e-7 * b) == pytest.approx(value, rel=1e-12)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    assert shared(a[order][:, order], b[order][:, order]) == pytest.approx(value, rel=1e-12)


def test_a_rotation_of_the_weights_changes_it() -> None:
    """The entrywise product is taken in the basis of the weights, as the docstring says."""
    a, b = diagonal(5.0, 1.0, 0.5), diagonal(0.3, 4.0, 1.0)
    turn, _ = torch.linalg.qr(symmetric(3, 3))
    assert abs(shared(turn @ a @ turn.mT, turn @ b @ turn.mT) - shared(a, b)) > 0.01


def test_zeros_have_none() -> None:
    zero = torch.zeros(3, 3, dtype=torch.float64)
    assert entropy_of(zero) is None
    assert mutual_information_of(eigen(zero), eigen(torch.eye(3).double())) is None
    assert mutual_information_of(eigen(diagonal(1.0, 0.0)), eigen(diagonal(0.0, 1.0))) is None


# --- Hessians ------------------------------------------------------------------------------------------------------


def at(config: TrialConfig, step: int) -> TrialState:
    return packs.run([config], states=[probing.state(config)], until=step)[0].state


def test_the_second_hessian_is_that_of_the_trials_own_later_state() -> None:
    config = probing.config(**MEASURE)
    first, later = probe([config]), probing.probe([config], [at(config, 3)])
    expected = shared(first.dense(0), later.dense(0))
    [finding] = mutual_information(first)
    value = finding.values["mutual_information"]
    assert value.number == expected
    assert (value.method, value.products, value.failure) == ("exact, 3 updates later", 2 * first.size, None)
    [(kind, values, weights)] = finding.spectra
    assert kind == "exact"
    assert values == torch.linalg.eigvalsh(first.dense(0)).tolist()
    assert sum(weights) == pytest.approx(1.0)
    assert len(weights) == first.size


@pytest.mark.parametrize("model", ["toy", "layer-mlp"])
def test_a_lane_has_the_same_bits_in_any_pack(model: str) -> None:
    configs = packs.lanes(probing.config(model, **MEASURE), 3)
    whole = mutual_information(probe(configs))
    for order in ([0], [2, 1]):
        assert mutual_information(probe([configs[lane] for lane in order])) == [whole[lane] for lane in order]


def test_it_is_exact_or_not_at_all() -> None:
    config = probing.config(**MEASURE, exact=10)
    [finding] = mutual_information(probe([config]))
    value = finding.values["mutual_information"]
    assert value.number is None
    assert value.products == 0
    assert "exceeds measure.exact = 10" in str(value.failure)
    assert finding.spectra == ()


def test_a_hessian_that_stands_still_is_not_compared_with_itself() -> None:
    base = probing.config(**MEASURE)
    config = replace(base, train=replace(base.train, steps=2, lr_schedule="cosine"))
    [finding] = mutual_information(probe([config]))
    value = finding.values["mutual_information"]
    assert (value.number, value.failure) == (None, "the learning rate is zero at update 2 of the branch")
    assert finding.spectra


def test_a_branch_that_diverges_leaves_the_spectrum_of_the_state() -> None:
    base = probing.config(**MEASURE)
    wild = replace(base, seed=1, train=replace(base.train, optimizer="sgd", lr=1e3, momentum=0.0))
    sound = replace(base, train=replace(wild.train, lr=0.1))
    wild, sound = (replace(c, measure=replace(c.measure, lag=12)) for c in (wild, sound))
    first, second = mutual_information(probe([wild, sound]))
    assert first.values["mutual_information"].number is None
    assert "its branch diverged" in str(first.values["mutual_information"].failure)
    assert first.spectra
    assert [first] == mutual_information(probe([wild]))
    assert [second] == mutual_information(probe([sound]))
    assert second.values["mutual_information"].failure is None
