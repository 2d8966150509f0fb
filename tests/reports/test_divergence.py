"""Divergence rates: any difference keeps a claim undecided, and the exact p is McNemar's."""

from __future__ import annotations

import pytest
from statsmodels.stats.contingency_tables import mcnemar

from reports.claims import judge
from reports.divergence import divergence
from reports.tables import Tables
from tests.reports.synthetic import claims, results

LOWER = {"metric": "final_val_loss_low_ic", "arm": "looped", "against": "single", "expect": "lower"}


def tables(looped, single, seeds=8):
    ended = {("looped", seed): "diverged" for seed in looped} | {("single", seed): "diverged" for seed in single}
    return Tables.read(results(seeds=range(seeds), ended=ended))


@pytest.mark.parametrize(
    ("looped", "single"), [((0, 1, 2), ()), ((0, 1, 2, 3, 4), (4,)), ((0,), (1,)), ((0, 1), (0, 1))]
)
def test_the_exact_p_is_mcnemars(looped, single):
    a, b = set(looped), set(single)
    table = [[8 - len(a | b), len(b - a)], [len(a - b), len(a & b)]]
    found = divergence(tables(looped, single), ["looped", "single"])
    assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-12)
    assert found.differ == (len(a) != len(b))
    assert found.counts == {"looped": (len(a), 8), "single": (len(b), 8)}


def test_a_difference_keeps_a_claim_undecided_and_the_reason_says_it():
    (claim,) = judge(tables((0, 1, 2), ()), claims(LOWER))
    assert claim["verdict"] == "undecided"
    assert claim["reason"] == (
        "divergence rates differ (3 of 8 trials of looped, 0 of 8 trials of single; exact p = 0.25), "
        "so what is left describes survivors"
    )
    assert (claim["diverged"], claim["p_diverged"]) == ({"looped": [3, 8], "single": [0, 8]}, 0.25)
    (equal,) = judge(tables((0,), (1,)), claims(LOWER))
    assert (equal["verdict"], equal["n"], equal["p_diverged"]) == ("supported", 6, 1.0)


def test_a_number_to_compare_with_does_not_diverge():
    found = divergence(tables((0,), ()), ["looped"])
    assert (found.differ, found.p) == (True, None)
    assert found.said == "1 of 8 trials of looped"
