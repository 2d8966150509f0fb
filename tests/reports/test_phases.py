"""The rule for phases on histories whose phases are drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from core.streams import stream
from reports.phases import Stretch, dip, in_order, labels, rise, stretches


def named(found):
    return [(s.phase, s.first, s.last) for s in found]


def history(points_per_leg, noise=0.0):
    """S falls from 5 to 2, rises to 4 and stays there: three legs of equal length."""
    t = np.linspace(0, 3, 3 * points_per_leg + 1)
    values = np.interp(t, [0, 1, 2, 3], [5, 2, 4, 4])
    return (values + noise * stream(0, "phases").normal(size=len(t))).tolist()


def test_a_fall_a_rise_and_a_plateau_are_the_three_phases_in_order():
    found = stretches([5, 3, 2, 3, 4, 4.1, 4.05], lambda_max=[1, 2, 3, 5, 8, 8, 8])
    assert named(found) == [("collapse", 0, 2), ("diversification", 2, 4), ("stabilization", 4, 6)]
    assert in_order(found)
    assert labels(found, 7) == ["collapse"] * 2 + ["diversification"] * 2 + ["stabilization"] * 2


@pytest.mark.parametrize("points", [2, 10, 100])
def test_a_denser_grid_with_wiggles_gives_the_same_legs(points):
    found = stretches(history(points, noise=0.02 if points > 2 else 0.0))
    assert [s.phase for s in found] == ["collapse", "diversification", "stabilization"]
    assert found[0].last / points == pytest.approx(1, abs=0.1)
    assert found[2].first / points == pytest.approx(2, abs=0.2)  # the end of the rise lies within the band, too


def test_a_rise_without_growing_outliers_is_no_diversification():
    entropy = [5, 3, 2, 3, 4, 4, 4]
    assert "diversification" not in [s.phase for s in stretches(entropy, lambda_max=[9, 8, 7, 6, 5, 5, 5])]
    unknown = stretches(entropy, lambda_max=[9, 8, None, 6, 5, 5, 5])
    assert in_order(unknown)  # where λ_max is not known at an end of the leg S alone decides


def test_a_flat_entropy_is_stable_only_while_successive_hessians_agree():
    entropy = [5, 3, 2, 3, 4, 4, 4]
    assert in_order(stretches(entropy, information=[0.1, 0.1, 0.1, 0.2, 0.9, 1.0, 0.9]))
    turning = stretches(entropy, information=[1.0, 1.0, 1.0, 0.9, 0.2, 0.1, 0.2])
    assert [s.phase for s in turning] == ["collapse", "diversification"]
    assert not in_order(turning)
    unknown_at_the_end = stretches(entropy, information=[1.0, 1.0, 1.0, None, None, None, None])
    assert [s.phase for s in unknown_at_the_end] == ["collapse", "diversification"]


def test_other_orders_and_monotone_histories_are_not_in_order():
    assert named(stretches([1, 2, 3, 4, 5])) == [("diversification", 0, 4)]
    rising_first = stretches([2, 4, 5, 3, 2, 2, 2])
    assert [s.phase for s in rising_first] == ["diversification", "collapse", "stabilization"]
    assert not in_order(rising_first)
    assert not in_order(stretches([5, 4, 3, 3, 3]))


def test_below_three_measurements_or_without_movement_there_is_no_phase():
    assert stretches([1.0, 2.0]) == stretches([2.0, 2.0, 2.0]) == stretches([]) == []
    assert labels([], 1) == labels([], 0) == []


def test_thresholds_are_shares_of_the_range():
    entropy = [5, 2, 2.5, 2.0, 2.5, 2.5]
    for scale in (1e-3, 1.0, 1e3):
        assert named(stretches([v * scale for v in entropy])) == named(stretches(entropy))
    fine = stretches(entropy, turn=0.1)
    assert [s.phase for s in fine] == ["collapse", "diversification", "collapse", "diversification", "stabilization"]
    assert stretches(entropy, turn=1.0)[0] == Stretch(phase="collapse", first=0, last=1)


def test_dip_and_rise_say_how_large_the_movement_was():
    assert (dip([5, 3, 2, 4]), rise([5, 3, 2, 4])) == (3, 2)
    assert (dip([1, 2, 3]), rise([1, 2, 3])) == (0, 2)
