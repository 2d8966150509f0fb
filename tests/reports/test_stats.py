"""The statistics against scipy in float64, by their properties, and by their error rates in simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from reports import stats

VALUES = st.lists(st.floats(-100, 100).map(lambda v: round(v, 6)), min_size=2, max_size=9)
SPREAD = VALUES.filter(lambda v: np.std(v) > 1e-6)


@given(SPREAD)
def test_interval_is_scipys(values):
    got = stats.t_interval(values)
    want = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([got.low, got.high], [want.low, want.high], rtol=1e-9, atol=1e-12)
    assert (got.n, got.mean) == (len(values), pytest.approx(np.mean(values), abs=1e-12))


@given(SPREAD, st.sampled_from(["two-sided", "less", "greater"]), st.floats(-3, 3))
def test_t_test_is_scipys(values, alternative, margin):
    got = stats.t_test(values, against=margin, alternative=alternative)
    want = scipy_stats.ttest_1samp(values, margin, alternative=alternative).pvalue
    assert got == pytest.approx(want, rel=1e-7, abs=1e-12)


def test_paired_interval_of_arms_is_that_of_differences():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8))
    want = scipy_stats.ttest_rel(a, b)
    assert stats.t_test(list(a - b)) == pytest.approx(want.pvalue, rel=1e-10)
    got = stats.t_interval(list(a - b))
    np.testing.assert_allclose([got.low, got.high], list(want.confidence_interval()), rtol=1e-10)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize("n", [2, 5, 10])
def test_sign_flip_is_scipys_exact_permutation_test(n, alternative):
    values = np.random.default_rng(n).normal(0.4, 1, n)
    want = scipy_stats.permutation_test(
        (values,), np.sum, permutation_type="samples", alternative=alternative, n_resamples=np.inf
    ).pvalue
    assert stats.sign_flip(list(values), alternative=alternative) == pytest.approx(want, abs=1e-12)


@given(VALUES)
def test_sign_flip_mirrors(values):
    negative = [-v for v in values]
    assert stats.sign_flip(values) == stats.sign_flip(negative)
    assert stats.sign_flip(values, alternative="less") == stats.sign_flip(negative, alternative="greater")
    assert stats.sign_flip(values) == stats.sign_flip(values[::-1])


@given(VALUES)
def test_sign_flip_never_goes_below_its_floor(values):
    for alternative in ("two-sided", "less", "greater"):
        assert stats.sign_flip_floor(len(values), alternative) <= stats.sign_flip(values, alternative=alternative) <= 1


def test_five_seeds_cannot_reach_five_percent_by_sign_flip():
    assert stats.sign_flip([1.0, 1.1, 0.9, 1.2, 1.0]) == 0.0625
    assert stats.sign_flip([1.0, 1.1, 0.9, 1.2, 1.0], alternative="greater") == 0.03125


def test_sign_flip_counts_ties_whatever_the_order_of_addition():
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    want = sum(
        abs(sum(s * round(10 * v) for s, v in zip(signs, values, strict=True))) >= 28
        for signs in itertools.product((1, -1), repeat=7)
    )
    assert stats.sign_flip(values) == want / 2**7


def test_sampled_sign_flip_is_near_the_exact_one_and_repeatable():
    values = list(np.random.default_rng(1).normal(0.3, 1, 21))
    sums = np.zeros(1)
    for v in values:
        sums = np.concatenate([sums + v, sums - v])
    exact = float(np.mean(np.abs(sums) >= abs(sum(values)) - 1e-12))
    assert stats.sign_flip(values) == pytest.approx(exact, abs=0.005)
    assert stats.sign_flip(values) == stats.sign_flip(values)
    assert stats.sign_flip([5.0] * 25) == stats.sign_flip_floor(25) > 0


def test_differences_without_spread_fall_back_on_the_sign_flip_test():
    assert stats.t_test([0.1] * 5) == 0.0625
    assert stats.t_test([0.0] * 5) == 1.0
    assert stats.t_test([0.0] * 6, against=0.01, alternative="less") == 1 / 64
    point = stats.t_interval([0.25] * 4)
    assert (point.low, point.mean, point.high) == (0.25, 0.25, 0.25)
    assert stats.cohen_dz([0.1] * 5) is None


def test_one_value_has_a_mean_and_no_interval():
    got = stats.t_interval([3.0])
    assert (got.n, got.mean, got.sd, got.low, got.high) == (1, 3.0, None, None, None)
    with pytest.raises(ValueError, match="at least 2"):
        stats.t_test([3.0])


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_what_is_not_finite_is_refused(bad):
    for function in (stats.t_interval, stats.t_test, stats.sign_flip, stats.cohen_dz, stats.share_below):
        with pytest.raises(ValueError, match="finite"):
            function(bad)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_scipys_step_down_by_definition(ps):
    got = stats.holm(ps)
    for i, p in enumerate(ps):
        # p_holm ≤ α ⇔ Holm at level α rejects: try at the adjusted value itself and just below.
        assert got[i] >= p
        assert got[i] <= min(1.0, len(ps) * p) + 1e-12
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert [got[i] for i in order] == sorted(got)
    want = np.minimum(1, np.maximum.accumulate([(len(ps) - k) * ps[i] for k, i in enumerate(order)])) if ps else []
    np.testing.assert_allclose([got[i] for i in order], want)


def graph(chains, alpha):
    """What the sequentially rejective procedure of Bretz et al. (2009), algorithm 1, rejects: chain by chain."""
    nodes = [(i, j) for i, chain in enumerate(chains) for j in range(len(chain))]
    weight = {(i, j): float(j == 0) / len(chains) for i, j in nodes}
    edge = dict.fromkeys(itertools.product(nodes, nodes), 0.0)
    for i, j in nodes:
        if j + 1 < len(chains[i]):
            edge[(i, j), (i, j + 1)] = 1.0
        else:
            edge |= {((i, j), (k, 0)): 1 / (len(chains) - 1) for k in range(len(chains)) if k != i}
    rejected: set[tuple[int, int]] = set()
    while True:
        left = [n for n in nodes if n not in rejected]
        now = next((n for n in left if chains[n[0]][n[1]] <= weight[n] * alpha and weight[n] > 0), None)
        if now is None:
            return [[(i, j) in rejected for j in range(len(chain))] for i, chain in enumerate(chains)]
        others = [n for n in left if n != now]
        weight |= {n: weight[n] + weight[now] * edge[now, n] for n in others}
        new = {}
        for a, b in itertools.permutations(others, 2):
            back = edge[a, now] * edge[now, a]
            new[a, b] = (edge[a, b] + edge[a, now] * edge[now, b]) / (1 - back) if back < 1 else 0.0
        edge |= new
        rejected.add(now)


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.001, 0.006, 0.012, 0.02, 0.03, 0.2]), min_size=1, max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_chains_are_rejected_as_by_the_graph_that_stands_for_them(chains):
    got = stats.holm_in_order(chains)
    for alpha in (0.01, 0.05, 0.1):
        assert [[p <= alpha for p in chain] for chain in got] == graph(chains, alpha)


def test_chains_of_one_are_holms_and_a_single_chain_is_the_fixed_sequence():
    ps = [0.01, 0.04, 0.03]
    assert stats.holm_in_order([[p] for p in ps]) == [[p] for p in stats.holm(ps)]
    assert stats.holm_in_order([[0.01, 0.04, 0.03, 0.2, 0.001]]) == [[0.01, 0.04, 0.04, 0.2, 0.2]]
    with pytest.raises(ValueError, match="empty"):
        stats.holm_in_order([[]])


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.2]) == [0.2]
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        stats.holm([1.2])


def test_effect_size_and_share_of_better_pairs():
    values = [-0.2, -0.1, 0.0, 0.1]
    assert stats.cohen_dz(values) == pytest.approx(np.mean(values) / np.std(values, ddof=1))
    assert stats.share_below(values) == 0.625
    assert stats.share_below(values, threshold=1.0) == 1.0
    assert stats.share_below(values) + stats.share_below([-v for v in values]) == 1.0


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("n", "delta"), [(3, 1.0), (5, 2.5), (10, 2.5), (30, 3.0), (200, 2.8)])
def test_power_is_that_of_the_noncentral_t(n, delta, two_sided):
    critical = scipy_stats.t.ppf(1 - 0.05 / (2 if two_sided else 1), n - 1)
    want = scipy_stats.nct.sf(critical, n - 1, delta)
    want += scipy_stats.nct.cdf(-critical, n - 1, delta) if two_sided else 0
    assert stats.power(delta, n, two_sided=two_sided) == pytest.approx(want, abs=5e-4)


@pytest.mark.parametrize(("effect", "want"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_published_tables(effect, want):
    # G*Power 3.1, "difference between two dependent means", two-tailed, α = 0.05, power 0.8.
    assert stats.seeds_needed(effect, 1.0) == want
    assert stats.seeds_needed(-3 * effect, 3.0) == want


def test_seeds_needed_at_the_ends():
    assert stats.seeds_needed(0.0, 1.0) is None
    assert stats.seeds_needed(1e-3, 1.0) is None
    assert stats.seeds_needed(1e6, 1.0) == 2
    assert stats.seeds_needed(0.5, 1.0, two_sided=False) < stats.seeds_needed(0.5, 1.0)
    assert stats.seeds_needed(0.5, 1.0, alpha=0.01) > stats.seeds_needed(0.5, 1.0)
    with pytest.raises(ValueError, match="positive"):
        stats.seeds_needed(1.0, 0.0)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_smallest_detectable_effect_is_the_inverse_of_power(n):
    effect = stats.smallest_detectable(0.3, n)
    assert stats.power(effect / 0.3 * math.sqrt(n), n) == pytest.approx(0.8, abs=1e-6)
    if n > 2:
        assert stats.seeds_needed(effect * 1.0001, 0.3) == n


def test_interval_covers_at_its_level():
    rng = np.random.default_rng(7)
    draws = rng.normal(0.3, 0.1, (2000, 5))
    covered = np.mean([i.low <= 0.3 <= i.high for i in map(stats.t_interval, draws.tolist())])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_tests_keep_their_error_rate_and_holm_that_of_the_family():
    rng = np.random.default_rng(8)
    families, size = 800, 4
    null = rng.normal(0, 1, (families, size, 6))
    t = np.array([[stats.t_test(list(d)) for d in family] for family in null])
    flips = np.array([stats.sign_flip(list(d)) for d in null[:, 0]])
    slack = 4 * math.sqrt(0.05 * 0.95 / families)
    assert abs(np.mean(t[:, 0] < 0.05) - 0.05) < slack
    assert np.mean(flips < 0.05) < 0.05 + slack
    assert np.mean([min(stats.holm(list(family))) < 0.05 for family in t]) < 0.05 + slack


def test_power_is_met_in_simulation():
    n = stats.seeds_needed(0.9, 1.0)
    draws = np.random.default_rng(9).normal(0.9, 1.0, (1500, n))
    assert np.mean([stats.t_test(list(d)) < 0.05 for d in draws]) > 0.8 - 4 * math.sqrt(0.16 / 1500)
