"""Cost against loss: a point a setting, and the front of those that no other beats."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from reports.build import build, to_text
from reports.figures import draw
from reports.front import costs
from reports.render import html_report, markdown_report
from reports.tables import Tables
from tests.reports.algorithmic import on_lengths
from tests.reports.synthetic import ARMS, Arm, results, study


def report_of(frames, arms=ARMS):
    return json.loads(to_text(build([(study(arms=arms), frames)], command="x")))


def priced(seed, *, levels):
    """An arm of 40 settings with losses and costs on so many levels, so that some are equal."""
    arms = [Arm(name="a", axes={"train.lr": [i / 100 for i in range(1, 41)]})]
    frames = results(arms, seeds=range(2), curvature=False)
    random = np.random.default_rng(seed)
    place = (frames.trials_["train.lr"] * 100).round().astype(int) - 1
    loss, flops = random.integers(1, levels, 40) / levels, random.integers(1, levels, 40) * 1000
    return frames.with_trials(final_val_loss=loss[place], flops_alone=flops[place])


@pytest.mark.parametrize(("seed", "levels"), [(0, 10), (1, 1000), (2, 4)])
def test_on_the_front_are_exactly_the_settings_that_no_other_beats(seed, levels):
    (entry,) = costs(Tables.read(priced(seed, levels=levels)), ["a"])
    both = [(p["flops_alone"], p["loss"]["mean"]) for p in entry["points"]]
    beaten = [any(f <= flops and v <= loss and (f, v) != (flops, loss) for f, v in both) for flops, loss in both]
    assert [p["front"] for p in entry["points"]] == [not one for one in beaten]
    assert both == sorted(both)
    assert any(beaten)


def test_settings_of_fewer_seeds_are_on_no_front():
    arms = [Arm(name=name, flops=flops) for name, flops in (("a", 1000), ("b", 2000), ("c", 3000), ("d", 4000))]
    frames = results(arms, seeds=range(3), curvature=False, ended={("b", 1): "diverged"})
    loss = frames.trials_["arm"].map({"a": 1.0, "b": 0.1, "c": 0.5, "d": 0.7})
    (entry,) = costs(Tables.read(frames.with_trials(final_val_loss=loss)), [arm.name for arm in arms])
    assert [(p["arm"], p["front"]) for p in entry["points"]] == [("a", True), ("b", False), ("c", True), ("d", False)]


def test_a_dear_setting_is_on_the_front_of_three_where_none_is_as_flat():
    arms = [Arm(name=name, flops=flops) for name, flops in (("a", 1000), ("b", 2000), ("c", 3000), ("d", 4000))]
    frames = results(arms, seeds=range(3))
    names = dict(zip(frames.trials_["trial_id"], frames.trials_["arm"], strict=True))
    loss = frames.trials_["arm"].map({"a": 1.0, "b": 0.5, "c": 0.7, "d": 0.6})
    sharp = frames.curvature_["trial_id"].map(names).map({"a": 40.0, "b": 20.0, "c": 5.0, "d": 30.0})
    earlier = frames.curvature_["step"] < 3000
    frames = replace(frames, curvature_=frames.curvature_.assign(lambda_max=sharp.where(~earlier, 0.1)))
    report = report_of(frames.with_trials(final_val_loss=loss), arms)
    (entry,) = report["studies"][0]["costs"]
    assert [(p["arm"], p["front"], p["flat_front"]) for p in entry["points"]] == [
        ("a", True, True),
        ("b", True, True),
        ("c", False, True),
        ("d", False, False),
    ]
    assert [p["sharpness"]["mean"] for p in entry["points"]] == pytest.approx([40, 20, 5, 30])
    drawings = draw(report)
    figure = next(d for d in drawings if d.name == "quickstart-sharpness")
    assert "flattest is c, λ_max 5.00" in figure.alt
    assert "3 of 4 settings: a, b, c." in figure.alt
    assert "<td>flat</td>" in html_report(report, drawings)
    assert "| 5.00 | flat |" in markdown_report(report, drawings)


def test_two_costs_make_no_front_and_no_table():
    arms = [Arm(name="a", flops=1000), Arm(name="b", flops=2000), Arm(name="c", flops=2000)]
    report = report_of(results(arms, seeds=range(2), curvature=False), arms)
    (entry,) = report["studies"][0]["costs"]
    assert not entry["fronted"]
    drawings = draw(report)
    (cost,) = [d for d in drawings if d.kind == "cost"]
    assert "front" not in cost.alt
    for form in (html_report(report, drawings), markdown_report(report, drawings)):
        assert "Pareto" not in form


def test_the_front_is_drawn_said_and_tabled():
    report = report_of(results(curvature=False))
    (entry,) = report["studies"][0]["costs"]
    front = [p for p in entry["points"] if p["front"]]
    assert [p["arm"] for p in entry["points"]] == ["single", "shift", "looped", "depth-matched"]
    drawings = draw(report)
    (cost,) = [d for d in drawings if d.kind == "cost"]
    assert f"On the Pareto front (the line): {len(front)} of 4 settings: single, 1.1" in cost.alt
    markdown = markdown_report(report, drawings)
    table = markdown[markdown.index("The Pareto front") : markdown.index("time alone")]
    assert table.count("\n| ") == 1 + len(front) + 1  # with its head, and that of the table after it
    assert "The Pareto front</summary>" in html_report(report, drawings)


def test_tasks_have_fronts_of_their_own():
    arms = [Arm(name=arm.name, flops=arm.flops, axes={"task.kind": ["parity", "copy"]}) for arm in ARMS]
    frames = on_lengths(results(arms, seeds=range(2), curvature=False))
    easy = frames.trials_["task.kind"] == "copy"
    frames = frames.with_trials(final_val_loss=frames.trials_["final_val_loss"] - 0.8 * easy)
    report = report_of(frames, arms)
    both = report["studies"][0]["costs"]
    assert [entry["task"] for entry in both] == ["copy", "parity"]
    assert all(any(p["front"] for p in entry["points"]) for entry in both)
    assert all(p["setting"] == {} for entry in both for p in entry["points"])
    assert sum(d.kind == "cost" for d in draw(report)) == 2


def test_a_setting_far_above_the_others_does_not_flatten_them():
    arms = [Arm(name="a", axes={"train.lr": [i / 100 for i in range(1, 21)]})]
    frames = results(arms, seeds=range(2), curvature=False)
    bad = frames.trials_["train.lr"] == 0.2
    report = report_of(frames.with_trials(final_val_loss=frames.trials_["final_val_loss"] + 90.0 * bad), arms)
    (cost,) = [d for d in draw(report) if d.kind == "cost"]
    assert "Above the axis (triangles): 1 setting of high loss." in cost.alt
    assert cost.figure.axes[0].get_ylim()[1] < 10
