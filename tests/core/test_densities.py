"""What is read off whole spectra of real models: exact against scipy, by quadrature within its error, in any pack."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy import stats
from torch import Tensor

from core import spectrum as functionals
from core.densities import effective_rank, entropy, negative_mass, normalised_entropy, spectrum
from core.probes import Probe
from core.tangents import TangentHessian
from tests.core import quadratics
from tests.core.probing import MODELS, config, measured, probe, seeds, state

FUNCTIONALS = ("entropy", "normalised_entropy", "effective_rank", "negative_mass")
WHOLE = ("spectrum", *FUNCTIONALS, "trace", "frobenius")
VALLEYS = ("null_count", "kappa_valley", "cumulative_force", "eigenvalues_below")
WIDE: dict[str, Any] = {"width": 6, "loops": 2, "norm": "layer", "mlp_ratio": 2.0}


def truths(at: Probe, lane: int) -> dict[str, float]:
    """By scipy, from the dense Hessian."""
    values = scipy.linalg.eigh(at.dense(lane).numpy(), eigvals_only=True)
    S = float(stats.entropy(np.abs(values)))
    return {
        "entropy": S,
        "normalised_entropy": S / math.log(len(values)),
        "effective_rank": math.exp(S),
        "negative_mass": float(-values[values < 0].sum() / np.abs(values).sum()),
    }


# --- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_from_an_exact_spectrum_they_are_those_of_scipy(name: str) -> None:
    trials = seeds(config(name, quantities=("spectrum", *FUNCTIONALS)), 2)
    at = probe(trials)
    for lane, rows in enumerate(measured(trials)):
        for quantity, truth in truths(at, lane).items():
            assert rows.curvature[quantity] == pytest.approx(truth, rel=1e-10)
        assert rows.curvature["method"] == dict.fromkeys(("spectrum", *FUNCTIONALS), "exact")
        assert rows.curvature["products"] == dict.fromkeys(("spectrum", *FUNCTIONALS), at.size)
        assert rows.curvature["error"] == {}
        [row] = rows.spectra
        assert row["kind"] == "exact"
        expected = scipy.linalg.eigh(at.dense(lane).numpy(), eigvals_only=True)
        assert row["eigenvalues"] == pytest.approx(expected, abs=1e-12 * np.abs(expected).max())
        assert row["eigenvalues"] == sorted(row["eigenvalues"])
        assert row["weights"] == [1 / at.size] * at.size


@pytest.mark.parametrize("quantity", [*WHOLE, *VALLEYS])
def test_an_exact_spectrum_is_written_by_whatever_computes_it(quantity: str) -> None:
    [alone] = measured([config(quantities=(quantity,))])
    [together] = measured([config(quantities=(*WHOLE, *VALLEYS))])
    assert alone.spectra == together.spectra
    assert len(alone.spectra) == 1


def test_one_exact_spectrum_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, lanes = Probe.dense, []

    def counted(self: Probe, lane: int) -> Tensor:
        lanes.append(lane)
        return dense(self, lane)

    monkeypatch.setattr(Probe, "dense", counted)
    measured(seeds(config(quantities=(*WHOLE, *VALLEYS)), 2))
    assert lanes == [0, 1]


def test_eigenvalues_alone_take_no_eigenvectors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(matrix: Tensor) -> None:
        raise AssertionError("eigenvectors were asked for")

    monkeypatch.setattr(torch.linalg, "eigh", refused)
    [rows] = measured([config(quantities=(*WHOLE, *VALLEYS))])
    assert rows.curvature["entropy"] is not None
    with pytest.raises(AssertionError):
        probe([config()]).exact[0].vectors  # noqa: B018


def test_a_projector_has_the_entropy_of_its_rank() -> None:
    base = quadratics.config()
    P = quadratics.quadratic([base], torch.zeros(1, 0, 0)).size
    matrix = quadratics.with_spectrum(torch.cat([torch.full((5,), 3.0), torch.zeros(P - 5)]).double())
    at = quadratics.quadratic([base], matrix[None])
    assert entropy(at)[0].values["entropy"].number == pytest.approx(math.log(5), rel=1e-9)
    assert effective_rank(at)[0].values["effective_rank"].number == pytest.approx(5, rel=1e-9)
    assert negative_mass(at)[0].values["negative_mass"].number == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("limit", [5000, 0])
def test_a_zero_hessian_has_a_spectrum_and_no_entropy(limit: int) -> None:
    base = quadratics.config()
    base = replace(base, measure=replace(base.measure, exact=limit))
    P = quadratics.quadratic([base], torch.zeros(1, 0, 0)).size
    at = quadratics.quadratic([base], torch.zeros(1, P, P, dtype=torch.float64))
    for name, found in (
        ("entropy", entropy),
        ("normalised_entropy", normalised_entropy),
        ("effective_rank", effective_rank),
        ("negative_mass", negative_mass),
    ):
        value = found(at)[0].values[name]
        assert (value.number, value.failure) == (None, "undefined: every eigenvalue is zero")
    [(_, values, weights)] = spectrum(at)[0].spectra
    assert set(values) == {0.0}
    assert sum(weights) == pytest.approx(1)


# --- by quadrature ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, "wide"])
def test_by_quadrature_the_truth_is_within_three_errors(model: str) -> None:
    base = config(WIDE if model == "wide" else model, exact=0, nodes=24, quantities=("spectrum", *FUNCTIONALS))
    trials = seeds(base, 2)
    at = probe(trials)
    for lane, rows in enumerate(measured(trials)):
        for quantity, truth in truths(at, lane).items():
            error = rows.curvature["error"][quantity]
            assert abs(rows.curvature[quantity] - truth) <= 3 * error
            assert error < 0.5 * truth
        methods = dict(rows.curvature["method"])
        assert {methods.pop(name) for name in ("spectrum", "negative_mass")} == {"slq, 8 vectors of 24 nodes"}
        assert set(methods.values()) == {"slq, 8 vectors of 24 nodes (biased upwards)"}
        assert set(rows.curvature["products"].values()) == {8 * 24}
        assert "spectrum" not in rows.curvature["error"]


def test_the_moments_of_a_density_are_those_of_the_hessian() -> None:
    trials = seeds(config(WIDE, exact=0, nodes=12, vectors=12, quantities=("spectrum", "trace", "frobenius")), 3)
    at = probe(trials)
    for lane, rows in enumerate(measured(trials)):
        [row] = rows.spectra
        values, weights = np.array(row["eigenvalues"]), np.array(row["weights"])
        assert row["kind"] == "slq"
        assert (np.diff(values) >= 0).all()
        assert weights.sum() == pytest.approx(1, rel=1e-13)
        assert (weights >= 0).all()
        H = at.dense(lane)
        errors = rows.curvature["error"]
        assert abs(at.size * float(weights @ values) - float(H.trace())) <= 3 * errors["trace"]
        assert abs(math.sqrt(at.size * float(weights @ values**2)) - float(H.norm())) <= 3 * errors["frobenius"]


def test_what_is_read_off_is_what_is_recorded() -> None:
    trials = [config(WIDE, exact=0, nodes=12, quantities=FUNCTIONALS)]
    [rows] = measured(trials)
    [row] = rows.spectra
    values, weights, size = np.array(row["eigenvalues"]), np.array(row["weights"]), probe(trials).size
    assert functionals.entropy(values, weights, size=size) == rows.curvature["entropy"]
    assert functionals.negative_mass(values, weights) == rows.curvature["negative_mass"]
    S = rows.curvature["entropy"]
    assert rows.curvature["effective_rank"] == math.exp(S)
    assert rows.curvature["normalised_entropy"] == S / math.log(size)


def test_one_density_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    at = probe(seeds(config(exact=0, nodes=6, vectors=4), 2))
    product, lanes = TangentHessian.product, []

    def counted(self: TangentHessian, vectors: Tensor) -> Tensor:
        lanes.append(len(vectors))
        return product(self, vectors)

    monkeypatch.setattr(TangentHessian, "product", counted)
    for found in (spectrum, entropy, normalised_entropy, effective_rank, negative_mass):
        assert len(found(at)) == 2
    assert sum(lanes) == 2 * 4 * 6


def test_a_product_that_is_not_finite_is_a_reason_and_no_neighbour_notices() -> None:
    base = quadratics.config()
    base = replace(base, measure=replace(base.measure, exact=0))
    P = quadratics.quadratic([base], torch.zeros(1, 0, 0)).size
    sound = quadratics.with_spectrum(torch.linspace(-1, 3, P).double())
    wrong = torch.full_like(sound, float("nan"))
    first, second = entropy(quadratics.quadratic([base] * 2, torch.stack([wrong, sound])))
    assert first.values["entropy"].number is None
    assert first.values["entropy"].failure == "a product is not finite"
    assert second == entropy(quadratics.quadratic([base] * 2, torch.stack([sound, sound])))[1]
    assert second.values["entropy"].failure is None


# --- packs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy", "layer-mlp", "heads-all-tied"])
@pytest.mark.parametrize("limit", [5000, 0])
def test_a_lane_has_its_own_bits_in_any_pack(name: str, limit: int) -> None:
    quantities = (*WHOLE, *VALLEYS) if limit else WHOLE
    trials = seeds(config(name, exact=limit, nodes=10, vectors=4, quantities=quantities), 3)
    alone = [measured([trial])[0] for trial in trials]
    for order in ([0, 1, 2], [2, 0], [1, 1]):
        assert measured([trials[lane] for lane in order]) == [alone[lane] for lane in order]


@pytest.mark.parametrize("limit", [5000, 0])
def test_a_quantity_has_the_number_it_has_beside_others(limit: int) -> None:
    base = config(exact=limit, nodes=10, vectors=4)
    everything = (*WHOLE, "lambda_max", "probe_grad_norm")
    [together] = measured([replace(base, measure=replace(base.measure, quantities=everything))])
    for name in WHOLE:
        [alone] = measured([replace(base, measure=replace(base.measure, quantities=(name,)))])
        assert alone.curvature.get(name) == together.curvature.get(name)
        for table in ("method", "error", "products"):
            assert alone.curvature[table].get(name) == together.curvature[table].get(name)


def test_a_larger_weight_scale_of_the_loss_leaves_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [config()]
    before = {name: value for finding in entropy(probe(trials)) for name, value in finding.values.items()}
    plain = Probe.loss
    monkeypatch.setattr(Probe, "loss", lambda self, params, **how: 4.0 * plain(self, params, **how))
    assert {name: v for finding in entropy(probe(trials)) for name, v in finding.values.items()} == before


def test_states_of_other_seeds_have_other_vectors() -> None:
    """Two trials at the same weights: their Hessians differ by their data; the same trial twice gives the same."""
    one, two = seeds(config(exact=0, nodes=8, quantities=("entropy",)), 2)
    first, again = measured([one, one], [state(one), state(one)])
    assert first == again
    assert first.curvature["entropy"] != measured([two], [state(one)])[0].curvature["entropy"]
