"""Loss surfaces: closed forms on quadratics, the loss itself on real models, axes, bits in any pack, and refusals."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import core.probes
from core.findings import Finding, Surface
from core.pack import initial_state
from core.segments import Segment
from core.surfaces import loss_surface, upward
from core.train import train_segments
from tests.core import quadratics
from tests.core.packs import segment
from tests.core.probing import MODELS, config, measured, probe, seeds
from tests.core.quadratics import quadratic, with_spectrum

SIZE = 28
SPREAD = torch.linspace(-1.0, 2.0, SIZE, dtype=torch.float64)


def of(finding: Finding) -> Surface:
    value = finding.values["loss_surface"]
    assert value.failure is None
    assert value.number is None
    (surface,) = finding.surfaces
    return surface


def grid(surface: Surface) -> np.ndarray:
    return np.asarray(surface.z).reshape(len(surface.x), len(surface.y))


def refused(finding: Finding) -> str:
    assert finding.surfaces == ()
    return str(finding.values["loss_surface"].failure)


def quadratic_of(*matrices: Tensor, **measure: Any) -> quadratics.Quadratic:
    """Quadratics at equal weights whose surfaces are measured."""
    base = quadratics.config()
    asked = replace(base, measure=replace(base.measure, quantities=("loss_surface",), **measure))
    return quadratic([replace(asked, seed=seed) for seed in range(len(matrices))], torch.stack(matrices))


class Exponential(quadratics.Quadratic):
    """The loss of lane k is exp(½ wᵀ A_k w)."""

    def loss(self, params: dict[str, Tensor], **given: Any) -> Tensor:
        return super().loss(params, **given).exp()


# --- closed forms --------------------------------------------------------------------------------------------------


def test_of_a_quadratic_it_is_the_quadratic_in_its_eigenvectors() -> None:
    matrix = with_spectrum(SPREAD)
    at = quadratic_of(matrix, points=3, radius=0.7)
    (found,) = loss_surface(at)
    surface = of(found)
    values, vectors = np.linalg.eigh(matrix.numpy())
    w = at.weights[0].numpy()
    coordinates = 0.7 * np.arange(-3, 4) / 3
    assert surface.kind == "top"
    assert surface.x == surface.y == pytest.approx(coordinates)
    slopes = np.abs(vectors.T @ (matrix.numpy() @ w))
    a, b = np.meshgrid(coordinates, coordinates, indexing="ij")
    expected = (
        0.5 * w @ matrix.numpy() @ w + slopes[-1] * a + slopes[-2] * b + (values[-1] * a**2 + values[-2] * b**2) / 2
    )
    assert grid(surface) == pytest.approx(expected, rel=1e-6)
    value = found.values["loss_surface"]
    assert value.method == "lanczos, 7 × 7 points within 0.7"
    assert value.error is not None
    assert value.error < 1e-4
    assert 0 < value.products <= at.measure.products


@pytest.mark.parametrize(
    ("top", "reason"),
    [
        ((3.0, 3.0, 1.0), "eigenvalues 1 and 2 agree within their errors"),
        ((3.0, 2.0, 2.0), "eigenvalues 2 and 3 agree within their errors"),
    ],
)
def test_where_eigenvalues_agree_there_are_no_axes(top: tuple[float, ...], reason: str) -> None:
    spectrum = SPREAD.clone() - 2.0
    spectrum[-3:] = torch.tensor(top[::-1], dtype=torch.float64)
    (found,) = loss_surface(quadratic_of(with_spectrum(spectrum), points=1))
    assert reason in refused(found)


def test_without_convergence_there_is_no_surface_and_the_reason_says_so() -> None:
    (found,) = loss_surface(quadratic_of(with_spectrum(SPREAD), points=1, products=8))
    assert "2 of 2 eigenvectors not found: 2 of 2 eigenvalues not converged after 8 products" in refused(found)


def test_where_a_loss_is_not_finite_there_is_no_surface() -> None:
    flat = quadratic_of(with_spectrum(SPREAD), points=1, radius=1000.0)
    steep = Exponential(**{part.name: getattr(flat, part.name) for part in fields(flat) if part.init})
    (found,) = loss_surface(steep)
    assert "the loss is not finite at 8 of 9 points; lower measure.radius" in refused(found)


def test_an_axis_points_to_where_the_loss_does_not_fall() -> None:
    vector = torch.tensor([0.6, -0.8], dtype=torch.float64)
    slope = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for sign in (1.0, -1.0):
        assert upward(sign * vector, slope).tolist() == [0.6, -0.8]
        assert upward(sign * vector, -slope).tolist() == [-0.6, 0.8]
        assert upward(sign * vector, 0.0 * slope).tolist() == [-0.6, 0.8]  # the largest component is positive


# --- real models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_loss_of_the_model_around_its_state(name: str) -> None:
    at = probe(seeds(config(name, quantities=("loss_surface",), points=2, radius=0.1), 2))
    for lane, found in enumerate(loss_surface(at)):
        surface, exact = of(found), at.exact[lane]
        z = grid(surface)
        assert z[2, 2] == float(at.losses(at.weights)[lane])  # the state itself, bit for bit
        assert z[3, 2] + z[1, 2] > 2 * z[2, 2]  # curved upward along the sharpest direction
        slope = at.gradient[lane] @ exact.vectors[:, -1]
        axis = exact.vectors[:, -1] * torch.sign(slope)
        moved = at.weights.clone()
        moved[lane] += 0.1 * axis
        assert z[4, 2] == pytest.approx(float(at.losses(moved)[lane]), rel=1e-7)
        assert z[3, 2] >= z[1, 2] or abs(float(slope)) < 1e-3


def test_small_grids_have_the_curvature_of_the_top_eigenvalues() -> None:
    at = probe([config("layer-mlp", quantities=("loss_surface",), points=1, radius=1e-3)])
    z = grid(of(loss_surface(at)[0]))
    curvature = [(z[2, 1] - 2 * z[1, 1] + z[0, 1]) / 1e-6, (z[1, 2] - 2 * z[1, 1] + z[1, 0]) / 1e-6]
    assert curvature == pytest.approx(at.exact[0].values.flip(0)[:2].tolist(), rel=1e-3)


def test_a_lane_has_the_same_bits_in_any_pack_and_in_groups_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = seeds(config("heads-all-tied", quantities=("loss_surface",), probe=3, points=2), 3)
    whole = measured(configs)
    assert all(len(row.surfaces) == 1 for row in whole)
    assert measured([configs[1]]) == [whole[1]]
    assert measured([configs[2], configs[2], configs[0]]) == [whole[2], whole[2], whole[0]]
    one = core.probes.GROUP_ELEMENTS["cpu"] // probe(configs).group
    monkeypatch.setattr(core.probes, "GROUP_ELEMENTS", {"cpu": 4 * one})
    assert probe(configs).group == 4
    assert measured(configs) == whole


def test_a_lone_sequence_has_the_bits_that_it_has_in_a_pack() -> None:
    configs = seeds(config("toy", quantities=("loss_surface",), probe=1, points=1), 2)
    assert [*measured(configs[:1]), *measured(configs[1:])] == measured(configs)


def test_what_else_is_asked_does_not_act_on_it() -> None:
    alone, beside = (
        measured([config("toy", quantities=names, points=1, top=top)])[0]
        for names, top in ((("loss_surface",), 1), (("eigenvalues", "loss_surface", "entropy"), 5))
    )
    assert beside.surfaces == alone.surfaces
    for part in ("method", "error", "products"):
        assert beside.curvature[part]["loss_surface"] == alone.curvature[part]["loss_surface"]


def test_training_gives_the_rows_of_a_measurement() -> None:
    base = config("toy", quantities=("loss_surface",), points=1)
    asked: Segment = segment(base, 0, 0, 2, measure=(0, 2))
    (result,) = train_segments([asked], [initial_state(base)])
    assert [(row["step"], row["kind"]) for row in result.surfaces] == [(0, "top"), (2, "top")]
    (row,) = measured([base], [result.state])
    assert row.surfaces == result.surfaces[1:]
