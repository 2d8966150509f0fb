"""Loops at test time: means over seeds at each number of loops, the loops of training marked, halting beside them."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from reports.accuracy_figures import _at_loops, _on_line
from reports.build import build, to_text
from reports.figures import draw
from reports.render import html_report, markdown_report
from tests.reports.algorithmic import on_lengths, over_loops
from tests.reports.synthetic import ARMS, STEPS, Arm, results, study

SVG = "{http://www.w3.org/2000/svg}"


def report_of(frames, arms=ARMS):
    return json.loads(to_text(build([(study(arms=arms), frames)], command="x")))


@pytest.fixture(scope="module")
def frames():
    return over_loops(on_lengths(results(seeds=range(3), curvature=False)), confident=True)


@pytest.fixture(scope="module")
def report(frames):
    return report_of(frames)


def test_points_are_means_over_seeds_at_the_last_step(frames, report):
    found = report["studies"][0]["loop_counts"]
    assert [(e["metric"], e["step"]) for e in found] == [
        (name, STEPS[-1]) for name in ("val_accuracy", "val_exact", "val_loss")
    ]
    rows = frames.curves_.merge(frames.trials_[["trial_id", "arm"]], on="trial_id")
    for series in found[1]["series"]:
        assert [p["x"] for p in series["points"]] == [1, 2, 4, 8]
        own = rows[(rows["arm"] == series["arm"]) & (rows["quantity"] == "val_exact_loops") & (rows["x"] == 4)]
        assert series["points"][2]["mean"] == pytest.approx(own["y"].mean())
        assert series["points"][2]["n"] == 3
    assert {s["arm"]: s["trained_loops"] for s in found[1]["series"]} == {
        "single": 1,
        "looped": 3,
        "shift": 3,
        "depth-matched": 1,
    }


def test_what_other_loops_give_is_no_panel_of_the_curvature(report):
    (section,) = report["studies"]
    assert section["curvature"] == []
    assert section["panels"]["curves"] == []
    kinds = {d.kind for d in draw(report)}
    assert "loops" in kinds
    assert not kinds & {"curvature", "valleys"}


def test_halting_by_confidence_stands_beside_the_lines_where_every_trial_has_it(frames, report):
    for entry in report["studies"][0]["loop_counts"]:
        for series in entry["series"]:
            assert (series["confident"] is None) == (entry["metric"] == "val_loss")
    looped = report["studies"][0]["loop_counts"][0]["series"][1]
    assert looped["confident"]["mean"] == pytest.approx(0.97)
    cut = frames.curvature_.drop(frames.curvature_.index[0])
    object.__setattr__(other := over_loops(frames, confident=True), "curvature_", cut)
    lost = [s["confident"] is None for s in report_of(other)["studies"][0]["loop_counts"][0]["series"]]
    assert sum(lost) == 1


def test_trials_without_the_measurement_are_counted(frames):
    first = frames.trials_.loc[frames.trials_["arm"] == "looped", "trial_id"].iloc[0]
    other = over_loops(frames)
    object.__setattr__(other, "curves_", other.curves_[other.curves_["trial_id"] != first])
    found = report_of(other)
    looped = next(s for s in found["studies"][0]["loop_counts"][1]["series"] if s["arm"] == "looped")
    assert (looped["n"], looped["lost"]) == (2, 1)
    exact = next(d for d in draw(found) if d.name.endswith("loops-val-exact"))
    assert "trials without it, left out: looped 1" in exact.alt


def test_the_figure_says_where_each_arm_is_best_and_marks_the_loops_of_training(report):
    exact = next(d for d in draw(report) if d.name.endswith("loops-val-exact"))
    means = {s["arm"]: [p["mean"] for p in s["points"]] for s in report["studies"][0]["loop_counts"][1]["series"]}
    assert f"single {means['single'][0]:.3f} at 1 (trained, the best), {means['single'][3]:.3f} at 8" in exact.alt
    assert f"looped (trained with 3) {means['looped'][2]:.3f} at 4 (the best), " in exact.alt
    texts = {t.text for t in ElementTree.fromstring(exact.svg).iter(f"{SVG}text")}
    assert {"1", "2", "4", "8", "loops at test time"} <= texts


def test_of_equal_numbers_of_loops_those_of_training_are_the_best():
    line = {"arm": "a", "setting": {}, "settings": 1, "best": False, "trained_loops": 2}
    flat = line | {"points": [{"x": float(x), "mean": 0.5} for x in (1, 2, 4)]}
    assert _at_loops(flat, lower=False) == _at_loops(flat, lower=True) == "a 0.500 at 2 (trained, the best), 0.500 at 4"


def test_many_tasks_have_exact_match_alone():
    arms = [Arm(name="a", axes={"task.kind": ["parity", "copy", "addition", "binary_sum"]})]
    found = report_of(over_loops(on_lengths(results(arms, seeds=range(2), curvature=False))), arms)
    assert len(found["studies"][0]["loop_counts"]) == 12
    names = [d.name for d in draw(found) if d.kind == "loops"]
    assert len(names) == 4
    assert all(name.endswith("loops-val-exact") for name in names)


def test_what_has_no_number_is_said_with_its_reason_and_under_its_own_heading(frames):
    rows = frames.curvature_.copy()
    failed = {"test_loops": "forward passes failed: no output is finite"}
    rows["method"] = [failed] * len(rows)
    object.__setattr__(other := over_loops(frames, confident=True), "curvature_", rows)
    found = report_of(other)
    drawings = draw(found)
    for form in (html_report(found, drawings), markdown_report(found, drawings).replace("\\", "")):
        assert "No number for test_loops in 12 of 12 measurements: no output is finite." in form
        assert "How it was measured" not in form
        assert ">Curvature<" not in form
        assert "### Curvature" not in form


def test_the_mark_lies_on_the_line_between_measured_loops_and_nowhere_outside():
    line = {"points": [{"x": 2.0, "mean": 0.4}, {"x": 4.0, "mean": 0.8}]}
    assert _on_line(line | {"trained_loops": 3}, float) == (3, pytest.approx(0.6))
    assert _on_line(line | {"trained_loops": 4}, float) == (4, pytest.approx(0.8))
    assert _on_line(line | {"trained_loops": 5}, float) is None
    assert _on_line(line | {"trained_loops": None}, float) is None


@pytest.mark.parametrize("name", ["a | b <b>x</b>", '"><svg onload=alert(1)>', "[x](javascript:alert(1))"])
def test_names_of_arms_are_texts_in_all_panels(name):
    arms = [Arm(name=name, axes={"model.depth": [1, 2], "model.loops": [1, 2]}), Arm(name="b", flops=5000)]
    found = report_of(over_loops(on_lengths(results(arms, seeds=range(2), curvature=False))), arms)
    drawings = draw(found)
    assert {"lengths", "loops", "maps", "cost"} <= {d.kind for d in drawings}
    page, markdown = html_report(found, drawings), markdown_report(found, drawings)
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.S)  # ours, of the explorer
    assert not re.findall(r"<(?:b|script|img)[\s>]|<[^>]* onload=", shown)
    assert shown.count("<svg") == len(drawings)
    assert "<b>" not in markdown
    assert "<svg" not in markdown
    assert all(target.startswith("figures/") for target in re.findall(r"(?<!\\)\]\(([^)]*)", markdown))
    for table in [block for block in markdown.split("\n\n") if block.startswith("|")]:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
