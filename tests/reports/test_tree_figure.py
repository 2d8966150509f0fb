"""The figure of the stage tree: same bytes from the same outline, a line and words for each branch."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from reports.colours import PALETTE
from reports.panels import styled
from reports.svg import to_svg
from reports.tree_figure import loop_colours, tree_alt, tree_figure, tree_title
from studies.branches import outline_dict
from studies.outline import outline
from studies.watchers import ended_at
from tests.studies.test_outline import SWITCHES, joined, made

SVG = "{http://www.w3.org/2000/svg}"


def tree(trials):
    return json.loads(json.dumps(outline_dict(outline(trials))))


@pytest.fixture(scope="module")
def switches():
    return tree(SWITCHES)


def figure_svg(outlined, name):
    with styled():
        return to_svg(tree_figure(outlined), name=name, alt=tree_alt(outlined))


def words(svg):
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_equal_outlines_give_equal_bytes(switches):
    assert figure_svg(switches, name="x-tree") == figure_svg(tree(SWITCHES), name="x-tree")


def test_each_branch_is_named_with_its_number_of_trials_and_has_the_colour_of_its_loops(switches):
    svg = figure_svg(switches, name="x-tree")
    shown = words(svg)
    assert {"1 loop", "2 loops", "3 loops", "4 loops", "6 loops", "8 loops", "step (updates)"} <= set(shown)
    assert shown.count("190 trials, 19 branches × 10 seeds") == 5
    assert loop_colours(switches) == dict(zip((1, 2, 3, 4, 6, 8), PALETTE, strict=False))
    drawn = svg.partition("</style>")[2]
    assert all(colour in drawn for colour in PALETTE[:6])


def test_it_names_itself_and_states_what_is_saved(switches):
    alone, trained = switches["steps_alone"], switches["steps_trained"]
    assert tree_title(switches) == f"What trials share: {alone / trained:.2f} times fewer updates"
    root = ElementTree.fromstring(figure_svg(switches, name="x-tree"))
    assert root.find(f"{SVG}title").text == tree_alt(switches)
    assert f"{trained:,} updates for trials that would take {alone:,} each alone" in tree_alt(switches)
    assert "From 1 loop: 8 loops from step 150, 300 … 2850 to 3000, 190 trials (a)." in tree_alt(switches)


def test_criteria_are_marked_where_they_ended_stages_and_where_they_may():
    waiting = made(4, kind="shift-scp")
    before, after = tree(waiting), tree([ended_at(waiting[0], 500), *waiting[1:]])
    assert tree_title(before) == "What trials share"
    assert "1 criterion may end it at" in tree_alt(before)
    assert "fewer" not in tree_alt(before)
    assert "criteria of 1 trial ended it at 500" in tree_alt(after)
    assert any("criterion waiting" in text for text in words(figure_svg(before, name="x")))


def test_what_was_left_out_is_said():
    grid = tree(joined(*(made(2, kind="shift", loops=loops) for loops in range(2, 60))))
    assert re.search(r"\d+ kinds not shown", " ".join(words(figure_svg(grid, name="x"))))
    assert len(set(loop_colours(grid).values())) == len(loop_colours(grid))


def test_it_is_sound_svg_whose_ids_carry_its_name(switches):
    svg = figure_svg(switches, name="x-tree")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(each.startswith("x-tree") for each in ids)
    assert not re.search(r"\b20\d\d-\d\d-\d\d", svg)
