"""Schedules: every short form gives the stages that it says, and equal training is one lineage."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import TrialConfig, trial_config
from core.errors import InputError
from core.lineage import acting_keys, links, stages, trial_id, watch
from core.schedule import Criterion
from core.schedule_terms import overlaid

CRITERION = {"criterion": "scp", "delta1": 0.02, "patience": 2}


def trial(steps: int = 100, loops: int = 3, *, train: dict[str, Any] | None = None, **schedule: Any) -> TrialConfig:
    return trial_config(
        {"train": {"steps": steps, **(train or {})}, "model": {"loops": loops, "width": 8}, "schedule": schedule}
    )


def listed(*stages: dict[str, Any], **given: Any) -> TrialConfig:
    return trial(stages=list(stages), **given)


def shape(config: TrialConfig, ended: tuple[int, ...] = ()) -> list[tuple[int, int, int]]:
    """(start, end, loops) of each stage."""
    return [(stage.start, stage.end, stage.acting.loops) for stage in stages(config, ended)]


def lineages(config: TrialConfig, ended: tuple[int, ...] = ()) -> list[str]:
    return [link.lineage for link in links(config, ended)]


# --- short forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"kind": "single"}, [(0, 100, 1)]),
        ({"kind": "looped"}, [(0, 100, 3)]),
        ({"kind": "shift", "switch": 0.3}, [(0, 30, 1), (30, 100, 3)]),
        ({"kind": "shift", "switch": 1}, [(0, 1, 1), (1, 100, 3)]),
        ({"kind": "reverse", "switch": 0.3}, [(0, 30, 3), (30, 100, 1)]),
        ({"kind": "grow"}, [(0, 33, 1), (33, 67, 2), (67, 100, 3)]),
        ({"kind": "linear-grow", "ramp": 0.4}, [(0, 10, 1), (10, 30, 2), (30, 100, 3)]),
        ({"kind": "linear-grow", "ramp": 1}, [(0, 1, 1), (1, 100, 3)]),
        ({"kind": "shift-scp", "latest": 0.8}, [(0, 80, 1)]),
        ({"kind": "shift-scp", "latest": 1.0}, [(0, 100, 1)]),
        (
            {"stages": [{"loops": 2, "until": 0.3}, {"until": 60}, {"loops": 1}]},
            [(0, 30, 2), (30, 60, 3), (60, 100, 1)],
        ),
    ],
)
def test_a_short_form_gives_its_stages(schedule: dict[str, Any], expected: list[tuple[int, int, int]]) -> None:
    assert shape(trial(**schedule)) == expected


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 9))
def test_grow_has_equal_parts_rounded_half_up_also_with_fewer_steps_than_loops(steps: int, loops: int) -> None:
    ends = [math.floor(Fraction(part * steps, loops) + Fraction(1, 2)) for part in range(1, loops + 1)]
    starts = [0, *ends[:-1]]
    expected = [(a, b, part) for part, (a, b) in enumerate(zip(starts, ends, strict=True), start=1) if a < b]
    assert shape(trial(steps, loops, kind="grow")) == expected


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_linear_grow_follows_its_formula_update_by_update(steps: int, loops: int, data: st.DataObject) -> None:
    ramp = data.draw(st.integers(1, steps))
    found = [
        count
        for start, end, count in shape(trial(steps, loops, kind="linear-grow", ramp=ramp))
        for _ in range(start, end)
    ]
    expected = [1 + math.floor(Fraction((loops - 1) * min(step, ramp), ramp) + Fraction(1, 2)) for step in range(steps)]
    assert found == expected


def test_what_begins_a_stage_acts_after_the_first_only() -> None:
    config = trial(2, 5, kind="grow", lr_factor=0.5, rewarm=2, optimizer="reset")
    found = [(s.acting.lr_factor, s.acting.rewarm, s.acting.reset) for s in stages(config)]
    assert found == [(1.0, 0, False), *[(0.5, 2, True)] * (len(found) - 1)]
    assert shape(config)[0] == (0, 1, 2)  # the stage of one loop has no update: the next is the first


def test_loops_are_drawn_where_there_are_more_than_one() -> None:
    config = trial(kind="shift", draw="poisson-lognormal", sigma=0.3)
    assert [stage.acting.draw for stage in stages(config)] == [None, 0.3]
    assert lineages(config)[0] == lineages(trial(kind="shift"))[0]
    assert lineages(config)[1] != lineages(trial(kind="shift"))[1]
    assert trial_id(trial(kind="single", draw="poisson-lognormal")) == trial_id(trial(kind="single"))
    assert trial_id(trial(kind="looped", loops=1, draw="poisson-lognormal")) == trial_id(trial(kind="single"))
    # No spread is a plain Poisson number, not a fixed one.
    assert trial_id(trial(draw="poisson-lognormal", sigma=0.0)) != trial_id(trial())


def test_a_criterion_has_its_steps_worked_out() -> None:
    config = trial(kind="shift-scp", latest=0.75, criterion="loss", check_every=7, on="train", change="absolute")
    waits = watch(config)
    assert waits is not None
    assert waits.criterion == Criterion(
        delta1=0.01, delta2=None, patience=3, change="absolute", on="train", latest=75, every=7
    )
    assert (waits.start, waits.stage) == (0, 0)
    assert list(waits.criterion.grid(0)) == list(range(7, 75, 7))
    assert list(waits.criterion.grid(7)) == list(range(14, 75, 7))
    assert list(waits.criterion.grid(75)) == []
    assert watch(config, (14,)) is None


# --- one training, one lineage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"kind": "single"}, [{"loops": 1}]),
        ({"kind": "looped"}, [{}]),
        ({"kind": "looped"}, [{"loops": 3}]),
        ({"kind": "looped"}, [{"optimizer": "reset"}]),  # at step 0 it is zero anyway
        ({"kind": "looped"}, [{"rewarm": 1}]),  # one update of warm-up is none
        ({"kind": "shift", "switch": 0.3}, [{"loops": 1, "until": 30}, {}]),
        ({"kind": "shift", "switch": 30}, [{"loops": 1, "until": 0.1}, {"loops": 1, "until": 0.3}, {}]),
        (
            {"kind": "shift", "switch": 30, "lr_factor": 0.5, "rewarm": 9, "optimizer": "reset"},
            [{"loops": 1, "until": 30}, {"lr_factor": 0.5, "rewarm": 9, "optimizer": "reset"}],
        ),
        (
            {"kind": "shift", "switch": 30, "lr_factor": 0.5, "rewarm": 9},
            [{"loops": 1, "until": 30}, {"lr_factor": 0.5, "rewarm": 9, "until": 38}, {"lr_factor": 0.5}],
        ),
        ({"kind": "reverse", "switch": 0.4}, [{"until": 0.4}, {"loops": 1}]),
        ({"kind": "grow"}, [{"loops": 1, "until": 33}, {"loops": 2, "until": 67}, {"loops": 3}]),
        (
            {"kind": "looped", "draw": "poisson-lognormal", "sigma": 0.2},
            [{"draw": "poisson-lognormal", "sigma": 0.2}],
        ),
        ({"kind": "shift-scp", **CRITERION}, [{"loops": 1, "until": CRITERION}, {}]),
        ({"kind": "shift-scp", **CRITERION, "latest": 1.0}, [{"loops": 1, "until": CRITERION | {"latest": 100}}, {}]),
        # What ends a stage whose like follows to a fixed step does not matter.
        ({"kind": "shift", "switch": 50}, [{"loops": 1, "until": {"latest": 40}}, {"loops": 1, "until": 50}, {}]),
        ({"kind": "looped"}, [{"until": CRITERION}, {"loops": 3}]),
    ],
)
@pytest.mark.parametrize("schedule", [{}, {"lr_schedule": "wsd", "decay": 0.4, "lr_final": 0.1}])
def test_a_list_of_stages_that_trains_what_a_short_form_trains_is_that_trial(
    short: dict[str, Any], long: list[dict[str, Any]], schedule: dict[str, Any]
) -> None:
    one, two = trial(train=schedule, **short), listed(*long, train=schedule)
    assert trial_id(one) == trial_id(two)
    assert links(one) == links(two)
    assert watch(one) == watch(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([{"loops": 1, "until": 30}, {}], [{"loops": 1, "until": 31}, {}]),
        ([{"until": 30}, {}], [{"until": 30}, {"optimizer": "reset"}]),
        ([{"until": 30}, {}], [{"until": 30}, {"rewarm": 2}]),
        ([{"until": 30}, {}], [{"until": 30}, {"lr_factor": 2.0}]),
        # A re-warm-up that the next stage cuts short is not one that goes on.
        ([{"rewarm": 20}], [{"rewarm": 20, "until": 18}, {}]),
        # A criterion counts from where its own stage begins.
        ([{"loops": 1, "until": CRITERION}, {}], [{"loops": 1, "until": 20}, {"loops": 1, "until": CRITERION}, {}]),
        ([{"loops": 1, "until": CRITERION}, {}], [{"loops": 1, "until": CRITERION | {"delta1": 0.03}}, {}]),
        ([{"loops": 1, "until": CRITERION}, {}], [{"loops": 1, "until": 0.9}, {}]),
    ],
)
def test_other_training_is_another_trial(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    assert trial_id(listed(*one)) != trial_id(listed(*two))


@settings(max_examples=80)
@given(st.data())
def test_a_shift_that_its_criterion_ended_is_the_fixed_shift_there(data: st.DataObject) -> None:
    latest = data.draw(st.integers(1, 40))
    step = data.draw(st.integers(1, latest))
    both = {
        "train": data.draw(st.sampled_from([{}, {"lr_schedule": "wsd", "decay": 15}, {"lr_schedule": "cosine"}])),
        "lr_factor": data.draw(st.sampled_from([1.0, 0.5])),
        "rewarm": data.draw(st.sampled_from([0, 7])),
        "optimizer": data.draw(st.sampled_from(["keep", "reset"])),
        "draw": data.draw(st.sampled_from(["fixed", "poisson-lognormal"])),
    }
    scp = trial(40, kind="shift-scp", latest=latest, **both)
    fixed = trial(40, kind="shift", switch=step, **both) if step < 40 else trial(40, kind="single", train=both["train"])
    assert links(scp, (step,)) == links(fixed)
    assert watch(scp, (step,)) is None
    # Before it ended, it is the trunk of the longest: the same lineages, to the latest step.
    trunk = trial(40, kind="single", train=both["train"])
    assert lineages(scp) == lineages(trunk)[: len(links(scp))]
    assert links(scp)[-1].end == latest


@pytest.mark.parametrize(
    ("change", "acts"),
    [({"lr_factor": 0.5}, 1), ({"rewarm": 10}, 1), ({"optimizer": "reset"}, 1), ({"draw": "poisson-lognormal"}, 1)],
)
@pytest.mark.parametrize("decay", [70, 60, 20])  # begins in the first stage, with the second, in the second
def test_what_begins_with_a_stage_forks_there_and_not_before(change: dict[str, Any], acts: int, decay: int) -> None:
    train = {"lr_schedule": "wsd", "decay": decay}
    plain, changed = (trial(kind="shift", switch=40, train=train, **c) for c in ({}, change))
    for one, two in zip(links(plain), links(changed), strict=True):
        assert (one.start, one.end, one.stage) == (two.start, two.end, two.stage)
        assert (one.lineage == two.lineage) == (one.stage < acts)


def test_a_stage_that_begins_where_a_decay_begins_is_one_link() -> None:
    config = trial(kind="shift", switch=60, train={"lr_schedule": "wsd", "decay": 40})
    assert [(link.start, link.end, link.decay) for link in links(config)] == [(0, 60, None), (60, 100, (60, 40, 0.0))]
    scp = trial(kind="shift-scp", latest=90, train={"lr_schedule": "wsd", "decay": 40})
    assert [(link.start, link.end, link.stage) for link in links(scp)] == [(0, 60, 0), (60, 90, 0)]
    assert links(scp, (60,)) == links(config)


STEPS = 10
terms_of_a_stage = st.fixed_dictionaries(
    {
        "loops": st.integers(1, 2),
        "lr_factor": st.sampled_from([1.0, 0.3]),
        "rewarm": st.sampled_from([0, 0, 1, 4]),
        "optimizer": st.sampled_from(["keep", "keep", "reset"]),
        "draw": st.sampled_from(["fixed", "fixed", "poisson-lognormal"]),
    }
)


@st.composite
def fixed_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    ends = sorted(draw(st.sets(st.integers(1, STEPS - 1), max_size=3)))
    begun = draw(st.lists(terms_of_a_stage, min_size=1, max_size=2))  # few kinds, so that neighbours are often alike
    return [dict(draw(st.sampled_from(begun))) | ({} if end is None else {"until": end}) for end in (*ends, None)]


def trained(listed_stages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What is done at each update: loops, whether drawn, learning rate over that of the trial, a reset before it."""
    updates: list[tuple[Any, ...]] = []
    for stage in listed_stages:
        start = len(updates)
        for number in range(1, stage.get("until", STEPS) - start + 1):
            warm = min(1.0, number / stage["rewarm"]) if stage["rewarm"] else 1.0
            drawn = stage["loops"] > 1 and stage["draw"] != "fixed"
            reset = number == 1 and start > 0 and stage["optimizer"] == "reset"
            updates.append((stage["loops"], drawn, stage["lr_factor"] * warm, reset))
    return updates


@settings(max_examples=300)
@given(fixed_lists(), fixed_lists(), st.booleans())
def test_equal_training_is_equal_lineage_up_to_every_step(
    one: list[dict[str, Any]], two: list[dict[str, Any]], related: bool
) -> None:
    if related:  # the same stages, with one cut in two, or its end moved
        cut = dict(one[0]) | {"until": max(1, one[0].get("until", STEPS) // 2)}
        two = [cut, {**one[0], "rewarm": 0, "optimizer": "keep"}, *one[1:]]
        if len(one) > 1 and cut["until"] == one[0]["until"]:
            two = one
    first, second = listed(*one, steps=STEPS), listed(*two, steps=STEPS)
    for step in range(1, STEPS + 1):
        lineage, other = (
            next(link.lineage for link in links(c) if link.start < step <= link.end) for c in (first, second)
        )
        assert (lineage == other) == (trained(one)[:step] == trained(two)[:step])
    assert (trial_id(first) == trial_id(second)) == (trained(one) == trained(two))


# --- criteria one after the other ------------------------------------------------------------------------------------


def test_a_criterion_in_a_later_stage_waits_for_the_one_before() -> None:
    config = listed(
        {"loops": 1, "until": CRITERION | {"latest": 30}}, {"loops": 2, "until": CRITERION | {"latest": 80}}, {}
    )
    assert shape(config) == [(0, 30, 1)]
    assert shape(config, (12,)) == [(0, 12, 1), (12, 80, 2)]
    waits = watch(config, (12,))
    assert waits is not None
    assert (waits.start, waits.stage, waits.criterion.latest) == (12, 1, 80)
    assert shape(config, (12, 13)) == [(0, 12, 1), (12, 13, 2), (13, 100, 3)]
    assert watch(config, (12, 13)) is None
    with pytest.raises(ValueError, match=r"13 … 80, got 12"):
        stages(config, (12, 12))
    with pytest.raises(ValueError, match=r"13 … 80, got 81"):
        stages(config, (12, 81))
    with pytest.raises(ValueError, match=r"2 criteria, got 3"):
        stages(config, (12, 13, 14))


def test_a_criterion_may_be_asked_from_a_step_on_without_cutting_the_trunk() -> None:
    config = listed({"loops": 1, "until": 20}, {"loops": 1, "until": CRITERION}, {})
    waits = watch(config)
    assert waits is not None
    assert (waits.start, waits.stage) == (20, 0)
    assert lineages(config) == lineages(trial(kind="single"))
    assert links(config, (45,)) == links(trial(kind="shift", switch=45))


def test_criteria_that_may_go_on_to_the_end_leave_nothing_to_those_behind() -> None:
    never = CRITERION | {"latest": 1.0}
    config = listed({"loops": 1, "until": never}, {"loops": 2, "until": never}, {})
    assert links(config, (100,)) == links(trial(kind="single"))
    assert watch(config, (100,)) is None
    assert shape(config, (40, 100)) == [(0, 40, 1), (40, 100, 2)]


def test_criteria_in_a_row_may_have_one_latest_step_and_then_the_last_may_have_none_of_it() -> None:
    config = listed({"loops": 1, "until": CRITERION}, {"loops": 2, "until": CRITERION}, {})
    assert shape(config, (40,)) == [(0, 40, 1), (40, 90, 2)]
    assert shape(config, (90,)) == [(0, 90, 1), (90, 100, 3)]
    assert watch(config, (90,)) is None


def test_the_grid_of_the_checks_is_identity_and_named_as_acting() -> None:
    ids = {
        every: trial_id(trial(kind="shift-scp", check_every=check, train={"evaluate_every": evaluate}))
        for every, check, evaluate in (("own", 5, 50), ("other", 5, 20), ("silent", 0, 5), ("longer", 0, 10))
    }
    assert ids["own"] == ids["other"] == ids["silent"] != ids["longer"]
    assert "train.evaluate_every" in acting_keys(trial(kind="shift-scp"))
    assert "train.evaluate_every" not in acting_keys(trial(kind="shift-scp", check_every=5))
    assert "train.evaluate_every" not in acting_keys(trial(kind="shift"))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"criterion": "loss", "delta2": 0.5}, {"criterion": "loss"}),
        ({"criterion": "gradient", "delta1": 0.5, "on": "train"}, {"criterion": "gradient"}),
        ({"latest": 90}, {"latest": 0.9}),
        ({"switch": 7, "ramp": 3}, {}),
    ],
)
def test_what_does_not_act_in_a_criterion_is_no_identity(change: dict[str, Any], same: dict[str, Any]) -> None:
    assert trial_id(trial(kind="shift-scp", **change)) == trial_id(trial(kind="shift-scp", **same))


@pytest.mark.parametrize("term", ["switch", "ramp", "latest", "until", "until.latest"])
@pytest.mark.parametrize("order", [(1, 1.0), (1.0, 1)])
def test_the_step_one_is_not_the_share_one_whichever_is_seen_first(term: str, order: tuple[float, float]) -> None:
    """1 == 1.0 to a cache."""
    kinds = {"switch": "shift", "ramp": "linear-grow", "latest": "shift-scp"}
    steps = 200 + isinstance(order[0], float)  # other steps: a cache of its own
    found = {}
    for value in order:
        if term in ("switch", "until") and value == 1.0 and isinstance(value, float):
            continue  # refused
        if term in kinds:
            config = trial(steps, **{"kind": kinds[term], term: value})
        else:
            until = value if term == "until" else {"latest": value}
            config = listed({"loops": 1, "until": until}, {}, steps=steps)
        found[type(value)] = shape(config)[0][1]
    assert found.pop(int) == 1
    assert found == ({} if term in ("switch", "until") else {float: -(-steps // 4) if term == "ramp" else steps})


# --- short forms and lists in one study ------------------------------------------------------------------------------


def test_a_list_of_stages_and_a_short_form_displace_each_other() -> None:
    stages_, other = [{"loops": 1}], [{"loops": 2}]
    assert overlaid({}, {"stages": stages_}) == {"kind": "stages", "stages": stages_}
    assert overlaid({"kind": "shift", "switch": 3}, {"stages": stages_})["kind"] == "stages"
    assert overlaid({"kind": "stages", "stages": stages_}, {"kind": "grow"}) == {"kind": "grow"}
    assert overlaid({"kind": "stages", "stages": stages_}, {"stages": other})["stages"] == other
    assert overlaid({"kind": "stages", "stages": stages_}, {"kind": "stages"})["stages"] == stages_
    assert overlaid({"kind": "stages", "stages": stages_}, {"check_every": 3})["stages"] == stages_


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "place", "words"),
    [
        ({"kind": "shift", "switch": 1.0}, "switch", ["fraction in (0, 1)", "1 … 99", "got 1.0"]),
        ({"kind": "reverse", "switch": 100}, "switch", ["1 … 99", "got 100"]),
        ({"kind": "shift-scp", "latest": 101}, "latest", ["(0, 1]", "1 … 100", "got 101"]),
        ({"kind": "linear-grow", "ramp": 1.5}, "ramp", ["(0, 1]", "1 … 100", "got 1.5"]),
        ({"kind": "linear-grow", "ramp": 0.001}, "ramp", ["(0, 1]", "got 0.001"]),
        ({"kind": "stages"}, "stages", ["required", "list the stages"]),
        ({"kind": "shift", "stages": [{}]}, "stages", ['kind must be "stages" or silent', '"shift"']),
        ({"stages": [3]}, "stages", ["a list of tables of loops, until", "got [3]"]),
        ({"stages": {"loops": 1}}, "stages", ["a list of tables", "got {'loops': 1}"]),
        ({"stages": [{"until": "half"}, {}]}, "stages[1].until", ["a number or an integer or a table", "got 'half'"]),
        ({"stages": [{"until": 0}, {}]}, "stages[1].until", ["more than 0", "got 0"]),
        ({"stages": [{"until": 0.001}, {}]}, "stages[1].until", ["1 … 99", "got 0.001 = step 0"]),
        ({"stages": [{"until": 100}, {}]}, "stages[1].until", ["1 … 99", "got 100"]),
        ({"stages": [{}, {}]}, "stages[1].until", ["required", "every stage but the last"]),
        ({"stages": [{"until": 0.5}]}, "stages[1].until", ["last stage", "drop it"]),
        ({"stages": [{"until": 50}, {"until": 0.5}, {}]}, "stages[2].until", ["51 … 99", "got 0.5 = step 50"]),
        ({"stages": [{"until": {}}, {"until": 50}, {}]}, "stages[2].until", ["91 … 99", "got 50"]),
        ({"stages": [{"until": {"latest": 1.0}}, {"until": 50}, {}]}, "stages[2].until", ["no step left", "got 50"]),
        ({"stages": [{"until": 50}, {"until": {"latest": 9}}, {}]}, "stages[2].until.latest", ["51 … 100", "got 9"]),
        ({"stages": [{"until": {}}, {"until": {"latest": 89}}, {}]}, "stages[2].until.latest", ["90 … 100", "got 89"]),
        ({"stages": [{"loops": 0}]}, "stages[1].loops", ["at least 1", "got 0"]),
        ({"stages": [{"until": 5}, {"loop": 2}]}, "stages[2].loop", ["unknown key", "did you mean 'loops'?"]),
        ({"stages": [{"until": {"delta1": -1}}, {}]}, "stages[1].until.delta1", ["more than 0", "got -1"]),
        ({"stages": [{"until": {"delta": 1}}, {}]}, "stages[1].until.delta", ["unknown key", "did you mean"]),
        ({"stages": [{"until": {"on": "test"}}, {}]}, "stages[1].until.on", ['one of "val", "train"', "got 'test'"]),
        ({"stages": [{"until": {"patience": 1.5}}, {}]}, "stages[1].until.patience", ["an integer", "got 1.5"]),
        ({"stages": [{"draw": "poisson-lognorm"}]}, "stages[1].draw", ["did you mean 'poisson-lognormal'?"]),
    ],
)
def test_bad_input_is_told_in_one_line_with_its_place(schedule: dict[str, Any], place: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        trial(**schedule)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"schedule.{place}: ")
    assert [word for word in words if word not in line] == []


def test_all_problems_of_a_list_are_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        listed({"until": {"delta1": -1, "patience": 0}, "loops": 0}, {"rewarm": -1})
    assert {problem.where for problem in error.value.problems} == {
        "schedule.stages[1].until.delta1",
        "schedule.stages[1].until.patience",
        "schedule.stages[1].loops",
        "schedule.stages[2].rewarm",
    }


def test_a_trial_has_at_most_so_many_checks() -> None:
    train = {"evaluate_every": 10**6}
    with pytest.raises(InputError, match=r"schedule.check_every: must give at most 100000 checks of a trial"):
        trial(10**6, kind="shift-scp", check_every=1, train=train)
    assert watch(trial(10**6, kind="shift-scp", check_every=10, train=train)) is not None
    assert watch(trial(10**6, kind="shift", check_every=1, train=train)) is None
