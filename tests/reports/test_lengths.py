"""Accuracy against length: the numbers of the tables, the range of training, and few figures for many lengths."""

from __future__ import annotations

import json
import re

import pytest
from scipy import stats as scipy_stats

from reports.build import build, to_text
from reports.captions import wrapped
from reports.figures import arm_colours, draw
from reports.render import html_report, markdown_report
from tests.reports.algorithmic import on_lengths
from tests.reports.synthetic import ARMS, Arm, results, study

KINDS = ["parity", "copy", "p_hop"]


def report_of(frames, arms=ARMS):
    return json.loads(to_text(build([(study(arms=arms), frames)], command="x")))


@pytest.fixture(scope="module")
def frames():
    return on_lengths(results(curvature=False))


@pytest.fixture(scope="module")
def report(frames):
    return report_of(frames)


def of_metric(entry, metric):
    return next(one for one in entry["metrics"] if one["metric"] == metric)


def test_points_are_means_over_seeds_at_each_length(frames, report):
    (entry,) = report["studies"][0]["lengths"]
    assert (entry["task"], entry["train_length"]) == ("", [1, 20])
    assert [one["metric"] for one in entry["metrics"]] == ["val_accuracy", "val_exact"]
    for metric in entry["metrics"]:
        for series in metric["series"]:
            assert [p["x"] for p in series["points"]] == list(range(1, 41))
            rows = frames.trials_[frames.trials_["arm"] == series["arm"]]
            values = rows[f"final_{metric['metric']}_len_25"].to_numpy()
            low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
            point = series["points"][24]
            assert [point[k] for k in ("mean", "low", "high")] == pytest.approx([values.mean(), low, high])
            assert (point["n"], series["n"]) == (5, 5)


def test_settings_are_averaged_within_a_seed():
    arms = [Arm(name="looped", axes={"model.loops": list(range(2, 12))})]
    many = on_lengths(results(arms, seeds=range(3), curvature=False))
    rows = many.trials_
    rows["final_val_exact_len_25"] = rows["model.loops"] / 20 + rows["seed"] / 100
    (entry,) = report_of(many, arms)["studies"][0]["lengths"]
    mean, best = of_metric(entry, "val_exact")["series"]
    assert (mean["settings"], mean["best"], best["best"]) == (10, False, True)
    assert mean["points"][24]["n"] == 3
    assert mean["points"][24]["mean"] == pytest.approx(6.5 / 20 + 0.01)
    half = mean["points"][24]["high"] - mean["points"][24]["mean"]
    assert half == pytest.approx(scipy_stats.t.ppf(0.975, 2) * 0.01 / 3**0.5)


def test_the_table_has_the_means_that_claims_may_name(frames, report):
    (entry,) = report["studies"][0]["lengths"]
    for row in entry["rows"]:
        rows = frames.trials_[frames.trials_["arm"] == row["arm"]]
        for name in ("val_accuracy_trained", "val_accuracy_longer", "val_exact_trained", "val_exact_longer"):
            assert row["means"][name]["mean"] == pytest.approx(rows[f"final_{name}"].mean())
    drawings = draw(report)
    for form in (html_report(report, drawings), markdown_report(report, drawings)):
        for row in entry["rows"]:
            assert f"{row['means']['val_exact_longer']['mean']:.3f}" in form


def test_a_length_that_a_trial_lacks_leaves_its_line_alone(frames):
    trials = frames.trials()
    first = trials[trials["arm"] == "looped"].index[0]
    trials.loc[first, "final_val_exact_len_25"] = None
    cut = frames.with_trials(final_val_exact_len_25=trials["final_val_exact_len_25"])
    (entry,) = report_of(cut)["studies"][0]["lengths"]
    lengths = {s["arm"]: [p["x"] for p in s["points"]] for s in of_metric(entry, "val_exact")["series"]}
    assert len(lengths.pop("looped")) == 39
    assert all(len(own) == 40 for own in lengths.values())


def test_forty_lengths_are_two_figures_and_no_columns_elsewhere(report):
    drawings = draw(report)
    assert [d.kind for d in drawings] == [*["curves"] * 6, "lengths", "lengths", "cost"]
    (section,) = report["studies"]
    assert [c["metric"] for c in section["curves"]] == ["val_loss", "val_loss_trained", "val_loss_longer"]
    for row in report["leaderboard"]:
        assert not [name for name in row["metrics"] if "_len_" in name]
        assert row["metrics"]["final_val_exact_longer"]["n"] == 5
    html = html_report(report, drawings)
    start = html.index('<table class="board">')
    board = html[start : html.index("Learning curves", start)]
    heads = re.findall(r'<th scope="col" class="n">(\w+)<small>(\w*)</small>', board)
    assert heads == [
        ("val_loss", ""),
        ("val_accuracy", ""),
        *(("val_exact", span) for span in ("", "trained", "longer")),
    ]


def test_the_figure_says_what_was_found_in_the_arms_colours(report):
    exact = next(d for d in draw(report) if d.name.endswith("length-val-exact"))
    assert "trained on lengths 1 to 20 (shaded)" in exact.alt
    (entry,) = report["studies"][0]["lengths"]
    row = next(r for r in entry["rows"] if r["arm"] == "looped")["means"]
    assert f"looped {row['val_exact_trained']['mean']:.3f} → {row['val_exact_longer']['mean']:.3f}" in exact.alt
    drawn = exact.svg.partition("</style>")[2]
    assert all(colour in drawn for colour in arm_colours(report).values())
    assert [d.svg for d in draw(report) if d.kind == "lengths"][1] == exact.svg


def test_ranges_of_training_that_differ_are_marked_on_each_line():
    arms = [Arm(name="a"), Arm(name="b")]
    other = on_lengths(results(arms, seeds=range(2), curvature=False), train={"a": (1, 10), "b": (1, 20)})
    report = report_of(other, arms)
    (entry,) = report["studies"][0]["lengths"]
    assert entry["train_length"] is None
    assert [s["train_length"] for s in of_metric(entry, "val_exact")["series"]] == [[1, 10], [1, 20]]
    exact = next(d for d in draw(report) if d.name.endswith("length-val-exact"))
    assert "a on 1 to 10, b on 1 to 20" in exact.alt
    assert "shaded" not in exact.alt
    arms = [Arm(name="a", axes={"task.train_length": [f"[1, {n}]" for n in range(10, 20)]})]
    wide = results(arms, seeds=range(2), curvature=False)
    (entry,) = report_of(on_lengths(wide), arms)["studies"][0]["lengths"]
    mean, best = entry["rows"]
    assert mean["train_length"] is None
    assert json.loads(best["setting"]["task.train_length"]) == best["train_length"]


def test_each_kind_of_task_has_its_figures_curves_and_rows():
    arms = [Arm(name=arm.name, loops=arm.loops, axes={"task.kind": KINDS}) for arm in ARMS]
    report = report_of(on_lengths(results(arms, seeds=range(2), curvature=False)), arms)
    (section,) = report["studies"]
    assert [entry["task"] for entry in section["lengths"]] == sorted(KINDS)
    assert all([r["arm"] for r in entry["rows"]] == [a.name for a in arms] for entry in section["lengths"])
    assert {s["settings"] for curve in section["curves"] for s in curve["series"]} == {1}
    assert {c["task"] for c in section["curves"]} == set(KINDS)
    assert {(e["axis"], e["task"]) for e in section["along_axes"]} == {("task.kind", "")}
    drawings = draw(report)
    names = [d.name for d in drawings]
    assert len(names) == len(set(names))
    assert "quickstart-task3-parity-length-val-exact" in names
    assert sum(d.kind == "lengths" for d in drawings) == 6
    assert wrapped("binary_multiplication, hops = 16: longer lengths, seed by seed").count("\n") == 1
    markdown = markdown_report(report, drawings)
    rows = [line for line in markdown.splitlines() if line.startswith("| p\\_hop | looped | 2 |")]
    assert len(rows) == 1


def test_without_lengths_there_is_no_heading():
    report = report_of(results(seeds=range(2), curvature=False))
    drawings = draw(report)
    assert report["studies"][0]["lengths"] == []
    for form in (html_report(report, drawings), markdown_report(report, drawings)):
        assert "against length" not in form
        assert "Loops at test time" not in form
        assert "Maps of two axes" not in form
        assert "val_exact" not in form.replace("\\", "")
