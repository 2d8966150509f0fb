"""Tables and numbers for people."""

from __future__ import annotations

import pytest

from sweeps import tables


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds, shown):
    assert tables.duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 FLOP"), (999, "999 FLOP"), (1234, "1.23 kFLOP"), (1.234e15, "1.23 PFLOP")]
)
def test_flops(number, shown):
    assert tables.flops(number) == shown


@pytest.mark.parametrize(("number", "shown"), [(1000, "1000 B"), (1024, "1 KiB"), (5.5 * 2**30, "5.5 GiB")])
def test_sizes(number, shown):
    assert tables.size(number) == shown


def test_a_table_shows_every_cell_whole_when_piped(capsys):
    long = "x" * 500
    text = tables.table(["name", "loss", "seen"], [[long, 0.123456789, None], ["b", 2.0, True]])
    lines = text.splitlines()
    assert len(lines) == 4
    assert long in lines[2]
    assert "0.12346" in lines[2]
    assert "–" in lines[2]
    assert "yes" in lines[3]


def test_cells_cannot_steer_the_terminal_nor_rich():
    text = tables.table(["a\x1b[2J"], [["[red]no markup[/red] \x1b]0;t\x07\nx"]])
    assert "\x1b" not in text
    assert "[red]no markup[/red] \\x1b]0;t\\x07\\x0ax" in text


def test_numbers_stand_to_the_right():
    lines = tables.table(["n"], [[5], [12345]]).splitlines()
    assert lines[2] == "    5"
    assert lines[3] == "12345"


def test_pairs_align():
    assert tables.pairs([("a", 1), ("long name", None)]).splitlines() == ["a          1", "long name  –"]
