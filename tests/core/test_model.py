"""The stacked model against the plain nn.Module, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.architecture import architecture, init_parameters, parameter_shapes
from core.config import TrialConfig, trial_config
from core.flops import parameters as count_parameters
from core.model import forward, forward_at, loss
from tests.core.reference import CASES, PlainModel, case, plain_loss

LANES = 3


def stacked(config: TrialConfig, lanes: int = LANES) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Different weights for each lane, and the same stacked; norms' affine terms away from 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    trials = []
    for lane in range(lanes):
        trial = init_parameters(trial_config(config.to_dict() | {"seed": lane}), torch.float64)
        trials.append({n: p + 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in trial.items()})
    return trials, {n: torch.stack([t[n] for t in trials]).requires_grad_() for n in trials[0]}


def tokens(config: TrialConfig, lanes: int = LANES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (2, lanes, config.train.batch, config.task.context)
    inputs, targets = torch.randint(config.task.vocabulary, shape, generator=generator)
    return inputs, targets


@pytest.mark.parametrize("math_attention", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_a_plain_module(name: str, math_attention: bool) -> None:
    config = case(name)
    model = config.model
    terms = {"loops": model.loops, "injection": model.injection, "loss_on": model.loss_on}
    trials, params = stacked(config)
    inputs, targets = tokens(config)
    losses = loss(params, inputs, targets, architecture(config), **terms, math_attention=math_attention)
    grads = torch.autograd.grad(losses.sum(), list(params.values()))
    for lane, trial in enumerate(trials):
        plain = PlainModel(config).double()
        plain.take(trial)
        expected = plain_loss(plain, inputs[lane], targets[lane], **terms)
        expected.backward()
        torch.testing.assert_close(losses[lane], expected, rtol=1e-12, atol=1e-12)
        for (parameter, wanted), got in zip(ordered(plain.gradients(), params), grads, strict=True):
            torch.testing.assert_close(got[lane], wanted, rtol=1e-9, atol=1e-12, msg=lambda m, p=parameter: f"{p}: {m}")


def ordered(named: dict[str, Tensor], like: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, named[name]) for name in like]


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_outputs_of_several_numbers_of_loops_are_those_of_each(name: str, precision: torch.dtype) -> None:
    """Bit for bit, whatever else is asked, in one pass that yields them as it comes by."""
    config = case(name)
    arch, injection = architecture(config), config.model.injection
    _, params = stacked(config)
    if precision is not torch.float64:
        params = {name: p.detach().float() for name, p in params.items()}
    inputs, _ = tokens(config)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
        found = list(forward_at(params, inputs, arch, at=(7, 1, 2, 4), injection=injection))
        for loops, logits in zip((1, 2, 4, 7), found, strict=True):
            assert bits(logits) == bits(forward(params, inputs, arch, loops=loops, injection=injection))
        (alone,) = forward_at(params, inputs, arch, at=[4], injection=injection)
    assert bits(alone) == bits(found[2])


def bits(x: Tensor) -> bytes:
    """A linear model's stream may overflow within seven loops: what is not finite is compared too."""
    return x.contiguous().view(torch.uint8).numpy().tobytes()


def test_shorter_sequences_are_a_prefix() -> None:
    config = case("toy")
    _, params = stacked(config)
    inputs, _ = tokens(config)
    arch = architecture(config)
    whole = forward(params, inputs, arch, loops=2)
    prefix = forward(params, inputs[..., :5].contiguous(), arch, loops=2)
    torch.testing.assert_close(prefix, whole[..., :5, :], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["toy", "heads", "heads_long", "linear", "linear_heads", "rotary_heads", "gpt2"])
def test_a_token_does_not_see_what_follows(name: str) -> None:
    config = case(name)
    _, params = stacked(config)
    inputs, _ = tokens(config)
    changed = inputs.clone()
    changed[..., 6:] = (changed[..., 6:] + 1) % config.task.vocabulary
    arch = architecture(config)
    before, after = (forward(params, x, arch, loops=2) for x in (inputs, changed))
    assert torch.equal(before[..., :6, :], after[..., :6, :])
    assert not torch.equal(before[..., 6:, :], after[..., 6:, :])


def test_injection_does_not_act_at_one_loop() -> None:
    config = case("toy")
    _, params = stacked(config)
    inputs, _ = tokens(config)
    arch = architecture(config)
    assert torch.equal(forward(params, inputs, arch, loops=1, injection="add"), forward(params, inputs, arch, loops=1))


def test_math_attention_has_the_second_derivative_that_differences_of_gradients_have() -> None:
    config = case("gpt2")
    _, params = stacked(config, lanes=1)
    inputs, targets = tokens(config, lanes=1)
    names = list(params)
    direction = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(2), dtype=p.dtype) for p in params.values()
    ]

    def gradient(at: list[Tensor], *, create_graph: bool = False) -> list[Tensor]:
        named = dict(zip(names, at, strict=True))
        value = loss(named, inputs, targets, architecture(config), loops=2, math_attention=True)
        return list(torch.autograd.grad(value.sum(), at, create_graph=create_graph))

    at = list(params.values())
    product = torch.autograd.grad(gradient(at, create_graph=True), at, direction)
    step = 1e-5
    ends = [
        gradient([(p + sign * step * d).detach().requires_grad_() for p, d in zip(at, direction, strict=True)])
        for sign in (1, -1)
    ]
    for got, high, low in zip(product, *ends, strict=True):
        torch.testing.assert_close(got, (high - low) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["toy", "heads"])
def test_the_hand_written_backward_refuses_a_second_derivative(name: str) -> None:
    config = case(name)
    _, params = stacked(config, lanes=1)
    inputs, targets = tokens(config, lanes=1)
    value = loss(params, inputs, targets, architecture(config), loops=2)
    with pytest.raises(RuntimeError, match="math_attention=True"):
        torch.autograd.grad(value.sum(), list(params.values()), create_graph=True)


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_counted_as_the_plan_counts_them(name: str) -> None:
    config = case(name)
    shapes = parameter_shapes(architecture(config))
    parameters = init_parameters(config)
    assert {n: tuple(p.shape) for n, p in parameters.items()} == shapes
    assert sum(p.numel() for p in parameters.values()) == count_parameters(config)


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    toy, deep = init_parameters(case("toy")), init_parameters(case("mlp"))
    assert torch.equal(toy["blocks.0.query"], deep["blocks.0.query"])
    other = init_parameters(trial_config(case("toy").to_dict() | {"seed": 4}))
    assert not torch.equal(toy["blocks.0.query"], other["blocks.0.query"])
    assert not torch.equal(toy["blocks.0.query"], toy["blocks.0.key"])


def test_initial_deviations_follow_the_table() -> None:
    config = trial_config({"model": {"width": 128, "mlp_ratio": 4.0, "depth": 2, "norm": "layer", "init_scale": 2.0}})
    parameters = init_parameters(config)
    root = 128**-0.5
    table = {
        "blocks.1.key": root,
        "blocks.0.out": root / 2,  # two blocks: 2N = 4
        "blocks.0.mlp_in": root,
        "blocks.0.mlp_out": root / 4,
        "head": root / 2,
        "embedding": 0.5,
    }
    for name, deviation in table.items():
        assert parameters[name].std().item() == pytest.approx(2 * deviation, rel=0.06), name
    assert torch.equal(parameters["norm.gain"], torch.ones(128))
    assert torch.equal(parameters["blocks.0.mlp_norm.bias"], torch.zeros(128))
