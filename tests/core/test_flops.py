"""Parameters and FLOPs from the configuration equal those of the real model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.architecture import architecture, init_parameters, parameter_shapes
from core.config import TrialConfig, trial_config
from core.draws import loop_draws
from core.flops import flops_alone, link_flops, parameters, step_flops
from core.layers import ONE_HOT_TOKENS
from core.lineage import links
from core.model import loss

CASES = {
    "toy": {},
    "single": {"loops": 1},
    "heads": {"heads": 4, "loops": 2},
    "mlp": {"mlp_ratio": 4.0, "loops": 2},
    "uneven-mlp": {"mlp_ratio": 1.3},
    "layer-norm": {"norm": "layer", "mlp_ratio": 2.0, "loops": 2},
    "rms-norm": {"norm": "rms", "mlp_ratio": 2.0, "loops": 2},
    "linear": {"attention": "linear", "loops": 3},
    "rotary": {"position": "rotary", "heads": 2},
    "no-position": {"position": "none"},
    "tied": {"output": "tied"},
    "stack": {"prelude": 1, "depth": 2, "coda": 1, "loops": 3},
    "heads-stack": {"heads": 2, "prelude": 1, "depth": 2, "coda": 1, "loops": 3, "mlp_ratio": 2.0, "loss_on": "all"},
    "heads-linear": {"heads": 2, "attention": "linear", "norm": "layer", "output": "tied"},
    "loss-on-all": {"prelude": 1, "coda": 2, "loops": 3, "loss_on": "all"},
    "injection": {"injection": "add", "loops": 2},
}


def case(name: str, **train: object) -> TrialConfig:
    return trial_config(
        {
            "task": {"states": ONE_HOT_TOKENS + 3, "length": 9, "train_size": 0},
            "model": {"width": 16, **CASES[name]},
            "train": {"batch": 5, "steps": 40, **train},
        }
    )


def folds_one_head(config: TrialConfig) -> bool:
    """Whether the model multiplies W_Q W_Kᵀ and W_V W_O beforehand (see the docstring of `core.model`)."""
    return config.model.heads == 1 and config.model.position != "rotary"


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_those_of_the_model(name: str) -> None:
    config = case(name)
    assert parameters(config) == sum(math.prod(shape) for shape in parameter_shapes(architecture(config)).values())


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_step_flops_are_those_that_torch_counts(name: str, lanes: int) -> None:
    config = case(name)
    [link] = links(config)
    weights = init_parameters(config)
    stacked = {key: value.expand(lanes, *value.shape).clone().requires_grad_() for key, value in weights.items()}
    tokens = torch.zeros(lanes, 5, 9, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        losses = loss(
            stacked,
            tokens,
            tokens,
            architecture(config),
            loops=link.loops,
            injection=link.injection,
            loss_on=link.loss_on,
            math_attention=True,
        )
        losses.sum().backward()
    expected = step_flops(config, loops=link.loops, loss_on=link.loss_on)
    if folds_one_head(config):
        # Two products of D×D matrices per block and step stand for two of the four projections of every token.
        model, outputs = config.model, link.loops if link.loss_on == "all" else 1
        blocks = model.prelude + model.depth + model.coda
        applied = model.prelude + model.depth * link.loops + model.coda * outputs
        expected += 3 * (2 * 2 * blocks * model.width**3 - 2 * 2 * applied * tokens[0].numel() * model.width**2)
    assert counter.get_total_flops() == lanes * expected


def test_flops_alone_add_up_over_the_stages() -> None:
    config = trial_config(
        {"model": {"loops": 3}, "schedule": {"kind": "shift", "switch": 30}, "train": {"steps": 100, "batch": 2}}
    )
    before, after = step_flops(config, loops=1), step_flops(config, loops=3)
    assert before < after < 3 * before
    assert [flops_alone(config, step) for step in (0, 1, 30, 31, 100)] == [
        0,
        before,
        30 * before,
        30 * before + after,
        30 * before + 70 * after,
    ]
    assert flops_alone(config) == flops_alone(config, 100)


def test_single_costs_what_looped_costs_at_one_loop() -> None:
    looped = case("toy")
    single = replace(looped, schedule=replace(looped.schedule, kind="single"))
    one_loop = replace(looped, model=replace(looped.model, loops=1))
    assert flops_alone(single) == flops_alone(one_loop) < flops_alone(looped)


def test_a_decay_costs_nothing_more() -> None:
    assert flops_alone(case("toy", lr_schedule="wsd")) == flops_alone(case("toy"))


def test_large_counts_stay_exact_integers() -> None:
    config = trial_config(
        {
            "model": {"width": 65536, "depth": 1024, "loops": 4096},
            "train": {"steps": 10**9, "batch": 10**6, "evaluate_every": 10**9},
        }
    )
    assert flops_alone(config) == 10**9 * step_flops(config, loops=4096)


@pytest.mark.parametrize("name", ["toy", "stack", "loss-on-all"])
def test_drawn_loops_are_counted_as_drawn(name: str) -> None:
    config = case(name)
    drawn = replace(config, schedule=replace(config.schedule, draw="poisson-lognormal", sigma=0.7))
    [link] = links(drawn)
    loops = loop_draws(drawn.seed, mean=link.loops, sigma=0.7, start=0, count=40)
    assert len(set(loops)) > 2
    each = [step_flops(drawn, loops=int(count), loss_on=link.loss_on) for count in loops]
    assert flops_alone(drawn) == sum(each)
    assert flops_alone(drawn, 13) == sum(each[:13])
    assert [link_flops(drawn, link, a, b) for a, b in ((0, 40), (7, 20), (5, 5))] == [sum(each), sum(each[7:20]), 0]
    assert flops_alone(replace(drawn, seed=1)) != flops_alone(drawn)


def test_drawn_loops_cost_by_the_steps_of_their_stage() -> None:
    config = trial_config(
        {
            "train": {"steps": 60, "batch": 2},
            "schedule": {"kind": "shift", "switch": 20, "draw": "poisson-lognormal"},
        }
    )
    loops = loop_draws(0, mean=3, sigma=0.5, start=20, count=40)
    single = step_flops(config, loops=1)
    assert flops_alone(config, 20) == 20 * single
    assert flops_alone(config) == 20 * single + sum(step_flops(config, loops=int(count)) for count in loops)


def test_a_trial_whose_criterion_ended_costs_what_the_fixed_switch_there_costs() -> None:
    scp, fixed = (
        trial_config({"train": {"steps": 100, "batch": 2}, "schedule": schedule})
        for schedule in ({"kind": "shift-scp", "latest": 0.9}, {"kind": "shift", "switch": 30})
    )
    for step in (0, 29, 30, 31, 100):
        assert flops_alone(scp, step, chain=links(scp, (30,))) == flops_alone(fixed, step)
    assert flops_alone(scp, 25) == flops_alone(fixed, 25)  # as far as it is known
    before = step_flops(scp, loops=1)
    assert flops_alone(scp, chain=links(scp, (100 - 10,))) == 90 * before + 10 * step_flops(scp, loops=3)
