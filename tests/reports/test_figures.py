"""Figures: same bytes from the same report, one colour an arm, sound SVG that names itself."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from reports.build import build, to_text
from reports.colours import PALETTE, of_arms
from reports.figures import arm_colours, draw
from reports.panels import panel
from reports.ticks import log_ticks, symlog_axis
from tests.reports.synthetic import ARMS, CLAIMS, GRID, Arm, claims, results, study

SVG = "{http://www.w3.org/2000/svg}"


def report_of(frames, made=CLAIMS, arms=ARMS, **changed):
    return json.loads(to_text(build([(study(claims(*made, arms=arms), arms=arms, **changed), frames)], command="x")))


@pytest.fixture(scope="module")
def report():
    return report_of(results())


@pytest.fixture(scope="module")
def drawings(report):
    return draw(report)


def test_equal_reports_give_equal_bytes(report, drawings):
    assert [d.svg for d in draw(report)] == [d.svg for d in drawings]


def test_every_kind_is_drawn(drawings):
    assert [d.kind for d in drawings] == ["claims", *["curves"] * 6, "cost", "cost", "curvature"]
    assert len({d.name for d in drawings}) == len(drawings)


def test_each_is_sound_svg_without_dates_scripts_or_foreign_addresses(drawings):
    for drawing in drawings:
        root = ElementTree.fromstring(drawing.svg)
        assert root.tag == f"{SVG}svg"
        assert not list(root.iter(f"{SVG}script"))
        assert not re.search(r"\b20\d\d-\d\d-\d\d", drawing.svg)
        links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', drawing.svg)
        assert all((a or b).startswith("#") for a, b in links)


def test_ids_are_unique_on_a_page_and_every_reference_resolves(drawings):
    ids = [i for d in drawings for i in re.findall(r'\bid="([^"]+)"', d.svg)]
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        own = set(re.findall(r'\bid="([^"]+)"', drawing.svg))
        assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", drawing.svg)) <= {(i, "") for i in own} | {
            ("", i) for i in own
        }


def test_the_text_for_those_who_do_not_see_it_states_the_finding(report, drawings):
    curve = next(d for d in drawings if d.name.endswith("curve-val-loss-low-ic"))
    single = next(s for s in report["studies"][0]["curves"][1]["series"] if s["arm"] == "single")
    assert f"single {single['points'][-1]['mean']:.3f}" in curve.alt
    assert "Bayes-optimal" in curve.alt
    assert "Claim 1, supported: looped − single = −0.2" in drawings[0].alt
    for drawing in drawings:
        root = ElementTree.fromstring(drawing.svg)
        assert root.get("role") == "img"
        title = root.find(f"{SVG}title")
        assert title.text == drawing.alt
        assert root.get("aria-labelledby") == title.get("id")


def test_axes_have_units(drawings):
    for drawing in drawings:
        texts = " ".join(t.text or "" for t in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text"))
        assert "nats" in texts or "ratio" in texts
        if drawing.kind == "curves":
            assert "step (updates)" in texts
            assert all(name in texts for name in ("single", "looped", "shift", "depth-matched"))
            assert ("loss − that of single" if "paired" in drawing.name else "Bayes-optimal") in texts


def test_an_arm_has_the_same_colour_in_every_figure_and_study():
    other = [Arm(name="tiny", low=0.9), Arm(name="looped")]
    report = build(
        [(study(), results()), (study(arms=other, name="second"), results(other, study="second"))], command="x"
    )
    colours = arm_colours(report)
    assert list(colours) == ["single", "looped", "shift", "depth-matched", "tiny"]
    assert len(set(list(colours.values())[:4])) == 4
    assert arm_colours({"studies": report["studies"][1:]}) == {arm: colours[arm] for arm in ("tiny", "looped")}
    second = [d for d in draw(report) if d.study == "second" and d.kind == "curves"]
    for drawing in second:
        drawn = drawing.svg.partition("</style>")[2]
        assert colours["looped"] in drawn
        assert colours["tiny"] in drawn
        assert colours["single"] not in drawn


def test_axes_are_drawn_with_numbers_and_with_names():
    arms = [Arm(name="a", axes={"model.loops": [2, 3], "train.optimizer": ["adamw", "sgd"]}), Arm(name="b")]
    drawn = [d for d in draw(report_of(results(arms, seeds=range(3)), [], arms)) if d.kind == "axes"]
    assert len(drawn) == 6
    assert "adamw" in drawn[1].svg
    assert "lowest at" in drawn[0].alt


def test_many_settings_few_seeds_and_no_rows_are_drawn_too():
    grid = draw(report_of(results(GRID, seeds=range(2)), [], GRID))
    assert {d.kind for d in grid} == {"curves", "cost", "axes", "factors", "maps", "switches", "curvature"}
    assert {d.kind for d in draw(report_of(results(seeds=range(1))))} == {"claims", "curves", "cost", "curvature"}
    frames = results()
    assert draw(report_of(frames.without(frames.trials_["seed"] > 99))) == []


def test_switches_are_drawn_where_several_settings_switch():
    arms = [
        Arm(name="looped"),
        Arm(name="shift", axes={"model.loops": [2, 3], "schedule.switch": [0.3, 0.6, 0.9]}),
        Arm(name="scp", criterion=True, axes={"schedule.delta1": [0.002, 0.016]}),
    ]
    drawn = {d.name: d for d in draw(report_of(results(arms, seeds=range(3)), [], arms))}
    drop, back = drawn["quickstart-switch-drop"], drawn["quickstart-switch-recovery"]
    assert "shift from 0.303 nats/token at step 900 to 0.909 nats/token at step 2\u202f700" in drop.alt
    assert "scp from 0.168 nats/token at step 500" in drop.alt
    assert "6 of 18 trials not back by the end" in back.alt
    for drawing in (drop, back):
        texts = [t.text for t in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")]
        assert {"shift loops = 2", "shift loops = 3", "scp"} <= set(texts)  # settings that differ in the switch alone
        assert "step of the switch (updates)" in texts
    along = drawn["quickstart-criterion-schedule-delta1"]
    assert along.kind == "criteria"
    assert "scp 2\u202f700 at 0.002, 500 at 0.016" in along.alt
    assert "quickstart-criterion-schedule-switch" not in drawn


def test_arms_beyond_the_palette_share_a_colour_but_no_mark_and_no_dashes():
    arms = [Arm(name=f"a{i}", switch=100 * i + 500) for i in range(len(PALETTE) + 1)]
    drawn = {d.name: d for d in draw(report_of(results(arms, seeds=range(2), curvature=False), [], arms))}

    (shared,) = [c for c, count in Counter(of_arms([arm.name for arm in arms]).values()).items() if count > 1]

    def styles(name, element):
        svg = drawn[name].svg.partition("</style>")[2]
        return [s for s in re.findall(rf'<{element} [^>]*style="([^"]*)"', svg) if shared in s]

    curves = {s for s in styles("quickstart-curve-val-loss", "path") if "stroke-width: 1.8" in s}
    assert len(curves) == 2
    assert sum("stroke-dasharray" in s for s in curves) == 1
    marks = drawn["quickstart-switch-drop"].svg
    shapes = {re.search(r'href="#([^"]+)"', g)[1] for g in re.findall(rf"<use [^>]*{shared}[^>]*>", marks)}
    assert len(shapes) == 2


def test_a_long_axis_has_few_tick_names_and_spreads_as_its_values_do():
    switch = [i / 20 for i in range(1, 20)]
    arms = [Arm(name="a", axes={"schedule.switch": switch}), Arm(name="b", axes={"train.lr": [1e-4, 1e-3, 1e-2]})]
    drawn = {d.name: d for d in draw(report_of(results(arms, seeds=range(2), curvature=False), [], arms))}

    def ticks(name):
        svg = ElementTree.fromstring(drawn[name].svg)
        found = [g for g in svg.iter(f"{SVG}g") if re.search(r"-xtick_\d+$", g.get("id", ""))]
        places = [float(next(g.iter(f"{SVG}use")).get("x")) for g in found]
        return places, [t.text for g in found for t in g.iter(f"{SVG}text")]

    places, names = ticks("quickstart-axis-schedule-switch-val-loss")
    assert len(places) == 19
    assert (names[0], names[-1]) == ("0.05", "0.95")
    assert 5 <= len(names) <= 12
    assert places[1] - places[0] == pytest.approx(places[18] - places[17], rel=1e-3)  # even steps: a plain axis
    places, names = ticks("quickstart-axis-train-lr-val-loss")
    assert names == ["0.0001", "0.001", "0.01"]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], rel=1e-3)  # powers of ten: a log axis


def test_names_that_look_like_mathematics_are_drawn_as_they_are():
    arms = [Arm(name="a", axes={"model.position": ["$x", "y$_2$"]}), Arm(name="b")]
    drawn = next(d for d in draw(report_of(results(arms, seeds=range(2)), [], arms)) if d.kind == "axes")
    assert "y$_2$" in drawn.svg


@pytest.mark.parametrize(("low", "high"), [(0.012, 0.038), (1.3, 9.5), (4.0, 5.0), (0.4, 14.0), (1e-9, 1e3)])
def test_a_log_axis_of_any_width_has_enough_ticks_to_be_read(low, high):
    _, axes = panel()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    log_ticks(axes, "y")
    assert 3 <= len(axes.get_yticks()) <= 12


@pytest.mark.parametrize(("linear", "reach"), [(1e-3, 10.0), (1e-6, 100.0), (0.1, 0.5)])
def test_zero_and_the_ends_of_the_linear_stretch_have_room_for_their_names(linear, reach):
    figure, axes = panel(height=2.4)
    symlog_axis(axes, linear, -reach, reach)
    figure.draw_without_rendering()
    heights = [axes.transData.transform((0, y))[1] for y in axes.get_yticks()]
    assert min(b - a for a, b in itertools.pairwise(heights)) * 72 / figure.dpi > 10.5
