"""Factor effects of a study: which grids are analysed, with which numbers, and why others are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from reports.build import build
from reports.factor_figures import factor_figures
from reports.factors import factors
from reports.panels import styled
from reports.render import markdown_report
from reports.svg import place
from reports.tables import Tables
from tests.reports.synthetic import Arm, results, study

AXES = {"model.loops": [2, 3, 4], "train.lr": [1e-3, 1e-2]}
ARMS = [Arm(name="looped", axes=AXES), Arm(name="shift", low=0.2, switch=1500, axes=AXES)]
NAMES = [arm.name for arm in ARMS]


def found(frames, arms=NAMES):
    return factors(Tables.read(frames), arms)


def with_losses(frames, loss):
    return frames.with_trials(final_val_loss=[loss(row) for row in frames.trials_.to_dict("records")])


def test_arms_of_one_grid_are_analysed_together_with_statsmodels_numbers():
    frames = results(ARMS)
    (entry,) = found(frames)
    assert entry["factors"] == ["arm", "model.loops", "train.lr"]
    rows = frames.trials_.rename(columns={"model.loops": "loops", "train.lr": "lr", "final_val_loss": "y"})
    want = anova_lm(ols("y ~ C(arm) * C(loops) * C(lr) + C(seed)", rows).fit())
    terms = {term["name"]: term for term in entry["terms"]}
    for name, line in {
        "arm": "C(arm)",
        "train.lr": "C(lr)",
        "arm × model.loops": "C(arm):C(loops)",
        "higher interactions": "C(arm):C(loops):C(lr)",
        "seed": "C(seed)",
        "residual": "Residual",
    }.items():
        assert terms[name]["sum_of_squares"] == pytest.approx(want.loc[line, "sum_sq"], rel=1e-9)
        if name != "residual":
            assert terms[name]["p"] == pytest.approx(want.loc[line, "PR(>F)"], rel=1e-6)
    assert entry["terms"][-1]["name"] == "residual"
    shares = [term["omega2"] for term in entry["terms"][:-1]]
    assert shares == sorted(shares, reverse=True)


def test_what_the_loss_depends_on_comes_first_and_is_said():
    frames = results([ARMS[0]])
    noise = np.random.default_rng(0).normal(0, 0.01, len(frames.trials_))
    values = iter(noise)
    frames = with_losses(frames, lambda row: 2 + 0.3 * row["model.loops"] + next(values))
    (entry,) = found(frames, ["looped"])
    assert entry["factors"] == ["model.loops", "train.lr"]
    assert entry["terms"][0]["name"] == "model.loops"
    assert entry["terms"][0]["omega2"] > 0.95
    assert entry["sentence"].startswith("Of the variance of the final validation loss of looped: model.loops 9")
    levels = [level for level in entry["levels"] if level["factor"] == "model.loops"]
    assert [level["level"] for level in levels] == ["loops = 2", "loops = 3", "loops = 4"]
    np.testing.assert_allclose([level["mean"] for level in levels], [-0.3, 0, 0.3], atol=0.02)
    assert all(level["low"] < level["mean"] < level["high"] for level in levels)


def test_zipped_axes_are_one_factor():
    rows = results([ARMS[0]])
    zipped = rows.with_trials(**{"train.batch": rows.trials_["model.loops"] * 8})
    assert found(zipped, ["looped"])[0]["factors"] == ["model.loops, train.batch", "train.lr"]


def test_a_seed_without_a_value_somewhere_leaves_and_is_named():
    frames = results([ARMS[0]], ended={("looped", 3): "diverged"})
    (entry,) = found(frames, ["looped"])
    assert (entry["seeds"], entry["dropped_seeds"]) == (4, []), "a seed without any value has none to leave"
    lost = frames.trials_["trial_id"] == frames.trials_["trial_id"].iloc[0]
    frames = frames.with_trials(status=frames.trials_["status"].mask(lost, "diverged"))
    (entry,) = found(frames, ["looped"])
    assert (entry["seeds"], entry["dropped_seeds"]) == (3, [0])


def test_a_grid_that_is_not_full_and_too_few_seeds_are_said_and_not_computed():
    frames = results([ARMS[0]])
    rows = frames.trials_
    holes = frames.without(~((rows["model.loops"] == 2) & (rows["train.lr"] == 1e-3)))
    (entry,) = found(holes, ["looped"])
    assert (entry["reason"], entry["terms"]) == ("the grid is not full (5 of 6 settings)", [])
    assert "not computed, as the grid is not full" in entry["sentence"]
    (entry,) = found(results([ARMS[0]], seeds=range(1)), ["looped"])
    assert "at least 2 are needed" in entry["reason"]


def test_arms_without_axes_have_no_factors():
    assert found(results([Arm(name="looped"), Arm(name="single")]), ["looped", "single"]) == []


def test_the_report_has_the_figure_whose_text_says_the_finding_and_the_table():
    frames = results(ARMS)
    report = build([(study(arms=ARMS), frames)], command="x")
    with styled():
        (drawing,) = factor_figures("quickstart", report["studies"][0])
    assert drawing.alt == report["studies"][0]["factors"][0]["sentence"]
    text = markdown_report(report, [drawing])
    assert f"figures/{drawing.name}.svg" in text
    assert "| arm × model.loops | 2 |" in text
    assert pd.notna(report["studies"][0]["factors"][0]["terms"][0]["p"])


def test_a_title_fits_beside_long_names_of_bars():
    frames = results([Arm(name="scp", axes={"schedule.delta2": [0.05, 0.1], "schedule.patience": [1, 2, 3]})])
    entry = found(frames, ["scp"])[0]
    assert max(len(term["name"]) for term in entry["terms"]) > 30
    with styled():
        (drawing,) = factor_figures("x", {"name": "x", "factors": [entry]})
        place(drawing.figure)
        (axes,) = drawing.figure.axes
        ends = [text.get_window_extent().x1 for text in (axes.title, axes._left_title)]
    assert max(ends) <= drawing.figure.bbox.x1
