"""What the statistics promise, by simulation: coverage, errors of verdicts, of families, and power.

The simulations are those of `benchmarks/error_rates.py`, which a first test holds equal to `reports.stats`; bounds are
four standard errors of the binomial. The soak form takes 10^6 draws.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks import error_rates
from benchmarks.error_rates import DIFFERENCES, coverage, family_wrong, flip_p, found, holm, t_ends, t_p, wrong
from reports import stats
from reports.claims import judge
from reports.tables import Tables
from tests.reports import synthetic

NORMAL = DIFFERENCES["normal"]
SYMMETRIC = DIFFERENCES["difference of two exponentials"]


@pytest.fixture(params=[20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def draws(request):
    return request.param


def slack(p, draws):
    return 4 * math.sqrt(p * (1 - p) / draws)


def test_what_is_simulated_is_what_reports_compute():
    x = np.random.default_rng(0).normal(0.4, 1, (6, 4, 7))
    intervals = [stats.t_interval(list(row)) for row in x[0]]
    np.testing.assert_allclose(np.array(t_ends(x[0])).T, [[i.low, i.high] for i in intervals], rtol=1e-12)
    np.testing.assert_allclose(t_p(x[0]), [stats.t_test(list(row)) for row in x[0]], rtol=1e-12)
    np.testing.assert_allclose(flip_p(x[0]), [stats.sign_flip(list(row)) for row in x[0]], atol=1e-12)
    np.testing.assert_allclose(holm(t_p(x)), [stats.holm(list(row)) for row in t_p(x)], rtol=1e-12)
    for name, draw in DIFFERENCES.items():
        made = draw(np.random.default_rng(1), (400_000,))
        assert (made.mean(), made.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.05)), name


@pytest.mark.parametrize("n", [5, 10])
def test_95_percent_intervals_cover_95_percent(n, draws):
    covered = coverage(NORMAL, n, draws)
    assert 0.94 < covered < 0.96
    assert abs(covered - 0.95) < slack(0.95, draws)
    assert coverage(SYMMETRIC, n, draws) > 0.95 - slack(0.95, draws), "arms that are skewed alike do no harm"
    assert coverage(DIFFERENCES["exponential"], n, draws) < 0.94, "skewed differences do: docs/reports.md says so"


@pytest.mark.parametrize("n", [5, 10])
def test_a_verdict_is_wrong_no_more_often_than_its_level(n, draws):
    assert abs(wrong(NORMAL, n, draws) - 0.05) < slack(0.05, draws)
    assert wrong(SYMMETRIC, n, draws) < 0.05 + slack(0.05, draws)
    assert wrong(SYMMETRIC, n, draws // 10, test=flip_p) < 0.05 + slack(0.05, draws // 10), "exact for any symmetry"


@pytest.mark.parametrize("claims", [5, 20])
def test_a_study_decides_any_claim_wrongly_no_more_often_than_the_level(claims, draws):
    for shared in (0.0, 0.9):
        assert family_wrong(claims, 5, draws // claims, shared=shared) < 0.05 + slack(0.05, draws // claims)


@pytest.mark.parametrize("claims", [1, 5])
def test_seeds_needed_find_the_effect_and_one_less_does_not(claims, draws):
    level = 0.05 / claims
    n = stats.seeds_needed(1.0, 1.0, alpha=level)
    assert found(1.0, n, draws // claims, claims=claims) > 0.8 - slack(0.8, draws // claims)
    alone = np.random.default_rng(2).normal(1.0, 1.0, (draws, n - 1))
    assert np.mean(t_p(alone) < level) < 0.8 + slack(0.8, draws), "in Holm's worst case"
    effect = stats.smallest_detectable(1.0, 8, alpha=level)
    at = np.random.default_rng(3).normal(effect, 1.0, (draws, 8))
    assert abs(np.mean(t_p(at) < level) - 0.8) < slack(0.8, draws) + 1e-4


def test_seeds_told_by_an_undecided_study_are_a_guide_and_no_promise():
    undecided, decided, told = error_rates.second_run(1.0, 5, 150)
    assert undecided > 0.4
    assert 0.5 < decided < 0.95
    assert told < 60


@pytest.mark.soak
def test_verdicts_of_whole_studies_are_wrong_no_more_often_than_the_level():
    """From tables to verdicts: three arms against one, nothing true, five seeds."""
    arms = [synthetic.Arm(name=name) for name in ("base", "a", "b", "c")]
    made = synthetic.results(arms, seeds=range(5), curvature=False)
    last = made.metrics_["step"] == synthetic.STEPS[-1]
    frames = synthetic.Frames(**{**vars(made), "metrics_": made.metrics_[last], "events_": made.events_.iloc[:0]})
    tables = [{"metric": "final_val_loss", "arm": arm.name, "against": "base", "expect": "lower"} for arm in arms[1:]]
    claims, rng, studies, wrongly = synthetic.claims(*tables, arms=arms), np.random.default_rng(4), 400, 0
    for _ in range(studies):
        metrics = frames.metrics_.assign(val_loss=rng.normal(1, 0.1, len(frames.metrics_)))
        losses = pd.Series(metrics["val_loss"].to_numpy(), index=metrics["trial_id"])
        trials = frames.trials_.assign(final_val_loss=frames.trials_["trial_id"].map(losses))
        read = Tables.read(synthetic.Frames(**{**vars(frames), "trials_": trials, "metrics_": metrics}))
        wrongly += any(claim["verdict"] != "undecided" for claim in judge(read, claims))
    assert wrongly / studies < 0.05 + slack(0.05, studies)
    assert wrongly > 0, "it can fail"
