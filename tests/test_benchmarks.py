"""Claims about what the benchmarks compare: the grids share as much as is stated, plain trials are the same trials, and
public tools are given the Hessian that is measured.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks import curvature
from benchmarks.curvature_tools import double_backward
from benchmarks.plain_tune import PlainTrial
from benchmarks.stage_grids import SIZES, settings_of, study_of
from core.alone import train_alone
from core.config import TrialConfig, trial_config
from studies.expand import expand
from studies.store import Store
from sweeps.plan import plan
from tests.core import probing

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
