"""Functionals on histories whose answer is known."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.functionals import FUNCTIONALS, UnmeasuredError, evaluate
from studies import claims


def history(**columns):
    return pd.DataFrame({"step": range(0, 100 * len(next(iter(columns.values()))), 100), **columns})


def test_plateau_step_is_the_first_after_which_nothing_more_than_the_share_is_gained():
    loss = history(val_loss=[2.0, 1.5, 1.009, 1.005, 1.0])
    assert evaluate("plateau_step", (), loss) == 200
    assert evaluate("plateau_step", (0.006,), loss) == 300
    assert evaluate("plateau_step", (0.6,), loss) == 100


def test_a_later_rise_is_no_improvement():
    assert evaluate("plateau_step", (), history(val_loss=[2.0, 1.0, 1.4, 1.5])) == 100


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([2.0, 1.5, 1.0], "no plateau"),
        ([1.0, 1.1, 1.2], "never fell"),
        ([1.0], "evaluated at 1 steps"),
        ([None, 1.0, None], "evaluated at 1 steps"),
    ],
)
def test_without_a_plateau_there_is_no_number(values, words):
    with pytest.raises(UnmeasuredError, match=words):
        evaluate("plateau_step", (), history(val_loss=values))


def test_phase_order_is_positive_where_simple_patterns_come_first():
    low, high = [0.1, 0.5, 0.6, 0.7, 0.7], [0.1, 0.11, 0.13, 0.16, 0.2]
    assert evaluate("phase_order", (), history(val_accuracy_low_ic=low, val_accuracy_high_ic=high)) == 200
    assert evaluate("phase_order", (), history(val_accuracy_low_ic=high, val_accuracy_high_ic=low)) == -200


def test_phase_order_is_had_where_the_complex_loss_never_falls_below_that_of_guessing():
    low, high, loss = [0.1, 0.5, 0.7], [0.1, 0.12, 0.2], [2.13, 2.19, 2.14]
    rows = history(val_accuracy_low_ic=low, val_accuracy_high_ic=high, val_loss_high_ic=loss)
    assert evaluate("phase_order", (), rows) == 100


def test_phase_order_needs_both_strata():
    with pytest.raises(UnmeasuredError, match="no column val_accuracy_low_ic"):
        evaluate("phase_order", (), history(val_accuracy_high_ic=[0.1, 0.2]))
    with pytest.raises(UnmeasuredError, match="val_accuracy_high_ic never rose"):
        evaluate("phase_order", (), history(val_accuracy_low_ic=[0.1, 0.2], val_accuracy_high_ic=[0.2, 0.1]))


def test_every_functional_can_be_named_by_a_claim_and_a_named_one_that_is_not_computed_says_so():
    assert set(FUNCTIONALS) <= set(claims.FUNCTIONALS)
    for name in set(claims.FUNCTIONALS) - set(FUNCTIONALS):
        with pytest.raises(UnmeasuredError, match="not measured by this version"):
            evaluate(name, (0.1,), history(val_loss=[2.0, 1.0]))
