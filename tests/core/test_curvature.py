"""Curvature of the real model: against finite differences, against scipy, in any pack, without touching training."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from core.config import TrialConfig, trial_config
from core.curvature import StackedHessian, measure, probe_hessian, spectrum_ends
from core.errors import InputError
from core.lineage import links
from core.model import architecture, init_parameters, loss
from core.quantities import QUANTITIES
from core.tasks import task_data

ENDS = ("lambda_max", "lambda_min")
TINY = {"states": 5, "chains": 4, "length": 4, "val_size": 16, "train_size": 0}
MODELS = {
    "toy": {"width": 4, "loops": 3},
    "layer-mlp": {"width": 4, "loops": 2, "norm": "layer", "mlp_ratio": 1.25},
    "rms-rotary-linear": {"width": 4, "loops": 2, "norm": "rms", "position": "rotary", "attention": "linear"},
    "heads-all-tied": {
        "width": 4,
        "heads": 2,
        "loops": 2,
        "norm": "layer",
        "mlp_ratio": 1.0,
        "loss_on": "all",
        "injection": "add",
        "output": "tied",
    },
    "coda": {"width": 2, "loops": 2, "coda": 1, "prelude": 1, "loss_on": "all"},
}


def config(model: str | dict[str, object], *, probe: int = 6, quantities: tuple[str, ...] = ENDS) -> TrialConfig:
    return trial_config(
        {
            "task": TINY,
            "model": MODELS[model] if isinstance(model, str) else model,
            "measure": {"quantities": quantities, "probe": probe},
        }
    )


def lanes(base: TrialConfig, count: int) -> tuple[list[TrialConfig], dict[str, Tensor], Tensor, Tensor]:
    """A pack of trials that differ in their seeds, with weights off their initial values (norms included)."""
    configs = [replace(base, seed=seed) for seed in range(count)]
    weights = []
    for lane in configs:
        noise = torch.Generator().manual_seed(lane.seed)
        start = init_parameters(lane)
        weights.append({name: p + 0.3 * torch.randn(p.shape, generator=noise) for name, p in start.items()})
    sets = [task_data(lane).validation() for lane in configs]
    return (
        configs,
        {name: torch.stack([w[name] for w in weights]) for name in weights[0]},
        torch.stack([torch.from_numpy(s.inputs) for s in sets]),
        torch.stack([torch.from_numpy(s.targets) for s in sets]),
    )


def hessian_of(base: TrialConfig, count: int) -> tuple[StackedHessian, dict[str, Tensor], Tensor, Tensor]:
    _, params, inputs, targets = lanes(base, count)
    inputs, targets = inputs[:, : base.measure.probe], targets[:, : base.measure.probe]
    link = links(base)[0]
    return (
        probe_hessian(params, config=base, link=link, inputs=inputs, targets=targets),
        {name: p.double() for name, p in params.items()},
        inputs,
        targets,
    )


def dense(hessian: StackedHessian) -> Tensor:
    """All of every lane's Hessian `[K, P, P]`, one column a product."""
    columns = [torch.stack(hessian.product([unit] * hessian.lanes)) for unit in torch.eye(hessian.size).double()]
    return torch.stack(columns, dim=2)


# --- products ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_of_finite_differences(name: str) -> None:
    """The oracle differentiates the training path's own gradient numerically, on the real architecture, in float64."""
    base = config(name)
    link = links(base)[0]
    hessian, params, inputs, targets = hessian_of(base, 2)

    def gradient(weights: dict[str, Tensor]) -> Tensor:
        leaves = {key: p.clone().requires_grad_() for key, p in weights.items()}
        losses = loss(
            leaves,
            inputs,
            targets,
            architecture(base),
            loops=link.loops,
            injection=link.injection,
            loss_on=link.loss_on,
        )
        grads = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return torch.cat([g.reshape(2, -1) for g in grads], dim=1)

    exact = dense(hessian)
    differences, column, step = torch.empty_like(exact), 0, 2e-5
    for key, p in params.items():
        for index in range(p[0].numel()):

            def moved(by: float, key: str = key, p: Tensor = p, index: int = index) -> Tensor:
                shifted = p.clone()
                shifted.view(2, -1)[:, index] += by
                return gradient({**params, key: shifted})

            # Central differences of fourth order; the step is small since norms of rows near 0 bend sharply.
            near, far = moved(step) - moved(-step), moved(2 * step) - moved(-2 * step)
            differences[:, :, column] = (8 * near - far) / (12 * step)
            column += 1
    assert float((exact - differences).abs().max()) < 1e-8 * float(exact.abs().max())
    assert float((exact - exact.mT).abs().max()) < 1e-13 * float(exact.abs().max())
    torch.testing.assert_close(torch.stack(hessian.gradient()), gradient(params), rtol=1e-12, atol=1e-14)


def test_a_quadratic_has_its_own_matrix_as_hessian() -> None:
    draw = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 12, 12, dtype=torch.float64, generator=draw)
    matrices = matrices + matrices.mT
    params = {
        "a": torch.randn(3, 2, 3, dtype=torch.float64, generator=draw),
        "b": torch.randn(3, 6, dtype=torch.float64, generator=draw),
    }

    def quadratic(weights: dict[str, Tensor]) -> Tensor:
        x = torch.cat([weights["a"].view(3, 6), weights["b"]], dim=1)
        return 0.5 * torch.einsum("kp,kpq,kq->k", x, matrices, x)

    hessian = StackedHessian(quadratic, params)
    torch.testing.assert_close(dense(hessian), matrices, rtol=1e-12, atol=1e-12)
    for found, matrix in zip(spectrum_ends(hessian, [0, 1, 2], ENDS), matrices, strict=True):
        values = torch.linalg.eigvalsh(matrix)
        assert [end.value for end in found] == [pytest.approx(float(values[i]), rel=1e-9) for i in (-1, 0)]


# --- the ends of the spectrum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_ends_are_those_that_scipy_finds(name: str) -> None:
    base = config(name)
    configs, params, inputs, targets = lanes(base, 2)
    rows = measure(params, configs=configs, link=links(base)[0], inputs=inputs, targets=targets)
    hessian, *_ = hessian_of(base, 2)
    for lane, row in enumerate(rows):

        def product(vector: np.ndarray, lane: int = lane) -> np.ndarray:
            return hessian.product([torch.from_numpy(vector.reshape(-1).copy())] * 2)[lane].numpy()

        operator = LinearOperator((hessian.size, hessian.size), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(hessian.size)
        for quantity, which in (("lambda_max", "LA"), ("lambda_min", "SA")):
            [expected] = eigsh(operator, k=1, which=which, v0=start, return_eigenvectors=False)
            assert row[quantity] == pytest.approx(expected, rel=1e-8)
            assert abs(row[quantity] - expected) <= row["error"][quantity]
        assert row["method"] == dict.fromkeys(ENDS, "lanczos")
        assert all(3 <= row["products"][quantity] <= 256 for quantity in ENDS)


def test_a_wrong_second_derivative_gives_null_and_says_why() -> None:
    """A gradient that is no gradient of anything: its Jacobian is not symmetric, as with the known wrong kernels."""
    twist = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.square().sum(1)

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
            [x] = ctx.saved_tensors
            return grad.unsqueeze(1) * (x @ twist)

    hessian = StackedHessian(lambda w: Wrong.apply(w["x"]), {"x": torch.ones(2, 6)})
    for lane in spectrum_ends(hessian, [0, 1], ENDS):
        for end in lane:
            assert end.value is None
            assert "not symmetric" in str(end.failure)


def test_weights_that_overflow_give_null_beside_a_sound_lane() -> None:
    base = config("toy")
    configs, params, inputs, targets = lanes(base, 2)
    sound = measure(params, configs=configs, link=links(base)[0], inputs=inputs, targets=targets)
    params["embedding"][1] = float("inf")
    first, second = measure(params, configs=configs, link=links(base)[0], inputs=inputs, targets=targets)
    assert first == sound[0]
    assert second == {
        "lambda_max": None,
        "lambda_min": None,
        "method": dict.fromkeys(ENDS, "lanczos failed: a product is not finite"),
        "error": {},
        "products": dict.fromkeys(ENDS, 2),
    }


# --- packs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        {"width": 16, "loops": 3},
        {"width": 8, "heads": 2, "loops": 2, "norm": "layer", "mlp_ratio": 1.5, "loss_on": "all"},
        {"width": 5, "loops": 2, "norm": "rms", "mlp_ratio": 1.4, "attention": "linear", "output": "tied"},
        {"width": 12, "heads": 3, "loops": 2, "norm": "layer", "position": "rotary", "prelude": 1},
    ],
)
@pytest.mark.parametrize("probe", [3, 16])
def test_a_lane_has_the_same_bits_in_any_pack(model: dict[str, object], probe: int) -> None:
    base = config(model, probe=probe)
    configs, params, inputs, targets = lanes(base, 5)
    link = links(base)[0]

    def rows(order: list[int]) -> list[dict[str, object]]:
        return measure(
            {name: p[order] for name, p in params.items()},
            configs=[configs[lane] for lane in order],
            link=link,
            inputs=inputs[order],
            targets=targets[order],
        )

    alone = [rows([lane])[0] for lane in range(5)]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0], [3, 1], [1, 1, 1, 4]):
        assert rows(order) == [alone[lane] for lane in order]


def test_a_pack_larger_than_a_group_has_the_bits_of_its_lanes() -> None:
    base = trial_config(
        {
            "task": {"states": 5, "chains": 4, "length": 32, "val_size": 32, "train_size": 0},
            "model": {"width": 24, "loops": 2},
            "measure": {"quantities": ["lambda_max"], "probe": 32},
        }
    )
    configs, params, inputs, targets = lanes(base, 4)  # two lanes fill a group
    link = links(base)[0]
    together = measure(params, configs=configs, link=link, inputs=inputs, targets=targets)
    for lane in (1, 3):
        at = slice(lane, lane + 1)
        [alone] = measure(
            {name: p[at] for name, p in params.items()},
            configs=configs[at],
            link=link,
            inputs=inputs[at],
            targets=targets[at],
        )
        assert alone == together[lane]


# --- what is measured ----------------------------------------------------------------------------------------------


def test_training_is_not_disturbed() -> None:
    base = config("layer-mlp")
    configs, params, inputs, targets = lanes(base, 2)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    before = {name: p.detach().clone() for name, p in leaves.items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    with torch.no_grad():
        rows = measure(leaves, configs=configs, link=links(base)[0], inputs=inputs, targets=targets)
        assert not torch.is_grad_enabled()
    assert all(row["lambda_max"] is not None for row in rows)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    for name, p in leaves.items():
        assert torch.equal(p, before[name])
        assert p.grad is None


def test_weights_are_raised_to_float64() -> None:
    base = config("toy")
    configs, params, inputs, targets = lanes(base, 1)
    link = links(base)[0]
    raised = {name: p.double() for name, p in params.items()}
    assert measure(params, configs=configs, link=link, inputs=inputs, targets=targets) == measure(
        raised, configs=configs, link=link, inputs=inputs, targets=targets
    )


def test_the_probe_is_the_beginning_of_the_validation_set() -> None:
    base = config("toy", probe=6)
    configs, params, inputs, targets = lanes(base, 1)
    link = links(base)[0]
    [row] = measure(params, configs=configs, link=link, inputs=inputs, targets=targets)
    outside, inside = targets.clone(), targets.clone()
    outside[:, 6:] = 0
    inside[:, 5] = (inside[:, 5] + 1) % 5
    assert measure(params, configs=configs, link=link, inputs=inputs, targets=outside) == [row]
    assert measure(params, configs=configs, link=link, inputs=inputs, targets=inside) != [row]


def test_the_loss_is_that_of_the_link() -> None:
    """At the switch of a shift the curvature is that of the loops that trained, before and after."""
    base = replace(config("toy"), schedule=trial_config({"schedule": {"kind": "shift"}}).schedule)
    single, looped = links(base)
    _, params, inputs, targets = lanes(base, 1)

    def value(link: object, trial: TrialConfig) -> float:
        return float(measure(params, configs=[trial], link=link, inputs=inputs, targets=targets)[0]["lambda_max"])

    assert value(single, base) != value(looped, base)
    assert value(looped, base) == value(links(config("toy"))[0], config("toy"))


def test_fused_attention_is_not_used() -> None:
    """Several heads over long sequences train through a kernel that has no second derivative."""
    base = trial_config(
        {
            "task": {"states": 5, "chains": 4, "length": 64, "val_size": 4, "train_size": 0},
            "model": {"width": 4, "heads": 2, "loops": 1},
            "measure": {"quantities": ["lambda_max"], "probe": 2},
        }
    )
    configs, params, inputs, targets = lanes(base, 1)
    [row] = measure(params, configs=configs, link=links(base)[0], inputs=inputs, targets=targets)
    assert row["method"] == {"lambda_max": "lanczos"}


def test_one_quantity_has_the_value_it_has_beside_others() -> None:
    configs, params, inputs, targets = lanes(config("toy"), 1)
    both = measure(params, configs=configs, link=links(configs[0])[0], inputs=inputs, targets=targets)[0]
    for quantity in ENDS:
        only = [config("toy", quantities=(quantity,))]
        [row] = measure(params, configs=only, link=links(only[0])[0], inputs=inputs, targets=targets)
        assert row[quantity] == both[quantity]
        assert set(row) == {quantity, "method", "error", "products"}


# --- refusals ------------------------------------------------------------------------------------------------------


def test_refusals_name_the_key() -> None:
    base = config("toy")
    configs, params, inputs, targets = lanes(base, 2)

    def refused(trials: list[TrialConfig], sequences: int = 16) -> str:
        with pytest.raises(InputError) as error:
            measure(
                params,
                configs=trials,
                link=links(base)[0],
                inputs=inputs[:, :sequences],
                targets=targets[:, :sequences],
            )
        return str(error.value)

    def observing(**measured: object) -> list[TrialConfig]:
        return [replace(c, measure=replace(c.measure, **measured)) for c in configs]

    assert "measure.probe: must be at most" in refused(configs, sequences=5)
    assert "unknown quantity 'lambda_mid'" in refused(observing(quantities=("lambda_mid",)))
    assert "one pack" in refused([configs[0], *observing(probe=5)[1:]])


def test_quantities_are_known_without_torch() -> None:
    script = (
        "import sys, core.config, core.quantities, core.flops, core.tasks, core.markov; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert all(quantity.unit and quantity.doc for quantity in QUANTITIES.values())
