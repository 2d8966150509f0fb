"""Functionals on histories whose answer is known."""

from __future__ import annotations

import pandas as pd
import pytest

from core.quantities import QUANTITIES, THRESHOLDS
from reports.functionals import FUNCTIONALS, History, UnmeasuredError, evaluate, phases_of
from reports.values import meaning
from studies import claims
from studies.grid import Grid


def history(**columns):
    steps = range(0, 100 * len(next(iter(columns.values()))), 100)
    return History(metrics={name: pd.Series(values, index=steps) for name, values in columns.items()})


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
        ([1.0], "evaluated at 1 step; at least 2"),
        ([None, 1.0, None], "evaluated at 1 step; at least 2"),
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


def test_what_a_claim_may_name_is_what_is_computed():
    assert set(FUNCTIONALS) == set(claims.FUNCTIONALS)
    assert {one.quantity for one in claims.FUNCTIONALS.values()} - {None} <= set(QUANTITIES)


# --- curvature -------------------------------------------------------------------------------------------------------


def measured(curve="cumulative_force", last=200, method="exact", **columns):
    """Three measurements; the curve y = 10 x at steps up to `last`, on three thresholds."""
    rows = [
        {"step": step, "quantity": curve, "x": x, "y": 10 * x * (1 + step)}
        for step in (0, 100, 200)
        if step <= last
        for x in (THRESHOLDS[36], THRESHOLDS[40], THRESHOLDS[44])
    ]
    table = pd.DataFrame({"step": [0, 100, 200], "method": [{curve: method}] * 3, **columns})
    return History(curvature=table, curves=pd.DataFrame(rows, columns=["step", "quantity", "x", "y"]))


@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("force_at", "cumulative_force"),
        ("below_at", "eigenvalues_below"),
        ("kappa_at", "kappa_valley"),
        ("river_share_at", "river_share"),
    ],
)
def test_a_curve_is_taken_at_the_nearest_threshold_of_the_grid_and_at_the_end(name, curve):
    trial = measured(curve)
    assert evaluate(name, (1e-2,), trial) == pytest.approx(0.1 * 201)
    assert evaluate(name, (0.012,), trial) == evaluate(name, (0.009,), trial) == evaluate(name, (1e-2,), trial)
    with pytest.raises(UnmeasuredError, match=r"has no value at [ετ] = 1"):
        evaluate(name, (1.0,), trial)
    with pytest.raises(UnmeasuredError, match="lie in 1e-12 … 1000, got 0"):
        evaluate(name, (0.0,), trial)


def test_hopping_is_by_rank():
    assert evaluate("hopping_at", (THRESHOLDS[40],), measured("valley_hopping")) == pytest.approx(0.1 * 201)
    with pytest.raises(UnmeasuredError, match="has no value at rank = 3"):
        evaluate("hopping_at", (3,), measured("valley_hopping"))


def test_an_earlier_measurement_never_stands_in_for_one_that_failed_at_the_end():
    with pytest.raises(UnmeasuredError, match="not measured at step 200: exact failed: out of memory"):
        evaluate("force_at", (1e-2,), measured(last=100, method="exact failed: out of memory"))
    with pytest.raises(UnmeasuredError, match=r"cumulative_force was not measured at step 200$"):
        evaluate("force_at", (1e-2,), measured(last=100))
    with pytest.raises(UnmeasuredError, match=r"cumulative_force was not measured$"):
        evaluate("force_at", (1e-2,), History())


def test_the_entropy_over_training():
    entropy = [5.0, 2.0, 3.0, 3.5, 3.5]
    table = pd.DataFrame({"step": range(5), "entropy": entropy, "lambda_max": [1, 2, 3, 4, 4]})
    trial = History(curvature=table)
    assert [evaluate(name, (), trial) for name in ("entropy_dip", "entropy_rise", "phases_in_order")] == [3, 1.5, 1]
    shrinking = History(curvature=table.assign(lambda_max=[4.0, 3.0, 2.0, 1.0, 1.0]))
    assert evaluate("phases_in_order", (), shrinking) == 0
    turning = History(curvature=table.assign(mutual_information=[1.0, 1.0, 1.0, 0.1, 0.1]))
    assert evaluate("phases_in_order", (), turning) == 0
    with pytest.raises(UnmeasuredError, match="measured at 3 steps; at least 4 are needed"):
        evaluate("phases_in_order", (), History(curvature=table[:3]))
    assert evaluate("phases_in_order", (), History(curvature=table[[True, True, False, True, True]])) == 1
    with pytest.raises(UnmeasuredError, match="measured at 2 steps; at least 3 are needed"):
        phases_of(History(curvature=table[:2]))
    with pytest.raises(UnmeasuredError, match="measured at 1 step; at least 2 are needed"):
        evaluate("entropy_rise", (), History(curvature=table[:1]))
    with pytest.raises(UnmeasuredError, match="entropy was not measured"):
        evaluate("entropy_dip", (), measured())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("force_at(0)", "takes a number in 1e-12 … 1000 (tau)"),
        ("kappa_at(2000)", "takes a number in 1e-12 … 1000 (eps)"),
        ("hopping_at(1.5)", "takes a whole number in 1 … 1000 (rank)"),
        ("hopping_at(0)", "takes a whole number in 1 … 1000 (rank)"),
    ],
)
def test_arguments_out_of_range_are_refused_when_the_study_is_read(text, words):
    problems = []
    table = {"text": "t", "metric": text, "arm": "a", "value": 1.0, "expect": "lower"}
    assert claims.parse_claims([table], axes={"a": Grid()}, strata=(), problems=problems) == ()
    assert words in problems[0].message


def test_a_margin_of_a_functional_on_orders_of_magnitude_is_a_ratio():
    table = {"text": "t", "metric": "force_at(0.01)", "arm": "a", "value": 1.0, "expect": "not worse", "margin": 0.1}
    problems = []
    assert claims.parse_claims([table], axes={"a": Grid()}, strata=(), problems=problems) == ()
    assert "a ratio above 1" in problems[0].message
    (found,) = claims.parse_claims([table | {"margin": 1.1}], axes={"a": Grid()}, strata=(), problems=[])
    assert meaning(found.parts[0].metric).scale == "log"
    assert meaning(found.parts[0].metric).better == "higher"
