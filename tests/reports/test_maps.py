"""Maps of two axes: cells over seeds, what they cost, what is missing, and what stands beside the axes."""

from __future__ import annotations

import html
import json
import re
from xml.etree import ElementTree

import pytest

from reports.build import build, to_text
from reports.figures import draw
from reports.maps import maps
from reports.render import html_report, markdown_report
from reports.tables import Tables
from tests.reports.algorithmic import on_lengths
from tests.reports.synthetic import Arm, results, study

SVG = "{http://www.w3.org/2000/svg}"
GRID = [Arm(name="looped", axes={"model.depth": [1, 2, 3], "model.loops": [1, 2, 4]})]


def sized(arms=GRID, seeds=range(3), **changed):
    """Parameters follow the depth, FLOPs depth times loops, the loss both."""
    frames = results(arms, seeds=seeds, curvature=False, **changed)
    depth, loops = frames.trials_["model.depth"], frames.trials_["model.loops"]
    return frames.with_trials(
        parameters=1000 * depth,
        flops_alone=10**9 * depth * loops,
        final_val_loss=2 - 0.1 * depth - 0.2 * loops + 0.01 * frames.trials_["seed"],
    )


def of(frames, arms=GRID):
    return maps(Tables.read(frames), [arm.name for arm in arms])


def drawn(frames, arms=GRID):
    report = json.loads(to_text(build([(study(arms=arms), frames)], command="x")))
    return report, [d for d in draw(report) if d.kind == "maps"]


def test_cells_are_means_over_seeds_with_what_they_cost():
    (entry,) = of(sized())
    assert (entry["arm"], entry["metric"], entry["better"]) == ("looped", "val_loss", "lower")
    assert entry["x"] == {"axis": "model.loops", "values": [1, 2, 4]}
    assert entry["y"] == {"axis": "model.depth", "values": [1, 2, 3]}
    cell = next(c for c in entry["cells"] if (c["x"], c["y"]) == (4, 2))
    assert cell["mean"] == pytest.approx(2 - 0.2 - 0.8 + 0.01)
    assert (cell["n"], cell["trials"], cell["lost"]) == (3, 3, 0)
    assert (cell["parameters"], cell["flops_alone"]) == (2000, [8e9, 8e9])


def test_further_axes_are_averaged_within_a_seed():
    arms = [Arm(name="looped", axes={"model.depth": [1, 2], "model.loops": [1, 2], "train.lr": [0.1, 0.2]})]
    frames = sized(arms)
    frames = frames.with_trials(final_val_loss=frames.trials_["final_val_loss"] + frames.trials_["train.lr"])
    found = of(frames, arms)
    assert [(e["y"]["axis"], e["x"]["axis"]) for e in found] == [
        ("model.depth", "model.loops"),  # first, whatever else there is
        ("model.depth", "train.lr"),
        ("model.loops", "train.lr"),
    ]
    cell = next(c for c in found[0]["cells"] if (c["x"], c["y"]) == (1, 1))
    assert (cell["n"], cell["trials"]) == (3, 6)
    assert cell["mean"] == pytest.approx(2 - 0.3 + 0.01 + 0.15)
    assert found[2]["cells"][0]["parameters"] is None  # depths share the cell


def test_a_partial_grid_is_hatched_where_it_has_no_cell_and_lost_seeds_are_counted():
    frames = sized()
    rows = frames.trials_
    last = (rows["model.depth"] == 3) & (rows["model.loops"] == 4)
    best = (rows["model.depth"] == 2) & (rows["model.loops"] == 4) & (rows["seed"] == 1)
    frames = frames.with_trials(status=rows["status"].mask(best, "diverged")).without(~last)
    _, (drawing,) = drawn(frames)
    assert "n = 2 to 3 seeds, said in cells of fewer than 3, 1 cell without a value hatched" in drawing.alt
    assert "lowest 1.11 at loops = 4, depth = 1 (framed)" in drawing.alt  # the best of those with all seeds
    titles = [t.text for t in ElementTree.fromstring(drawing.svg).iter(f"{SVG}title")]
    assert len(titles) == 1 + 9
    assert "loops = 4, depth = 3: not in the study" in titles
    assert any(
        t.startswith("loops = 4, depth = 2: 1.01")
        and t.endswith("(n = 2 seeds, 1 of 3 trials without a value, 2\u202f000 parameters, 8.00e9 FLOPs)")
        for t in titles
    )
    assert "hatch" in drawing.svg


def test_parameters_and_flops_stand_beside_the_axes_where_they_say_something():
    def texts(frames):
        _, (drawing,) = drawn(frames)
        return [t.text for t in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")]

    shown = texts(sized())
    assert {"depth · parameters · FLOPs alone (1e9)", "loops · FLOPs alone (1e9)"} <= set(shown)
    assert {"2 · 2\u202f000 · 2.0–8.0", "1.0–3.0", "4.0–12"} <= set(shown)
    flat = texts(results(GRID, seeds=range(2), curvature=False))
    assert {"depth", "loops"} <= set(flat)


def test_where_cells_do_not_lie_beside_one_another_there_is_no_map():
    frames = sized()
    diagonal = frames.trials_["model.depth"] == frames.trials_["model.loops"]
    assert of(frames.without(diagonal)) == []
    row = frames.trials_["model.depth"] == 2
    assert of(frames.without(row)) == []
    words = [Arm(name="looped", axes={"model.loops": [1, 2], "train.optimizer": ["sgd", "adamw"]})]
    assert of(results(words, seeds=range(2), curvature=False), words) == []
    none = frames.with_trials(final_val_loss=None)
    assert of(none) == []


def test_exact_match_has_a_map_where_tasks_have_it():
    frames = on_lengths(sized())
    loops = frames.trials_["model.loops"]
    report, both = drawn(frames.with_trials(final_val_exact=0.1 * loops))
    assert [e["metric"] for e in report["studies"][0]["maps"]] == ["val_loss", "val_exact"]
    assert "highest 0.400 at loops = 4, depth = 1 (framed), lowest 0.100 at loops = 1" in both[1].alt
    for form in (html_report(report, both), markdown_report(report, both)):
        assert "Maps of two axes" in form


def test_equal_reports_give_equal_maps_and_names_of_arms_do_nothing():
    name = "</title><b onload='x'>$a$ & id=\"q\""
    arms = [Arm(name=name, axes=GRID[0].axes)]
    report, (drawing,) = drawn(sized(arms), arms)
    assert next(d for d in draw(report) if d.kind == "maps").svg == drawing.svg
    root = ElementTree.fromstring(drawing.svg)
    assert not list(root.iter(f"{SVG}b"))
    assert root.find(f"{SVG}title").text == drawing.alt
    assert html.escape(name, quote=False) in drawing.svg
    ids = re.findall(r'<[^>]*\bid="([^"]+)"', drawing.svg)
    assert len(ids) == len(set(ids))
