"""Winners of nuisance axes: a pure function of rows."""

from __future__ import annotations

import itertools
import math

import pytest

from studies.expand import expand
from studies.spec import parse_study
from studies.tuning import winners

RATES = [1e-3, 2e-3, 3e-3]


def study(*filters, **nuisance):
    return parse_study(
        {
            "name": "s",
            "question": "?",
            "seeds": 2,
            "arms": {"single": {"schedule": {"kind": "single"}}, "looped": {}},
            "axes": {"model.loops": [2, 3]},
            "where": list(filters),
            "nuisance": {"train.lr": RATES, **nuisance},
        },
        file="s.toml",
    )


def rows(found, value, status=lambda trial: "ok"):
    """Rows of the tuning trials: `value` and `status` by trial."""
    metric = found.nuisance.metric
    return [{"trial_id": t.trial_id, "status": status(t), metric: value(t)} for t in expand(found) if t.role == "tune"]


def rate(trial):
    return trial.varied["train.lr"]


def place(trial):
    return RATES.index(rate(trial))


SLOTS = [("single", ()), ("looped", (("model.loops", 2),)), ("looped", (("model.loops", 3),))]


def test_the_best_mean_wins_in_each_slot():
    found = study()
    best = {"single": 3e-3, "looped": 1e-3}
    got = winners(found, rows(found, lambda t: abs(rate(t) - best[t.arm]) + (t.config.seed % 7) * 1e-9))
    assert got == {slot: (("train.lr", best[slot[0]]),) for slot in SLOTS}


def test_higher_is_better_where_the_metric_says_so():
    found = study(tune_metric="best_val_accuracy_low_ic")
    assert set(winners(found, rows(found, rate)).values()) == {(("train.lr", 3e-3),)}


def test_the_mean_decides_and_not_the_best_seed():
    found = study()
    lucky = found.nuisance.seeds[0]
    got = winners(
        found, rows(found, lambda t: (-10.0 if t.config.seed == lucky else 9.0) if place(t) == 0 else 1.0 + place(t))
    )
    assert set(got.values()) == {(("train.lr", 2e-3),)}


@pytest.mark.parametrize("status", ["diverged", "failed", "timeout", "oom"])
def test_who_diverges_or_fails_on_one_seed_comes_last(status):
    found = study()
    bad = found.nuisance.seeds[1]
    got = winners(found, rows(found, rate, lambda t: status if place(t) == 0 and t.config.seed == bad else "ok"))
    assert set(got.values()) == {(("train.lr", 2e-3),)}


def test_fewer_failures_go_before_more_whatever_the_mean():
    found = study()
    failing = {0: 3, 1: 2, 2: 1}

    def status(trial):
        return "diverged" if found.nuisance.seeds.index(trial.config.seed) < failing[place(trial)] else "ok"

    assert set(winners(found, rows(found, rate, status)).values()) == {(("train.lr", 3e-3),)}
    everywhere = winners(found, rows(found, lambda _: None, lambda _: "diverged"))
    assert set(everywhere.values()) == {(("train.lr", 1e-3),)}  # a slot never waits for ever: the first stays


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_value_that_is_no_number_counts_as_a_failure(missing):
    found = study()
    got = winners(found, rows(found, lambda t: missing if place(t) == 0 else rate(t)))
    assert set(got.values()) == {(("train.lr", 2e-3),)}


def test_a_candidate_that_a_filter_leaves_no_tuning_seed_does_not_win():
    found = study(f"train.lr != {RATES[0]} or seed < 2")
    assert set(winners(found, rows(found, lambda t: 1.0)).values()) == {(("train.lr", RATES[1]),)}


def test_ties_go_to_the_first_of_the_study():
    found = study()
    assert set(winners(found, rows(found, lambda _: 1.0)).values()) == {(("train.lr", 1e-3),)}


def test_the_order_of_rows_does_not_matter():
    found = study()
    table = rows(found, lambda t: 1 / 3 + rate(t) * (1 + t.config.seed % 5))
    assert winners(found, table) == winners(found, table[::-1])


def test_a_slot_with_a_trial_that_is_not_recorded_has_no_winner():
    found = study()
    table = rows(found, rate)
    assert set(winners(found, table[1:])) == set(SLOTS[1:])
    unfinished = [table[0] | {"status": None}, *table[1:]]
    assert set(winners(found, unfinished)) == set(SLOTS[1:])
    assert winners(found, []) == {}


def test_an_arm_whose_stages_end_by_a_criterion_is_tuned_like_any_other():
    """A trial that waits for its criterion has no status, so its slot waits too."""
    found = parse_study(
        {
            "name": "s",
            "question": "?",
            "arms": {"scp": {"schedule": {"kind": "shift-scp"}, "axes": {"schedule.delta1": [0.01, 0.02]}}},
            "nuisance": {"train.lr": RATES, "schedule.patience": [2, 4]},
        },
        file="s.toml",
    )
    table = rows(found, lambda t: rate(t) / t.varied["schedule.patience"])
    best = (("train.lr", RATES[0]), ("schedule.patience", 4))
    slots = [("scp", (("schedule.delta1", delta),)) for delta in (0.01, 0.02)]
    assert winners(found, table) == dict.fromkeys(slots, best)
    waiting = next(t for t in expand(found) if t.role == "tune")
    assert waiting.watch is not None
    table = [row | ({"status": None} if row["trial_id"] == waiting.trial_id else {}) for row in table]
    assert winners(found, table) == {slots[1]: best}


def test_rows_of_other_trials_do_no_harm():
    found = study()
    others = [{"trial_id": f"{i:016x}", "status": "ok", "final_val_loss": -1.0} for i in range(3)]
    assert winners(found, rows(found, rate) + others) == winners(found, rows(found, rate))


def test_winners_bring_exactly_the_compare_trials():
    found = study()
    trials = expand(found, winners(found, rows(found, rate)))
    compared = [t for t in trials if t.role == "compare"]
    assert {(t.arm, t.config.seed) for t in compared} == set(itertools.product(["single", "looped"], [0, 1]))
    assert len(compared) == 6
    assert {rate(t) for t in compared} == {1e-3}
    assert [t for t in trials if t.role == "tune"] == expand(found)


def test_a_study_without_nuisance_axes_has_no_winners():
    found = parse_study({"name": "s", "question": "?", "arms": {"a": {}}}, file="s")
    assert winners(found, []) == {}
