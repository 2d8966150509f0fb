"""Gradient alignment: against the gradients that train, where it is known, and in any pack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.alignment import gradient_alignment
from core.config import trial_config
from core.findings import Finding
from core.lineage import links
from core.model import loss
from core.probes import Probe
from core.quantities import MATRICES
from tests.core.probing import MODELS, TINY, config, measured, probe, seeds, state

QUANTITY = ("gradient_alignment",)


def trained_gradient(at: Probe, loops: int) -> dict[str, Tensor]:
    """At so many loops, by the kernels that training uses."""
    leaves = {name: p.clone().requires_grad_() for name, p in at.params.items()}
    losses = loss(
        leaves, at.inputs, at.targets, at.arch, loops=loops, injection=at.link.injection, loss_on=at.link.loss_on
    )
    return dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values())), strict=True))


def numbers(found: Finding) -> dict[str, float | None]:
    return {name.removeprefix("gradient_alignment"): value.number for name, value in found.values.items()}


@pytest.mark.parametrize("name", MODELS)
def test_cosines_are_those_of_the_gradients_that_train(name: str) -> None:
    at = probe(seeds(config(name, loops=4), 2))
    single, looped = trained_gradient(at, 1), trained_gradient(at, 4)
    found = gradient_alignment(at)
    kinds = {kind: [key for key in single if at.kind(key) == kind] for kind in MATRICES}
    kinds = {kind: keys for kind, keys in kinds.items() if keys}
    for lane in range(2):
        expected = {}
        for column, keys in {"": list(single), **{f"_{kind}": keys for kind, keys in kinds.items()}}.items():
            a, b = (torch.cat([g[key][lane].flatten() for key in keys]) for g in (single, looped))
            expected[column] = float(a @ b / (a.norm() * b.norm()))
        assert numbers(found[lane]) == pytest.approx(expected, rel=1e-10, abs=1e-14)
        unusual = ", injection add, loss on all" if name == "heads-all-tied" else ", loss on all" * (name == "coda")
        assert {value.method for value in found[lane].values.values()} == {f"gradients at 1 and 4 loops{unusual}"}


def test_blocks_that_add_nothing_have_aligned_gradients_at_any_loops() -> None:
    """With W_O = 0 a loop changes nothing: what reads the stream has one gradient, W_O gets it once a loop."""
    base = config("toy", loops=5)
    start = state(base)
    silent = {name: p * (not name.endswith("out")) for name, p in start.parameters.items()}
    [found] = gradient_alignment(probe([base], [replace(start, parameters=silent)]))
    for kind in ("embedding", "position", "out", "head"):
        assert found.values[f"gradient_alignment_{kind}"].number == pytest.approx(1.0, rel=1e-12)
    for kind in ("query", "key", "value"):
        lost = found.values[f"gradient_alignment_{kind}"]
        assert (lost.number, lost.failure) == (None, "the gradient at 1 loop is zero")
    assert 0 < found.values["gradient_alignment"].number < 1


def test_only_kinds_that_the_model_has_are_columns() -> None:
    def kinds(name: str) -> set[str]:
        [found] = gradient_alignment(probe([config(name)]))
        return {column.removeprefix("gradient_alignment").lstrip("_") for column in found.values}

    attention = {"", "query", "key", "value", "out", "embedding"}
    assert kinds("toy") == attention | {"position", "head"}
    assert kinds("heads-all-tied") == attention | {"position", "mlp", "norm"}
    assert kinds("rms-rotary-linear") == attention | {"norm", "head"}


def test_the_loops_compared_are_those_of_the_measurement_whatever_the_link_trains_with() -> None:
    """One loop, three, or drawn ones: the same weights have the same cosine."""

    def at(schedule: dict[str, Any], link: int, loops: int = 3) -> dict[str, float | None]:
        trial = trial_config(
            {
                "task": TINY,
                "model": MODELS["toy"],
                "schedule": schedule,
                "measure": {"quantities": QUANTITY, "probe": 6, "loops": loops},
            }
        )
        weights = replace(state(config("toy")), lineage=links(trial)[link].lineage)
        return {k: v for k, v in measured([trial], [weights], link=link)[0].curvature.items() if k.startswith("grad")}

    single, looped = (at({"kind": "shift"}, link) for link in (0, 1))
    drawn = at({"kind": "looped", "draw": "poisson-lognormal"}, 0)
    assert single == looped == drawn
    assert at({"kind": "shift"}, 1, loops=2) != looped


@pytest.mark.parametrize(
    "model",
    [
        "toy",
        "heads-all-tied",
        {"width": 5, "loops": 2, "norm": "layer", "mlp_ratio": 1.4, "prelude": 1},
        {"width": 1, "loops": 2, "norm": "rms", "mlp_ratio": 1.0},
    ],
)
@pytest.mark.parametrize("count", [1, 6])
def test_a_lane_has_the_same_bits_in_any_pack(model: str | dict[str, object], count: int) -> None:
    configs = seeds(config(model, quantities=QUANTITY, probe=count), 4)
    alone = [measured([trial])[0].curvature for trial in configs]
    for order in ([0, 1, 2, 3], [3, 1], [2, 2, 0]):
        assert [row.curvature for row in measured([configs[lane] for lane in order])] == [alone[i] for i in order]


def test_lanes_beyond_a_group_of_many_loops_have_the_bits_they_have_alone() -> None:
    """A group of one loop holds many lanes, one of 24 loops few."""
    trial = trial_config(
        {
            "task": TINY | {"length": 16, "val_size": 32},
            "model": {"width": 16},
            "schedule": {"kind": "single"},
            "measure": {"quantities": QUANTITY, "loops": 24},
        }
    )
    configs = seeds(trial, 3)
    at = probe(configs)
    assert len(at._groups(1)) == 1 < len(at._groups(24))
    assert [numbers(found) for found in gradient_alignment(at)] == [
        numbers(gradient_alignment(probe([lane]))[0]) for lane in configs
    ]


def test_zero_gradients_and_overflow_are_reasons_and_the_neighbour_does_not_notice() -> None:
    configs = seeds(config("toy", quantities=QUANTITY), 3)
    states = [state(trial) for trial in configs]
    zero = replace(states[0], parameters={name: torch.zeros_like(p) for name, p in states[0].parameters.items()})
    states[1].parameters["head"][0, 0] = float("inf")
    still, lost, sound = (row.curvature for row in measured(configs, [zero, *states[1:]]))
    assert still["gradient_alignment"] is None
    assert still["method"]["gradient_alignment"] == "gradients at 1 and 3 loops failed: the gradient at 1 loop is zero"
    assert lost["gradient_alignment"] is None
    assert lost["method"]["gradient_alignment"] == "gradients at 1 and 3 loops failed: not finite"
    assert sound == measured(configs[2:])[0].curvature
