"""``report.json``: what it holds, that its numbers are those of the tables, and that equal rows give equal bytes."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from reports.build import build, to_text
from tests.reports.synthetic import ARMS, CLAIMS, GRID, Arm, claims, results, study

COMMAND = "loopsweep report quickstart"


def built(frames, made=CLAIMS, arms=ARMS, **changed):
    return build([(study(claims(*made, arms=arms), arms=arms, **changed), frames)], command=COMMAND)


def test_the_contracts_fields_are_there():
    report = json.loads(to_text(built(results())))
    wanted = {"text", "metric", "arm", "against", "n", "scale", "effect", "low", "high", "p", "p_holm", "verdict"}
    assert len(report["claims"]) == len(CLAIMS)
    for claim in report["claims"]:
        assert wanted <= claim.keys()
    assert [row["arm"] for row in report["leaderboard"]] == ["depth-matched", "looped", "shift", "single"]
    assert report["provenance"]["command"] == COMMAND


def test_the_leaderboards_numbers_are_those_of_the_tables():
    frames = results()
    rows = frames.trials()
    for row in built(frames)["leaderboard"]:
        values = rows.loc[rows["arm"] == row["arm"], "final_val_loss_low_ic"].to_numpy()
        summary = row["metrics"]["final_val_loss_low_ic"]
        low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert [summary["mean"], summary["low"], summary["high"]] == pytest.approx([values.mean(), low, high])
        assert (summary["n"], row["seeds"], row["parameters"]) == (5, 5, 5120)
        assert row["flops_alone"] == rows.loc[rows["arm"] == row["arm"], "flops_alone"].iloc[0]


def test_the_curves_numbers_are_those_of_the_tables():
    frames = results()
    metrics = frames.metrics().merge(frames.trials()[["trial_id", "arm"]], on="trial_id")
    (section,) = built(frames)["studies"]
    assert [c["metric"] for c in section["curves"]] == ["val_loss", "val_loss_low_ic", "val_loss_high_ic"]
    curve = section["curves"][1]
    for series in curve["series"]:
        rows = metrics[metrics["arm"] == series["arm"]].groupby("step")["val_loss_low_ic"]
        np.testing.assert_allclose([p["mean"] for p in series["points"]], rows.mean(), rtol=1e-12)
        half = scipy_stats.t.ppf(0.975, 4) * rows.std() / math.sqrt(5)
        np.testing.assert_allclose([p["high"] for p in series["points"]], rows.mean() + half, rtol=1e-9)
        assert series["n"] == 5
    assert curve["floor"] == pytest.approx(metrics["bayes_loss_low_ic"].mean())


def test_paired_curves_take_the_difference_within_a_seed():
    frames = results(ended={("single", 3): "diverged"})
    metrics = frames.metrics().merge(frames.trials()[["trial_id", "arm", "seed"]], on="trial_id")
    wide = metrics.pivot(index=["seed", "step"], columns="arm", values="val_loss_low_ic")
    curve = built(frames)["studies"][0]["curves"][1]
    assert curve["paired"]["reference"] == "single"  # which the claims compare with most often
    series = next(s for s in curve["paired"]["series"] if s["arm"] == "looped")
    assert [s["arm"] for s in curve["paired"]["series"]] == ["looped", "shift", "depth-matched"]
    whole = (wide["looped"] - wide["single"]).drop(3).groupby("step")  # seed 3 has no partner
    assert (series["n"], len(series["points"])) == (4, 31)
    np.testing.assert_allclose([p["mean"] for p in series["points"]], whole.mean(), rtol=1e-9)
    half = scipy_stats.t.ppf(0.975, 3) * whole.std() / math.sqrt(4)
    np.testing.assert_allclose([p["high"] for p in series["points"]], whole.mean() + half, rtol=1e-9)
    last = next(s for s in curve["series"] if s["arm"] == "looped")["points"][-1]
    final = series["points"][-1]
    assert final["high"] - final["low"] < (last["high"] - last["low"]) / 2  # the language of a seed is in both arms


def test_paired_curves_compare_equal_settings_where_an_axis_acts_on_both_arms():
    frames = results(GRID, seeds=range(3))
    made = [{"metric": "final_val_loss", "arm": "shift", "against": "looped", "expect": "differs"}]
    (study,) = built(frames, made=made, arms=GRID)["studies"]
    paired = study["curves"][0]["paired"]
    assert paired["reference"] == "looped"
    trials = frames.trials()
    final = trials.groupby(["arm", "seed", "model.loops"])["final_val_loss"].mean()
    want = (final["shift"] - final["looped"]).groupby("seed").mean().mean()
    shift = next(s for s in paired["series"] if s["arm"] == "shift")
    assert shift["points"][-1]["mean"] == pytest.approx(want)


def test_curvature_on_a_log_scale_has_geometric_means():
    frames = results()
    rows = frames.curvature().merge(frames.trials()[["trial_id", "arm"]], on="trial_id")
    (curve,) = built(frames)["studies"][0]["curvature"]
    for series in curve["series"]:
        logs = np.log(rows[rows["arm"] == series["arm"]].set_index("step")["lambda_max"])
        np.testing.assert_allclose([p["mean"] for p in series["points"]], np.exp(logs.groupby("step").mean()))
        assert series["log"]


def test_equal_results_give_equal_bytes_whatever_the_order_of_rows_and_the_execution():
    frames, other = results(), results()
    for name in ("trials_", "metrics_", "curvature_", "events_"):
        shuffled = getattr(other, name).sample(frac=1, random_state=3).reset_index(drop=True)
        object.__setattr__(other, name, shuffled)
    executed = {"attempts": 3, "pack_size": 1, "spent_s": 9.9, "alone_s": 7.7, "flops_spent": 5, "error": "late"}
    other = other.with_trials(numerics_class="cpu AVX512", provenance='{"commit": "other"}', **executed)
    one, two = built(frames), built(other)
    assert one["provenance"] != two["provenance"]
    assert to_text(one | {"provenance": None}) == to_text(two | {"provenance": None})
    assert to_text(built(results())) == to_text(one)


def test_several_settings_of_an_arm_stand_apart_in_the_leaderboard_and_along_the_axes():
    frames = results(GRID, seeds=range(3))
    report = built(frames, made=[], arms=GRID)
    shift = [row["setting"] for row in report["leaderboard"] if row["arm"] == "shift"]
    assert sorted(map(str, shift)) == sorted(
        str({"model.loops": loops, "schedule.switch": switch}) for loops in (2, 3, 4) for switch in (0.1, 0.5, 0.9)
    )
    (section,) = report["studies"]
    lines = [(s["arm"], s["settings"], s["best"]) for s in section["curves"][0]["series"]]
    assert lines == [
        ("single", 1, False),
        *(("looped", 3, best) for best in (False, True)),
        *(("shift", 9, best) for best in (False, True)),
    ]
    entry = next(e for e in section["along_axes"] if (e["axis"], e["metric"]) == ("schedule.switch", "val_loss"))
    rows = frames.trials()
    rows = rows[(rows["arm"] == "shift") & (rows["schedule.switch"] == 0.5)]
    (series,) = entry["series"]
    assert [p["x"] for p in series["points"]] == [0.1, 0.5, 0.9]
    assert series["points"][1]["mean"] == pytest.approx(rows["final_val_loss"].mean())
    assert series["points"][1]["n"] == 3
    assert [r["arm"] for r in entry["references"]] == ["single", "looped"]


def test_failures_and_divergences_have_their_reasons():
    frames = results(ended={("single", 3): "diverged", ("shift", 1): "failed"})
    report = built(frames)
    (section,) = report["studies"]
    assert section["counts"] == {"trials": 20, "diverged": 1, "failed": 1, "ok": 18}
    found = {(f["arm"], f["seed"]): f for f in section["failures"]}
    assert (found["single", 3]["step"], found["single", 3]["detail"]) == (742, "loss is not finite")
    failed = found["shift", 1]["trial_id"]
    assert report["provenance"]["studies"][0]["errors"] == {failed: "worker died: killed by signal 9"}
    row = next(r for r in report["leaderboard"] if r["arm"] == "single")
    assert (row["seeds"], row["statuses"], row["metrics"]["final_val_loss"]["n"]) == (4, {"diverged": 1, "ok": 4}, 4)


def test_different_numerics_classes_and_budgets_and_missing_seeds_are_said():
    frames = results()
    classes = np.where(frames.trials_["arm"] == "shift", "cuda sm_90", "cpu AVX2")
    mixed = built(frames.with_trials(numerics_class=classes))["provenance"]["studies"][0]
    assert "shift: cuda sm_90" in mixed["numerics_warning"]
    assert built(frames)["provenance"]["studies"][0]["numerics_warning"] is None
    half = frames.without(~((frames.trials_["arm"] == "single") & (frames.trials_["seed"] > 2)))
    single = set(half.trials_.loc[half.trials_["arm"] == "single", "trial_id"])
    half.metrics_.loc[half.metrics_["trial_id"].isin(single), "tokens"] //= 2
    said = " ".join(built(half)["studies"][0]["warnings"])
    assert "single lacks 2 of 5 seeds (3, 4)" in said
    assert "different numbers of tokens" in said


def test_trials_that_have_not_run_are_counted_and_are_no_failures():
    frames = results(ended={("single", 3): "failed"})
    waiting = (frames.trials_["arm"] == "shift") & (frames.trials_["seed"] == 2)
    frames = frames.with_trials(status=frames.trials_["status"].mask(waiting))
    report = built(frames)
    (section,) = report["studies"]
    assert section["counts"] == {"trials": 20, "failed": 1, "not run": 1, "ok": 18}
    assert "1 of 20 trials have not run yet: the study is not complete." in section["warnings"]
    assert [f["status"] for f in section["failures"]] == ["failed"]
    row = next(r for r in report["leaderboard"] if r["arm"] == "shift")
    assert (row["seeds"], row["statuses"]) == (4, {"not run": 1, "ok": 4})
    assert report["claims"][1]["seeds"] == [0, 1, 3, 4]


def test_what_the_tree_saved_counts_each_trial_once():
    frames = results()
    looped = frames.trials_[frames.trials_["arm"] == "looped"].assign(arm="single")
    object.__setattr__(frames, "trials_", pd.concat([frames.trials_, looped], ignore_index=True))
    execution = built(results())["provenance"]["studies"][0]
    again = built(frames)["provenance"]["studies"][0]
    assert again["flops_alone"] == execution["flops_alone"]
    assert execution["saving"] == pytest.approx(execution["flops_alone"] / execution["flops_spent"])
    assert execution["saving"] > 1


def test_what_the_tree_saved_does_not_count_trials_that_have_not_ended():
    frames = results()
    whole = built(frames)["provenance"]["studies"][0]
    waiting = frames.trials_["seed"] == 2
    status, spent = frames.trials_["status"].mask(waiting), frames.trials_["flops_spent"].mask(waiting)
    half = built(frames.with_trials(status=status, flops_spent=spent))["provenance"]["studies"][0]
    assert half["flops_alone"] == frames.trials_.loc[~waiting, "flops_alone"].sum()
    assert half["saving"] == pytest.approx(whole["saving"])


def test_a_study_without_rows_is_reported_as_empty():
    frames = results()
    report = built(frames.without(frames.trials_["seed"] > 99))
    assert {claim["verdict"] for claim in report["claims"]} == {"undecided"}
    assert report["leaderboard"] == []
    assert report["studies"][0]["counts"] == {"trials": 0}
    json.loads(to_text(report))


def test_several_studies_share_one_leaderboard():
    other = [Arm(name="looped", low=0.5), Arm(name="tiny", low=0.9)]
    report = build(
        [
            (study(claims(*CLAIMS)), results()),
            (study(arms=other, name="second"), results(other, study="second")),
        ],
        command=COMMAND,
    )
    assert [s["name"] for s in report["studies"]] == ["quickstart", "second"]
    means = [row["metrics"]["final_val_loss"]["mean"] for row in report["leaderboard"]]
    assert means == sorted(means)
    assert {row["study"] for row in report["leaderboard"]} == {"quickstart", "second"}
