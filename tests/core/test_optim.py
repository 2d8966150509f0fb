"""Stacked optimisers against torch.optim in float64; learning rates against their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from core import optim
from core.config import TrialConfig, trial_config
from core.lineage import links

P, STEPS = 37, 20


def trials(**train: Any) -> list[TrialConfig]:
    """Four lanes with terms of their own."""
    return [
        trial_config({"train": {"steps": STEPS, "warmup": 3, **{k: v[lane] for k, v in train.items()}}})
        for lane in range(4)
    ]


ADAMW = trials(
    lr=[1e-3, 1e-2, 3e-2, 1e-1],
    beta1=[0.9, 0.5, 0.0, 0.8],
    beta2=[0.999, 0.9, 0.95, 0.99],
    eps=[1e-8, 1e-3, 1e-6, 1e-10],
    weight_decay=[0.0, 0.1, 1.0, 0.0],
)
SGD = trials(optimizer=["sgd"] * 4, lr=[1e-3, 1e-2, 3e-2, 1e-1], momentum=[0.9, 0.0, 0.5, 0.99])


@pytest.mark.parametrize("configs", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_updates_are_those_of_torch(configs: list[TrialConfig]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, P, generator=generator, dtype=torch.float64)
    grads = torch.randn(STEPS, 4, P, generator=generator, dtype=torch.float64)
    kind = configs[0].train.optimizer

    weights = start.clone()
    slots = [torch.zeros_like(weights) for _ in optim.SLOTS[kind]]
    chain = [links(config)[0] for config in configs]
    table = optim.coefficient_block(configs, chain, 0, STEPS, weights)
    for step in range(STEPS):
        optim.update(weights, grads[step].clone(), slots, table[step], optimizer=kind, decays=True)

    for lane, config in enumerate(configs):
        train = config.train
        parameter = torch.nn.Parameter(start[lane].clone())
        if kind == "adamw":
            reference: torch.optim.Optimizer = torch.optim.AdamW(
                [parameter], betas=(train.beta1, train.beta2), eps=train.eps, weight_decay=train.weight_decay
            )
        else:
            reference = torch.optim.SGD([parameter], momentum=train.momentum)
        for step in range(STEPS):
            reference.param_groups[0]["lr"] = train.lr * min(1.0, (step + 1) / 3)
            parameter.grad = grads[step, lane].clone()
            reference.step()
        torch.testing.assert_close(weights[lane], parameter.detach(), rtol=1e-12, atol=1e-14)


def test_sgd_decays_weights_apart_from_the_gradient() -> None:
    config = trial_config({"train": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.5, "momentum": 0.9}})
    weights, buffer = torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    table = optim.coefficient_block([config], links(config)[:1], 0, 2, weights)
    for step in range(2):
        optim.update(weights, torch.zeros_like(weights), [buffer], table[step], optimizer="sgd", decays=True)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.95**2))


def test_clipping_scales_the_whole_gradient_of_a_lane_and_only_where_it_is_longer() -> None:
    grad = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    configs = [trial_config({"train": {"clip": clip}}) for clip in (1.0, 10.0, 0.0, 1.0)]
    norm = optim.norms(grad)
    assert norm.tolist() == [5.0, 5.0, 5.0, 0.0]
    optim.clip(grad, norm, optim.clip_limits(configs, grad))
    torch.testing.assert_close(grad, torch.tensor([[0.6, 0.8], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0]]))
    assert optim.clip_limits(configs[2:3], grad) is None


@pytest.mark.parametrize("size", [64, 3392, 20032])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_of_a_lane_has_the_same_bits_in_any_pack(size: int, dtype: torch.dtype) -> None:
    grad = torch.randn(16, size, generator=torch.Generator().manual_seed(1), dtype=dtype)
    alone = torch.cat([optim.norms(grad[lane : lane + 1]) for lane in range(16)])
    for lanes in (2, 3, 8, 16):
        for first in range(17 - lanes):
            assert torch.equal(optim.norms(grad[first : first + lanes]), alone[first : first + lanes])


def factors(steps: list[int], **train: Any) -> list[float]:
    config = trial_config({"train": {"steps": 100, **train}})
    chain = links(config)
    return [
        optim.lr_factor(config, next(link for link in chain if link.start < step <= link.end), step) for step in steps
    ]


def test_constant() -> None:
    assert factors([1, 50, 100]) == [1.0, 1.0, 1.0]


def test_warm_up_is_linear_and_its_first_update_is_not_lost() -> None:
    assert factors([1, 5, 10, 11], warmup=10) == pytest.approx([0.1, 0.5, 1.0, 1.0])


def test_cosine_ends_at_its_floor() -> None:
    got = factors([10, 11, 55, 100], lr_schedule="cosine", warmup=10, lr_final=0.2)
    assert got == pytest.approx([1.0, 0.2 + 0.8 * (1 + math.cos(math.pi / 90)) / 2, 0.6, 0.2])


def test_wsd_decays_linearly_at_the_end() -> None:
    got = factors([1, 60, 61, 80, 100], lr_schedule="wsd", decay=0.4, lr_final=0.1)
    assert got == pytest.approx([1.0, 1.0, 1 - 0.9 / 40, 0.55, 0.1])


def test_warm_up_of_the_whole_run_beside_a_cosine() -> None:
    assert factors([50, 100], lr_schedule="cosine", warmup=100) == pytest.approx([0.5, 1.0])


def test_a_longer_stable_phase_has_the_same_learning_rates() -> None:
    short, long = (trial_config({"train": {"steps": s, "lr_schedule": "wsd", "decay": 10}}) for s in (50, 100))
    for step in range(1, 41):
        assert optim.coefficients(short, links(short)[0], step) == optim.coefficients(long, links(long)[0], step)


def rates(schedule: dict[str, Any], **train: Any) -> list[float]:
    config = trial_config({"train": {"steps": 20, "lr": 1.0, **train}, "schedule": schedule})
    return [
        optim.learning_rate(config, link, step)
        for link in links(config)
        for step in range(link.start + 1, link.end + 1)
    ]


def test_a_stage_has_its_factor_and_warms_up_again_linearly() -> None:
    got = rates({"kind": "shift", "switch": 10, "lr_factor": 0.5, "rewarm": 4})
    assert got == pytest.approx([1.0] * 10 + [0.125, 0.25, 0.375] + [0.5] * 7)


def test_factor_re_warm_up_warm_up_and_decay_multiply() -> None:
    got = rates(
        {"stages": [{"until": 2}, {"rewarm": 4, "lr_factor": 2.0, "until": 17}, {"rewarm": 3}]},
        warmup=5,
        lr_schedule="wsd",
        decay=5,
    )
    expected = [0.2, 0.4, 0.6 * 2 / 4, 0.8 * 2 * 2 / 4, 2 * 3 / 4] + [2.0] * 10
    expected += [2.0 * 0.8, 2.0 * 0.6, 0.4 / 3, 0.2 * 2 / 3, 0.0]
    assert got == pytest.approx(expected)


def test_step_zero_shows_the_learning_rate_of_the_first_update() -> None:
    config = trial_config({"train": {"warmup": 10, "lr": 1.0}})
    [link] = links(config)
    assert optim.learning_rate(config, link, 0) == optim.learning_rate(config, link, 1) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [{}, {"lr_schedule": "wsd", "decay": 8}])
def test_the_bias_correction_counts_from_the_reset_also_in_a_decay_that_began_since(schedule: dict[str, Any]) -> None:
    reset, keep = (
        trial_config(
            {"train": {"steps": 20, **schedule}, "schedule": {"kind": "shift", "switch": 10, "optimizer": kind}}
        )
        for kind in ("reset", "keep")
    )
    fresh = trial_config({})
    for config, age in ((reset, 10), (keep, 0)):
        for link in links(config)[1:]:
            for step in range(link.start + 1, link.end):
                eps, rate = (optim.coefficients(config, link, step)[i] for i in (3, 4))
                other = optim.coefficients(fresh, links(fresh)[0], step - age)
                assert eps == other[3]
                assert rate == pytest.approx(other[4] * optim.lr_factor(config, link, step))
