"""A trial alone: the plain way to the rows that every other way must give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.alone import Alone, train_alone
from core.config import MeasureConfig, TrialConfig, trial_config
from core.lineage import links, watch
from core.observation import evaluation_steps, measurement_steps, with_measure
from core.watch import Check, ending
from tests.core.packs import run
from tests.core.reference import SMALL, case


def trial(schedule: dict[str, Any], **train: Any) -> TrialConfig:
    return trial_config(
        {
            "task": SMALL | {"val_size": 16, "length": 8},
            "model": {"width": 8},
            "train": {"steps": 24, "batch": 4, "lr": 0.1, "evaluate_every": 8, **train},
            "schedule": schedule,
        }
    )


def without_lineage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "lineage"} for row in rows]


def by_slow_reading(config: TrialConfig, done: Alone) -> tuple[int, ...]:
    """The ends that follow from the checks of a trial, criterion by criterion."""
    rows = {row["step"]: Check(**{k: row[k] for k in ("val_loss", "train_loss", "grad_norm")}) for row in done.checks}
    ended: tuple[int, ...] = ()
    while (waits := watch(config, ended)) is not None:
        step = ending(waits.criterion, waits.start, rows)
        assert step is not None
        ended = (*ended, step)
    return ended


@pytest.mark.parametrize(
    "name", ["toy", "shift", "wsd", "reset_wsd", "reset_in_decay", "listed", "grow_all", "drawn_shift"]
)
def test_a_fixed_schedule_is_trained_as_in_one_go(name: str) -> None:
    config = with_measure(case(name), MeasureConfig(quantities=("lambda_max",), at=(0, 6, 12), probe=4))
    done = train_alone(config)
    whole = run([config])[0]
    assert (done.status, done.ended, done.chain) == ("ok", (), links(config))
    assert without_lineage(done.metrics) == whole.metrics
    assert without_lineage(done.events) == whole.events
    assert done.checks == []
    assert [row["step"] for row in done.curvature] == [0, 6, 12]
    for row in (*done.metrics, *done.curvature):
        (link,) = [
            link for link in links(config) if link.start < row["step"] <= link.end or row["step"] == link.start == 0
        ]
        assert row["lineage"] == link.lineage
    assert [row["step"] for row in done.events] == sorted(
        {k.start for k in links(config) if k.stage > 0}
        - {k.start for a, k in zip(links(config), links(config)[1:], strict=False) if a.stage == k.stage}
    )


@pytest.mark.parametrize(
    "terms",
    [
        {"delta1": 0.02, "criterion": "loss", "patience": 1},
        {"delta1": 0.02, "criterion": "loss", "patience": 2, "on": "train", "change": "absolute"},
        {"delta2": 0.05, "criterion": "gradient", "patience": 1},
        {"delta1": 0.1, "delta2": 0.5, "patience": 2, "check_every": 5},
        {"delta1": 1e-12, "latest": 0.7},
        {"delta1": 1e-12, "latest": 1.0},
        {"check_every": 30, "latest": 11},
        {"delta1": 0.1, "delta2": 0.9, "patience": 2, "optimizer": "reset", "rewarm": 3, "lr_factor": 0.5},
    ],
)
@pytest.mark.parametrize("train", [{}, {"lr_schedule": "wsd", "decay": 15}])
def test_a_shift_by_a_criterion_is_the_fixed_shift_where_it_ended(terms: dict[str, Any], train: dict[str, Any]) -> None:
    config = trial({"kind": "shift-scp", "check_every": 2, **terms}, **train)
    done = train_alone(config)
    assert done.ended == by_slow_reading(config, done)
    (switch,) = done.ended
    kept = {name: terms[name] for name in ("optimizer", "rewarm", "lr_factor") if name in terms}
    fixed = trial({"kind": "shift", "switch": switch, **kept} if switch < 24 else {"kind": "single"}, **train)
    other = train_alone(fixed)
    assert done.chain == other.chain == links(config, done.ended)
    assert (done.metrics, done.events) == (other.metrics, other.events)
    # Checks are those of the watched stage, each on its grid.
    every = terms.get("check_every", 2)
    assert [row["step"] for row in done.checks] == list(range(every, switch + 1, every))


def test_the_criteria_of_the_table_do_end_stages_at_different_steps() -> None:
    """What is compared above is worth comparing: criteria hold at several steps, later where they ask for more."""
    deltas = ((0.05, 0.25), (0.02, 0.1), (0.003, 0.015))
    ends = [
        train_alone(trial({"kind": "shift-scp", "check_every": 2, "patience": 2, "delta1": a, "delta2": b})).ended
        for a, b in deltas
    ]
    assert ends == sorted(ends)
    assert len(set(ends)) == 3


starts = st.fixed_dictionaries(
    {
        "loops": st.integers(1, 3),
        "lr_factor": st.sampled_from([1.0, 0.5]),
        "rewarm": st.sampled_from([0, 4]),
        "optimizer": st.sampled_from(["keep", "reset"]),
        "draw": st.sampled_from(["fixed", "poisson-lognormal"]),
    }
)
criteria = st.fixed_dictionaries(
    {
        "criterion": st.sampled_from(["scp", "loss", "gradient"]),
        "delta1": st.sampled_from([0.05, 0.01]),
        "delta2": st.sampled_from([0.1, 0.05]),
        "patience": st.integers(1, 2),
        "on": st.sampled_from(["val", "train"]),
    }
)


@settings(max_examples=30)
@given(
    st.lists(starts, min_size=2, max_size=3),
    criteria,
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, {"lr_schedule": "wsd", "decay": 10}, {"lr_schedule": "cosine", "warmup": 2}]),
)
def test_any_schedule_with_criteria_is_the_list_of_its_stages(
    begun: list[dict[str, Any]], criterion: dict[str, Any], last_fixed: bool, bounded: bool, train: dict[str, Any]
) -> None:
    """Ends that criteria chose, written out as steps, are the same training: links, rows and events."""
    stages = [dict(stage) for stage in begun]
    for number, stage in enumerate(stages[:-1], start=1):
        stage["until"] = criterion | ({"latest": 9 * number} if bounded else {})
    if bounded and last_fixed and len(stages) > 2:
        stages[1]["until"] = 18
    config = trial({"stages": stages, "check_every": 2}, **train)
    done = train_alone(config)
    ends = list(done.ended)
    fixed = [
        dict(stage) | ({"until": ends.pop(0)} if isinstance(stage.get("until"), dict) and ends else {})
        for stage in stages
    ]
    if any(isinstance(stage.get("until"), dict) for stage in fixed):
        return  # a criterion that has nothing to decide, since what follows it is alike
    other = train_alone(trial({"stages": fixed, "check_every": 2}, **train))
    assert done.chain == other.chain
    assert (done.status, done.metrics, done.events) == (other.status, other.metrics, other.events)


def test_a_criterion_that_waits_for_another_counts_from_there() -> None:
    easy = {"criterion": "loss", "delta1": 1e9, "patience": 2}
    config = trial(
        {"stages": [{"loops": 1, "until": easy}, {"loops": 2, "until": easy}, {"loops": 3}], "check_every": 3}
    )
    done = train_alone(config)
    assert done.ended == (9, 18)
    assert [row["step"] for row in done.checks] == [3, 6, 9, 12, 15, 18]
    assert {row["step"] for row in done.metrics} == {0, 8, 9, 16, 18, 24}
    assert [row["step"] for row in done.events] == [9, 18]
    later = trial({"stages": [{"loops": 1, "until": 7}, {"loops": 1, "until": easy}, {"loops": 3}], "check_every": 3})
    assert train_alone(later).ended == (15,)
    assert train_alone(later).metrics == train_alone(trial({"kind": "shift", "switch": 15})).metrics


def test_a_trial_that_diverges_has_the_rows_before_and_one_event() -> None:
    config = trial({"kind": "shift-scp", "check_every": 3, "delta1": 1e-12}, lr=1e3, weight_decay=100.0)
    done = train_alone(config)
    assert (done.status, done.ended) == ("diverged", ())
    (event,) = done.events
    assert event["kind"] == "divergence"
    assert event["step"] > max(row["step"] for row in (*done.metrics, *done.checks))
    looped = train_alone(replace(config, schedule=replace(config.schedule, kind="single")))
    assert done.metrics == looped.metrics
    assert done.events == looped.events


def test_it_is_observed_as_it_asks() -> None:
    config = trial({"kind": "shift-scp", "criterion": "loss", "delta1": 1e9, "check_every": 5}, evaluate_every=7)
    config = with_measure(config, MeasureConfig(quantities=("lambda_max",), every=6, probe=4))
    done = train_alone(config)
    assert done.ended == (20,)
    assert [row["step"] for row in done.metrics] == evaluation_steps(config, done.chain) == [0, 7, 14, 20, 21, 24]
    assert [row["step"] for row in done.curvature] == measurement_steps(config) == [0, 6, 12, 18, 24]
