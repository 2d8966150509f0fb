"""Progress: counts, rate and time left are right, and a line says them; no clock is read."""

from __future__ import annotations

import pytest

from sweeps.progress import Board, Display, line, panel, troubles
from sweeps.tables import render


@pytest.fixture
def board():
    return Board("toy", {"single": 2, "looped": 2}, steps=400, now=100.0)


def test_before_anything_runs_no_rate_and_no_time_left_is_claimed(board):
    assert board.rate() is None
    assert board.left_s() is None
    assert line(board, 100.0) == "[0.0 s] 0/4 trials, 0/400 steps (0 %)"


def test_running_units_count_by_step_and_lane(board):
    board.start("u", 100.0, start=50, lanes=2)
    board.advance("u", 100, now=110.0)
    assert board.running == 2
    assert board.done_steps == 100
    assert board.rate() == pytest.approx(10.0)
    assert board.left_s() == pytest.approx(30.0)


def test_the_rate_does_not_count_the_time_workers_take_to_come_up(board):
    board.start("u", 120.0, start=0, lanes=1)
    board.advance("u", 20, now=122.0)
    assert board.rate() == pytest.approx(10.0)


def test_what_is_committed_replaces_what_ran(board):
    board.start("u", 100.0, start=0, lanes=2)
    board.advance("u", 90, now=105.0)
    board.end("u", 110.0, steps=200)
    assert board.done_steps == 200
    assert board.running == 0


def test_a_lost_unit_takes_its_steps_back(board):
    board.start("u", 100.0, start=0, lanes=2)
    board.advance("u", 90, now=105.0)
    board.end("u", 110.0, steps=0)
    assert board.done_steps == 0
    assert board.left_s() is None


def test_late_news_of_an_ended_unit_is_ignored(board):
    board.start("u", 100.0, start=0, lanes=2)
    board.end("u", 110.0, steps=200)
    board.advance("u", 100, now=111.0)
    assert board.done_steps == 200


def test_the_rate_follows_the_last_half_minute(board):
    board.start("u", 100.0, start=0, lanes=1)
    for second in range(1, 101):
        board.advance("u", second if second < 50 else 50 + 3 * (second - 50), now=100.0 + second)
    assert board.rate() == pytest.approx(3.0, rel=0.05)


def test_steps_never_exceed_what_is_to_do(board):
    board.end("a", 101.0, steps=500)
    assert board.done_steps == 400
    assert board.left_s() == 0.0


def test_the_line_says_losses_and_what_went_wrong(board):
    board.start("u", 100.0, start=0, lanes=1)
    board.advance("u", 100, now=110.0)
    board.loss("single", 1.23456)
    board.settle("single", "ok")
    board.settle("single", "diverged")
    board.settle("looped", "timeout")
    assert board.done == 3
    assert troubles(board) == ["1 diverged", "1 timeout"]
    assert line(board, 110.0) == (
        "[10 s] 3/4 trials, 100/400 steps (25 %), 10 steps/s, 30 s left, loss single 1.235, 1 diverged, 1 timeout"
    )


def test_the_panel_of_a_terminal_says_the_same(board):
    board.start("u", 100.0, start=0, lanes=2)
    board.advance("u", 50, now=110.0)
    board.loss("looped", 0.5)
    board.settle("single", "diverged")
    lines = render(panel(board, 110.0)).splitlines()
    assert lines[0].startswith("toy ")
    assert lines[0].endswith("10 s passed, 30 s left")
    assert lines[1] == "1/4 trials · 100/400 steps (25 %) · 10 steps/s · 2 trials training"
    assert [words.split() for words in lines[3:5]] == [["single", "1", "2"], ["looped", "0", "2", "0.5000"]]
    assert lines[5] == "1 diverged"


def test_an_arm_cannot_steer_the_terminal():
    board = Board("a\x1b[2J", {"[red]b\x1b[2J": 1}, steps=10, now=0.0)
    shown = render(panel(board, 1.0))
    assert "\x1b" not in shown
    assert "[red]b\\x1b[2J" in shown


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def test_without_a_terminal_lines_come_every_five_seconds_and_rarer_later(capsys):
    clock = Clock()
    with Display("toy", clock=clock) as display:
        display.planned({"single": 1}, 10_000)
        display.started("u", start=0, lanes=1)
        for second in range(1, 4001):
            clock.now = float(second)
            display.reached("u", second, {"single": 1.0})
    times = [line.split("]")[0].removeprefix("[") for line in capsys.readouterr().err.splitlines()]
    assert times[:3] == ["5.0 s", "10 s", "15 s"]
    assert times[-2:] == ["1 h 05 min", "1 h 06 min"]
    assert len(times) < 150


def test_what_is_said_is_shown_at_once(capsys):
    with Display("toy", clock=Clock()) as display:
        display.said("attempt 1 of 3 was lost: killed\x1b[31m")
        assert capsys.readouterr().err == "attempt 1 of 3 was lost: killed\\x1b[31m\n"


def test_a_new_round_begins_a_new_board_and_keeps_the_time(capsys):
    clock = Clock()
    with Display("toy", clock=clock) as display:
        display.planned({"single": 2}, 100)
        display.settled("single", "ok")
        clock.now = 20.0
        display.planned({"single": 4}, 50)
        display.settled("single", "ok")
    assert capsys.readouterr().err == "[20 s] 1/4 trials, 0/50 steps (0 %)\n"


def test_what_criteria_decide_goes_on_with_the_board_and_says_who_waits(capsys):
    clock = Clock()
    with Display("toy", clock=clock) as display:
        display.planned({"single": 1, "scp": 3}, 100, waiting=3)
        display.started("u", start=0, lanes=1)
        display.settled("single", "ok")
        display.ended("u", steps=60)
        clock.now = 20.0
        display.planned({"single": 1, "scp": 3}, 140, waiting=1, goes_on=True)
        display.settled("single", "ok")
    assert capsys.readouterr().err == "[20 s] 1/4 trials, 60/200 steps (30 %), 1 trial waiting for a criterion\n"


def test_steps_of_running_units_are_left_until_they_are_committed(board):
    board.start("u", 100.0, start=0, lanes=2)
    board.end("a", 105.0, steps=100)
    board.replan({"single": 2, "looped": 5}, steps=250)
    assert (board.done_steps, board.steps) == (100, 350)
    board.advance("u", 50, now=110.0)
    assert board.done_steps == 200
    assert board.arms["looped"].trials == 5
