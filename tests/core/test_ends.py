"""The ends of real models' spectra: against exact spectra, the same bits in any pack and beside anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from core.ends import eigenvalues, gradient_curvature, lambda_max, lambda_min
from core.findings import Finding
from core.quantities import QUANTITIES
from tests.core import quadratics
from tests.core.probing import MODELS, config, measured, probe, seeds
from tests.core.quadratics import Quadratic
from tests.core.spectra import with_spectrum

ALL = ("lambda_max", "lambda_min", "eigenvalues", "gradient_curvature")


def curve(finding: Finding, name: str) -> list[float]:
    points = [(x, y) for quantity, x, y in finding.curves if quantity == name]
    assert [x for x, _ in points] == list(range(1, len(points) + 1))
    return [y for _, y in points]


@pytest.mark.parametrize("name", MODELS)
def test_the_ends_are_those_of_the_exact_spectrum(name: str) -> None:
    at = probe(seeds(config(name, quantities=ALL, top=6), 2))
    for lane, (high, low, ranks) in enumerate(zip(lambda_max(at), lambda_min(at), eigenvalues(at), strict=True)):
        exact = at.exact[lane].values.tolist()
        size = max(map(abs, exact))
        for finding, column, true in ((high, "lambda_max", exact[-1]), (low, "lambda_min", exact[0])):
            value = finding.values[column]
            assert value.number == pytest.approx(true, rel=1e-8)
            assert value.error is not None
            assert abs(value.number - true) <= value.error + 1e-13 * size
            assert (value.method, value.failure) == ("lanczos", None)
            assert 3 <= value.products <= ranks.values["eigenvalues"].products
        assert curve(ranks, "top_eigenvalue") == pytest.approx(exact[::-1][:6], rel=1e-8, abs=1e-9 * size)
        assert curve(ranks, "bottom_eigenvalue") == pytest.approx(exact[:6], rel=1e-8, abs=1e-9 * size)
        value = ranks.values["eigenvalues"]
        assert (value.number, value.method, value.failure) == (None, "lanczos", None)
        assert value.error is not None
        assert 0 < value.error <= 1e-6 * size
        assert value.products <= at.measure.products


@pytest.mark.parametrize("name", ["toy", "layer-mlp"])
def test_the_ends_are_those_that_scipy_finds(name: str) -> None:
    at = probe([config(name, quantities=ALL, top=3)])

    def product(vector: np.ndarray) -> np.ndarray:
        return at.hessian([0]).product(torch.from_numpy(vector.reshape(1, -1).copy()))[0].numpy()

    operator = LinearOperator((at.size, at.size), matvec=product, dtype=np.float64)
    v0 = np.random.default_rng(0).standard_normal(at.size)
    [found] = eigenvalues(at)
    for quantity, which, sign in (("top_eigenvalue", "LA", -1), ("bottom_eigenvalue", "SA", 1)):
        expected = eigsh(operator, k=3, which=which, v0=v0, return_eigenvectors=False)
        assert curve(found, quantity) == pytest.approx(sorted(expected, key=lambda v, s=sign: s * v), rel=1e-8)


def test_a_number_has_the_same_bits_whatever_else_is_asked() -> None:
    def row(*names: str) -> Any:
        [rows] = measured([config("toy", quantities=names, top=3)])
        return rows

    together = row(*ALL)
    for names in (*((name,) for name in ALL), ("lambda_min", "lambda_max"), ALL[::-1], ("gradient_curvature", "trace")):
        alone = row(*names)
        for name in names:
            for column in QUANTITIES[name].columns if name in ALL else ():
                for part in ("error", "method", "products"):
                    assert alone.curvature[part].get(column) == together.curvature[part].get(column)
                assert alone.curvature[column] == together.curvature[column]
                assert alone.curvature[column] is not None
        if "eigenvalues" in names:
            assert alone.curves == together.curves


def test_one_run_serves_all_that_is_asked() -> None:
    at = probe([config("toy", quantities=ALL)])
    hessian = at.hessian([0])
    plain, passes = hessian.product, []

    def counted(vectors: torch.Tensor) -> torch.Tensor:
        passes.append(len(vectors))
        return plain(vectors)

    hessian.product = counted  # type: ignore[method-assign]
    found = [estimator(at)[0] for estimator in (lambda_max, lambda_min, eigenvalues, gradient_curvature)]
    assert len(passes) == found[2].values["eigenvalues"].products


@pytest.mark.parametrize("name", ["toy", "layer-mlp"])
def test_a_lane_has_the_same_bits_in_any_pack(name: str) -> None:
    configs = seeds(config(name, quantities=ALL, top=4), 4)
    alone = [measured([lane])[0] for lane in configs]
    for order in ([0, 1, 2, 3], [3, 1], [2, 2, 0]):
        assert measured([configs[lane] for lane in order]) == [alone[lane] for lane in order]


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_lies_to_the_sharpest_directions_as_in_the_exact_spectrum(name: str) -> None:
    at = probe(seeds(config(name, quantities=ALL, top=5), 2))
    for lane, finding in enumerate(gradient_curvature(at)):
        along = at.exact[lane].vectors.T @ (at.gradient[lane] / at.gradient[lane].norm())
        for column, true in (("top_cosine", along[-1].abs()), ("top_share", along[-5:].square().sum())):
            value = finding.values[column]
            assert value.number is not None
            assert value.error is not None
            assert abs(value.number - float(true)) <= value.error + 1e-12
            assert value.error < 1e-3
            assert value.products > 5


# --- known matrices ------------------------------------------------------------------------------------------------


def quadratic(values: np.ndarray, *, flat: bool = False, seed: int = 0, **options: Any) -> Quadratic:
    """A probe whose Hessian has these eigenvalues; with `flat`, at the minimum."""
    base = quadratics.config()
    base = replace(base, measure=replace(base.measure, quantities=ALL, **options))
    at = probe([base])
    states = [
        replace(state, parameters={name: p * (0.0 if flat else 1.0) for name, p in state.parameters.items()})
        for state in at.states
    ]
    return Quadratic(
        configs=at.configs,
        chains=at.chains,
        states=states,
        inputs=at.inputs,
        targets=at.targets,
        train=at.train,
        matrices=with_spectrum(values, seed)[None],
    )


SIZE = 28


def test_multiple_eigenvalues_are_given_as_often_as_they_are() -> None:
    values = np.repeat(np.linspace(-1, 1, SIZE // 4), 4)
    [found] = eigenvalues(quadratic(values, top=5))
    assert curve(found, "top_eigenvalue") == pytest.approx(values[::-1][:5], abs=1e-9)
    assert curve(found, "bottom_eigenvalue") == pytest.approx(values[:5], abs=1e-9)


def test_more_ranks_than_weights_are_all_there_are() -> None:
    values = np.linspace(-1, 2, SIZE)
    at = quadratic(values, top=100)
    [found], [gradient] = eigenvalues(at), gradient_curvature(at)
    assert curve(found, "top_eigenvalue") == pytest.approx(values[::-1], abs=1e-12)
    assert curve(found, "bottom_eigenvalue") == pytest.approx(values, abs=1e-12)
    assert found.values["eigenvalues"].failure is None
    assert gradient.values["top_share"].number == pytest.approx(1.0)
    assert gradient.values["top_share"].error == 0.0


def test_a_budget_that_ends_too_early_says_what_is_missing() -> None:
    values = np.r_[np.linspace(0, 1, SIZE - 2), 40.0, 50.0]
    at = quadratic(values, top=3, products=10)
    [ranks], [gradient], [low] = eigenvalues(at), gradient_curvature(at), lambda_min(at)
    assert curve(ranks, "top_eigenvalue") == pytest.approx([50.0, 40.0])
    assert curve(ranks, "bottom_eigenvalue") == []
    assert "4 of 6 eigenvalues not converged after 10 products" in str(ranks.values["eigenvalues"].failure)
    assert ranks.values["eigenvalues"].method == "lanczos, missed eigenvalues not excluded"
    assert gradient.values["top_cosine"].number is not None
    assert gradient.values["top_share"].number is None
    assert "1 of 3 eigenvectors not found" in str(gradient.values["top_share"].failure)
    assert low.values["lambda_min"].number is None
    assert "not converged after 10 products: residual" in str(low.values["lambda_min"].failure)


def test_no_gradient_has_no_direction() -> None:
    [found] = gradient_curvature(quadratic(np.linspace(-1, 2, SIZE), flat=True))
    for column in ("top_cosine", "top_share"):
        assert found.values[column].number is None
        assert found.values[column].failure == "the gradient is zero"


def test_equal_eigenvalues_have_no_eigenvectors_of_their_own() -> None:
    values = np.r_[np.linspace(-1, 1, SIZE - 3), 5.0, 9.0, 9.0]
    [found] = gradient_curvature(quadratic(values, top=3))
    assert found.values["top_cosine"].number is None
    assert "eigenvalues 1 and 2 agree" in str(found.values["top_cosine"].failure)
    share = found.values["top_share"]  # the space of the three is sharp all the same
    at = quadratic(values, top=3)
    along = at.exact[0].vectors[:, -3:].T @ (at.gradient[0] / at.gradient[0].norm())
    assert share.number == pytest.approx(float(along.square().sum()), abs=1e-6)
    [split] = gradient_curvature(quadratic(values, top=1))
    assert split.values["top_share"].number is None or split.values["top_share"].error is None


def test_scaling_the_loss_scales_the_eigenvalues_and_turns_nothing() -> None:
    values = np.r_[np.linspace(-1, 1, SIZE - 3), 3.0, 5.0, 9.0]
    plain, scaled = quadratic(values, top=4), quadratic(values * 8.0, top=4)
    for name in ("top_eigenvalue", "bottom_eigenvalue"):
        assert curve(eigenvalues(scaled)[0], name) == pytest.approx(
            [8.0 * v for v in curve(eigenvalues(plain)[0], name)], rel=1e-10
        )
    for column in ("top_cosine", "top_share"):
        one, other = (gradient_curvature(at)[0].values[column].number for at in (plain, scaled))
        assert one == pytest.approx(other, rel=1e-8)
