"""Parameters and FLOPs from the configuration equal those of the real model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.config import TrialConfig, trial_config
from core.flops import flops_alone, parameters, step_flops
from core.lineage import links
from core.model import ONE_HOT_TOKENS, architecture, init_parameters, loss, parameter_shapes

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
