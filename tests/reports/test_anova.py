"""The analysis of variance against statsmodels, and the interval of an effect's share by its coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from reports.anova import LARGE, anova, level_effects, noise_free


def made(*shape, seed=0):
    rng = np.random.default_rng(seed)
    effect = sum(
        rng.normal(0, 1 / (axis + 1), [n if i == axis else 1 for i, n in enumerate(shape)])
        for axis, n in enumerate(shape)
    )
    return effect + rng.normal(0, 0.5, shape)


def frame(values):
    """One row a value; columns a, b, c … of the factors, seed, y."""
    names = [*"abcd"[: values.ndim - 1], "seed"]
    places = itertools.product(*(range(n) for n in values.shape))
    return pd.DataFrame([dict(zip(names, place, strict=True)) | {"y": values[place]} for place in places])


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (3, 2, 4, 3), (2, 2, 2, 3, 2)])
def test_sums_of_squares_f_and_p_are_statsmodels(shape):
    values = made(*shape)
    names = "abcd"[: len(shape) - 1]
    crossed = " * ".join(f"C({name})" for name in names)
    want = anova_lm(ols(f"y ~ {crossed} + C(seed)", frame(values)).fit())
    found = anova(values)
    for effect in found:
        if effect.kind in ("main", "interaction"):
            row = want.loc[":".join(f"C({names[factor]})" for factor in effect.factors)]
        elif effect.kind == "higher":
            higher = want[[index.count(":") >= 2 for index in want.index]]
            row = higher.sum()
            row["F"] = row["sum_sq"] / row["df"] / want.loc["Residual", "mean_sq"]
            row["PR(>F)"] = scipy_stats.f.sf(row["F"], row["df"], want.loc["Residual", "df"])
        else:
            row = want.loc["C(seed)" if effect.kind == "seeds" else "Residual"]
        assert (effect.df, effect.ss) == (row["df"], pytest.approx(row["sum_sq"], rel=1e-9, abs=1e-12))
        if effect.kind != "residual":
            assert (effect.f, effect.p) == (pytest.approx(row["F"], rel=1e-8), pytest.approx(row["PR(>F)"], rel=1e-6))
    assert math.fsum(effect.eta2 for effect in found) == pytest.approx(1, abs=1e-12)


def test_the_share_takes_off_what_noise_alone_gives():
    values = np.random.default_rng(1).normal(size=(100, 3, 3, 4))
    found = [anova(block) for block in values]
    assert np.mean([effects[0].eta2 for effects in found]) > 0.04, "noise alone has a share of the whole"
    raw = [(e[0].ss - e[0].df * e[-1].ss / e[-1].df) / (sum(x.ss for x in e) + e[-1].ss / e[-1].df) for e in found]
    assert np.mean(raw) == pytest.approx(0, abs=4 * np.std(raw) / 10)
    assert all(effects[0].omega2 == pytest.approx(max(0, share)) for effects, share in zip(found, raw, strict=True))


def test_tests_of_nothing_keep_their_level():
    draws = 100
    of_seeds = np.random.default_rng(3).normal(0, 3, (draws, 1, 1, 4))
    values = np.random.default_rng(2).normal(size=(draws, 3, 2, 4)) + of_seeds
    p = np.array([[effect.p for effect in anova(block)[:3]] for block in values])
    slack = 4 * math.sqrt(0.05 * 0.95 / draws)
    assert (np.abs((p < 0.05).mean(axis=0) - 0.05) < slack).all(), "main effects and their interaction"


@pytest.mark.parametrize(("scale", "shape"), [(0.3, (3, 2, 3)), (1.0, (3, 4, 5)), (3.0, (2, 2, 10))])
def test_the_interval_of_a_share_covers_it_also_where_effects_and_seeds_are_large(scale, shape):
    rng, draws = np.random.default_rng(4), 100
    sides = [rng.normal(0, scale, [n if i == axis else 1 for i, n in enumerate(shape)]) for axis, n in enumerate(shape)]
    sides = [side - side.mean() for side in sides]
    thetas = [float((side**2).mean()) * math.prod(shape) for side in sides]
    shares = [theta / (sum(thetas) + math.prod(shape)) for theta in thetas]
    found = [anova(sum(sides) + rng.normal(size=shape)) for _ in range(draws)]
    for place, want in zip((0, 1, 3), shares, strict=True):
        covered = np.mean([effects[place].low <= want <= effects[place].high for effects in found])
        assert covered > 0.95 - 4 * math.sqrt(0.95 * 0.05 / draws), (place, want)


def test_noise_free_sums_of_squares_are_those_of_the_noncentral_distribution():
    u, x = np.array([0.1, 0.5, 0.9]), np.array([6.0, 90.0, 300.0])
    for df in (1, 3):
        np.testing.assert_allclose(scipy_stats.ncx2.cdf(x, df, noise_free(x, df, u)), u, atol=1e-9)
        far = np.full(3, 1.01 * LARGE * df)
        np.testing.assert_allclose(scipy_stats.ncx2.cdf(far, df, noise_free(far, df, u)), u, atol=5e-3)
    assert noise_free(np.array([0.1]), 3, np.array([0.5]))[0] == pytest.approx(0, abs=1e-12)


def test_level_effects_are_deviations_within_a_seed():
    values = made(3, 2, 4)
    found = level_effects(values, 0)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found[1, 2], values[1, :, 2].mean() - values[:, :, 2].mean())


def test_differences_without_noise_have_shares_and_no_test():
    values = np.zeros((2, 3, 4)) + np.array([0.0, 1.0])[:, None, None]
    a, b, both, *_ = anova(values)
    assert (a.omega2, a.f, a.p) == (1.0, None, None)
    assert (b.omega2, both.omega2) == (0.0, 0.0)
    assert anova(np.ones((2, 2)))[0].eta2 == 0.0


@pytest.mark.parametrize("shape", [(3,), (1, 4), (3, 1)])
def test_what_is_no_grid_is_refused(shape):
    with pytest.raises(ValueError, match="full grid"):
        anova(np.zeros(shape))
