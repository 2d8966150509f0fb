"""A truncated trial is the beginning of the whole one: its links, its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.alone import train_alone
from core.config import TrialConfig, trial_config
from core.errors import InputError
from core.lineage import Link, links, trial_id, watch
from core.observation import measurement_steps
from core.truncated import truncated

STEPS = 100
CRITERION = {"criterion": "loss", "delta1": 0.02, "patience": 2, "latest": 70}
SCHEDULES: list[dict[str, Any]] = [
    {"kind": "single"},
    {"kind": "looped", "draw": "poisson-lognormal", "sigma": 0.25},
    {"kind": "shift", "switch": 0.4, "optimizer": "reset", "rewarm": 5, "lr_factor": 0.5},
    {"kind": "reverse", "switch": 30},
    {"kind": "grow", "draw": "poisson-lognormal"},
    {"kind": "linear-grow", "ramp": 0.7},
    {"kind": "shift-scp", "latest": 0.9, "check_every": 7},
    {"kind": "shift-scp", "criterion": "gradient", "latest": 1.0},
    {"stages": [{"loops": 1, "until": CRITERION}, {"loops": 2, "until": 0.8}, {"loops": 3, "rewarm": 4}]},
    {"stages": [{"loops": 2, "until": CRITERION}, {"loops": 1, "until": {"latest": 0.9}}, {"loops": 4}]},
    {"stages": [{"loops": 2, "until": 20}, {"loops": 2, "rewarm": 9, "until": 50}, {"loops": 2, "lr_factor": 0.1}]},
]


def trial(schedule: dict[str, Any], **train: Any) -> TrialConfig:
    terms = {"steps": STEPS, "evaluate_every": 10, **train}
    return trial_config({"train": terms, "model": {"loops": 3, "width": 8}, "schedule": schedule})


def beginning(chain: tuple[Link, ...], step: int) -> list[Link]:
    """The links of a chain up to a step."""
    return [replace(link, end=min(link.end, step)) for link in chain if link.start < step]


@given(st.sampled_from(SCHEDULES), st.integers(1, STEPS), st.sampled_from(["constant", "wsd"]), st.data())
@settings(max_examples=300)
def test_its_links_are_those_of_the_whole_trial_up_to_the_step(schedule, step, lr_schedule, data) -> None:
    whole = trial(schedule, lr_schedule=lr_schedule, decay=0.2, lr_final=0.1)
    if lr_schedule == "wsd" and 80 < step < STEPS:
        with pytest.raises(InputError, match="decay of 20 steps begins after"):
            truncated(whole, step)
        return
    short = truncated(whole, step)
    assert short.train.steps == step
    ended: tuple[int, ...] = ()
    while True:  # whichever way its criteria end, as long as they do before the step
        assert list(links(short, ended)) == beginning(links(whole, ended), step)
        waits = watch(whole, ended)
        if waits is None or waits.start >= step:
            break
        same = watch(short, ended)
        assert same is not None
        assert list(same.criterion.grid(same.start)) == [s for s in waits.criterion.grid(waits.start) if s <= step]
        ended = (*ended, data.draw(st.integers(waits.start + 1, waits.criterion.latest)))
        if ended[-1] > step:
            break


def test_at_its_last_step_it_is_the_trial_itself() -> None:
    whole = trial(SCHEDULES[2], lr_schedule="wsd")
    assert truncated(whole, STEPS) is whole


def test_before_the_switch_it_is_the_trial_that_never_switches() -> None:
    assert trial_id(truncated(trial(SCHEDULES[2]), 40)) == trial_id(trial({"kind": "single"}, steps=40))
    assert trial_id(truncated(trial(SCHEDULES[2]), 41)) != trial_id(trial({"kind": "single"}, steps=41))


def test_its_last_state_stays_for_the_whole_trial_to_go_on_from() -> None:
    assert truncated(trial({}, keep="none"), 10).train.keep == "final"
    assert truncated(trial({}, keep="all"), 10).train.keep == "all"


@pytest.mark.parametrize(
    ("terms", "step", "message"),
    [
        ({"lr_schedule": "cosine"}, 10, 'take "wsd" or "constant"'),
        ({"warmup": 20}, 10, "can be cut at a step in 20 … 100"),
        ({}, 0, "can be cut at a step in 1 … 100"),
        ({}, 101, "got 101"),
    ],
)
def test_what_has_no_such_beginning_is_refused(terms: dict[str, Any], step: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        truncated(trial({}, **terms), step)


def test_what_is_measured_at_the_end_alone_is_not_measured_at_a_rung() -> None:
    whole = trial_config({"train": {"steps": STEPS}, "measure": {"quantities": ["lambda_max"]}})
    assert measurement_steps(truncated(whole, 10)) == []
    assert measurement_steps(truncated(whole, 10, measure_end=True)) == [10]
    often = replace(whole, measure=replace(whole.measure, every=4))
    assert measurement_steps(truncated(often, 10)) == [0, 4, 8]


@pytest.mark.parametrize("schedule", [SCHEDULES[2], SCHEDULES[6]])
def test_its_rows_are_those_of_the_whole_trial(schedule: dict[str, Any]) -> None:
    task = {"kind": "markov", "states": 4, "chains": 2, "length": 8, "train_size": 0, "val_size": 8}
    train = {"steps": 40, "batch": 4, "evaluate_every": 5, "lr_schedule": "wsd", "warmup": 5}
    whole = trial_config({"task": task, "train": train, "model": {"width": 8}, "schedule": schedule})
    full = train_alone(whole)
    for step in (10, 25):
        short = train_alone(truncated(whole, step))
        assert short.metrics[-1]["step"] == step
        assert short.metrics == [row for row in full.metrics if row["step"] <= step]
