"""The stage tree as text: one line a branch, columns aligned, never long."""

from __future__ import annotations

from studies.outline import MOST_LINES, outline
from studies.watchers import ended_at
from sweeps.tree_text import tree_text
from tests.studies.test_outline import SWITCHES, joined, made


def test_a_trunk_and_its_branches():
    assert tree_text(outline(SWITCHES)).splitlines() == [
        "1 loop      0 → 2850                10 seeds       950 trials",
        *(
            f"{'└' if loops == 8 else '├'}─ {loops} loops  150, 300 … 2850 → 3000  19 × 10 seeds  190 trials  a"
            for loops in (2, 3, 4, 6, 8)
        ),
    ]


def test_what_does_not_fork_goes_no_deeper():
    assert tree_text(outline(made(kind="grow"))).splitlines() == [
        "1 loop     0 → 1000     1 seed  1 trial",
        "↳ 2 loops  1000 → 2000  1 seed  1 trial",
        "↳ 3 loops  2000 → 3000  1 seed  1 trial  a",
    ]


def test_criteria_have_a_line_and_so_have_their_ends():
    trials = made(3, kind="shift-scp")
    waiting = tree_text(outline(trials)).splitlines()
    assert waiting[1].startswith("└─ 1 criterion watches")
    assert waiting[1].endswith("a: branches begin where they end it, then 3 loops")
    lines = tree_text(outline([ended_at(trials[0], 500), *trials[1:]])).splitlines()
    assert lines[0].endswith("criteria of 1 trial ended it at 500")
    assert lines[1].startswith("├─ 1 criterion watches")
    assert lines[2].startswith("└─ 3 loops")


def test_it_has_at_most_thirty_lines_and_counts_the_rest():
    grid = joined(*(made(kind="shift", loops=loops, lr_factor=f) for loops in range(2, 40) for f in (0.1, 0.5)))
    lines = tree_text(outline(grid)).splitlines()
    assert len(lines) <= MOST_LINES
    assert lines[-1].split()[1] == "…"
    assert lines[-1].endswith("not shown")
