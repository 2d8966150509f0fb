"""Trace and Frobenius norm: closed forms, convergence, honest errors, the real model against its exact Hessian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from core.hessian import drive
from core.hutchinson import Sample, frobenius, sample, trace
from core.tangents import TangentHessian
from core.traces import frobenius as frobenius_of
from core.traces import trace as trace_of
from tests.core import quadratics
from tests.core.probing import MODELS, config, measured, probe, seeds

P = 120


def matrix() -> Tensor:
    """A few outliers and a bulk on both sides of zero."""
    values = torch.cat([torch.tensor([6.0, 5.0, 3.0, 2.0, -2.0, -4.0]), torch.linspace(-0.2, 0.4, P - 6)]).double()
    return quadratics.with_spectrum(values)


def samples(A: Tensor, count: int, seed: int) -> list[Sample]:
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, len(A), dtype=torch.float64, generator=draw)
    return drive(lambda vectors: vectors @ A, [sample(direction) for direction in directions])


def test_a_diagonal_matrix_is_found_by_any_signs() -> None:
    A = torch.diag(torch.linspace(-2, 5, 30).double())
    drawn = samples(A, 2, 0)
    assert trace(drawn).number == pytest.approx(float(A.trace()), rel=1e-14)
    assert frobenius(drawn).number == pytest.approx(float(A.norm()), rel=1e-14)
    assert trace(drawn).error == pytest.approx(float(A.norm()), rel=1e-14)  # √(2 / n) ‖A‖: of a rotated A


def test_zero_is_zero_without_error() -> None:
    zero = samples(torch.zeros(5, 5, dtype=torch.float64), 3, 0)
    assert (trace(zero).number, trace(zero).error) == (0.0, 0.0)
    assert (frobenius(zero).number, frobenius(zero).error) == (0.0, 0.0)


def test_errors_fall_with_the_root_of_the_vectors_and_are_honest() -> None:
    A = matrix()
    off: dict[tuple[str, int], list[float]] = {}
    in_errors: list[float] = []
    for seed in range(60):
        drawn = samples(A, 64, seed)
        for vectors in (4, 16, 64):
            for name, found, exact in (("trace", trace, A.trace()), ("norm", frobenius, A.norm())):
                estimate = found(drawn[:vectors])
                off.setdefault((name, vectors), []).append(estimate.number - float(exact))
                if vectors >= 16:
                    in_errors.append(abs(off[name, vectors][-1]) / estimate.error)
    rms = {key: math.sqrt(np.mean(np.square(x))) for key, x in off.items()}
    for name in ("trace", "norm"):
        assert 1.5 < rms[name, 4] / rms[name, 16] < 2.7
        assert 1.5 < rms[name, 16] / rms[name, 64] < 2.7
    assert np.mean(np.array(in_errors) <= 3) >= 0.98
    assert 0.6 < np.mean(np.array(in_errors) <= 1) < 0.85  # 0.68 of a normal: neither too narrow nor too wide


def test_with_the_default_of_eight_vectors_the_truth_is_within_three_errors() -> None:
    A = matrix()
    for found, exact in ((trace, A.trace()), (frobenius, A.norm())):
        estimates = [found(samples(A, 8, seed)) for seed in range(300)]
        assert np.mean([abs(e.number - float(exact)) <= 3 * e.error for e in estimates]) >= 0.95
        # And as large as they should be on average.
        rms = math.sqrt(np.mean([(e.number - float(exact)) ** 2 for e in estimates]))
        assert np.mean([e.error for e in estimates]) == pytest.approx(rms, rel=0.2)


def test_the_square_of_the_norm_is_unbiased_and_its_root_low_by_less_than_its_error() -> None:
    A = matrix()
    drawn = [samples(A, 4, seed) for seed in range(300)]
    squares = np.array([float(s.product @ s.product) for some in drawn for s in some])
    assert abs(squares.mean() - float(A.square().sum())) < 3 * squares.std() / math.sqrt(len(squares))
    roots = [frobenius(some) for some in drawn]
    shift = np.mean([e.number for e in roots]) - float(A.norm())
    assert -np.mean([e.error for e in roots]) / 2 < shift < 0


# --- the quantities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_on_a_real_model_they_are_those_of_the_dense_hessian(name: str) -> None:
    trials = seeds(config(name), 2)
    at = probe(trials)
    for lane in range(2):
        dense = at.dense(lane)
        for quantity, found, exact in (("trace", trace_of, dense.trace()), ("frobenius", frobenius_of, dense.norm())):
            finding = found(at)[lane]
            value = finding.values[quantity]
            assert value.number == pytest.approx(float(exact), rel=1e-11, abs=1e-12 * float(dense.norm()))
            assert (value.method, value.error, value.products) == ("exact", None, at.size)
            assert [kind for kind, _, _ in finding.spectra] == ["exact"]


@pytest.mark.parametrize("name", MODELS)
def test_sampled_on_a_real_model_they_are_within_their_errors(name: str) -> None:
    trials = seeds(config(name, exact=0, vectors=32, quantities=("trace", "frobenius")), 3)
    at = probe(trials)
    for lane, rows in enumerate(measured(trials)):
        dense = at.dense(lane)
        for quantity, exact in (("trace", dense.trace()), ("frobenius", dense.norm())):
            assert abs(rows.curvature[quantity] - float(exact)) <= 3.5 * rows.curvature["error"][quantity]
            assert rows.curvature["error"][quantity] < 0.5 * float(dense.norm())
        assert rows.curvature["method"] == dict.fromkeys(("trace", "frobenius"), "hutchinson, 32 vectors")
        assert rows.curvature["products"] == dict.fromkeys(("trace", "frobenius"), 32)
        assert rows.spectra == []


def test_one_pass_of_products_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    at = probe(seeds(config(exact=0, vectors=8), 2))
    product, lanes = TangentHessian.product, []

    def counted(self: TangentHessian, vectors: Tensor) -> Tensor:
        lanes.append(len(vectors))
        return product(self, vectors)

    monkeypatch.setattr(TangentHessian, "product", counted)
    first = frobenius_of(at), trace_of(at)
    assert sum(lanes) == 16
    monkeypatch.undo()
    fresh = probe(seeds(config(exact=0, vectors=8), 2))
    assert (frobenius_of(fresh), trace_of(fresh)) == first
