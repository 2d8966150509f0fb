"""The same-loop and the cross-loop part: against the tied Hessian, dense linear algebra and finite differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.architecture import architecture
from core.curvature import ESTIMATORS
from core.findings import Finding
from core.hessian import StackedHessian
from core.model import loss
from core.probes import GROUP_ELEMENTS, Probe
from core.quantities import QUANTITIES
from core.unrolled import CROSS, SAME, Unrolled, loop_parts, of_part, parts
from tests.core.probing import MODELS, config, measured, probe, seeds, state

COLUMNS = tuple(QUANTITIES["loop_parts"].columns)
DEEP = {
    "width": 2,
    "depth": 2,
    "loops": 2,
    "norm": "rms",
    "mlp_ratio": 0.5,
    "injection": "add",
    "loss_on": "all",
    "position": "rotary",
}
LOOPED = {**MODELS, "deep": DEEP}
SAMPLED = {"exact": 0}
"""A limit of exact spectra that no model is within."""


def unrolled(model: str, count: int = 1, **measured: object) -> Unrolled:
    return Unrolled(probe=probe(seeds(config(LOOPED[model], **measured), count)))


def fixed(of: Unrolled, lanes: Sequence[int]) -> dict[str, Tensor]:
    return {name: p[list(lanes)] for name, p in of.probe.params.items() if name not in of.looped}


def whole(of: Unrolled, lane: int) -> Tensor:
    """H_unrolled of a lane `[R, P_b, R, P_b]`, one unit vector after the other."""
    hessian = of.hessian([lane])
    rows = [hessian.product(unit.unsqueeze(0))[0] for unit in torch.eye(hessian.size, dtype=torch.float64)]
    return torch.stack(rows).view(of.loops, of.size, of.loops, of.size)


def tied(of: Unrolled, lane: int) -> Tensor:
    """The looped blocks' own block of the tied Hessian `[P_b, P_b]`."""
    return of.probe.dense(lane)[of.places][:, of.places]


def blocks(H: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts `[P_b, P_b]` by their definition, from `whole`."""
    R = len(H)
    same = sum((H[r, :, r] for r in range(R)), torch.zeros_like(H[0, :, 0]))
    cross = sum((H[r, :, s] for r in range(R) for s in range(R) if r != s), torch.zeros_like(same))
    return same, cross


# --- the unrolled model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOPED)
def test_with_equal_copies_the_loss_is_the_tied_one(name: str) -> None:
    of = unrolled(name, 2)
    losses = of.probe.loss({**fixed(of, [0, 1]), **of.copies([0, 1])}, lanes=[0, 1], arch=of.arch)
    torch.testing.assert_close(losses, of.probe.loss(of.probe.params), rtol=1e-15, atol=0)


def apart(copies: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that differ."""
    draw = torch.Generator().manual_seed(0)
    return {n: p + 0.2 * torch.randn(p.shape, generator=draw, dtype=p.dtype) for n, p in copies.items()}


def deep_loss(of: Unrolled, weights: dict[str, Tensor], loops: int) -> Tensor:
    """Of a plain model with the looped blocks of so many loops, one after the other, and no loop."""
    arch = architecture(of.probe.configs[0])
    deep = replace(arch, depth=arch.depth * loops)
    return loss(weights, of.probe.inputs, of.probe.targets, deep, loops=1)


def test_unequal_copies_are_a_deep_model() -> None:
    of = unrolled("toy")
    copies, rest = apart(of.copies([0])), fixed(of, [0])
    found = of.probe.loss({**rest, **copies}, lanes=[0], arch=of.arch)
    torch.testing.assert_close(found, deep_loss(of, {**rest, **copies}, 3), rtol=1e-14, atol=0)
    assert float((found - of.probe.loss(of.probe.params)).abs()) > 1e-3


def test_the_loss_on_all_outputs_reads_each_loop_after_its_own_copies() -> None:
    of = unrolled("coda")
    copies, rest = apart(of.copies([0])), fixed(of, [0])
    each = [deep_loss(of, {**rest, **copies}, loops) for loops in (1, 2)]
    torch.testing.assert_close(
        of.probe.loss({**rest, **copies}, lanes=[0], arch=of.arch), sum(each) / 2, rtol=1e-14, atol=0
    )


def test_products_are_those_of_finite_differences() -> None:
    """The oracle differentiates the gradient of the training path's kernels, on the unrolled architecture."""
    of = unrolled("heads-all-tied")
    rest, start = fixed(of, [0]), of.copies([0])
    arch = of.arch

    def gradient(vector: Tensor) -> Tensor:
        pieces = vector.split([p.numel() for p in start.values()])
        leaves = {n: v.view_as(p).clone().requires_grad_() for (n, p), v in zip(start.items(), pieces, strict=True)}
        losses = loss(
            {**rest, **leaves},
            of.probe.inputs,
            of.probe.targets,
            arch,
            loops=of.loops,
            injection="add",
            loss_on="all",
        )
        return torch.cat([g.flatten() for g in torch.autograd.grad(losses.sum(), list(leaves.values()))])

    at = torch.cat([p.flatten() for p in start.values()])
    draw, hessian, step = torch.Generator().manual_seed(0), of.hessian([0]), 2e-5
    for _ in range(8):
        v = torch.randn(len(at), generator=draw, dtype=at.dtype)
        v /= v.norm()
        near, far = (gradient(at + h * step * v) - gradient(at - h * step * v) for h in (1, 2))
        product = hessian.product(v.unsqueeze(0))[0]
        assert float(((8 * near - far) / (12 * step) - product).norm()) < 1e-8 * float(product.norm())


# --- the parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOPED)
def test_the_tied_hessian_is_the_unrolled_one_on_equal_copies(name: str) -> None:
    """H_tied = Sᵀ H_unrolled S, and both parts are its blocks by their definition."""
    of = unrolled(name)
    H, H_unrolled, dense = tied(of, 0), whole(of, 0), of.dense(0)
    scale = float(H.abs().max())
    assert float((H_unrolled.sum((0, 2)) - H).abs().max()) < 1e-13 * scale
    assert float((dense.sum(0) - H).abs().max()) < 1e-13 * scale
    for part, block in zip((SAME, CROSS), blocks(H_unrolled), strict=True):
        assert float((dense[part] - block).abs().max()) < 1e-13 * scale
        assert float((block - block.mT).abs().max()) < 1e-13 * scale
    assert float(dense[CROSS].abs().max()) > 1e-4 * scale


def test_a_product_of_a_part_takes_one_product_per_loop() -> None:
    of = unrolled("toy")
    dense, v = of.dense(0), of.direction(0, "any")
    [(same, cross)] = of.drive([(0, parts(v, of.loops))])
    torch.testing.assert_close(same, dense[SAME] @ v, rtol=0, atol=1e-14)
    torch.testing.assert_close(cross, dense[CROSS] @ v, rtol=0, atol=1e-14)

    def twice(asked: list[int]):
        first = yield v
        asked.append(1)
        second = yield first
        asked.append(2)
        return second

    seen: list[int] = []
    asked = 0
    run = of_part(twice(seen), of.loops, CROSS)
    product, hessian = next(run), of.hessian([0])
    try:
        while True:
            asked += 1
            product = run.send(hessian.product(product.unsqueeze(0))[0])
    except StopIteration as finished:
        torch.testing.assert_close(finished.value, dense[CROSS] @ (dense[CROSS] @ v), rtol=0, atol=1e-14)
    assert (asked, seen) == (6, [1, 2])


# --- columns -------------------------------------------------------------------------------------------------------


def expected(of: Unrolled, lane: int) -> dict[str, float]:
    same, cross = blocks(whole(of, lane))
    low, high = torch.linalg.eigvalsh(cross)[[0, -1]].tolist()
    return {
        "same_loop_trace": float(same.trace()),
        "cross_loop_trace": float(cross.trace()),
        "same_loop_lambda_max": float(torch.linalg.eigvalsh(same)[-1]),
        "cross_loop_lambda_max": high,
        "cross_loop_lambda_min": low,
    }


@pytest.mark.parametrize("name", LOOPED)
def test_exact_columns_are_those_of_dense_linear_algebra(name: str) -> None:
    of = unrolled(name)
    [found] = loop_parts(of.probe)
    assert tuple(sorted(found.values)) == tuple(sorted(COLUMNS))
    for column, number in expected(of, 0).items():
        value = found.values[column]
        assert value.number == pytest.approx(number, rel=1e-11, abs=1e-13)
        assert (value.method, value.error, value.failure) == ("exact", None, None)
        assert value.products == of.loops * of.size
    traces = found.values["same_loop_trace"].number, found.values["cross_loop_trace"].number
    assert sum(traces) == pytest.approx(float(tied(of, 0).trace()), rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("name", ["toy", "layer-mlp", "deep"])
def test_sampled_columns_are_within_their_errors(name: str) -> None:
    of = unrolled(name, vectors=16, **SAMPLED)
    norm = float(tied(of, 0).norm())
    [found] = loop_parts(of.probe)
    assert tuple(sorted(found.values)) == tuple(sorted(COLUMNS))
    for column, number in expected(of, 0).items():
        value = found.values[column]
        if column.endswith("trace"):
            assert value.method == "hutchinson, 16 vectors"
            assert value.products == 16 * of.loops
            assert 0 < value.error < 0.5 * norm
            assert abs(value.number - number) < 4 * value.error
        else:
            assert value.method == "lanczos"
            assert value.products % of.loops == 0
            assert 0 < value.products <= of.probe.measure.products
            assert value.number == pytest.approx(number, rel=1e-6)
            assert abs(value.number - number) <= value.error + 1e-12


def test_the_error_of_the_traces_is_that_of_more_vectors() -> None:
    """Sixteen times as many vectors, a quarter of the error."""
    few, many = (
        loop_parts(unrolled("coda", vectors=count, **SAMPLED).probe)[0].values["cross_loop_trace"].error
        for count in (16, 256)
    )
    assert few / many == pytest.approx(4, rel=0.5)


def test_the_limit_of_exact_parts_is_that_of_the_unrolled_weights() -> None:
    of = unrolled("toy")
    limit = max(of.loops * of.size, of.probe.size)
    methods = {
        exact: loop_parts(unrolled("toy", exact=exact).probe)[0].values["same_loop_trace"].method
        for exact in (limit, limit - 1)
    }
    assert methods == {limit: "exact", limit - 1: "hutchinson, 8 vectors"}


@pytest.mark.parametrize("settings", [{}, SAMPLED])
def test_one_loop_has_no_cross_part(settings: dict[str, int]) -> None:
    of = Unrolled(probe=probe([config({"width": 4, "loops": 1}, vectors=4, **settings)]))
    [found] = loop_parts(of.probe)
    H = tied(of, 0)
    assert float((of.dense(0)[SAME] - H).abs().max()) < 1e-15
    assert not of.dense(0)[CROSS].any()
    top = found.values["same_loop_lambda_max"]
    assert top.number == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=1e-6)
    trace = found.values["same_loop_trace"]
    assert abs(trace.number - float(H.trace())) <= 4 * (trace.error or 1e-13)
    for column in COLUMNS:
        if column.startswith("cross"):
            assert (found.values[column].number, found.values[column].failure) == (None, "one loop")


def test_a_schedule_that_grows_is_measured_at_the_loops_of_its_link() -> None:
    base = config({"width": 4, "loops": 2}, quantities=("loop_parts",))
    shift = replace(base, schedule=replace(base.schedule, kind="shift"))
    single, looped = (measured([shift], link=link)[0].curvature for link in (0, 1))
    assert single["cross_loop_trace"] is None
    assert single["method"]["cross_loop_trace"] == "exact failed: one loop"
    assert looped == measured([base])[0].curvature
    assert looped["cross_loop_trace"] is not None


# --- failures ------------------------------------------------------------------------------------------------------


def test_an_end_that_the_budget_does_not_settle_has_no_number() -> None:
    [found] = loop_parts(unrolled("toy", products=8, **SAMPLED).probe)
    value = found.values["cross_loop_lambda_min"]
    assert value.number is None
    assert value.products == 6
    assert "not converged after 2 products" in str(value.failure)
    assert "each takes 3 Hessian products" in str(value.failure)
    assert found.values["cross_loop_trace"].number is not None


@pytest.mark.parametrize("settings", [{}, SAMPLED])
def test_weights_that_overflow_give_no_number_beside_a_sound_lane(settings: dict[str, int]) -> None:
    configs = seeds(config("toy", **settings), 2)
    states = [state(one) for one in configs]
    sound = loop_parts(probe(configs, states))
    wide = {**states[1].parameters, "embedding": torch.full_like(states[1].parameters["embedding"], float("inf"))}
    first, second = loop_parts(probe(configs, [states[0], replace(states[1], parameters=wide)]))
    assert first == sound[0]
    assert {value.number for value in second.values.values()} == {None}
    assert {value.failure for value in second.values.values()} == {"a product is not finite"}
    assert tuple(second.values) == COLUMNS


class _Twisted(torch.autograd.Function):
    """A gradient that is no gradient of anything: its Jacobian is not symmetric."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square().sum(1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        [x] = ctx.saved_tensors
        twist = torch.randn(x.shape[1], x.shape[1], dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        return grad.unsqueeze(1) * (x @ twist)


@pytest.mark.parametrize("settings", [{}, SAMPLED])
def test_a_wrong_second_derivative_gives_no_number_and_says_why(
    settings: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hessian(self: Unrolled, lanes: Sequence[int]) -> StackedHessian:
        weights = {"x": torch.ones(len(lanes), self.loops * self.size)}
        return StackedHessian(lambda params: _Twisted.apply(params["x"]), weights)

    monkeypatch.setattr(Unrolled, "hessian", hessian)
    [found] = loop_parts(probe([config("toy", **settings)]))
    assert tuple(found.values) == COLUMNS
    for value in found.values.values():
        assert value.number is None
        assert "not symmetric" in str(value.failure)


# --- packs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, SAMPLED])
@pytest.mark.parametrize("model", ["toy", "deep", "one loop", "unit"])
def test_a_lane_has_the_same_bits_in_any_pack(model: str, settings: dict[str, int]) -> None:
    shapes = {**LOOPED, "one loop": {"width": 5, "loops": 1}, "unit": {"width": 1, "loops": 2, "mlp_ratio": 2.0}}
    configs = seeds(config(shapes[model], vectors=4, products=24, **settings), 4)

    def found(order: Sequence[int]) -> list[Finding]:
        return loop_parts(_of(configs, order))

    alone = [found([lane])[0] for lane in range(4)]
    for order in ([0, 1, 2, 3], [3, 1], [2, 2, 0]):
        assert found(order) == [alone[lane] for lane in order]


def _of(configs: Sequence[object], order: Sequence[int]) -> Probe:
    return probe([configs[lane] for lane in order])


@pytest.mark.parametrize("settings", [{}, SAMPLED])
def test_groups_of_any_size_give_the_same_bits(settings: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    together = probe(seeds(config("coda", vectors=4, products=16, **settings), 3))
    found = loop_parts(together)
    for lanes in (1, 2):
        monkeypatch.setitem(GROUP_ELEMENTS, "cpu", together.inputs[0].numel() * 2 * 4 * lanes)
        assert together.group == lanes
        assert loop_parts(together) == found


def test_it_is_the_quantity_of_that_name() -> None:
    assert ESTIMATORS["loop_parts"] is loop_parts
    base = config("toy", quantities=("loop_parts",))
    row = measured([base])[0].curvature
    [finding] = loop_parts(probe([base]))
    assert {column: row[column] for column in COLUMNS} == {c: v.number for c, v in finding.values.items()}
