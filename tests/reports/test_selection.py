"""What choosing does to an estimate: against tables, scipy, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols

from reports import selection


@pytest.mark.parametrize(
    ("place", "of", "want"),
    # Harter 1961, table of expected normal order statistics; the two largest of 2 and of 3 have closed forms.
    [(1, 2, 1 / math.sqrt(math.pi)), (1, 3, 1.5 / math.sqrt(math.pi)), (2, 3, 0.0), (1, 10, 1.53875), (2, 10, 1.00136)],
)
def test_expected_order_is_that_of_the_tables(place, of, want):
    assert selection.expected_order(place, of) == pytest.approx(want, abs=6e-6)


def test_expected_orders_mirror_sum_to_nothing_and_hold_for_very_many():
    orders = [selection.expected_order(place, 7) for place in range(1, 8)]
    np.testing.assert_allclose(orders, [-value for value in orders[::-1]], atol=1e-9)
    assert selection.expected_order(1, 1) == pytest.approx(0, abs=1e-9)
    assert selection.expected_order(1, 10**6) == pytest.approx(4.8636, abs=1e-3)
    with pytest.raises(ValueError, match="1 … 3"):
        selection.expected_order(4, 3)


def test_the_best_of_60_equal_arms_looks_that_much_better_at_3_seeds():
    draws = np.random.default_rng(0).normal(size=(4000, 60, 3)) + np.random.default_rng(1).normal(0, 5, (4000, 1, 3))
    means = draws.mean(axis=2)
    true = draws.mean(axis=(1, 2))  # what the shared seeds do to every arm is no part of the choice
    best = means.max(axis=1) - true
    want = selection.expected_order(1, 60) / math.sqrt(3)
    assert want == pytest.approx(1.34, abs=0.005)
    assert best.mean() == pytest.approx(want, abs=4 * best.std() / math.sqrt(len(best)))


def test_residual_deviation_is_that_of_the_two_way_table():
    table = np.random.default_rng(2).normal(size=(4, 5)) + np.arange(5) * 3
    rows = [{"s": i, "seed": j, "y": table[i, j]} for i in range(4) for j in range(5)]
    want = ols("y ~ C(s) + C(seed)", pd.DataFrame(rows)).fit().mse_resid
    assert selection.residual_sd(table.tolist()) == pytest.approx(math.sqrt(want), rel=1e-10)
    assert selection.residual_sd([[1.0, 2.0]]) is None


@pytest.mark.parametrize("settings", [12, 60])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_typical_deviation_is_right_with_and_without_a_setting_that_explodes(settings, seeds):
    rng = np.random.default_rng(4)
    size = (400, settings, seeds)
    tables = rng.normal(0, 1, size) + rng.normal(0, 5, (400, 1, seeds)) + rng.normal(0, 2, (400, settings, 1))
    exploded = tables.copy()
    exploded[:, 0] += np.abs(rng.normal(0, 1000, (400, seeds)))

    def means(tables):
        return [np.mean([sd(table) for table in tables]) for sd in (selection.residual_sd, selection.typical_sd)]

    plain, typical = means(tables)
    assert plain == pytest.approx(1, abs=0.05)
    assert typical == pytest.approx(1, abs=0.07)
    plain, typical = means(exploded)
    assert plain > 30
    assert typical == pytest.approx(1, abs=0.25 if settings == 12 else 0.07)


def test_where_medians_say_nothing_the_deviation_is_the_plain_one():
    few = np.random.default_rng(5).normal(size=(3, 4))
    assert selection.typical_sd(few) == selection.residual_sd(few)
    solved = [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.9]]
    assert selection.typical_sd(solved) == selection.residual_sd(solved)
    assert selection.residual_sd(solved) > 0
    assert selection.typical_sd([[1.0, 2.0]]) is None
    pairs = np.random.default_rng(6).normal(size=(9, 2))
    centred = pairs - np.median(pairs, axis=0)
    mad = scipy_stats.median_abs_deviation(centred[:, 0] - centred[:, 1], center=lambda *_, **__: 0.0, scale="normal")
    assert selection.typical_sd(pairs) == pytest.approx(mad / math.sqrt(2))


def test_the_unpaired_interval_is_welchs():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 5), rng.normal(1, 3, 9)
    want = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    got = selection.unpaired_interval(list(a), list(b))
    np.testing.assert_allclose([got.low, got.high], [want.low, want.high], rtol=1e-10)
    one = selection.unpaired_interval([1.0], [2.0, 3.0])
    assert (one.mean, one.low) == (-1.5, None)
    assert selection.unpaired_interval([1.0, 1.0], [2.0, 2.0]).low is None
