"""Branches: the trial's own next updates, the WSD trial's decay, beside a training that does not notice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from core.alone import train_alone
from core.branches import Branch, decayed, decaying, hill, onward
from core.checkpoint import TrialState
from core.config import TrialConfig, trial_config
from core.lineage import links
from core.optim import learning_rate
from core.pack import initial_state
from core.probes import Probe
from core.segments import LaneResult
from core.train import train_segments
from tests.core import packs, probing

TASK = probing.TINY | {"train_size": 64}
STEPS = 24


def trial(train: dict[str, Any], *, seed: int = 0, **sections: Any) -> TrialConfig:
    return trial_config(
        {
            "task": TASK,
            "model": {"width": 4, "loops": 2},
            "train": {"steps": STEPS, "batch": 4, "lr": 0.02, "evaluate_every": 1000} | train,
            "measure": {"quantities": ["hill"], "probe": 4, "decay": 6},
            "seed": seed,
        }
        | sections
    )


def at(config: TrialConfig, step: int) -> TrialState:
    """The state of a trial at a step, trained in one go."""
    return packs.run([config], until=step)[0].state if step else initial_state(config)


def probe_at(configs: Sequence[TrialConfig], step: int, *, link: int = 0) -> Probe:
    probe = probing.probe(configs, [at(config, step) for config in configs])
    return replace(probe, chains=[links(config)[: link + 1] for config in configs])


def tensors(state: TrialState) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in {**state.parameters, **state.optimizer}.items()}


def whole(branch: Branch) -> LaneResult:
    assert not isinstance(branch, str), branch
    return branch


def same(one: LaneResult, other: LaneResult) -> bool:
    return packs.bits(one) == packs.bits(other) and [*map(tensors, one.states)] == [*map(tensors, other.states)]


OPTIMISERS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.1, "clip": 0.5},
    "sgd": {"optimizer": "sgd", "lr": 0.2, "weight_decay": 0.01},
    "warm": {"warmup": 10},
    "float64": {"precision": "float64"},
}


# --- onward --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("step", [0, 7])
def test_onward_are_the_updates_that_the_trial_makes(train: dict[str, Any], step: int) -> None:
    config = trial(train)
    result = whole(*onward(probe_at([config], step), 5, each=True))
    assert [state.step for state in result.states] == [*range(step + 1, step + 6)]
    for state in result.states:
        assert tensors(state) == tensors(at(config, state.step))
    end = whole(*onward(probe_at([config], step), 5))
    assert tensors(end.state) == tensors(result.states[-1])
    assert end.states == []


def test_onward_draws_the_loops_that_the_trial_draws() -> None:
    config = trial({}, model={"width": 4, "loops": 3}, schedule={"kind": "looped", "draw": "poisson-lognormal"})
    assert links(config)[0].draw is not None
    result = whole(*onward(probe_at([config], 5), 4))
    assert tensors(result.state) == tensors(at(config, 9))


@pytest.mark.parametrize("schedule", ["constant", "wsd", "cosine"])
def test_onward_goes_on_as_if_the_stage_did(schedule: str) -> None:
    """Beyond its switch as the stage, beyond the stable phase at the peak, beyond the trial as at its last update."""
    shift = {"kind": "shift", "switch": 10}
    config = trial({"lr_schedule": schedule, "lr_final": 0.1}, schedule=shift)
    longer = trial({}, schedule=shift | {"switch": 16}) if schedule != "cosine" else None
    result = whole(*onward(probe_at([config], 8), 6))
    assert result.state.lineage == links(config)[0].lineage
    if longer is not None:
        assert tensors(result.state) == tensors(at(longer, 14))
    last = len(links(config)) - 1
    probe = probe_at([config], STEPS, link=last)
    beyond = whole(*onward(probe, 3))
    assert (beyond.status, beyond.reached) == ("ok", STEPS + 3)
    rates = [learning_rate(config, probe.link, step) for step in (STEPS, STEPS + 1, STEPS + 3)]
    assert rates == pytest.approx([0.02 if schedule == "constant" else 0.002] * 3)


def test_a_cosine_that_is_all_warm_up_is_over_at_its_end() -> None:
    config = trial({"lr_schedule": "cosine", "warmup": STEPS, "lr_final": 0.25})
    [link] = links(config)
    assert learning_rate(config, link, STEPS) == 0.02
    assert learning_rate(config, link, STEPS + 1) == pytest.approx(0.005)


# --- decayed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("step", [0, 5])
def test_a_decay_is_the_wsd_trial_that_forks_there(train: dict[str, Any], step: int) -> None:
    config = trial(train)
    wsd = trial(train | {"lr_schedule": "wsd", "steps": step + 10, "decay": 10})
    assert links(wsd)[-1].decay == (step, 10, 0.0)
    result = whole(*decayed(probe_at([config], step), 10))
    [expected] = packs.run([wsd])
    assert tensors(result.state) == tensors(expected.state)

    done = train_alone(replace(wsd, train=replace(wsd.train, evaluate_every=max(step, 1))))
    losses = {row["step"]: row["val_loss"] for row in done.metrics}
    [finding] = hill(probe_at([replace(config, measure=replace(config.measure, decay=10))], step))
    assert finding.values["hill"].number == losses[step] - losses[step + 10]
    assert finding.values["hill"].failure is None


def test_a_decay_of_a_later_stage_is_the_wsd_trial_that_forks_there() -> None:
    shift = {"kind": "shift", "switch": 6, "lr_factor": 0.5, "rewarm": 4, "optimizer": "reset"}
    config = trial({}, schedule=shift)
    wsd = trial({"lr_schedule": "wsd", "steps": 15, "decay": 7}, schedule=shift)
    assert [link.start for link in links(wsd)] == [0, 6, 8]
    result = whole(*decayed(probe_at([config], 8, link=1), 7))
    assert tensors(result.state) == tensors(packs.run([wsd])[0].state)
    assert result.events == []


def test_a_stable_phase_of_wsd_decays_as_a_constant_rate_does() -> None:
    one = whole(*decayed(probe_at([trial({})], 5), 6))
    other = whole(*decayed(probe_at([trial({"lr_schedule": "wsd", "decay": 4})], 5), 6))
    assert tensors(one.state) == tensors(other.state)


@pytest.mark.parametrize("train", [{"lr_schedule": "cosine"}, {"lr_schedule": "wsd", "decay": 16}])
def test_a_rate_that_falls_already_goes_to_zero_from_where_it_is(train: dict[str, Any]) -> None:
    config = trial(train | {"warmup": 2})
    chain = links(config)
    step = 12
    now = learning_rate(config, chain[-1], step)
    assert 0 < now < 0.02
    branch, branched = decaying(config, chain, step, 4)
    assert [link.end for link in branched[:-1]] == [*(link.end for link in chain[:-1]), step]
    assert len({link.lineage for link in branched}) == len(branched)
    rates = [learning_rate(branch, branched[-1], step + n) for n in range(1, 5)]
    assert rates == pytest.approx([now * share for share in (0.75, 0.5, 0.25, 0.0)], abs=1e-18)


ZERO = "the learning rate is zero"


@pytest.mark.parametrize("train", [{"lr_schedule": "cosine"}, {"lr_schedule": "wsd", "decay": 8}])
def test_where_the_rate_goes_to_zero_nothing_moves_and_a_branch_onward_is_refused(train: dict[str, Any]) -> None:
    """The last update of either is made at a rate of zero; what stops before it moves."""
    config = trial(train)
    last = len(links(config)) - 1
    assert [type(b) for b in onward(probe_at([config], STEPS - 4, link=last), 3)] == [LaneResult]
    for step, zero in ((STEPS - 4, 4), (STEPS - 1, 1), (STEPS, 1)):
        assert onward(probe_at([config], step, link=last), 6) == [f"{ZERO} at update {zero} of the branch"]


def test_a_lane_that_stands_still_is_not_trained_and_its_neighbour_is() -> None:
    still, moving = trial({"lr_schedule": "cosine"}), trial({"lr_schedule": "cosine", "lr_final": 0.1}, seed=1)
    [refused, branch] = onward(probe_at([still, moving], STEPS), 2)
    [alone] = onward(probe_at([moving], STEPS), 2)
    assert isinstance(refused, str)
    assert same(whole(branch), whole(alone))


def test_where_the_rate_is_zero_there_is_nothing_to_decay() -> None:
    still, moving = trial({"lr_schedule": "cosine"}), trial({"lr_schedule": "cosine", "lr_final": 0.1}, seed=1)
    first, second = hill(probe_at([still, moving], STEPS))
    assert (first.values["hill"].number, first.values["hill"].failure) == (None, f"{ZERO}: there is nothing to decay")
    assert [second] == hill(probe_at([moving], STEPS))
    assert second.values["hill"].number is not None
    [before] = hill(probe_at([still], STEPS - 1))
    assert before.values["hill"].number is not None


# --- packs, divergence, training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [{}, {"optimizer": "sgd"}, {"lr_schedule": "cosine"}])
def test_a_branch_has_the_same_bits_in_any_pack(train: dict[str, Any]) -> None:
    configs = packs.lanes(trial(train), 3)
    pack = probe_at(configs, 4)
    for order in ([0], [2, 1], [1, 1, 0]):
        some = pack.pick(order)
        for follow in (partial(onward, updates=3, each=True), partial(decayed, updates=3)):
            for lane, branch in zip(order, follow(some), strict=True):
                assert same(whole(branch), whole(follow(pack)[lane]))


def test_a_branch_that_diverges_has_no_number_and_its_neighbour_does_not_notice() -> None:
    sound, wild = trial({"optimizer": "sgd", "lr": 0.1}), trial({"optimizer": "sgd", "lr": 1e3}, seed=1)
    wild = replace(wild, measure=replace(wild.measure, decay=12))
    sound = replace(sound, measure=wild.measure)
    first, second = hill(probe_at([sound, wild], 0))
    [alone] = hill(probe_at([sound], 0))
    assert first == alone
    assert math.isfinite(first.values["hill"].number or math.nan)
    assert second.values["hill"].number is None
    assert "its branch diverged at update" in str(second.values["hill"].failure)
    assert "not finite" in str(second.values["hill"].failure)
    [broken] = onward(probe_at([wild], 0), 12, each=True)
    assert str(broken).startswith("its branch diverged at update")


def test_only_a_branch_is_evaluated_where_it_starts() -> None:
    config = trial({})
    segment, state = packs.segment(config, 0, 3, 5, evaluate=(3, 5)), at(config, 3)
    with pytest.raises(ValueError, match="step 3 cannot be observed in 3–5"):
        train_segments([segment], [state])
    [result] = train_segments([replace(segment, branch=True)], [state])
    assert [row["step"] for row in result.metrics] == [3, 5]
    assert result.metrics[0]["train_loss"] is None
    assert (
        result.metrics[0]["val_loss"]
        == train_segments([packs.segment(config, 0, 2, 3, evaluate=(3,))], [at(config, 2)])[0].metrics[0]["val_loss"]
    )


def test_measuring_a_branch_leaves_the_training_alone() -> None:
    config = trial({"evaluate_every": 4})
    measured = replace(config, measure=replace(config.measure, every=8))
    plain, with_branch = train_alone(config), train_alone(measured)
    assert with_branch.metrics == plain.metrics
    assert [row["step"] for row in with_branch.curvature if row["hill"] is not None] == [0, 8, 16, 24]


def test_a_state_is_measured_where_gradients_are_off_and_keeps_its_bits() -> None:
    probe = probe_at([trial({})], 3)
    before, random = tensors(probe.states[0]), torch.get_rng_state()
    with torch.no_grad():
        [finding] = hill(probe)
        assert not torch.is_grad_enabled()
    assert finding.values["hill"].failure is None
    assert tensors(probe.states[0]) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_the_engine_asks_for_it_by_name() -> None:
    configs = packs.lanes(trial({}), 2)
    rows = probing.measured(configs, [at(config, 3) for config in configs])
    expected = hill(probe_at(configs, 3))
    assert [row.curvature["hill"] for row in rows] == [finding.values["hill"].number for finding in expected]
    assert all(row.curvature["method"] == {"hill": "decay to zero over 6 updates"} for row in rows)
