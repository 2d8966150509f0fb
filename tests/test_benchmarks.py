"""Claims about what the benchmarks compare: the grids share as much as is stated, plain trials are the same trials, and
public tools are given the Hessian that is measured.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks import curvature, model
from benchmarks.curvature_tools import double_backward
from benchmarks.plain_tune import PlainTrial
from benchmarks.stage_grids import SIZES, settings_of, study_of
from core.alone import train_alone
from core.architecture import init_parameters
from core.config import TrialConfig, trial_config
from studies.expand import expand
from studies.store import Store
from sweeps.plan import plan
from tests.core import probing

SMALL_GPT = model.GPT2 | {"width": 32, "heads": 2, "depth": 2, "loops": 2}
TASK = {"states": 8, "chains": 8, "length": 16, "train_size": 0, "val_size": 64}
SCHEDULES = {
    "shift": {"kind": "shift", "switch": 0.5},
    "scp that holds": {"kind": "shift-scp", "delta1": 0.5, "delta2": 10.0, "patience": 2},
    "scp that never holds": {"kind": "shift-scp", "delta1": 1e-9, "delta2": 1e-9, "patience": 1},
}


def small(schedule: str, **train: object) -> TrialConfig:
    given = {"steps": 60, "batch": 8, "lr": 2e-3, "evaluate_every": 10, **train}
    return trial_config({"task": TASK, "model": {"width": 16}, "train": given, "schedule": SCHEDULES[schedule]})


@pytest.mark.parametrize(
    ("schedule", "train"),
    [*((name, {}) for name in SCHEDULES), ("shift", {"lr_schedule": "wsd", "decay": 15})],
)
def test_a_plain_trial_is_the_trial_that_it_is_compared_with(schedule, train):
    config = small(schedule, **train)
    plain, losses = PlainTrial(config), {}
    while not plain.done:
        value = plain.advance()
        losses[plain.step] = value
    alone = train_alone(config)
    asked = {row["step"]: row["val_loss"] for row in alone.metrics if row["step"] > 0}
    assert plain.ended == alone.ended
    assert {step: losses[step] for step in asked} == pytest.approx(asked, rel=1e-4)


@pytest.mark.parametrize(("grid", "trials", "settings", "ideal"), [("switch", 456, 57, 1.2), ("budgets", 192, 24, 2.5)])
def test_the_full_grids_share_what_their_targets_need(tmp_path, grid, trials, settings, ideal):
    expanded = expand(study_of(grid, SIZES["full"]))
    assert (len(expanded), len(settings_of(expanded))) == (trials, settings)
    assert plan(expanded, Store(tmp_path / "none"), workers=2).saving > ideal


def test_scp_is_ablated_in_64_settings_of_one_trunk():
    groups = settings_of(expand(study_of("scp", SIZES["full"])))
    assert len(groups) == 64
    assert all(a[0].links[0].lineage == b[0].links[0].lineage for a, b in pairwise(groups))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_tools_are_given_the_hessian_that_is_measured(blocks):
    gpt = {"width": 4, "heads": 2, "loops": 1, "norm": "layer", "mlp_ratio": 2.0, "depth": blocks}
    at = probing.probe([probing.config(gpt)])
    theirs, ours = (torch.linalg.eigvalsh(h) for h in (double_backward(curvature.subject(at)), at.dense(0)))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-12 * float(ours.abs().max()))


def test_what_is_timed_are_the_largest_eigenvalues_and_a_pack_has_the_bits_of_its_lanes():
    packed = probing.probe(probing.seeds(probing.config("layer-mlp"), 3))
    for lane, (found, _) in enumerate(curvature.ours(packed)):
        exact = torch.linalg.eigvalsh(packed.dense(lane)).abs().sort(descending=True).values[: curvature.COUNT].numpy()
        assert curvature.worst_error(found, exact) < 3e-6
    assert curvature.packed(packed, rounds=1)["parameters"] == packed.size


def test_the_plain_gpt_is_the_model_that_it_is_compared_with():
    config = model.gpt(SMALL_GPT, length=64, batch=2, vocabulary=5000, weight_decay=0.1)
    weights, batch, cpu = init_parameters(config), model.tokens(config, torch.device("cpu")), torch.device("cpu")
    plain, ours = (make(config, weights, cpu) for make in model.STEPS.values())
    losses = [(float(plain(*batch)), float(ours(*batch))) for _ in range(4)]
    assert [a for a, _ in losses] == pytest.approx([b for _, b in losses], abs=1e-5)
    assert losses[3][0] < losses[0][0] - 1e-2


def test_another_function_is_not_timed():
    config = model.gpt(SMALL_GPT, length=16, batch=2, vocabulary=100)
    weights, batch, cpu = init_parameters(config), model.tokens(config, torch.device("cpu")), torch.device("cpu")
    other = weights | {"blocks.0.query": -weights["blocks.0.query"]}
    steps = {"plain": model.plain_step(config, weights, cpu), "ours": model.our_step(config, other, cpu)}
    with pytest.raises(SystemExit, match="not the same function"):
        model.refuse_others(config, steps, batch)


def test_steps_of_bfloat16_are_timed_too():
    config = model.gpt(SMALL_GPT, length=16, batch=2, vocabulary=100, precision="bf16")
    done = model.timed(config, torch.device("cpu"), rounds=1)
    assert done["ratio"] > 0
    assert set(done["seconds"]) == set(model.STEPS)
