"""Who goes on from a rung: never more than 1/factor, the best, the same whatever the order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import trial_config
from core.lineage import links
from studies.rungs import NO_VALUE, Halving, at_rungs, promotable, quota, rung_problem, score
from studies.settings import Setting

SCORES = st.dictionaries(
    st.integers(0, 40),
    st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0, 1.5, 2.0, NO_VALUE])),
    max_size=30,
)
FACTORS = st.integers(2, 5)


def halving(rungs: Any = 3, factor: int = 3, *, asynchronous: bool = False) -> Halving:
    return Halving(rungs=rungs, factor=factor, asynchronous=asynchronous)


@given(SCORES, FACTORS, st.booleans())
def test_never_more_than_one_in_factor_goes_on_and_none_that_stays_is_better(scores, factor, complete) -> None:
    going = promotable(scores, factor, complete=complete)
    assert len(going) <= max(len(scores) // factor, int(complete))
    staying = {number for number in scores.keys() - set(going) if math.isfinite(scores[number][1])}
    assert all((*scores[a], a) < (*scores[b], b) for a in going for b in staying)
    assert all(math.isfinite(scores[number][1]) for number in going)
    assert going == promotable(dict(reversed(scores.items())), factor, complete=complete)


@given(SCORES, FACTORS)
def test_of_a_complete_rung_one_goes_on_wherever_one_has_a_value(scores, factor) -> None:
    valued = [number for number, (_, mean) in scores.items() if math.isfinite(mean)]
    clean = {number: (0, mean) for number, (_, mean) in scores.items() if number in valued}
    assert bool(promotable(clean, factor, complete=True)) == bool(valued)


@given(SCORES, FACTORS, st.randoms())
def test_whoever_goes_on_as_results_come_includes_those_that_go_on_when_all_are_there(scores, factor, random) -> None:
    order = list(scores)
    random.shuffle(order)
    gone: set[int] = set()
    for ended in range(1, len(order) + 1):
        seen = {number: scores[number] for number in order[:ended]}
        due = set(promotable(seen, factor, complete=ended == len(order))) - gone
        assert len(due) <= max(1, quota(ended, factor, complete=ended == len(order)))
        gone |= due
    assert gone >= set(promotable(scores, factor, complete=True))


@given(st.integers(0, 60), FACTORS)
def test_more_that_have_ended_never_let_fewer_go_on(ended, factor) -> None:
    assert quota(ended, factor, complete=False) <= quota(ended + 1, factor, complete=False)
    assert quota(ended, factor, complete=False) <= quota(ended, factor, complete=True)


def test_seeds_without_a_value_come_last_and_ties_go_to_the_first_proposal() -> None:
    assert score([1.0, 3.0], lower=True) == (0, 2.0)
    assert score([1.0, 3.0], lower=False) == (0, -2.0)
    assert score([1.0, None, math.nan], lower=True) == (2, 1.0)
    assert score([None, math.inf], lower=True) == (2, NO_VALUE)
    scores = {3: (0, 2.0), 1: (1, 0.0), 2: (0, 2.0), 0: (2, NO_VALUE)}
    assert promotable(scores, 2, complete=True) == [2, 3]
    assert promotable({0: (1, NO_VALUE), 1: (1, NO_VALUE)}, 2, complete=True) == []


@pytest.mark.parametrize(
    ("rungs", "factor", "steps"),
    [
        (3, 3, (111, 333, 1000)),
        (2, 4, (250, 1000)),
        ((0.1, 0.3), 3, (100, 300, 1000)),
        ((1, 500), 3, (1, 500, 1000)),
    ],
)
def test_rungs_are_powers_of_the_factor_shares_or_steps(rungs, factor, steps) -> None:
    assert halving(rungs, factor).steps(1000) == steps


def test_each_rung_takes_its_share_of_the_one_before_and_at_least_one() -> None:
    assert halving().settings(200) == (200, 66, 22)
    assert halving(4, 4).settings(20) == (20, 5, 1, 1)


def test_a_setting_at_its_rungs_is_the_beginning_of_the_whole_trial() -> None:
    config = trial_config({"train": {"steps": 90}, "schedule": {"kind": "shift", "switch": 0.5}})
    setting = Setting(config=config, varied={"train.lr": 1e-3}, assignment=(("train.lr", 1e-3),))
    found = list(at_rungs(setting, halving(), (2, 0, 1), "final_val_loss"))
    assert [(one.config.train.steps, one.varied, role) for one, role in found] == [
        (10, {"train.lr": 1e-3, "train.steps": 10}, "tune"),
        (30, {"train.lr": 1e-3, "train.steps": 30}, "tune"),
        (90, {"train.lr": 1e-3, "train.steps": 90}, "compare"),
    ]
    assert [links(one.config)[0].lineage for one, _ in found] == [links(config)[0].lineage] * 3


@pytest.mark.parametrize(
    ("rungs", "train", "where", "message"),
    [
        ((0.5, 0.2), {}, "search.halving.rungs[1]", "must be before the next one, step 200, got 0.5 = step 500"),
        ((0.1, 1000), {}, "search.halving.rungs[2]", "must be before train.steps = 1,000, got 1000 = step 1,000"),
        (3, {"steps": 2}, "search.halving.rungs", "a trial can be cut at a step in 1 … 2"),
        (3, {"steps": 4}, "search.halving.rungs", "a trial can be cut"),
        ((0.9,), {"lr_schedule": "wsd"}, "search.halving.rungs[1]", "the decay of 200 steps begins after"),
        ((0.1,), {"warmup": 200}, "search.halving.rungs[1]", "train.warmup = 200 ends before"),
        ((0.1,), {"lr_schedule": "cosine"}, "search.halving", 'take "wsd" or "constant"'),
    ],
)
def test_settings_without_such_rungs_are_refused(rungs, train, where, message) -> None:
    problem = rung_problem(halving(rungs), trial_config({"train": {"steps": 1000, **train}}))
    assert problem is not None
    assert problem.where == where
    assert message in problem.message


def test_settings_with_such_rungs_are_not() -> None:
    wsd = trial_config({"train": {"steps": 1000, "lr_schedule": "wsd", "warmup": 50}})
    assert rung_problem(halving((0.05, 0.8)), wsd) is None
