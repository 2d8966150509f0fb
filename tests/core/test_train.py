"""The pack engine: a lane's bits are its own, resuming changes nothing, divergence stays in its lane."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.architecture import architecture
from core.checkpoint import TrialState, load, save
from core.config import MeasureConfig, trial_config
from core.flops import flops_alone
from core.lineage import canonical_json, links
from core.model import forward, token_losses
from core.observation import with_measure
from core.pack import initial_state
from core.segments import Segment
from core.task_data import task_data
from core.train import train_segments
from tests.core.packs import bits, join, lanes, run, segment
from tests.core.reference import CASES, SCHEDULES, case, plain_training

PACKS = (2, 3, 8, 16)


@pytest.mark.parametrize("name", CASES)
def test_a_trial_alone_equals_the_trial_in_any_pack(name: str) -> None:
    trials = lanes(case(name), max(PACKS))
    whole = [bits(result) for result in run(trials)]
    for position in (0, 1, 7, 15):
        assert bits(run([trials[position]])[0]) == whole[position], f"alone, position {position} of 16"
    for size in PACKS[:-1]:
        for first in (0, 16 - size):
            pack = [bits(result) for result in run(trials[first : first + size])]
            assert pack == whole[first : first + size], f"{size} from {first} on"


@pytest.mark.parametrize("precision", ["bf16", "float64"])
@pytest.mark.parametrize("name", ["toy", "gpt2", "heads_long"])
def test_other_precisions_too(name: str, precision: str) -> None:
    trials = lanes(case(name, precision=precision), 8)
    whole = [bits(result) for result in run(trials)]
    assert bits(run([trials[5]])[0]) == whole[5]
    assert [bits(result) for result in run(trials[4:7])] == whole[4:7]


@pytest.mark.parametrize("name", ["toy", "gpt2", "decay_clip_warmup", "sgd"])
def test_a_diverging_neighbour_changes_nothing(name: str) -> None:
    trials = lanes(case(name, clip=0.0), 3)
    trials[1] = replace(trials[1], train=replace(trials[1].train, lr=1e3, weight_decay=100.0))
    results = run(trials)
    assert [result.status for result in results] == ["ok", "diverged", "ok"]
    for index in (0, 2):
        assert bits(run([trials[index]])[0]) == bits(results[index])
    assert bits(run([trials[1]])[0]) == bits(results[1])


def test_a_diverged_lane_is_frozen_at_its_last_finite_state() -> None:
    trials = lanes(case("toy", clip=0.0, steps=24, evaluate_every=2), 2)
    trials[0] = replace(trials[0], train=replace(trials[0].train, lr=1e3, weight_decay=100.0))
    result = run(trials)[0]
    assert result.status == "diverged"
    assert 0 < result.reached < 24
    (event,) = result.events
    assert event["step"] == result.reached + 1
    assert event["kind"] == "divergence"
    assert "not finite" in event["detail"]
    assert result.metrics[-1]["step"] == result.reached // 2 * 2
    assert result.state.step == result.reached
    assert all(t.isfinite().all() for t in (*result.state.parameters.values(), *result.state.optimizer.values()))
    # The state is the one that a run which ends there reaches.
    assert bits(run(trials, until=result.reached)[0])["tensors"] == bits(result)["tensors"]


def test_metrics_are_finite_or_none() -> None:
    trials = lanes(case("toy", clip=0.0, steps=24, evaluate_every=1), 1)
    trials[0] = replace(trials[0], train=replace(trials[0].train, lr=1e3, weight_decay=100.0))
    rows = run(trials)[0].metrics
    assert all(value is None or math.isfinite(value) for row in rows for value in row.values())


@pytest.mark.parametrize("name", ["toy", "shift", "sgd", "cosine", "wsd", "gpt2"])
def test_resumed_equals_uninterrupted_also_in_another_pack(name: str, tmp_path: Any) -> None:
    trials = lanes(case(name), 4)
    whole = run(trials)
    halfway = run(trials[:3], until=5)
    for lane, result in enumerate(halfway):
        save(result.state, tmp_path / f"{lane}.safetensors")
    states = [load(tmp_path / f"{lane}.safetensors") for lane in range(3)]
    resumed = run([trials[2], trials[0]], states=[states[2], states[0]])
    for result, before, lane in zip(resumed, (halfway[2], halfway[0]), (2, 0), strict=True):
        assert bits(join(before, result)) == bits(whole[lane])


def test_stopping_ends_the_pack_between_blocks() -> None:
    config = case("toy")
    asked: list[int] = []

    def stop(step: int) -> bool:
        asked.append(step)
        return step >= 6

    (result,) = train_segments([segment(config, 0, 0, 12)], [initial_state(config)], stop=stop)
    assert (result.status, result.reached, result.state.step) == ("ok", 6, 6)
    assert asked == [6]
    assert bits(join(result, run([config], states=[result.state])[0])) == bits(run([config])[0])


def test_a_switch_is_an_event_of_the_stage_that_begins_and_nothing_else_is() -> None:
    config = trial_config({"train": {"steps": 6, "batch": 2}, "schedule": {"kind": "shift", "switch": 4}})
    config = replace(config, model=replace(config.model, width=8, loops=3))
    events = run([config])[0].events
    assert events == [{"step": 4, "kind": "switch", "detail": events[0]["detail"]}]
    detail = json.loads(events[0]["detail"])
    assert canonical_json(detail) == events[0]["detail"]
    assert detail["loops"] == [1, 3]
    assert set(detail) == {"loops"} | {k for k in run([config])[0].metrics[0] if k.startswith("val_")}
    # After the switch: the weights of the last row before it, looped.
    weights = {name: p[None] for name, p in run([config], until=4)[0].state.parameters.items()}
    link, validation = links(config)[1], task_data(config).validation()
    inputs, targets = (torch.from_numpy(a)[None] for a in (validation.inputs, validation.targets))
    logits = forward(weights, inputs, architecture(config), loops=link.loops, injection=link.injection)
    assert detail["val_loss"] == pytest.approx(token_losses(logits, targets).mean().item(), rel=1e-5)
    half = run([config], until=5)[0].state
    assert run([config], states=[half])[0].events == []
    decaying = trial_config({"train": {"steps": 6, "batch": 2, "lr_schedule": "wsd", "decay": 2}})
    assert len(links(decaying)) == 2
    assert run([decaying])[0].events == []


@pytest.mark.parametrize("name", ["reset", "reset_sgd"])
def test_a_reset_leaves_the_given_state_alone_and_acts_at_the_start_of_its_stage_only(name: str) -> None:
    config = case(name)
    before = run([config], until=5)[0].state
    kept = {key: tensor.clone() for key, tensor in before.optimizer.items()}
    assert any(tensor.any() for tensor in kept.values())
    after = run([config], states=[before])[0]
    assert all(torch.equal(before.optimizer[key], tensor) for key, tensor in kept.items())
    zeroed = replace(before, optimizer={key: torch.zeros_like(tensor) for key, tensor in kept.items()})
    assert bits(run([config], states=[zeroed])[0]) == bits(after)
    halfway = run([config], states=[before], until=8)[0]
    assert bits(join(halfway, run([config], states=[halfway.state])[0])) == bits(after)


def test_progress_tells_step_and_losses() -> None:
    config, told = case("toy"), []
    train_segments(
        [segment(config, 0, 0, 12)], [initial_state(config)], progress=lambda step, losses: told.append((step, *losses))
    )
    assert [step for step, _ in told] == [6, 12]
    rows = run([config])[0].metrics
    assert [loss for _, loss in told] == [row["train_loss"] for row in rows[1:]]


@pytest.mark.parametrize("name", ["toy", "gpt2", "wsd"])
def test_measuring_and_evaluating_change_no_bits_of_training(name: str) -> None:
    config = case(name)
    measured = with_measure(config, MeasureConfig(quantities=("lambda_max",), at=(0, 4, 12), probe=4))
    measured = replace(measured, train=replace(measured.train, evaluate_every=5))
    plain = run([config])[0]
    results = None
    states = [initial_state(measured)]
    for index, link in enumerate(links(measured)):
        steps = tuple(s for s in (0, 4, 12) if link.start < s <= link.end or s == link.start == 0)
        done = train_segments([segment(measured, index, link.start, link.end, measure=steps)], states)
        states = [done[0].state]
        results = done[0] if results is None else join(results, done[0])
    assert results is not None
    assert [row["step"] for row in results.curvature] == [0, 4, 12]
    assert all(row["lambda_max"] > 0 for row in results.curvature)
    assert bits(results)["tensors"] == bits(plain)["tensors"]
    shared = [row for row in results.metrics if row["step"] in (0, 12)]
    assert shared == [row for row in plain.metrics if row["step"] in (0, 12)]


@pytest.mark.parametrize("name", [*CASES, *SCHEDULES])
def test_training_follows_the_plain_loop_in_float64(name: str) -> None:
    config = case(name, precision="float64", evaluate_every=1)
    state = initial_state(config)
    losses, weights = plain_training(config, state.parameters)
    result = run([config])[0]
    got = [row["train_loss"] for row in result.metrics[1:]]
    assert got == pytest.approx(losses, rel=1e-9)
    for parameter, value in result.state.parameters.items():
        torch.testing.assert_close(value, weights[parameter], rtol=1e-7, atol=1e-9)


def test_a_metrics_row() -> None:
    config = case("shift", warmup=4, evaluate_every=4)
    rows = run([config])[0].metrics
    assert [(row["step"], row["stage"], row["loops"]) for row in rows] == [
        (0, 0, 1),
        (4, 0, 1),
        (6, 0, 1),
        (8, 1, 3),
        (12, 1, 3),
    ]
    assert (rows[0]["train_loss"], rows[0]["grad_norm"], rows[0]["tokens"], rows[0]["flops_alone"]) == (
        None,
        None,
        0,
        0,
    )
    assert [row["lr"] for row in rows] == pytest.approx([3e-3 / 4, 3e-3, 3e-3, 3e-3, 3e-3])
    last = rows[-1]
    assert last["tokens"] == 12 * 8 * 16
    assert last["flops_alone"] == flops_alone(config)
    for suffix in ("", "_low_ic", "_high_ic"):
        assert last[f"excess_loss{suffix}"] == last[f"val_loss{suffix}"] - last[f"bayes_loss{suffix}"]
        assert 0 <= last[f"val_accuracy{suffix}"] <= 1
    assert rows[0]["val_loss"] > last["val_loss"] > last["bayes_loss"]


def _wrong_start(segments: list[Segment], states: list[TrialState]) -> None:
    states[0] = replace(states[0], step=1)


def _wrong_shape(segments: list[Segment], states: list[TrialState]) -> None:
    segments[0] = segment(case("mlp"), 0, 0, 12)


def _wrong_end(segments: list[Segment], states: list[TrialState]) -> None:
    segments[0] = replace(segments[0], end=11, evaluate=())


def _wrong_step(segments: list[Segment], states: list[TrialState]) -> None:
    segments[0] = replace(segments[0], evaluate=(13,))


def _too_few(segments: list[Segment], states: list[TrialState]) -> None:
    states.pop()


@pytest.mark.parametrize("spoil", [_wrong_start, _wrong_shape, _wrong_end, _wrong_step, _too_few])
def test_segments_that_do_not_fit_are_refused(spoil: Callable[[list[Segment], list[TrialState]], None]) -> None:
    config = case("toy")
    segments = [segment(config, 0, 0, 12) for _ in range(2)]
    states = [initial_state(config) for _ in range(2)]
    spoil(segments, states)
    with pytest.raises(ValueError, match=r"pack|state|step"):
        train_segments(segments, states)


GOLDEN: dict[str, list[float]] = {
    "gpt2": [2.13811452774, 2.01335427292, 1.93636377604],
    "linear": [2.0827179448, 2.0679373206, 2.04450952834],
    "rms_tied_mlp": [2.53237018827, 2.13242294062, 2.02056053721],
    "rotary_heads": [2.11315306265, 2.06528107789, 2.0123092682],
    "sgd": [2.17765776498, 2.05451709937, 1.94468667398],
    "shift": [2.12863209699, 2.08471507474, 2.02524781572],
    "toy": [2.17765776498, 2.10421343472, 2.04239265363],
    "wsd": [2.17765776498, 2.10421343472, 2.07245445674],
}
"""Validation losses at steps 0, 6, 12 in float64, where every processor agrees to many digits.

Whoever changes them raises `core.lineage.NUMERICS_VERSION` and writes new ones.
"""


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_losses(name: str) -> None:
    got = [row["val_loss"] for row in run([case(name, precision="float64")])[0].metrics]
    assert got == pytest.approx(GOLDEN[name], rel=1e-9)


def test_trial_config_seeds_data_by_default() -> None:
    first, second = (trial_config({"train": {"steps": 2, "batch": 4}, "seed": seed}) for seed in (0, 1))
    one, two = run([first, second])
    assert one.metrics[0]["bayes_loss"] != two.metrics[0]["bayes_loss"]
