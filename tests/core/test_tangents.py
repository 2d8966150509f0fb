"""Hessian products by hand-written rules: against double backward on models of every kind, and bits in any pack."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.config import TrialConfig
from core.hessian import StackedHessian
from core.probes import Probe
from core.tangents import TangentHessian
from core.unrolled import Unrolled
from tests.core.probing import MODELS, config, probe, seeds, state

MORE: dict[str, dict[str, Any]] = {
    "rotary-one-head-softmax": {"width": 6, "loops": 2, "position": "rotary", "norm": "layer"},
    "rotary-heads": {"width": 8, "heads": 2, "loops": 2, "position": "rotary", "norm": "rms", "mlp_ratio": 1.0},
    "linear-one-head": {"width": 3, "loops": 4, "attention": "linear", "norm": "rms", "position": "none"},
    "linear-heads-unscaled": {
        "width": 6,
        "heads": 3,
        "loops": 2,
        "attention": "linear",
        "attention_scale": "none",
        "norm": "layer",
    },
    "prelude-injection-all-coda": {
        "width": 4,
        "loops": 3,
        "prelude": 1,
        "coda": 1,
        "depth": 2,
        "norm": "layer",
        "injection": "add",
        "loss_on": "all",
        "output": "tied",
    },
    "gpt": {"width": 6, "heads": 2, "loops": 1, "depth": 2, "norm": "layer", "mlp_ratio": 2.0},
    "timestep": {"width": 5, "loops": 3, "timestep": "sinusoidal", "injection": "add", "norm": "layer"},
    "width 1": {"width": 1, "loops": 2, "mlp_ratio": 1.0},
}
CASES = MODELS | MORE


def arbitrary(draw: random.Random) -> TrialConfig:
    """A trial of any shape; see the table in `core.config` for what acts."""
    heads, each = draw.choice([1, 1, 2, 3]), draw.randint(1, 6)
    drawn = config(
        {
            "width": heads * each,
            "heads": heads,
            "depth": draw.choice([1, 1, 2]),
            "loops": draw.randint(1, 4),
            "prelude": draw.choice([0, 0, 1]),
            "coda": draw.choice([0, 0, 1]),
            "mlp_ratio": draw.choice([0.0, 1 / 3, 1.4, 2.0]),
            "attention": draw.choice(["softmax", "linear"]),
            "attention_scale": draw.choice(["sqrt", "none"]),
            "norm": draw.choice(["none", "layer", "rms"]),
            "position": draw.choice(["learned", "none", *(["rotary"] if each % 2 == 0 else [])]),
            "injection": draw.choice(["none", "add"]),
            "output": draw.choice(["untied", "tied"]),
            "loss_on": draw.choice(["last", "all"]),
        },
        task={"states": draw.choice([2, 3, 5, 8, 70]), "length": draw.choice([2, 3, 4, 7, 9])},
        probe=draw.choice([1, 2, 3, 5]),
    )
    return replace(drawn, model=replace(drawn.model, timestep=draw.choice(["none", "none", "sinusoidal"])))


def both(at: Probe) -> tuple[TangentHessian, StackedHessian]:
    """The Hessians of all lanes by rules and by double backward."""
    link = at.link
    by_rules = TangentHessian(
        at.params,
        at.inputs,
        at.targets,
        at.arch,
        loops=link.loops,
        injection=link.injection,
        loss_on=link.loss_on,
    )
    return by_rules, StackedHessian(at.loss, at.params)


def directions(at: Probe, *names: str | int) -> Tensor:
    return torch.stack([at.direction(lane, *names) for lane in range(at.lanes)])


def lengths(vectors: Tensor) -> Tensor:
    return vectors.square().sum(1).sqrt()


def nudged(at: Probe) -> dict[str, Tensor]:
    """The weights, each off by its last bit."""
    draw = torch.Generator().manual_seed(0)
    return {
        name: p * (1 + (torch.randint(0, 2, p.shape, generator=draw).double() * 2 - 1) * 2.0**-52)
        for name, p in at.params.items()
    }


def check(at: Probe) -> None:
    """Agreement to 1e-13, or to 30 times what the last bit of the weights makes of the product."""
    by_rules, reference = both(at)
    torch.testing.assert_close(by_rules.losses, reference.losses, rtol=1e-14, atol=0)
    assert (by_rules.size, by_rules.lanes, by_rules.shapes) == (reference.size, reference.lanes, reference.shapes)
    assert torch.equal(by_rules.weights(), reference.weights())
    near = StackedHessian(at.loss, nudged(at))
    gradient, expected = by_rules.gradient(), reference.gradient()
    loose = 30 * lengths(near.gradient() - expected)
    assert bool((lengths(gradient - expected) <= torch.maximum(1e-13 * lengths(expected), loose)).all())
    u, v = directions(at, "u"), directions(at, "v")
    found, of_u, expected = by_rules.product(v), by_rules.product(u), reference.product(v)
    loose = 30 * lengths(near.product(v) - expected)
    error = lengths(found - expected)
    assert bool((error <= torch.maximum(1e-13 * lengths(expected), loose)).all()), error / lengths(expected)
    asymmetry = ((u * found).sum(1) - (v * of_u).sum(1)).abs() / (lengths(found) + lengths(of_u))
    assert float(asymmetry.max()) < 1e-14
    assert torch.equal(by_rules.product(v), found)


@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_double_backward(name: str) -> None:
    at = probe(seeds(config(CASES[name]), 3))
    check(at)
    if name in MODELS:
        assert isinstance(at.hessian([0, 1, 2]), TangentHessian)


@pytest.mark.parametrize("name", ["toy", "heads-all-tied", "prelude-injection-all-coda", "timestep"])
def test_products_where_not_every_token_is_predicted(name: str) -> None:
    problems = {"kind": "addition", "train_length": (1, 2), "test_length": (1, 3), "val_size": 12}
    check(probe(seeds(config(CASES[name], task=problems), 3)))


@pytest.mark.parametrize("low", range(0, 48, 12))
def test_products_are_those_of_double_backward_on_any_shape(low: int) -> None:
    for seed in range(low, low + 12):
        configs = seeds(arbitrary(random.Random(seed)), 2)
        check(probe(configs, [state(config, noise=0.1) for config in configs]))


@pytest.mark.parametrize("name", ["toy", "heads-all-tied"])
@pytest.mark.parametrize("loops", [1, 4])
def test_at_other_loops_than_the_trials(name: str, loops: int) -> None:
    at = probe(seeds(config(CASES[name]), 2))
    link = at.link
    found = TangentHessian(
        at.params, at.inputs, at.targets, at.arch, loops=loops, injection=link.injection, loss_on=link.loss_on
    )
    expected = StackedHessian(lambda params: at.loss(params, loops=loops), at.params)
    v = directions(at, "v")
    torch.testing.assert_close(found.product(v), expected.product(v), rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(found.gradient(), expected.gradient(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ["toy", "heads-all-tied", "coda"])
def test_with_blocks_of_each_loop_s_own(name: str) -> None:
    """As the unrolled model has them: `Architecture.copies`."""
    at = probe(seeds(config(CASES[name]), 2))
    unrolled = Unrolled(probe=at)
    arch = replace(at.arch, depth=at.arch.depth * unrolled.loops, copies=unrolled.loops)
    params = {name: p for name, p in at.params.items() if name not in unrolled.looped} | unrolled.copies([0, 1])
    link = at.link
    found = TangentHessian(
        params, at.inputs, at.targets, arch, loops=link.loops, injection=link.injection, loss_on=link.loss_on
    )
    expected = StackedHessian(lambda params: at.loss(params, arch=arch), params)
    v = torch.randn(2, found.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.product(v), expected.product(v), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.gradient(), expected.gradient(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_products_are_differences_of_the_gradient(name: str) -> None:
    """To fourth order, of gradients by other rules than the products': (8 (g₁ − g₋₁) − (g₂ − g₋₂)) / 12 ε."""
    at = probe([config(CASES[name])])
    v, epsilon = directions(at, "v"), 1e-4
    size = [p[0].numel() for p in at.params.values()]

    def gradient(step: int) -> Tensor:
        moved = torch.split(at.weights + step * epsilon * v, size, 1)
        params = {name: part.view_as(p) for (name, p), part in zip(at.params.items(), moved, strict=True)}
        return StackedHessian(at.loss, params).gradient()

    expected = (8 * (gradient(1) - gradient(-1)) - (gradient(2) - gradient(-2))) / (12 * epsilon)
    error = lengths(at.hessian([0]).product(v) - expected) / lengths(expected)
    assert float(error) < 1e-7


@pytest.mark.parametrize("name", CASES)
def test_a_lane_has_its_own_bits_in_any_pack(name: str) -> None:
    """Alone, among three and among five, at any place; several lanes of one trial too."""
    configs = seeds(config(CASES[name], probe=3), 5)

    def products(order: Sequence[int], vectors: Sequence[int]) -> list[tuple[bytes, ...]]:
        at = probe([configs[lane] for lane in order])
        hessian, _ = both(at)
        v = torch.stack([at.direction(lane, vector) for lane, vector in enumerate(vectors)])
        parts = (hessian.losses, hessian.gradient(), hessian.product(v))
        return [tuple(part[lane].numpy().tobytes() for part in parts) for lane in range(len(order))]

    alone = [products([lane], [0])[0] for lane in range(5)]
    assert products([3, 1, 4, 0, 2], [0] * 5) == [alone[lane] for lane in (3, 1, 4, 0, 2)]
    assert products([2, 4, 1], [0] * 3) == [alone[lane] for lane in (2, 4, 1)]
    again = products([1, 1, 3, 1], [0, 5, 0, 6])
    assert again[0] == alone[1]
    assert again[2] == alone[3]
    assert [again[1], again[3]] == [products([1], [vector])[0] for vector in (5, 6)]


@pytest.mark.parametrize("model", [{"width": 1, "loops": 1}, {"width": 8, "loops": 1, "mlp_ratio": 1 / 8}])
def test_a_lone_lane_with_an_axis_of_one_has_the_bits_of_a_pack(model: dict[str, Any]) -> None:
    """At sizes at which a product of a matrix and a vector sums in another order than one of matrices."""
    task = {"states": 65, "length": 13}
    at = probe(seeds(config(model, task=task, probe=5), 3))
    assert at.arch.unit_axis
    together, _ = both(at)
    v = directions(at, "v")
    for lane in range(3):
        alone, _ = both(at.pick([lane]))
        assert torch.equal(alone.losses[0], together.losses[lane])
        assert torch.equal(alone.gradient()[0], together.gradient()[lane])
        assert torch.equal(alone.product(v[lane : lane + 1])[0], together.product(v)[lane])


def test_sequences_may_be_shorter_than_the_context() -> None:
    """A single token has attention to itself alone; positions that no sequence reaches have no curvature."""
    at = probe(seeds(config("toy"), 2))
    for length in (1, 3):
        short = replace(at, inputs=at.inputs[..., :length], targets=at.targets[..., :length])
        check(short)
        places = short.kinds["position"].view(-1, 4)[length:].flatten()
        v = torch.zeros(2, short.size, dtype=torch.float64)
        v[:, places] = 1.0
        assert not short.hessian([0, 1]).product(v).any()


def test_results_are_tensors_like_any_other_and_arguments_are_left_alone() -> None:
    at = probe(seeds(config("heads-all-tied"), 2))
    hessian, _ = both(at)
    v = directions(at, "v")
    given = v.clone()
    for found in (hessian.product(v), hessian.gradient(), hessian.weights(), hessian.losses):
        assert found.dtype == torch.float64
        assert not found.requires_grad
        kept = found.clone()
        found += 1  # neither a buffer of the products' nor one that autograd refuses
        torch.testing.assert_close(found.requires_grad_().sum().detach(), (kept + 1).sum())
    assert torch.equal(v, given)
    single, _ = both(replace(at, states=[replace(s, parameters=dict(s.parameters)) for s in at.states]))
    assert torch.equal(single.product(v), hessian.product(v))
    strided = torch.stack((v, v), -1)[..., 0]
    assert torch.equal(hessian.product(strided), single.product(v))
