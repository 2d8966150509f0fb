"""Sharpness: closed forms, the training path's own gradient, invariances, and reasons where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.model import loss
from core.probes import Probe
from core.sharpness import adaptive_sharpness, probe_grad_norm, sam_sharpness
from tests.core import quadratics
from tests.core.probing import MODELS, config, measured, probe, seeds, state

QUANTITIES = ("sam_sharpness", "adaptive_sharpness", "probe_grad_norm")
NO_ASCENT = {
    "sam_sharpness": "the gradient is zero: no direction of ascent",
    "adaptive_sharpness": "|w| · gradient is zero in every weight: no direction of ascent",
}


def trained_loss(at: Probe, weights: dict[str, Tensor]) -> Tensor:
    """The loss `[K]` by the kernels that training uses."""
    link = at.link
    return loss(
        weights,
        at.inputs,
        at.targets,
        at.arch,
        loops=link.loops,
        injection=link.injection,
        loss_on=link.loss_on,
    )


def trained_gradient(at: Probe) -> dict[str, Tensor]:
    leaves = {name: p.clone().requires_grad_() for name, p in at.params.items()}
    return dict(zip(leaves, torch.autograd.grad(trained_loss(at, leaves).sum(), list(leaves.values())), strict=True))


def number(found: list, lane: int = 0) -> float:
    [value] = found[lane].values.values()
    assert value.failure is None
    return value.number


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_on_a_quadratic_they_are_those_on_paper() -> None:
    """½ wᵀAw rises by εᵀAw + ½ εᵀAε over a step ε."""
    configs = seeds(quadratics.config(), 3)
    configs = [replace(c, measure=replace(c.measure, rho=0.3, adaptive_rho=0.7)) for c in configs]
    P = quadratics.quadratic(configs, torch.zeros(3, 0, 0)).size
    matrices = torch.stack([quadratics.with_spectrum(torch.linspace(-1, 3, P).double(), seed) for seed in range(3)])
    at = quadratics.quadratic(configs, matrices)
    for lane, (A, w) in enumerate(zip(matrices, at.weights, strict=True)):
        g = A @ w
        assert number(probe_grad_norm(at), lane) == pytest.approx(float(g.norm()), rel=1e-13)
        expected = 0.3 * float(g.norm()) + 0.5 * 0.3**2 * float(g @ A @ g / (g @ g))
        assert number(sam_sharpness(at), lane) == pytest.approx(expected, rel=1e-12)
        T = w.abs().diag()
        step = 0.7 * T @ T @ g / (T @ g).norm()
        expected = float(step @ g + 0.5 * step @ A @ step)
        assert number(adaptive_sharpness(at), lane) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_on_the_model_they_are_those_of_the_gradient_that_trains(name: str) -> None:
    at = probe(seeds(config(name, rho=0.2, adaptive_rho=0.3), 2))
    gradient = trained_gradient(at)
    found = [estimate(at) for estimate in (probe_grad_norm, sam_sharpness, adaptive_sharpness)]
    for lane in range(2):
        g = {key: p[lane] for key, p in gradient.items()}
        w = {key: p[lane] for key, p in at.params.items()}

        def rise(step: dict[str, Tensor], lane: int = lane) -> float:
            moved = {key: p.clone() for key, p in at.params.items()}
            for key, by in step.items():
                moved[key][lane] += by
            return float(trained_loss(at, moved)[lane] - trained_loss(at, at.params)[lane])

        def norm(parts: dict[str, Tensor]) -> float:
            return sum(float(part.square().sum()) for part in parts.values()) ** 0.5

        scaled = {key: w[key].abs() * g[key] for key in g}
        assert number(found[0], lane) == pytest.approx(norm(g), rel=1e-12)
        assert number(found[1], lane) == pytest.approx(rise({k: 0.2 * p / norm(g) for k, p in g.items()}), rel=1e-10)
        adaptive = {k: 0.3 * w[k].abs() * p / norm(scaled) for k, p in scaled.items()}
        assert number(found[2], lane) == pytest.approx(rise(adaptive), rel=1e-10)


def test_a_short_step_rises_by_the_norm_of_the_gradient() -> None:
    at = probe([config("layer-mlp", rho=1e-5)])
    assert number(sam_sharpness(at)) / 1e-5 == pytest.approx(number(probe_grad_norm(at)), rel=1e-4)


# --- what it is not changed by, and what it costs --------------------------------------------------------------------


def test_only_the_adaptive_one_is_blind_to_weights_scaled_against_one_another() -> None:
    """Queries times 32 and keys over 32 give the same function."""
    base = config("heads-all-tied")
    start = state(base)
    wide = {name: p.double() for name, p in start.parameters.items()}
    scaled = {
        name: p * (32 if name.endswith("query") else 1 / 32 if name.endswith("key") else 1) for name, p in wide.items()
    }
    here, moved = (probe([base], [replace(start, parameters=weights)]) for weights in (wide, scaled))
    assert float(moved.losses(moved.weights)) == pytest.approx(float(here.losses(here.weights)), rel=1e-12)
    assert number(adaptive_sharpness(moved)) == pytest.approx(number(adaptive_sharpness(here)), rel=1e-10)
    assert number(sam_sharpness(moved)) > 1.2 * number(sam_sharpness(here))


@pytest.mark.parametrize("name", MODELS)
def test_no_graph_of_a_hessian_is_built_and_its_gradient_is_the_same(name: str) -> None:
    at = probe(seeds(config(name), 2))
    for estimate in (sam_sharpness, adaptive_sharpness, probe_grad_norm):
        estimate(at)
    assert at._hessians == {}
    torch.testing.assert_close(at.gradient, at.hessian([0, 1]).gradient(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "model",
    [
        "toy",
        "heads-all-tied",
        {"width": 5, "loops": 2, "norm": "layer", "mlp_ratio": 1.4, "prelude": 1},
        {"width": 1, "loops": 2, "norm": "rms", "mlp_ratio": 1.0},
    ],
)
@pytest.mark.parametrize("count", [1, 6])
def test_a_lane_has_the_same_bits_in_any_pack(model: str | dict[str, object], count: int) -> None:
    configs = seeds(config(model, quantities=QUANTITIES, probe=count), 4)
    alone = [measured([trial])[0].curvature for trial in configs]
    for order in ([0, 1, 2, 3], [3, 1], [2, 2, 0]):
        assert [row.curvature for row in measured([configs[lane] for lane in order])] == [alone[i] for i in order]


def test_a_quantity_has_the_value_it_has_beside_others() -> None:
    """With Hessian products at hand too."""
    for name in QUANTITIES:
        [by_itself] = measured([config("layer-mlp", quantities=(name,))])
        [beside] = measured([config("layer-mlp", quantities=("lambda_max", *QUANTITIES))])
        assert by_itself.curvature[name] == beside.curvature[name]
        assert by_itself.curvature["products"] == {name: 0}
        assert by_itself.curvature["asymmetry"] is None


def test_the_method_says_the_step_and_m() -> None:
    [row] = measured([config("toy", quantities=QUANTITIES, probe=5, rho=0.1, adaptive_rho=2.0)])
    assert row.curvature["method"] == {
        "sam_sharpness": "one step of ascent, rho = 0.1, m = 5",
        "adaptive_sharpness": "one step of ascent, rho = 2, m = 5",
        "probe_grad_norm": "gradient",
    }


# --- where there is none ---------------------------------------------------------------------------------------------


def test_without_a_gradient_there_is_no_ascent_and_the_neighbour_does_not_notice() -> None:
    configs = seeds(config("toy", quantities=QUANTITIES), 2)
    states = [state(trial) for trial in configs]
    flat = replace(states[0], parameters={name: torch.zeros_like(p) for name, p in states[0].parameters.items()})
    lost, sound = (row.curvature for row in measured(configs, [flat, states[1]]))
    assert lost["probe_grad_norm"] == 0.0
    for name, reason in NO_ASCENT.items():
        assert lost[name] is None
        assert lost["method"][name].endswith(f"failed: {reason}")
    assert sound == measured(configs[1:])[0].curvature


def test_a_gradient_in_weights_that_are_zero_is_no_direction_of_adaptive_ascent() -> None:
    """With a head of zeros nothing but the head has a gradient."""
    base = config("toy", quantities=QUANTITIES)
    start = state(base)
    headless = replace(start, parameters={**start.parameters, "head": torch.zeros_like(start.parameters["head"])})
    [row] = (row.curvature for row in measured([base], [headless]))
    assert row["probe_grad_norm"] > 0
    assert row["sam_sharpness"] > 0
    assert row["adaptive_sharpness"] is None
    assert row["method"]["adaptive_sharpness"].endswith(f"failed: {NO_ASCENT['adaptive_sharpness']}")


def test_weights_that_overflow_give_no_number() -> None:
    configs = seeds(config("toy", quantities=QUANTITIES), 2)
    states = [state(trial) for trial in configs]
    states[0].parameters["head"][0, 0] = float("inf")
    lost, sound = (row.curvature for row in measured(configs, states))
    assert [lost[name] for name in QUANTITIES] == [None] * 3
    assert all(lost["method"][name].endswith("failed: not finite") for name in QUANTITIES)
    assert sound == measured(configs[1:])[0].curvature
