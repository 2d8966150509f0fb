"""Comparisons across studies and stores: a known difference is found, and what can't be compared is not."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from core.config import trial_config
from reports.across import section
from reports.build import build, to_text
from reports.differences import Side, acting_terms, differences
from reports.figures import draw
from reports.labels import labels, prefixes
from reports.render import html_report, markdown_report
from reports.stats import holm
from reports.tables import Tables
from tests.reports.synthetic import ARMS, Arm, results, study
from tests.reports.test_render import EVIL, Page

LOOPS = {"model.loops": [2, 3, 4]}
SHIFT = 0.25
"""By how much the losses of the other study are higher."""


def side(name="a", arm=ARMS[1], *, terms=None, later=0, **asked):
    """A study of one arm; `terms`: what acts on each of its trials, beside its axes; `later`: minutes."""
    frames = results((arm,), **asked)
    rows = frames.trials_
    when = {column: rows[column] + pd.Timedelta(minutes=later) for column in ("started_at", "finished_at")}
    tables = Tables.read(frames.with_trials(**when))
    found = {
        row["trial_id"]: {"task.kind": "markov"} | (terms or {}) | {axis: row[axis] for axis in arm.axes}
        for row in tables.trials.to_dict("records")
    }
    return Side(name=name, arms=[arm.name], tables=tables, terms=found)


def gaps(rows):
    """By how much the losses of a shifted study are higher, by row: seeds differ in it."""
    return SHIFT * (1 + 0.1 * np.sin(rows["seed"] + (rows["arm"] == "single")))


def shifted(of):
    """The same side with higher losses."""
    for name in ("final_val_loss", "final_val_loss_low_ic"):
        of.tables.trials[name] += gaps(of.tables.trials)
    return of


def compared(*sides):
    (one,) = section(sides)["comparisons"]
    return one


def test_a_known_difference_is_found_within_seeds_and_tested():
    one = compared(side(), shifted(side("b")))
    assert (one["refused"], one["flags"], one["paired_by"], one["unpaired"]) == (None, [], ["seed"], {})
    line, low, high = one["metrics"][:3]
    known = gaps(results((ARMS[1],)).trials())
    test = scipy_stats.ttest_1samp(known, 0)
    assert (line["metric"], line["n"], line["unit"]) == ("final_val_loss", 5, "nats/token")
    assert line["effect"] == pytest.approx(known.mean())
    assert [line["low"], line["high"]] == pytest.approx(list(test.confidence_interval(0.95)))
    assert line["p"] == pytest.approx(test.pvalue)
    assert "looped of b against that of a: final val_loss is higher by 0.25" in one["sentence"]
    assert {low["metric"]: low["effect"], high["metric"]: high["effect"]} == {
        "final_val_loss_low_ic": pytest.approx(known.mean()),
        "final_val_loss_high_ic": 0,
    }


def test_p_is_adjusted_over_the_whole_section():
    arms = [arm.name for arm in ARMS[:2]]
    sides = [Side(name=name, arms=arms, tables=Tables.read(results(ARMS[:2])), terms={}) for name in "ab"]
    shifted(sides[1])
    lines = [line for one in section(sides)["comparisons"] for line in one["metrics"]]
    tested = [line for line in lines if line["p"] is not None]
    assert [line["metric"] for line in tested] == ["final_val_loss", "final_val_loss_low_ic"] * 2
    assert [line["p_holm"] for line in tested] == holm([line["p"] for line in tested])


def test_an_axis_of_one_study_is_paired_by_the_fixed_term_of_the_other():
    grid, fixed = Arm(name="looped", axes=LOOPS), Arm(name="looped")
    one = compared(side("grid", grid), side("fixed", fixed, terms={"model.loops": 3}))
    assert one["paired_by"] == ["seed", "model.loops"]
    assert (one["unpaired"], one["flags"]) == ({"grid": 10}, [])
    rows = results((grid,)).trials()
    own = rows[rows["model.loops"] == 3].set_index("seed")["final_val_loss"]
    differ = results((fixed,)).trials().set_index("seed")["final_val_loss"] - own
    assert one["metrics"][0]["effect"] == pytest.approx(differ.mean(), abs=1e-12)
    assert (one["metrics"][0]["n"], one["metrics"][0]["settings"], one["metrics"][0]["incomplete"]) == (5, 1, 0)
    nowhere = compared(side("grid", grid), side("fixed", fixed, terms={"model.loops": 8}))
    assert nowhere["refused"] == "no setting of model.loops of a common seed is in both"
    absent = compared(side("grid", grid), side("fixed", fixed))
    assert absent["paired_by"] == ["seed"]
    assert absent["flags"][0].startswith("Not paired by model.loops")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"terms": {"task.alpha_low": 0.1}}, "their data differ: task.alpha_low is 0.1 against 0.05"),
        ({"terms": {"task.alpha_low": 0.05, "task.data_seed": 7}}, "task.data_seed is 7 against not a term"),
        ({"seeds": range(5, 9)}, "they have no seed in common"),
        ({"ended": {("looped", seed): "failed" for seed in range(5)}}, "no trial of looped of b has ended ok"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(other, said):
    asked = {"terms": {"task.alpha_low": 0.05}} | other
    one = compared(side(terms={"task.alpha_low": 0.05}), side("b", **asked))
    assert one["sentence"] == f"looped of b against that of a: not compared, as {one['refused']}."
    assert said in one["refused"]
    assert one["metrics"] == []


def test_unequal_budgets_divergence_and_numerics_are_flagged():
    other = side("b", Arm(name="looped", low=0.06, flops=6_000_000), ended={("looped", 2): "diverged"})
    other.tables.trials["numerics_class"] = "cuda sm_90 torch 2.13.0 eager"
    tokens, flops, rates, classes = flags(side(), double_tokens(other))
    assert tokens == "Unequal tokens: a trial of b has 2 times those of a."
    assert flops == "Unequal FLOPs: a trial of b has 2 times those of a."
    assert rates.startswith("Divergence rates differ (1 of 5 trials of b, 0 of 5 trials of a; exact p = 1)")
    assert classes.startswith("They ran in different numerics classes")


def flags(*sides):
    return compared(*sides)["flags"]


def double_tokens(of):
    frame = of.tables.metrics.wide("tokens")
    frame *= 2
    return of


def test_budgets_are_those_of_pairs_not_of_all_that_ran():
    """A grid has dearer trials than the other study; those that are compared cost the same."""
    grid = side("grid", Arm(name="looped", axes=LOOPS))
    grid.tables.trials["flops_alone"] *= grid.tables.trials["model.loops"]
    fixed = side("fixed", Arm(name="looped"), terms={"model.loops": 3})
    fixed.tables.trials["flops_alone"] *= 3
    assert flags(grid, fixed) == []
    fixed.tables.trials["flops_alone"] *= 2
    assert flags(grid, fixed) == ["Unequal FLOPs: a trial of fixed has 2 times those of grid."]


def test_a_trial_that_ran_twice_is_told_from_a_row_that_is_in_both():
    again = side("b", later=1)
    again.tables.trials.loc[0, "final_val_loss"] = np.nextafter(again.tables.trials.loc[0, "final_val_loss"], 9)
    one = compared(side(), again)
    assert (one["ran_twice"], one["recorded_once"]) == (5, 0)
    assert [line["equal_bits"] for line in one["metrics"]] == [4] + [5] * (len(one["metrics"]) - 1)
    assert one["sentence"].endswith("Of 5 trials that ran in both, it is equal to the last bit in 4.")
    copied = compared(side(), side("b"))
    assert (copied["ran_twice"], copied["recorded_once"]) == (0, 5)
    assert copied["sentence"].endswith(
        "final val_loss is equal (n = 5 seeds). 5 trials are the very rows of the other, run once."
    )
    assert copied["metrics"][0]["p"] is None


# --- differences of the configurations -------------------------------------------------------------------------------


def test_only_acting_terms_that_differ_are_shown():
    base = {"task": {"kind": "markov"}, "train": {"steps": 30}}
    configs = {
        "single": {"model": {"loops": 5}, "schedule": {"kind": "single"}},  # its loops do not act
        "looped": {"model": {"loops": 3}, "schedule": {"kind": "looped"}},
        "stages": {"schedule": {"kind": "stages", "stages": [{"loops": 1, "until": 0.5}, {"loops": 2}]}},
    }
    frames = results([Arm(name=name) for name in configs])
    trials = frames.trials_
    terms = {
        row["trial_id"]: acting_terms(trial_config(base | configs[row["arm"]] | {"seed": row["seed"]}))
        for row in trials.to_dict("records")
    }
    found = differences([Side(name="a", arms=list(configs), tables=Tables.read(frames), terms=terms)])
    rows = {row["key"]: row["values"] for row in found["rows"]}
    assert [column["arm"] for column in found["columns"]] == list(configs)
    assert rows["schedule.kind"] == ["single", "looped", "stages"]
    assert rows["model.loops"] == [None, "3", None]
    assert rows["schedule.stages"][:2] == [None, None]
    assert json.loads(rows["schedule.stages"][2]) == [{"loops": 1, "until": 0.5}, {"loops": 2}]
    assert not {"train.steps", "task.kind", "seed"} & rows.keys()


# --- in a report -----------------------------------------------------------------------------------------------------


def test_labels_and_prefixes_tell_studies_apart():
    one, other = study(name="quickstart"), study(name="quickstart")
    assert labels([one, other], ["results", "other/results"]) == ["quickstart", "quickstart (other/results)"]
    twice = [one, other, study(name="quickstart", file="b.toml")]
    assert len(set(labels(twice, ["r", "s", "s"]))) == 3
    with pytest.raises(ValueError, match="twice"):
        labels([one, other], ["s", "s"])
    assert prefixes(["a (x/y)", "a (x-y)", "b"]) == ["a-x-y", "a-x-y-2", "b"]


def made(frames, other, arms, store):
    both = [(study(arms=arms), frames), (study(arms=arms), other)]
    report = json.loads(to_text(build(both, command="loopsweep report", stores=["results", store])))
    drawings = draw(report)
    return report, drawings, html_report(report, drawings), markdown_report(report, drawings)


def test_a_stores_name_is_text_wherever_it_stands():
    frames, arms = results(ARMS[:1], seeds=range(2), curvature=False), ARMS[:1]
    _, drawings, html, markdown = made(frames, frames, arms, " ".join(EVIL))
    assert Page(html).tags.count("script") == Page(made(frames, frames, arms, "other")[2]).tags.count("script")
    assert not {name for name, _ in Page(html).attributes if name.startswith("on")}
    assert not re.search(r"<script|<img|<svg|(?<!\\)\]\((javascript|http):", markdown)
    assert all(d.name.replace("-", "").isalnum() and d.name.isascii() for d in drawings)
    assert len({d.name for d in drawings}) == len(drawings)


def test_a_report_of_two_stores_has_the_section_its_figure_and_the_contents():
    arms = ARMS[:2]
    frames = results(arms, seeds=range(3), curvature=False)
    other = frames.with_trials(final_val_loss=frames.trials_["final_val_loss"] + SHIFT)
    report, drawings, html, markdown = made(frames, other, arms, "other")
    assert [s["name"] for s in report["studies"]] == ["quickstart", "quickstart (other)"]
    assert {row["study"] for row in report["leaderboard"]} == {"quickstart", "quickstart (other)"}
    comparisons = report["across"]["comparisons"]
    assert [one["arm"] for one in comparisons] == [arm.name for arm in arms]
    for one in comparisons:
        assert math.isclose(one["metrics"][0]["effect"], SHIFT)
    (figure,) = [d for d in drawings if d.kind == "across"]
    assert "looped: final val_loss is higher by 0.25" in figure.alt
    assert '<a href="#across">Across studies</a>' in html
    text = " ".join("".join(Page(html).text).split())
    for one in comparisons:
        assert one["sentence"] in text
    assert "![" + figure.alt[:40] in markdown
    assert "## Across studies" in markdown
