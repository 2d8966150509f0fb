"""Numbers in words: digits, signs, and nothing that reads as more exact than it is."""

from __future__ import annotations

import math

import pytest

from reports import verdict_words, words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (None, "–"),
        (-0.01234, "−0.0123"),
        (12.5, "12.5"),
        (9.3e9, "9.30e9"),
        (-2e-9, "−2.00e−9"),
        (999.96, "1\u202f000"),
    ],
)
def test_number(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "–"), (0.0625, "0.0625"), (0.5, "0.5"), (0.000412, "0.000412"), (3e-9, "< 0.0001"), (1.0, "1")],
)
def test_p_value_is_never_zero(p, text):
    assert words.p_value(p) == text


def test_what_is_known_to_three_digits_has_no_more():
    assert words.significant(7_222_773) == "7\u202f220\u202f000"
    assert words.significant(0.0146) == "0.0146"
    assert words.significant(None) == "–"


def test_a_ratio_with_a_wide_interval_keeps_the_digits_of_its_ends():
    def said(*three):
        effect, low, high = map(math.log, three)
        head = {"arm": "a", "against": "b", "value": None, "scale": "log", "unit": "1"}
        return verdict_words.difference(head | {"effect": effect, "low": low, "high": high})

    assert said(0.0939, 0.0146, 0.603) == "a / b = 0.0939"
    assert said(3.15, 2.48, 3.99) == "a / b = 3.15"


def test_an_estimate_has_two_digits_of_its_half_width():
    assert words.estimate(-0.21234, -0.24, -0.18) == ("−0.212", "−0.240", "−0.180")
    assert words.estimate(0.0001, -0.3, 0.3) == ("0.00", "−0.30", "0.30")
    assert words.estimate(5.0, None, None) == ("5.000", "–", "–")
    assert words.estimate(0.25, 0.25, 0.25) == ("0.2500", "0.2500", "0.2500")


def test_settings_places_ticks_and_counts():
    assert words.setting({"model.loops": 3, "schedule.switch": 0.5}) == "loops = 3, switch = 0.5"
    assert [words.place("x", at) for at in ("final", 500, None)] == ["final x", "x at step 500", "x"]
    assert [words.tick(v) for v in (0, -0.5, 3000, 5e9)] == ["0", "−0.5", "3000", "5e9"]
    assert words.count(1234567) == "1\u202f234\u202f567"


TREE = {
    "trials": 12,
    "waiting": 0,
    "seeds": 1,
    "steps_alone": 3000,
    "steps_trained": 1000,
    "flops_alone": 5000,
    "flops_trained": 2000,
}


def test_what_a_tree_saves_is_said_in_flops_and_not_before_it_is_known():
    assert words.tree(TREE).endswith(
        "with 2\u202f000 FLOPs instead of 5\u202f000. The tree needs 2.50 times fewer FLOPs."
    )
    assert "12 trials on 1 seed share" in words.tree(TREE)
    assert "3 of them wait for a criterion" in words.tree(TREE | {"waiting": 3})
    assert "times fewer" not in words.tree(TREE | {"waiting": 3})
    assert "no two of them have a past in common" in words.tree(TREE | {"steps_trained": 3000})


def test_a_switch_is_said_with_what_is_known_of_it():
    def mean(value, low=None, high=None):
        return {"mean": value, "low": low, "high": high, "n": 3}

    row = {
        "n": 3,
        "trials": 6,
        "switches": 2,
        "settings": [{}, {}],
        "step": {"mean": 1250.4, "min": 500, "median": 1000, "max": 2000},
        "drop": mean(0.25, 0.21, 0.29),
        "loss_before": mean(1.5),
        "loss_after": mean(1.75),
        "accuracy_before": mean(0.4),
        "accuracy_after": mean(0.3),
        "recovery": {"trials": 6, "never": 1, "median": 150},
        "cost": 0.7,
        "reference": "looped",
    }
    said = words.switch(row)
    assert said.startswith(
        "switches at step 1\u202f250 on average (500 … 2\u202f000), the first of 2 switches: 6 trials"
    )
    assert "rises by 0.250 [0.210, 0.290] nats/token, from 1.50 to 1.75" in said
    assert "back after 150 updates (median); 1 of 6 trials were not back by the end." in said
    assert said.endswith("In all a trial costs 0.700 times the FLOPs of one of looped.")
    lost = words.switch(row | {"recovery": {"trials": 6, "never": 5, "median": None}, "cost": None})
    assert lost.endswith(
        "5 of 6 trials were not back by the end, so there is no median of the updates until the loss is back."
    )
    bare = words.switch(row | {"drop": mean(None), "recovery": {"trials": 0, "never": 0, "median": None}, "cost": None})
    assert bare.endswith("6 trials, 2 settings, 3 seeds.")
    assert "changes by −0.250" in words.switch(row | {"drop": mean(-0.25, -0.29, -0.21)})


def test_the_switches_of_many_arms_are_one_sentence():
    def entry(arm, drop, never):
        recovery = {"trials": 5, "never": never, "median": None}
        return {"arm": arm, "drop": {"mean": drop}, "step": {"mean": 500}, "recovery": recovery}

    said = words.switches([entry("a", 0.5, 0), entry("b", -0.1, 2), entry("c", 0.25, 1)])
    assert said.startswith(
        "3 arms switch. With the same weights the validation loss changes by −0.100 nats/token (b, at"
    )
    assert "to 0.500 (a, at step 500); 3 of 15 trials were not back by the end." in said
    assert words.switches([entry("a", 0.5, 0)]).endswith("all trials came back.")
    assert words.switches([entry("a", None, 0), entry("b", None, 0)]) == "2 arms switch."


@pytest.mark.parametrize(
    ("scale", "better", "margin", "edge"),
    [
        ("linear", "lower", 0.02, 0.02),
        ("linear", "higher", 0.005, -0.005),
        ("log", "lower", 1.25, 1.25),
        ("log", "higher", 1.25, 0.8),
    ],
)
def test_the_margin_ends_on_the_side_that_is_worse(scale, better, margin, edge):
    finding = {"expect": "not worse", "scale": scale, "better": better, "margin": margin}
    assert verdict_words.edge(finding) == edge
    assert verdict_words.edge(finding | {"expect": "lower"}) is None
