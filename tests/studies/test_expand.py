"""Expansion: canonical order, no copies, roles, filters, growth, speed."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.lineage import acting_keys, links, trial_id
from studies.expand import count, expand, slots
from studies.spec import parse_study

SINGLE = {"schedule": {"kind": "single"}}
SHIFT = {"schedule": {"kind": "shift"}}


def study(*, seeds=2, arms=None, **tables):
    document = {"name": "s", "question": "?", "seeds": seeds, "arms": arms or {"looped": {}}, **tables}
    return parse_study(document, file="s.toml")


def varied(trials):
    return [dict(trial.varied) for trial in trials]


def test_the_order_is_arms_then_axes_then_seeds():
    trials = expand(
        study(
            arms={"b": {}, "a": SHIFT | {"axes": {"schedule.switch": [0.2, 0.4]}}},
            axes={"model.width": [8, 4], "train.lr": [1e-3, 2e-3]},
        )
    )
    expected = [("b", w, lr, None, s) for w in (8, 4) for lr in (1e-3, 2e-3) for s in (0, 1)]
    expected += [("a", w, lr, f, s) for w in (8, 4) for lr in (1e-3, 2e-3) for f in (0.2, 0.4) for s in (0, 1)]
    got = [
        (t.arm, t.varied["model.width"], t.varied["train.lr"], t.varied.get("schedule.switch"), t.config.seed)
        for t in trials
    ]
    assert got == expected
    assert count(study(arms={"a": {}}, axes={"model.width": [8, 4]})) == 4


def test_a_trial_carries_what_its_configuration_gives():
    for trial in expand(study(arms={"a": SHIFT, "b": SINGLE}, axes={"model.width": [4, 8]})):
        assert trial.trial_id == trial_id(trial.config)
        assert trial.links == links(trial.config)
        assert set(trial.varied) <= acting_keys(trial.config)
        assert trial.role == "compare"
        assert trial.study == "s"


def test_an_axis_that_does_not_act_gives_one_trial():
    trials = expand(study(arms={"single": SINGLE, "looped": {}}, axes={"model.loops": [2, 3, 4]}))
    assert [t.arm for t in trials] == ["single"] * 2 + ["looped"] * 6
    assert varied(trials)[:2] == [{}, {}]


def test_an_axis_that_acts_only_beside_some_values_gives_no_copies():
    trials = expand(study(seeds=1, arms={"shift": SHIFT}, axes={"model.loops": [1, 2], "schedule.switch": [0.3, 0.6]}))
    assert varied(trials) == [
        {"model.loops": 1},
        {"model.loops": 2, "schedule.switch": 0.3},
        {"model.loops": 2, "schedule.switch": 0.6},
    ]


def test_a_fraction_and_its_step_are_one_trial():
    trials = expand(study(seeds=1, arms={"shift": SHIFT}, axes={"schedule.switch": [0.5, 1500, 1501]}))
    assert varied(trials) == [{"schedule.switch": 0.5}, {"schedule.switch": 1501}]


def test_an_arm_under_two_names_has_its_trials_under_both():
    trials = expand(study(seeds=1, arms={"a": {}, "b": {"model": {"loops": 3}}}))
    assert [t.arm for t in trials] == ["a", "b"]
    assert trials[0].trial_id == trials[1].trial_id


def test_zipped_lists_move_together_and_groups_multiply():
    zips = [{"model.width": [4, 8], "train.lr": [1e-3, 2e-3]}, {"model.depth": [1, 2], "model.loops": [4, 2]}]
    trials = expand(study(seeds=1, axes={"zip": zips}))
    got = [tuple(t.varied.values()) for t in trials]
    assert got == [(4, 1e-3, 1, 4), (4, 1e-3, 2, 2), (8, 2e-3, 1, 4), (8, 2e-3, 2, 2)]


def test_a_union_is_its_grids_one_after_the_other_without_what_they_share():
    union = [{"model.loops": [2, 3], "model.depth": [1]}, {"model.loops": [2], "model.depth": [1, 2]}]
    trials = expand(study(seeds=1, axes={"train.lr": [1e-3, 2e-3], "union": union}))
    pairs = [(2, 1), (3, 1), (2, 2)]
    assert [tuple(t.varied.values()) for t in trials] == [(lr, *pair) for lr in (1e-3, 2e-3) for pair in pairs]


def test_unions_of_study_and_arm_multiply():
    arm = {"axes": {"union": [{"model.depth": [1]}, {"model.heads": [2]}]}}
    trials = expand(study(seeds=1, arms={"a": arm}, axes={"union": [{"model.loops": [2]}, {"train.lr": [0.1]}]}))
    assert len(trials) == 4


def test_filters_drop_settings_before_rules_are_checked():
    trials = expand(
        study(axes={"model.width": [4, 6], "model.heads": [1, 4]}, where=["model.width % model.heads == 0"])
    )
    assert [tuple(t.varied.values()) for t in trials][::2] == [(4, 1), (4, 4), (6, 1)]


def test_filters_read_arm_seed_and_defaults():
    trials = expand(
        study(
            seeds=4,
            arms={"a": {}, "b": {"model": {"depth": 2}}},
            where=["arm == 'a' or seed < 1", "model.depth * model.loops <= 6", "seed != 2"],
        )
    )
    assert [(t.arm, t.config.seed) for t in trials] == [("a", 0), ("a", 1), ("a", 3), ("b", 0)]


def test_expansion_refuses_what_cannot_be_trained_with_every_reason():
    large = {"model.width": list(range(100, 300)), "model.heads": [1, 2, 100], "model.depth": list(range(1, 41))}
    with pytest.raises(InputError) as caught:  # too many settings to be checked on reading
        expand(study(seeds=1, axes=large))
    lines = str(caught.value).splitlines()
    assert all(line.startswith("s.toml: ") for line in lines)
    assert "must divide width = 101, got 2" in lines[0]
    assert len(lines) == 51


def test_huge_products_are_counted_and_not_walked():
    axes = {f"train.{name}": [i / 1000 for i in range(1, 900)] for name in ("lr", "beta1", "beta2", "clip", "eps")}
    start = time.process_time()
    huge = study(axes=axes, seeds=1000)
    assert count(huge) == 899**5 * 1000
    assert time.process_time() - start < 1


def test_growing_a_study_keeps_its_trials():
    before = {t.trial_id for t in expand(study(seeds=2, axes={"model.loops": [2, 3]}))}
    after = {t.trial_id for t in expand(study(seeds=3, axes={"model.loops": [2, 3, 5]}))}
    assert before < after
    assert len(after) == 9


# --- nuisance axes ---------------------------------------------------------------------------------------------------

TUNED = {"nuisance": {"train.lr": [1e-3, 2e-3], "tune_seeds": 2}}


def test_without_winners_there_are_only_tuning_trials():
    found = study(arms={"single": SINGLE, "looped": {}}, axes={"model.loops": [2, 3]}, **TUNED)
    trials = expand(found)
    assert {t.role for t in trials} == {"tune"}
    assert [t.arm for t in trials] == ["single"] * 4 + ["looped"] * 8
    assert {t.config.seed for t in trials} == set(found.nuisance.seeds)
    assert not set(found.nuisance.seeds) & set(found.seeds)
    assert len(trials) <= count(found)


def test_a_known_winner_brings_the_compare_trials_of_its_slot():
    found = study(arms={"single": SINGLE, "looped": {}}, axes={"model.loops": [2, 3]}, **TUNED)
    winner = {("looped", (("model.loops", 3),)): (("train.lr", 2e-3),)}
    compared = [t for t in expand(found, winner) if t.role == "compare"]
    assert [(t.arm, dict(t.varied), t.config.seed) for t in compared] == [
        ("looped", {"model.loops": 3, "train.lr": 2e-3}, 0),
        ("looped", {"model.loops": 3, "train.lr": 2e-3}, 1),
    ]


def test_an_arm_on_which_a_nuisance_axis_does_not_act_is_compared_at_once():
    trials = expand(study(seeds=1, arms={"looped": {}, "shift": SHIFT}, nuisance={"schedule.switch": [0.3, 0.6]}))
    assert [(t.arm, t.role) for t in trials] == [("looped", "compare")] + [("shift", "tune")] * 6


def test_a_slot_is_named_by_what_acts_on_any_candidate():
    found = study(
        arms={"shift": SHIFT}, axes={"schedule.switch": [0.3, 0.6]}, nuisance={"model.loops": [1, 2], "tune_seeds": 1}
    )
    assert [slot.setting for slot in slots(found)] == [(("schedule.switch", 0.3),), (("schedule.switch", 0.6),)]
    assert len(expand(found)) == 3  # the candidate with one loop is the same trial in both slots


@pytest.mark.parametrize(
    "winners",
    [
        {("nobody", ()): (("train.lr", 1e-3),)},
        {("looped", ()): (("train.lr", 7.0),)},
        {("looped", (("model.loops", 9),)): (("train.lr", 1e-3),)},
    ],
)
def test_winners_of_another_study_are_refused(winners):
    with pytest.raises(InputError, match="winner"):
        expand(study(**TUNED), winners)


# --- search ----------------------------------------------------------------------------------------------------------

SEARCH = {"search": {"kind": "tpe", "trials": 4, "space": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}}}}


def test_a_search_has_no_trials_before_its_proposals():
    found = study(arms={"single": SINGLE, "looped": {}}, seeds=3, **SEARCH)
    assert expand(found) == []
    assert count(found) == 2 * 4 * 3


def test_a_proposal_runs_on_all_seeds_in_canonical_order():
    found = study(arms={"single": SINGLE, "looped": {}}, seeds=2, **SEARCH)
    proposals = [
        ("looped", 1, {"train.lr": 2e-3}),
        ("looped", 0, {"train.lr": 1e-3}),
        ("single", 0, {"train.lr": 0.005}),
    ]
    trials = expand(found, proposals=proposals)
    assert [(t.arm, t.varied["train.lr"], t.config.seed) for t in trials] == [
        (arm, lr, seed) for arm, lr in (("single", 0.005), ("looped", 1e-3), ("looped", 2e-3)) for seed in (0, 1)
    ]


def test_what_does_not_act_on_an_arm_is_not_varied_in_it():
    search = {"kind": "random", "trials": 4, "space": {"model.loops": {"low": 1, "high": 8}, "train.lr": [1e-3, 2e-3]}}
    found = study(arms={"single": SINGLE, "looped": {}}, seeds=1, search=search)
    assert {arm.name: list(arm.space) for arm in found.arms} == {
        "single": ["train.lr"],
        "looped": ["model.loops", "train.lr"],
    }
    assert found.searched == ("model.loops", "train.lr")
    proposals = [("single", i, {"train.lr": 1e-3}) for i in range(3)]
    assert varied(expand(found, proposals=proposals)) == [{"train.lr": 1e-3}]


def test_an_arm_searches_keys_of_its_own_and_the_common_ones_otherwise():
    search = {"kind": "grid", "space": {"train.lr": [1e-3, 2e-3], "model.loops": {"low": 1, "high": 4}}}
    own = {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True, "points": 3}, "schedule.switch": [0.25, 0.5]}
    arms = {"single": SINGLE, "shift": {"schedule": {"kind": "shift"}, "space": own}}
    found = study(arms=arms, seeds=2, search=search)
    assert {arm.name: list(arm.space) for arm in found.arms} == {
        "single": ["train.lr"],
        "shift": ["train.lr", "model.loops", "schedule.switch"],
    }
    assert count(found) == 2 * (2 + 3 * 4 * 2)


@pytest.mark.parametrize(
    ("proposal", "says"),
    [
        (("nobody", 0, {"train.lr": 1e-3}), "no such arm"),
        (("looped", 0, {}), "must give train.lr"),
        (("looped", 0, {"train.lr": -1.0}), "must be more than 0"),
        (("looped", 0, {"train.lr": 1e-3, "model.width": 8}), "must give train.lr"),
    ],
)
def test_a_proposal_of_another_search_is_refused(proposal, says):
    with pytest.raises(InputError, match=says):
        expand(study(**SEARCH), proposals=[proposal])


# --- against brute force ---------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    loops=st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True),
    switches=st.lists(st.sampled_from([0.1, 0.5, 0.9, 1500, 20]), min_size=1, max_size=3, unique=True),
    kind=st.sampled_from(["single", "looped", "shift"]),
    seeds=st.integers(1, 3),
)
def test_expansion_is_the_distinct_trials_of_the_whole_product(loops, switches, kind, seeds):
    arms = {"a": {"schedule": {"kind": kind}}, "shift": SHIFT | {"model": {"width": 8}}}
    axes = {"model.loops": [9, *loops] if loops == [1] else loops, "schedule.switch": switches}
    found = study(seeds=seeds, arms=arms, axes=axes)
    trials = [t for t in expand(found) if t.arm == "a"]
    product = [
        expand(
            study(
                seeds=[seed],
                arms={"a": {"schedule": {"kind": kind, "switch": switch}, "model": {"loops": loop}}},
            )
        )[0].trial_id
        for loop, switch, seed in itertools.product(axes["model.loops"], switches, range(seeds))
    ]
    assert [t.trial_id for t in trials] == list(dict.fromkeys(product))
    assert len(expand(found)) <= count(found)


def test_tens_of_thousands_of_trials_expand_quickly_and_share_their_sections():
    axes = {
        "train.lr": [1e-3 + 1e-6 * i for i in range(50)],
        "model.loops": list(range(2, 12)),
        "model.width": list(range(8, 18)),
    }
    found = study(seeds=2, arms={"looped": {}, "shift": SHIFT}, axes=axes)
    start = time.process_time()
    trials = expand(found)
    spent = time.process_time() - start
    assert len(trials) == len({t.trial_id for t in trials}) == 20_000
    assert len({id(t.config.model) for t in trials}) == 200
    assert len({id(t.config.task) for t in trials}) == 2
    assert spent < 3  # 0.4 s on a quiet core
