"""Packs whose lanes are looped different numbers of times: each lane gets, bit for bit, what it gets alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.architecture import architecture, init_parameters, parameter_shapes
from core.config import TrialConfig, trial_config
from core.draws import loop_draws
from core.flat import Layout
from core.model import forward, loss
from core.ragged import by_falling_loops, part
from tests.core.reference import CASES, PlainModel, case, plain_loss

Pack = tuple[TrialConfig, Tensor, Tensor, Tensor]
"""A trial of the pack's shape, weights `[K, P]`, inputs and targets `[K, B, T]`."""


def pack(config: TrialConfig, lanes: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Pack:
    """Different weights (norms' affine terms away from 1 and 0) and tokens for each lane."""
    layout = Layout(shapes=parameter_shapes(architecture(config)))
    trials = [init_parameters(replace(config, seed=seed + lane), dtype) for lane in range(lanes)]
    flat = layout.stack(trials, device=torch.device("cpu"), dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    flat += 0.05 * torch.randn(flat.shape, generator=generator, dtype=dtype)
    shape = (2, lanes, config.train.batch, config.task.context)
    inputs, targets = torch.randint(config.task.vocabulary, shape, generator=generator)
    return config, flat, inputs, targets


def lane(given: Pack, index: int) -> Pack:
    config, *tensors = given
    weights, inputs, targets = (t[index : index + 1] for t in tensors)
    return config, weights, inputs, targets


def outcome(given: Pack, loops: int | Sequence[int], *, math: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Losses `[K]`, gradients `[K, P]` and logits `[K, B, T, V]`."""
    config, weights, inputs, targets = given
    layout, arch = Layout(shapes=parameter_shapes(architecture(config))), architecture(config)
    flat = weights.clone().requires_grad_()
    terms: dict[str, Any] = {"loops": loops, "injection": config.model.injection, "math_attention": math}
    losses = loss(layout.views(flat), inputs, targets, arch, loss_on=config.model.loss_on, **terms)
    (grads,) = torch.autograd.grad(losses, flat, torch.ones_like(losses))
    with torch.no_grad():
        logits = forward(layout.views(flat), inputs, arch, **terms)
    return losses.detach(), grads, logits


def bits(tensors: tuple[Tensor, ...], index: int | slice = slice(None)) -> list[bytes]:
    """Of some lanes; the sign of zero counts."""
    return [t[index].contiguous().numpy().tobytes() for t in tensors]


@st.composite
def shapes(draw: st.DrawFn) -> TrialConfig:
    """Small trials of any architecture."""
    heads = draw(st.sampled_from([1, 1, 2, 4]))
    return trial_config(
        {
            "task": {
                "states": draw(st.sampled_from([2, 7, 16, 70])),
                "length": draw(st.sampled_from([2, 5, 9, 16, 50])),
            },
            "model": {
                "width": heads * draw(st.sampled_from([2, 4, 10] if heads > 1 else [1, 2, 5, 8, 16])),
                "heads": heads,
                "depth": draw(st.integers(1, 2)),
                "prelude": draw(st.integers(0, 1)),
                "coda": draw(st.integers(0, 1)),
                "mlp_ratio": draw(st.sampled_from([0.0, 1.5, 4.0])),
                "norm": draw(st.sampled_from(["none", "layer", "rms"])),
                "attention": draw(st.sampled_from(["softmax", "linear"])),
                "position": draw(st.sampled_from(["learned", "none"])),
                "output": draw(st.sampled_from(["untied", "tied"])),
                "injection": draw(st.sampled_from(["none", "add"])),
                "loss_on": draw(st.sampled_from(["last", "all"])),
                "init_scale": 0.5,
            },
            "train": {"steps": 1, "batch": draw(st.integers(1, 5))},
        }
    )


loop_counts = st.lists(st.integers(1, 5), min_size=1, max_size=6)
dtypes = st.sampled_from([torch.float32, torch.float64])


@settings(max_examples=150)
@given(shapes(), loop_counts, dtypes)
def test_a_lane_alone_equals_the_lane_in_any_pack(config: TrialConfig, loops: list[int], dtype: torch.dtype) -> None:
    given_ = pack(config, len(loops), dtype)
    whole = outcome(given_, loops)
    for index, own in enumerate(loops):
        assert bits(outcome(lane(given_, index), [own])) == bits(whole, slice(index, index + 1)), f"lane {index}"


@settings(max_examples=60)
@given(shapes(), st.integers(1, 6), st.integers(1, 4), dtypes)
def test_equal_loops_by_lane_equal_one_number(config: TrialConfig, lanes: int, loops: int, dtype: torch.dtype) -> None:
    given_ = pack(config, lanes + (architecture(config).unit_axis and lanes == 1), dtype)
    assert bits(outcome(given_, [loops] * len(given_[1]))) == bits(outcome(given_, loops))


def test_a_lone_lane_with_an_axis_of_one_gets_what_it_gets_in_a_pack() -> None:
    given_ = pack(case("unit_width"), 3)
    whole = outcome(given_, 3)
    for index in range(3):
        assert bits(outcome(lane(given_, index), [3])) == bits(whole, slice(index, index + 1))


@pytest.mark.parametrize("math", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_case_in_a_pack_of_different_loops(name: str, math: bool) -> None:
    """Against the path of one number of loops, which the packs of `test_train` and the golden losses pin."""
    config, loops = case(name), [2, 1, 4, 1, 3]
    given_ = pack(config, len(loops))
    whole = outcome(given_, loops, math=math)
    for index, own in enumerate(loops):
        by_itself = outcome(lane(given_, index), [own] if architecture(config).unit_axis else own, math=math)
        assert bits(by_itself) == bits(whole, slice(index, index + 1)), f"lane {index}"


@pytest.mark.parametrize("loss_on", ["last", "all"])
@pytest.mark.parametrize("injection", ["none", "add"])
@pytest.mark.parametrize("name", ["toy", "deep", "gpt2", "linear_heads", "rotary_heads", "rms_tied_mlp", "odd_shape"])
def test_losses_and_gradients_are_those_of_a_plain_module(name: str, injection: str, loss_on: str) -> None:
    """In float64, each lane by an ordinary module that is applied as often as the lane asks."""
    config = case(name)
    config = replace(config, model=replace(config.model, injection=injection, loss_on=loss_on))
    loops = [3, 1, 4, 3]
    given_ = pack(config, len(loops), torch.float64)
    losses, grads, _ = outcome(given_, loops)
    layout = Layout(shapes=parameter_shapes(architecture(config)))
    _, weights, inputs, targets = given_
    for index, own in enumerate(loops):
        plain = PlainModel(config).double()
        plain.take(layout.lane(weights, index))
        expected = plain_loss(plain, inputs[index], targets[index], loops=own, injection=injection, loss_on=loss_on)
        expected.backward()
        torch.testing.assert_close(losses[index], expected, rtol=1e-12, atol=1e-12)
        got = layout.lane(grads, index)
        for parameter, wanted in plain.gradients().items():
            torch.testing.assert_close(got[parameter], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss_on", ["last", "all"])
@pytest.mark.parametrize("injection", ["none", "add"])
def test_a_lane_that_would_overflow_further_on_stays_finite(injection: str, loss_on: str) -> None:
    """Linear attention cubes the residual stream at every loop: finite after one, infinite after eight."""
    config = case("linear")
    config = replace(config, model=replace(config.model, injection=injection, loss_on=loss_on))
    given_ = pack(config, 3)
    given_[1].mul_(torch.tensor([[0.5], [20.0], [0.5]]))
    assert not outcome(given_, 8)[0][1].isfinite()
    whole = outcome(given_, [8, 1, 5])
    assert all(t.isfinite().all() for t in whole)
    assert bits(outcome(lane(given_, 1), 1)) == bits(whole, slice(1, 2))
    # And a neighbour that does overflow keeps it to itself.
    broken = outcome(given_, [1, 8, 5])
    assert not broken[0][1].isfinite()
    for index, own in ((0, 1), (2, 5)):
        assert bits(outcome(lane(given_, index), own)) == bits(broken, slice(index, index + 1))


@pytest.mark.parametrize("name", ["toy", "gpt2", "linear"])
def test_second_derivatives_of_different_loops_are_those_of_the_lane_alone(name: str) -> None:
    loops = [3, 1, 2]
    config, weights, *_ = given_ = pack(case(name), len(loops), torch.float64)
    layout, arch = Layout(shapes=parameter_shapes(architecture(config))), architecture(config)
    direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(3), dtype=weights.dtype)

    def product(of: Pack, loops: int | list[int], along: Tensor) -> Tensor:
        _, weights, inputs, targets = of
        flat = weights.clone().requires_grad_()
        losses = loss(layout.views(flat), inputs, targets, arch, loops=loops, math_attention=True)
        (gradient,) = torch.autograd.grad(losses.sum(), flat, create_graph=True)
        return torch.autograd.grad(gradient, flat, along)[0]

    whole = product(given_, loops, direction)
    for index, own in enumerate(loops):
        alone = product(lane(given_, index), own, direction[index : index + 1])
        assert bits((alone,)) == bits((whole,), slice(index, index + 1))
    assert whole.abs().max() > 0


def test_autocast_too() -> None:
    given_, loops = pack(case("gpt2"), 4), [2, 5, 1, 2]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = outcome(given_, loops)[:2]
        for index, own in enumerate(loops):
            assert bits(outcome(lane(given_, index), own)[:2]) == bits(whole, slice(index, index + 1))


def test_drawn_loops_of_many_updates() -> None:
    """What training does: 16 lanes, each with the loops of its own seed, update after update."""
    given_ = pack(case("toy"), 16)
    drawn = [loop_draws(seed, mean=4, sigma=0.5, start=0, count=6).tolist() for seed in range(16)]
    for loops in map(list, zip(*drawn, strict=True)):
        whole = outcome(given_, loops)
        for index in (0, 5, 15):
            assert bits(outcome(lane(given_, index), loops[index])) == bits(whole, slice(index, index + 1))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_lanes_are_active_exactly_as_often_as_they_ask(loops: list[int]) -> None:
    lanes = by_falling_loops(loops)
    order = list(lanes.order) if lanes.order is not None else list(range(len(loops)))
    made = [0] * len(loops)
    for active in lanes.active:
        for index in order[:active]:
            made[index] += 1
    assert made == loops
    assert list(lanes.active) == sorted(lanes.active)
    assert lanes.active[-1] == len(loops), "all end together"
    numbers = torch.arange(len(loops))
    assert lanes.sort(numbers).tolist() == order
    assert torch.equal(lanes.restore(lanes.sort(numbers)), numbers)


def test_moves_of_lanes_keep_the_sign_of_zero() -> None:
    """−0 + 0 is +0: a gradient filled with +0 where a lane had no part would tell of its neighbours."""
    lanes = by_falling_loops([1, 3, 2])
    x = torch.ones(3, 4, requires_grad=True)
    placed = lanes.sort(x)
    uses = [placed * 2, part(placed, 0, 2) * 2, part(part(placed, 1, 3), 0, 1) * 2, lanes.restore(placed) * 2]
    (grad,) = torch.autograd.grad(uses, x, [torch.full_like(use, -0.0) for use in uses])
    assert torch.signbit(grad).all()
    (grad,) = torch.autograd.grad(part(lanes.sort(x), 0, 2).sum(), x)
    assert grad[:, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("loops", [[3, 3], [3, 3, 3, 3], [3, 0, 3], []])
def test_loops_that_do_not_fit_the_pack_are_refused(loops: list[int]) -> None:
    config, weights, inputs, _ = pack(case("toy"), 3)
    params = Layout(shapes=parameter_shapes(architecture(config))).views(weights)
    with pytest.raises(ValueError, match="a pack of 3 lanes needs one number of loops ≥ 1 for each"):
        forward(params, inputs, architecture(config), loops=loops)
