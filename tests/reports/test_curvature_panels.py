"""The panels of the curvature: what they hold is what the rows say, and nothing that failed is silent."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from core.quantities import THRESHOLDS
from reports import curvature, fans, spectra
from reports.build import build, to_text
from reports.curvature_figures import curvature_figures
from reports.figures import arm_colours, draw
from reports.panels import styled
from reports.phases import stretches
from reports.render import html_report, markdown_report
from reports.spectrum_figures import spectrum_figures
from reports.tables import Tables
from tests.reports.curved import MEASURED, NULL, SIZE, TOP, curved
from tests.reports.synthetic import ARMS, Arm, claims, results, study

NAMES = [arm.name for arm in ARMS]
WHY = "out of memory: 3 GiB <asked>"


def report_of(frames, made=(), arms=ARMS):
    return json.loads(to_text(build([(study(claims(*made, arms=arms), arms=arms), frames)], command="x")))


@pytest.fixture(scope="module")
def frames():
    return curved(results(seeds=range(4)), failed={"looped": WHY})


@pytest.fixture(scope="module")
def tables(frames):
    return Tables.read(frames)


@pytest.fixture(scope="module")
def report(frames):
    return report_of(frames)


@pytest.fixture(scope="module")
def panels(report):
    return report["studies"][0]["panels"]


@pytest.fixture(scope="module")
def drawn(report):
    return {d.name.removeprefix("quickstart-"): d for d in draw(report)}


def spectral(report):
    """The figures of spectra of a report, by name: the others take their time."""
    section = report["studies"][0]
    with styled():
        return {d.name: d for d in spectrum_figures("x", section, arm_colours(report))}


def line(series, arm="looped"):
    return next(one for one in series if one["arm"] == arm)


def of_seeds(tables, arm, value, seeds=range(4)):
    """Mean and t interval over seeds of a function of the trial id, by scipy."""
    ids = tables.trials.set_index(["arm", "seed"])["trial_id"]
    values = [value(ids[arm, seed]) for seed in seeds]
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return np.mean(values), low, high


# --- spectra ---------------------------------------------------------------------------------------------------------


def test_ranks_are_geometric_means_of_the_sizes_without_the_null_space(tables, panels):
    found = line(panels["ranks"]["series"], "single")
    assert (panels["ranks"]["step"], found["n"], found["lost"]) == (MEASURED[-1], 4, 0)
    assert found["points"][-1]["rank"] == SIZE - NULL
    assert found["eigenvalues"] == SIZE
    assert found["null"]["mean"] == pytest.approx(NULL / SIZE)
    known = spectra.read(tables)
    for point in (found["points"][0], found["points"][40], found["points"][-1]):
        logs = of_seeds(tables, "single", lambda t, p=point: math.log(known[t][3000].sizes()[-p["rank"]]))
        assert [point[k] for k in ("mean", "low", "high")] == pytest.approx([math.exp(v) for v in logs])


def test_a_failed_spectrum_leaves_n_and_is_counted_and_said(report, panels, drawn):
    found = line(panels["ranks"]["series"])
    assert (found["n"], found["lost"]) == (3, 1)
    entry = next(row for row in panels["how"] if row["quantity"] == "entropy")
    assert entry["failed"] == 1
    assert entry["failures"] == [{"reason": WHY, "arms": {"looped": 1}}]
    assert entry["measurements"] == 4 * len(NAMES) * len(MEASURED)
    assert "trials without it, left out: looped 1" in drawn["ranks"].alt
    assert f"Failed: entropy in 1 of {entry['measurements']} measurements ({WHY})" in drawn["curvature-entropy"].alt
    page, text = html_report(report, list(drawn.values())), markdown_report(report, list(drawn.values()))
    assert "1: out of memory: 3 GiB &lt;asked&gt; (looped 1)" in page
    assert "<details open>" in page
    assert "1: out of memory: 3 GiB &lt;asked&gt; (looped 1)" in text


def test_the_fan_over_training_is_of_quantiles_at_every_common_step(tables, panels):
    found = line(panels["over_training"], "single")
    assert [point["step"] for point in found["points"]] == list(MEASURED)
    assert found["kinds"] == ["exact"]
    known = spectra.read(tables)
    largest, _, _ = of_seeds(tables, "single", lambda t: known[t][0].values[-1])
    assert found["points"][0]["quantiles"][-1] == pytest.approx(largest)
    assert [point["step"] for point in line(panels["over_training"])["points"]] == list(MEASURED[:-1])  # one failed


def test_densities_by_quadrature_have_a_fan_but_no_ranks_and_no_null_space(drawn):
    found = report_of(curved(results(seeds=range(2)), kind="slq"))
    other = found["studies"][0]["panels"]
    assert (other["ranks"], other["components"]) == (None, None)
    drawing = spectral(found)["x-spectrum"]
    assert "stochastic Lanczos quadrature" in drawing.alt
    assert "not settled by quadrature" in drawing.svg
    assert "null space at the end" in drawn["spectrum"].svg


# --- the ends --------------------------------------------------------------------------------------------------------


def test_the_limit_of_stability_is_drawn_for_sgd_alone(panels, drawn):
    assert {one["optimizer"] for one in panels["fans"]} == {"adamw"}
    assert all(one["limit"] == [] for one in panels["fans"])
    assert "(2 + 2μ)/η" not in drawn["ends"].svg
    assert "see edge" in drawn["ends"].alt
    sgd = report_of(curved(results(seeds=range(2)), optimizer="sgd"))
    fan = line(sgd["studies"][0]["panels"]["fans"])
    assert fan["limit"] == [{"step": step, "value": pytest.approx((2 + 2 * 0.9) / 2e-3)} for step in MEASURED]
    drawing = spectral(sgd)["x-ends"]
    assert drawing.svg.count("(2 + 2μ)/η") >= len(NAMES)
    assert "of the limit of 1\u202f900)" in drawing.alt


def test_the_fan_of_ends_has_every_rank_from_both_ends(tables, panels):
    found = line(panels["fans"], "single")
    assert [(r["end"], r["rank"]) for r in found["ranks"]] == [
        (end, rank) for end in ("top", "bottom") for rank in range(1, TOP + 1)
    ]
    known = spectra.read(tables)
    logs = of_seeds(tables, "single", lambda t: math.log(-known[t][300].values[1]))
    got = next(p for p in found["ranks"][TOP + 1]["points"] if p["step"] == 300)
    assert [got[k] for k in ("mean", "high", "low")] == pytest.approx([-math.exp(v) for v in logs])


def test_a_fan_that_crosses_zero_is_of_plain_means(frames):
    mixed = frames.curves_.copy()
    rank = (mixed["quantity"] == "bottom_eigenvalue") & (mixed["x"] == 1)
    ids = frames.trials_.set_index(["arm", "seed"])["trial_id"]
    mixed.loc[rank, "y"] = -1.0
    mixed.loc[rank & (mixed["trial_id"] == ids["single", 2]), "y"] = 3.0
    found = line(fans.fans(Tables.read(replace(frames, curves_=mixed)), NAMES), "single")
    point = next(r for r in found["ranks"] if (r["end"], r["rank"]) == ("bottom", 1))["points"][0]
    assert point["mean"] == pytest.approx(0.0)
    assert point["low"] < 0 < point["high"]


def test_edge_has_its_line_at_one(drawn):
    assert "limit of stability" in drawn["curvature-edge"].svg


# --- curves ----------------------------------------------------------------------------------------------------------


def test_curves_are_taken_at_the_last_common_step_and_compared_seed_by_seed(tables, panels):
    force = next(entry for entry in panels["curves"] if entry["quantity"] == "cumulative_force")
    assert (force["step"], force["log"], force["paired"]["reference"]) == (MEASURED[-1], True, NAMES[0])
    x, rows = THRESHOLDS[42], tables.curves
    rows = rows[(rows["quantity"] == "cumulative_force") & (rows["step"] == MEASURED[-1]) & (rows["x"] == x)]
    y = rows.set_index("trial_id")["y"]
    point = next(p for p in line(force["series"], "shift")["points"] if p["x"] == x)
    logs = of_seeds(tables, "shift", lambda t: math.log(y[t]))
    assert [point[k] for k in ("mean", "low", "high")] == pytest.approx([math.exp(v) for v in logs])
    ids = tables.trials.set_index(["arm", "seed"])["trial_id"]
    ratios = [math.log(y[ids["shift", s]] / y[ids["single", s]]) for s in range(4)]
    point = next(p for p in line(force["paired"]["series"], "shift")["points"] if p["x"] == x)
    assert point["mean"] == pytest.approx(math.exp(np.mean(ratios)))
    assert (line(force["series"])["n"], line(force["series"])["lost"]) == (3, 1)
    assert (line(force["paired"]["series"])["n"], line(force["paired"]["series"], "shift")["n"]) == (3, 4)


def test_a_place_without_a_value_in_every_trial_is_not_drawn(panels):
    force = next(entry for entry in panels["curves"] if entry["quantity"] == "cumulative_force")
    below = next(entry for entry in panels["curves"] if entry["quantity"] == "eigenvalues_below")
    first = line(force["series"], "single")["points"][0]
    assert first["x"] > THRESHOLDS[20]  # no eigenvalue is so small: a force of 0 has no logarithm
    assert line(below["series"], "single")["points"][0]["x"] == first["x"]


def test_the_axis_turns_linear_at_the_middle_threshold_that_claims_name():
    def made(*thresholds):
        return claims(
            *({"metric": f"force_at({t})", "arm": "looped", "value": 1, "expect": "higher"} for t in thresholds)
        )

    assert curvature.threshold(made(1e-2, 1e-4, 1e-3)) == 1e-3
    assert curvature.threshold(made(1e-2)) == 1e-2
    assert curvature.threshold(()) == curvature.TAU


# --- phases, tables, figures -----------------------------------------------------------------------------------------


def test_phases_are_those_of_the_rule_trial_by_trial(tables, panels):
    single, looped, shift, _ = panels["phases"]
    assert [one["in_order"] for one in (single, looped, shift)] == [0, 4, 4]
    assert (looped["n"], looped["trials"], looped["lost"]) == (4, 4, 0)
    assert [interval["from"] for interval in looped["intervals"]] == list(MEASURED[:-2])  # one lacks its last step
    first, last = shift["intervals"][0], shift["intervals"][-1]
    assert (first["phase"], last["phase"]) == ("collapse", "stabilization")
    entropy = tables.curvature.pivot_table(index="trial_id", columns="step", values="entropy")
    trial = tables.trials.set_index(["arm", "seed"])["trial_id"]["shift", 0]
    assert stretches(entropy.loc[trial].tolist())[0].phase == "collapse"
    dip = of_seeds(tables, "shift", lambda t: entropy.loc[t].iloc[0] - entropy.loc[t].min())
    assert [shift["dip"][k] for k in ("mean", "low", "high")] == pytest.approx(list(dip))


def test_every_panel_is_drawn_with_its_n_and_its_interval(drawn):
    wanted = {"ranks", "spectrum", "ends", "components-share-smaller", "components-more-below"}
    wanted |= {"parts-gradient-alignment", "parts-loop-parts", "curvature-entropy", "curvature-hill", "curvature-edge"}
    curves = ("kappa-valley", "cumulative-force", "eigenvalues-below", "river-share", "valley-hopping")
    wanted |= {f"valley-{name}{suffix}" for name in curves for suffix in ("", "-paired")}
    assert wanted <= set(drawn)
    for name in wanted:
        assert "seed" in drawn[name].alt
        assert "t interval" in drawn[name].alt or name == "spectrum"  # a fan of eigenvalues, not an interval
    assert "collapse 0 to 900" in drawn["curvature-entropy"].alt
    assert "in order in 4 of 4 trials" in drawn["curvature-entropy"].alt


def test_blocks_and_parts_stand_in_a_table_and_not_in_figures(panels, report, drawn):
    columns = [row["column"] for row in panels["at_last"]]
    assert columns[0] == "null_count"
    assert {"block_lambda_max_query", "same_loop_trace", "cross_loop_trace"} <= set(columns)
    assert not any("block" in name for name in drawn)
    page = html_report(report, list(drawn.values()))
    assert '<th scope="row">block_lambda_max_query</th>' in page


def test_equal_rows_give_equal_bytes(frames, report, drawn):
    shuffled = replace(
        frames,
        curvature_=frames.curvature_.sample(frac=1, random_state=0),
        curves_=frames.curves_.sample(frac=1, random_state=0),
        spectra_=frames.spectra_.sample(frac=1, random_state=0),
    )
    again = report_of(shuffled)
    assert to_text(again) == to_text(report)


def test_few_rows_one_seed_and_none_are_drawn_too():
    one = curved(results(seeds=range(1)), measured=MEASURED[-1:])
    found = report_of(one)
    assert {"x-ranks", "x-spectrum", "x-ends"} <= set(spectral(found))
    with styled():
        section, colours = found["studies"][0], arm_colours(found)
        assert {d.kind for d in curvature_figures("x", section, colours)} == {"curvature", "parts"}
    assert section["panels"]["phases"] == []
    none = report_of(results(seeds=range(2), curvature=False))["studies"][0]["panels"]
    assert [none[k] for k in ("ranks", "over_training", "components", "fans", "curves")] == [None, [], None, [], []]


def test_many_settings_have_their_mean_and_their_best():
    arms = [Arm(name="a", axes={"model.loops": [2, 3, 4, 5, 6]}), Arm(name="b", axes={"model.loops": [2, 3, 4, 5, 6]})]
    found = report_of(curved(results(arms, seeds=range(2))), arms=arms)
    ranks = found["studies"][0]["panels"]["ranks"]["series"]
    assert [(one["arm"], one["settings"], one["best"], one["n"]) for one in ranks] == [
        ("a", 5, False, 2), ("a", 5, True, 2), ("b", 5, False, 2), ("b", 5, True, 2),
    ]  # fmt: skip
    assert {"x-ranks", "x-spectrum", "x-ends"} <= set(spectral(found))
