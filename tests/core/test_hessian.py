"""Hessian products: against finite differences of the training path's own gradient, and against closed forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from core.architecture import architecture
from core.config import TrialConfig
from core.flat import Layout
from core.gradients import gradients
from core.hessian import Products, StackedHessian, drive
from core.lineage import links
from core.model import forward, loss
from core.probes import Probe
from tests.core.probing import MODELS, config, probe, seeds


def dense(hessian: StackedHessian) -> Tensor:
    """All of every lane's Hessian `[K, P, P]`, one column a product."""
    units = torch.eye(hessian.size, dtype=torch.float64)
    return torch.stack([hessian.product(unit.expand(hessian.lanes, -1)) for unit in units], dim=2)


def training_gradient(base: TrialConfig, at: Probe, lane: int, weights: Tensor) -> Tensor:
    """The gradient of one lane's probe loss `[N, P]` at many weights `[N, P]`, by the path that training takes."""
    shapes = {name: tuple(p.shape[1:]) for name, p in at.params.items()}
    sizes = [p[0].numel() for p in at.params.values()]
    pieces = torch.split(weights, sizes, 1)
    params = {name: x.view(-1, *shape) for (name, shape), x in zip(shapes.items(), pieces, strict=True)}
    link = links(base)[0]
    tokens = (x[lane].expand(len(weights), -1, -1) for x in (at.inputs, at.targets))
    run = partial(loss, arch=architecture(base), loops=link.loops, injection=link.injection, loss_on=link.loss_on)
    inputs, targets = tokens
    return gradients(lambda p: run(p, inputs, targets), params)


def finite_differences(base: TrialConfig, at: Probe, lane: int, directions: Tensor) -> Tensor:
    """Central differences of fourth order of the gradient, `[N, P]` along each direction `[N, P]`."""
    step = 2e-5  # small, since norms of rows near 0 bend sharply
    moved = torch.cat([at.weights[lane] + by * step * directions for by in (1, -1, 2, -2)])
    near, back, far, far_back = training_gradient(base, at, lane, moved).split(len(directions))
    return (8 * (near - back) - (far - far_back)) / (12 * step)


@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_of_finite_differences(name: str) -> None:
    """The oracle differentiates the training path's own gradient numerically, on the real architecture, in float64."""
    base = config(name)
    at = probe(seeds(base, 2))
    hessian = at.hessian([0, 1])
    exact = dense(hessian)
    for lane, matrix in enumerate(exact):
        differences = finite_differences(base, at, lane, torch.eye(at.size, dtype=torch.float64))
        scale = float(matrix.abs().max())
        assert float((matrix - differences.mT).abs().max()) < 1e-8 * scale
        assert float((matrix - matrix.mT).abs().max()) < 1e-13 * scale
        (gradient,) = training_gradient(base, at, lane, at.weights[lane : lane + 1])
        torch.testing.assert_close(hessian.gradient()[lane], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("model", "sequences"),
    [({"width": 1, "loops": 2, "mlp_ratio": 3.0, "norm": "none"}, 6), ({"width": 4, "loops": 2, "norm": "layer"}, 1)],
)
def test_a_lone_lane_that_is_measured_beside_a_copy_has_its_own_derivatives(
    model: dict[str, Any], sequences: int
) -> None:
    base = config(model, probe=sequences)
    at = probe([base])
    (matrix,) = dense(at.hessian([0]))
    differences = finite_differences(base, at, 0, torch.eye(at.size, dtype=torch.float64))
    assert float((matrix - differences.mT).abs().max()) < 1e-8 * float(matrix.abs().max())


def test_fused_attention_is_not_used() -> None:
    """Several heads over long sequences train through a kernel that has no second derivative."""
    base = config({"width": 4, "heads": 2, "loops": 1}, task={"length": 64}, probe=2)
    at = probe([base])
    params = {name: p.clone().requires_grad_() for name, p in at.params.items()}
    trained = loss(params, at.inputs, at.targets, at.arch, loops=1)
    (gradient,) = torch.autograd.grad(trained.sum(), params["blocks.0.query"], create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative for .*attention.* is not implemented"):
        torch.autograd.grad(gradient.square().sum(), params["blocks.0.key"])
    directions = torch.stack([at.direction(0, "along", index) for index in range(3)])
    differences = finite_differences(base, at, 0, directions)
    products = at.hessian([0, 0, 0]).product(directions)
    torch.testing.assert_close(products, differences, rtol=1e-7, atol=1e-9)


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
    weights = torch.cat([p.view(3, -1) for p in params.values()], 1)
    assert torch.equal(hessian.weights(), weights)
    torch.testing.assert_close(hessian.gradient(), torch.einsum("kpq,kq->kp", matrices, weights))
    torch.testing.assert_close(hessian.losses, quadratic(params))


def test_linear_regression_has_its_closed_form() -> None:
    """Mean of 2 x xᵀ ⊗ 1 for squared errors with weights `[D, V]`, whatever the targets are."""
    draw = torch.Generator().manual_seed(3)
    x, y, w = (torch.randn(2, *shape, dtype=torch.float64, generator=draw) for shape in ((9, 4), (9, 3), (4, 3)))
    hessian = StackedHessian(lambda weights: (x @ weights["w"] - y).square().sum(-1).mean(1), {"w": w})
    inner = 2 * torch.einsum("knd,kne->kde", x, x) / 9
    expected = torch.einsum("kde,uv->kduev", inner, torch.eye(3, dtype=torch.float64)).reshape(2, 12, 12)
    torch.testing.assert_close(dense(hessian), expected, rtol=1e-12, atol=1e-14)


def test_logistic_regression_has_its_closed_form() -> None:
    """Mean of σ(z)(1 − σ(z)) x xᵀ with z = wᵀx (Hastie, Tibshirani & Friedman 2009, §4.4.1)."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, 4, dtype=torch.float64, generator=draw)
    y = (torch.rand(2, 9, generator=draw) < 0.4).double()
    w = torch.randn(2, 4, dtype=torch.float64, generator=draw)

    def logistic(weights: dict[str, Tensor]) -> Tensor:
        z = torch.einsum("knd,kd->kn", x, weights["w"])
        return F.binary_cross_entropy_with_logits(z, y, reduction="none").mean(1)

    p = torch.sigmoid(torch.einsum("knd,kd->kn", x, w))
    expected = torch.einsum("kn,knd,kne->kde", p * (1 - p) / 9, x, x)
    torch.testing.assert_close(dense(StackedHessian(logistic, {"w": w})), expected, rtol=1e-12, atol=1e-14)


def test_softmax_regression_has_its_closed_form() -> None:
    """Mean of x xᵀ ⊗ (diag p − p pᵀ), of the weights `[D, V]`; with a bias, x has a one more (Bishop 2006, §4.3.4)."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(2, 7, 3, dtype=torch.float64, generator=draw)
    y = torch.randint(4, (2, 7), generator=draw)
    params = {name: torch.randn(2, *shape, generator=draw) for name, shape in (("w", (3, 4)), ("b", (4,)))}

    def regression(weights: dict[str, Tensor]) -> Tensor:
        logits = torch.baddbmm(weights["b"].unsqueeze(1), x, weights["w"])
        return F.cross_entropy(logits.view(-1, 4), y.view(-1), reduction="none").view(2, 7).mean(1)

    logits = x @ params["w"].double() + params["b"].double().unsqueeze(1)
    p = torch.softmax(logits, -1)
    inner = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    with_one = torch.cat([x, torch.ones(2, 7, 1, dtype=torch.float64)], -1)
    expected = torch.einsum("knd,kne,knuv->kduev", with_one, with_one, inner).reshape(2, 16, 16) / 7
    torch.testing.assert_close(dense(StackedHessian(regression, params)), expected, rtol=1e-12, atol=1e-14)


def test_the_head_s_block_of_the_model_is_softmax_regression_on_what_the_head_reads() -> None:
    at = probe(seeds(config({"width": 5, "loops": 2}), 2))
    run = partial(forward, inputs=at.inputs, arch=at.arch, loops=2)
    read, logits = (
        run(at.params | {"head": head}).flatten(1, 2)
        for head in (torch.eye(5, dtype=torch.float64).expand(2, 5, 5), at.params["head"])
    )
    p = torch.softmax(logits, -1)
    inner = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    expected = torch.einsum("knd,kne,knuv->kduev", read, read, inner).reshape(2, 25, 25) / read.shape[1]
    head = at.kinds["head"]
    found = torch.stack([at.dense(lane)[head][:, head] for lane in range(2)])
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_parameters_that_do_not_act_have_no_curvature() -> None:
    """Nothing is assumed about which parameters a loss reads, and what it reads linearly crosses with others only."""
    x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    params = {"used": x, "idle": torch.ones(2, 2, 2), "linear": torch.ones(2, 1)}
    hessian = StackedHessian(lambda w: w["used"][:, 0] ** 3 / 6 + w["used"][:, 0] * w["linear"][:, 0], params)
    expected = torch.zeros(2, 6, 6, dtype=torch.float64)
    expected[:, 0, 0] = x[:, 0]
    expected[:, 0, 5] = expected[:, 5, 0] = 1.0
    assert torch.equal(dense(hessian), expected)
    assert torch.equal(hessian.gradient()[:, 1:5], torch.zeros(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_raised_to_float64_and_copied(name: str) -> None:
    at = probe(seeds(config(name), 2))
    single = {name: p.float() for name, p in at.params.items()}
    low, high = (StackedHessian(at.loss, p) for p in (single, at.params))
    vectors = torch.stack([at.direction(lane, "v") for lane in range(2)])
    assert low.losses.dtype == low.product(vectors).dtype == low.gradient().dtype == torch.float64
    assert torch.equal(low.product(vectors), high.product(vectors))
    before = low.product(vectors)
    for p in single.values():
        p.zero_()
    assert torch.equal(low.product(vectors), before)
    assert all(p.grad is None and not p.requires_grad for p in single.values())


def test_products_are_linear_and_can_be_asked_again() -> None:
    at = probe(seeds(config("layer-mlp"), 2))
    hessian = at.hessian([0, 1])
    u, v = (torch.stack([at.direction(lane, name) for lane in range(2)]) for name in ("u", "v"))
    both = hessian.product(2 * u - 3 * v)
    torch.testing.assert_close(both, 2 * hessian.product(u) - 3 * hessian.product(v), rtol=1e-11, atol=1e-13)
    assert torch.equal(hessian.product(u), hessian.product(u))
    assert torch.equal(hessian.product(torch.zeros_like(u)), torch.zeros_like(u))


def test_the_padding_between_parameters_is_in_no_vector() -> None:
    base = config("heads-all-tied")
    at = probe([base])
    hessian = at.hessian([0])
    assert hessian.size == at.size == sum(p[0].numel() for p in at.params.values())
    assert hessian.size < Layout(shapes=hessian.shapes).size
    assert torch.equal(hessian.weights(), at.weights)
    assert list(hessian.shapes) == list(at.params)


def test_algorithms_go_in_step_and_end_when_they_end() -> None:
    """Each is sent the products of its own vectors only, however long the others go on."""
    matrices = torch.arange(1.0, 4.0, dtype=torch.float64).view(3, 1) * torch.ones(3, 4, dtype=torch.float64)
    passes: list[Tensor] = []

    def product(vectors: Tensor) -> Tensor:
        passes.append(vectors.clone())
        return matrices * vectors

    def powers(start: float, count: int) -> Products[float]:
        x = torch.full((4,), start, dtype=torch.float64)
        for _ in range(count):
            x = yield x
        return float(x[0])

    assert drive(product, [powers(1.0, 1), powers(1.0, 3), powers(2.0, 2)]) == [1.0, 8.0, 18.0]
    assert [x[0, 0].item() for x in passes] == [1.0, 0.0, 0.0]
    assert [x[2, 0].item() for x in passes] == [2.0, 6.0, 0.0]


def test_lanes_that_are_left_go_on_by_themselves() -> None:
    scale, passes = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), list[list[int]]()

    def of(lanes: Sequence[int]) -> Callable[[Tensor], Tensor]:
        def product(vectors: Tensor) -> Tensor:
            passes.append(list(lanes))
            return scale[list(lanes), None] * vectors

        return product

    def power(count: int) -> Products[float]:
        vector = torch.ones(1, dtype=torch.float64)
        for _ in range(count):
            vector = yield vector
        return float(vector)

    found = drive(of(range(4)), [power(count) for count in (2, 5, 1, 4)], fewer=of)
    assert found == [1.0, 2.0**5, 3.0, 4.0**4]
    assert passes == [[0, 1, 2, 3]] * 2 + [[1, 3]] * 2 + [[1]]


@pytest.mark.parametrize("name", MODELS)
def test_a_lane_has_its_bits_when_others_have_finished(name: str) -> None:
    at = probe(seeds(config(name), 4))

    def power(lane: int, count: int) -> Products[Tensor]:
        vector = at.direction(lane, "start")
        for _ in range(count):
            vector = yield vector
        return vector

    counts = (1, 4, 2, 6)
    together = at.drive([(lane, power(lane, count)) for lane, count in enumerate(counts)])
    for lane, count in enumerate(counts):
        [alone] = at.drive([(lane, power(lane, count))])
        assert torch.equal(together[lane], alone)
    assert set(at._hessians) == {(0, 1, 2, 3), (0,), (1,), (2,), (3,)}
