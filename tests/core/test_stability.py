"""The edge: the optimiser's own update diverges just above 1 and converges just below; P is that of real training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core import optim
from core.alone import train_alone
from core.architecture import architecture, parameter_shapes
from core.checkpoint import TrialState
from core.config import TrialConfig, trial_config
from core.ends import lambda_max
from core.findings import Value
from core.lineage import links
from core.pack import initial_state
from core.probes import Probe
from core.stability import edge, limit, preconditioner
from tests.core import quadratics
from tests.core.packs import lanes, run
from tests.core.probing import MODELS, TINY, config, measured, probe, state

QUANTITY = ("edge",)
AGE = 50_000
"""Updates after which no bias of the moments is left."""


def trained(base: TrialConfig, **train: Any) -> TrialConfig:
    return replace(base, train=replace(base.train, **train))


def found(at: Probe, lane: int = 0) -> Value:
    return edge(at)[lane].values["edge"]


def vector(tensors: dict[str, Tensor], trial: TrialConfig, slot: str = "") -> Tensor:
    """By name, in the order of a probe's vectors `[P]`, float64."""
    return torch.cat([tensors[slot + name].double().flatten() for name in parameter_shapes(architecture(trial))])


# --- what the edge is ------------------------------------------------------------------------------------------------


def growth(trial: TrialConfig, at: TrialState, matrix: Tensor, updates: int) -> float:
    """How much longer the weights are after so many of the optimiser's own updates of ½ wᵀAw, v held."""
    weights = vector(at.parameters, trial).unsqueeze(0)
    slots = [vector(at.optimizer, trial, f"{slot}/").unsqueeze(0) for slot in optim.SLOTS[trial.train.optimizer]]
    before = float(weights.norm())
    terms = optim.coefficients(trial, links(trial)[0], at.step)
    coefficients = torch.tensor(terms, dtype=torch.float64).view(-1, 1, 1)
    if trial.train.optimizer == "adamw":
        coefficients[2] = 0.0
    for _ in range(updates):
        optim.update(weights, weights @ matrix, slots, coefficients, optimizer=trial.train.optimizer, decays=False)
    return float(weights.norm()) / before


@pytest.mark.parametrize(
    "train",
    [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "adamw", "beta1": 0.9, "eps": 1e-3},
        {"optimizer": "adamw", "beta1": 0.0},
        {"optimizer": "adamw", "beta1": 0.6, "eps": 1e-2},
    ],
)
def test_the_update_diverges_just_above_1_and_converges_just_below(train: dict[str, Any]) -> None:
    base = trained(quadratics.config(), steps=2 * AGE, **train)
    draw = torch.Generator().manual_seed(0)
    at = replace(state(base), step=AGE)
    at = replace(
        at,
        optimizer={
            name: torch.rand(p.shape, dtype=p.dtype, generator=draw) * name.startswith("moment2")
            for name, p in at.optimizer.items()
        },
    )
    P = len(vector(at.parameters, base))
    matrix = quadratics.with_spectrum(torch.linspace(0.5, 3, P).double())
    value = found(quadratics.quadratic([base], matrix.unsqueeze(0), [at]))
    for there, grows in ((0.99, False), (1.01, True)):
        trial = trained(base, lr=base.train.lr * there / value.number)
        assert found(quadratics.quadratic([trial], matrix.unsqueeze(0), [at])).number == pytest.approx(there, rel=1e-9)
        ratio = growth(trial, at, matrix, 1500)
        assert ratio > 1e3 if grows else ratio < 1e-3


def test_limits_are_those_of_the_papers() -> None:
    link = links(quadratics.config())[0]

    def most(**train: Any) -> float:
        return limit(trained(quadratics.config(), lr=0.01, **train), link, 5)

    assert most(optimizer="sgd", momentum=0.0) == pytest.approx(2 / 0.01)
    assert most(optimizer="sgd", momentum=0.9) == pytest.approx(3.8 / 0.01)
    assert most(optimizer="adamw", beta1=0.9) == pytest.approx(38 / 0.01)
    assert most(optimizer="adamw", beta1=0.0) == pytest.approx(2 / 0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_under_sgd_it_is_lambda_max_over_the_limit(momentum: float) -> None:
    base = trained(config("layer-mlp"), optimizer="sgd", momentum=momentum, lr=0.03, warmup=100)
    at = probe([base], [replace(state(base), step=50)])
    whole = lambda_max(at)[0].values["lambda_max"]
    most = 2 * (1 + momentum) / (0.03 / 2)  # half of the warm-up
    value = found(at)
    assert value.number == pytest.approx(whole.number / most, rel=1e-12)
    assert value.error == pytest.approx(whole.error / most, rel=1e-12)
    assert value.products == whole.products
    assert value.method == f"lanczos, raw, limit {most:.6g}"


def test_under_sgd_it_is_the_same_beside_other_quantities() -> None:
    base = trained(config("layer-mlp", quantities=QUANTITY, top=3), optimizer="sgd")
    [by_itself] = measured([base])
    for beside in (("lambda_min",), ("lambda_max",), ("eigenvalues",)):
        [row] = measured([replace(base, measure=replace(base.measure, quantities=(*beside, *QUANTITY)))])
        for column in ("edge", "products", "error"):
            there, here = row.curvature[column], by_itself.curvature[column]
            assert (there if column == "edge" else there["edge"]) == (here if column == "edge" else here["edge"])


# --- Adam's preconditioner -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", [1, 2, 7])
@pytest.mark.parametrize("reset", [False, True])
def test_the_update_that_led_here_was_made_with_this_preconditioner(updates: int, *, reset: bool) -> None:
    """w before − w after is η P⁻¹ m, also where a stage began with zero moments."""
    trial = trial_config(
        {
            "task": TINY,
            "model": MODELS["toy"],
            "train": {"steps": 20, "batch": 8, "lr": 0.02, "beta2": 0.97, "eps": 1e-4, "precision": "float64"},
            "schedule": {"kind": "shift", "switch": 6, "optimizer": "reset" if reset else "keep"},
        }
    )
    link, step = links(trial)[1], 6 + updates
    [before], [after] = (run([trial], until=until) for until in (step - 1, step))
    diagonal = preconditioner(trial, link, after.state)
    first = vector(after.state.optimizer, trial, "moment1/")
    moved = vector(before.state.parameters, trial) - vector(after.state.parameters, trial)
    torch.testing.assert_close(0.02 * first / diagonal, moved, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", MODELS)
def test_under_adam_it_is_the_largest_eigenvalue_of_the_dense_preconditioned_hessian(name: str) -> None:
    base = trained(config(name), steps=20, batch=4, lr=3e-3, eps=1e-5, beta1=0.8)
    results = run([base, replace(base, seed=5)], until=6)
    configs, states = [base, replace(base, seed=5)], [result.state for result in results]
    at = probe(configs, states)
    for lane, trial in enumerate(configs):
        second = vector(states[lane].optimizer, trial, "moment2/")
        P = (1 - 0.8**6) * ((second / (1 - 0.999**6)).sqrt() + 1e-5)
        scaled = at.dense(lane) / P.sqrt().unsqueeze(0) / P.sqrt().unsqueeze(1)
        expected = float(torch.linalg.eigvalsh(scaled)[-1]) / (2 * 1.8 / (0.2 * 3e-3))
        value = found(at, lane)
        assert value.number == pytest.approx(expected, rel=1e-8)
        assert abs(value.number - expected) <= value.error + 1e-12 * expected


def test_the_order_of_a_states_tensors_does_not_act() -> None:
    """A state that was read from a file has them in another one."""
    base = trained(config("layer-mlp"), steps=20, batch=4)
    [result] = run([base], until=3)
    turned = replace(
        result.state,
        parameters=dict(sorted(result.state.parameters.items(), reverse=True)),
        optimizer=dict(sorted(result.state.optimizer.items(), reverse=True)),
    )
    assert list(turned.parameters) != list(result.state.parameters)
    assert found(probe([base], [turned])) == found(probe([base], [result.state]))


# --- in packs, in training, and where there is none -------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("model", ["toy", "heads-all-tied"])
def test_a_lane_has_the_same_bits_in_any_pack(model: str, optimizer: str) -> None:
    """Lanes differ in all of the optimiser's terms."""
    configs = lanes(trained(config(model, quantities=QUANTITY), steps=20, batch=4, optimizer=optimizer), 3)
    states = [result.state for result in run(configs, until=4)]
    alone = [measured([trial], [at])[0].curvature for trial, at in zip(configs, states, strict=True)]
    assert len({row["edge"] for row in alone}) == 3
    for order in ([0, 1, 2], [2, 0]):
        rows = measured([configs[lane] for lane in order], [states[lane] for lane in order])
        assert [row.curvature for row in rows] == [alone[lane] for lane in order]


def test_training_has_an_edge_from_the_first_update_on() -> None:
    """At step 0 Adam has no moments; at the end of a cosine to zero no learning rate, so no limit."""
    base = trained(config("toy", quantities=QUANTITY, at=(0, 1, 8, 16)), steps=16, batch=4, lr_schedule="cosine")
    done = train_alone(base)
    values = {row["step"]: row["edge"] for row in done.curvature}
    methods = {row["step"]: row["method"]["edge"] for row in done.curvature}
    assert values[0] is None
    assert methods[0].endswith("failed: the moments are zero before the first update: there is no preconditioner")
    assert values[1] > 0
    assert values[8] > 0
    rate = next(row["lr"] for row in train_alone(trained(base, evaluate_every=8)).metrics if row["step"] == 8)
    assert methods[8] == f"lanczos, preconditioned, limit {38 / rate:.6g}"
    assert values[16] is None
    assert methods[16].endswith("failed: the learning rate is zero: there is no limit")


def test_moments_that_a_stage_has_just_reset_are_no_preconditioner() -> None:
    base = trained(config("toy"), steps=20, batch=4)
    trial = replace(base, schedule=trial_config({"schedule": {"kind": "shift", "optimizer": "reset"}}).schedule)
    at = probe([trial], [replace(initial_state(trial), step=10)])
    at = replace(at, chains=[links(trial)])
    assert found(at).failure == "the moments are zero before the first update: there is no preconditioner"


def test_sgd_has_an_edge_at_step_0_beside_a_lane_that_has_none() -> None:
    base = trained(config("toy"), optimizer="sgd", lr=0.1)
    ending = trained(base, lr_schedule="cosine", steps=4)
    at = probe([base, ending], [replace(initial_state(trial), step=4) for trial in (base, ending)])
    assert found(at).number == found(probe([base], [replace(initial_state(base), step=0)])).number
    assert found(at, 1) == Value(method="lanczos", failure="the learning rate is zero: there is no limit")


def test_what_does_not_converge_says_so() -> None:
    base = trained(config("layer-mlp", products=8), optimizer="sgd")
    value = found(probe([base]))
    assert value.number is None
    assert "not converged after 8 products" in str(value.failure)
