"""What a running sweep shows: trials and steps done, rate, time left, losses so far by arm, failures.

`Board` holds what is known of one round and reads no clock; how it looks is drawn from it by pure functions of
(board, now). `Display` is the driver's `Observer` and shows the board on stderr: on a terminal redrawn in place,
elsewhere as a plain line every few seconds, rarer as the sweep grows old. It has no thread of its own: it draws when
something happens. The time left is that of the steps not yet done at the rate of the last while, and is not said
before there is a rate.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from sweeps import output
from sweeps.tables import count, duration, plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

RATE_WINDOW_S = 30.0
RATE_SHARE = 0.5
"""The rate is taken over so many seconds, or this share of the time so far where that is longer: short enough to follow
a change of pace, long enough to be calm where steps stand still for minutes while curvature is measured."""

BAD = ("failed", "timeout", "oom")
"""Statuses that make the exit code 1."""


@dataclass
class Arm:
    """The trials of one arm."""

    trials: int
    ended: dict[str, int] = field(default_factory=dict)
    """Trials by status."""
    loss: float | None = None
    """Latest training loss seen, the mean over the lanes of its last report."""

    @property
    def done(self) -> int:
        """Trials that have ended, whatever their status."""
        return sum(self.ended.values())


class Board:
    """What is known of a running sweep; times are seconds of any steady clock, passed in."""

    def __init__(self, study: str, arms: Mapping[str, int], *, steps: int, now: float) -> None:
        """An empty board.

        Args:
            study: its name.
            arms: trials by arm.
            steps: lane-steps that are to be trained; shared ones count once.
            now: the time of the start.
        """
        self.study = study
        self.arms = {arm: Arm(trials=trials) for arm, trials in arms.items()}
        self.steps = steps
        self.waiting = 0
        """Trials that wait for a criterion: what comes after it is in no number of steps yet."""
        self.started = now
        self.committed = 0
        """Lane-steps of units that have ended."""
        self._reached: dict[str, tuple[int, int, int]] = {}  # running unit: (start, step, lanes)
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def replan(self, arms: Mapping[str, int], *, steps: int) -> None:
        """Criteria have decided what comes next: so many lane-steps are left, those of running units included."""
        self.steps = self.committed + steps
        for name, trials in arms.items():
            known = self.arms.setdefault(name, Arm(trials=trials))
            known.trials, known.ended = trials, {}

    def start(self, unit: str, now: float, *, start: int, lanes: int) -> None:
        """A unit began; the first one sets the clock of the rate, for workers take seconds to come up."""
        if not self._reached and not self.committed:
            self._samples = deque([(now, 0)])
        self._reached[unit] = (start, start, lanes)

    def advance(self, unit: str, step: int, now: float) -> None:
        """A running unit reached a step."""
        if unit in self._reached:
            start, _, lanes = self._reached[unit]
            self._reached[unit] = (start, step, lanes)
            self._sample(now)

    def end(self, unit: str, now: float, *, steps: int) -> None:
        """A unit ended, `steps` lane-steps of it recorded (0 if it was lost)."""
        self._reached.pop(unit, None)
        self.committed += steps
        self._sample(now)

    def loss(self, arm: str, value: float) -> None:
        """The training loss of an arm, as last seen."""
        self.arms[arm].loss = value

    def settle(self, arm: str, status: str) -> None:
        """A trial of an arm ended, now or in an earlier run."""
        ended = self.arms[arm].ended
        ended[status] = ended.get(status, 0) + 1

    @property
    def running(self) -> int:
        """Lanes that train now."""
        return sum(lanes for _, _, lanes in self._reached.values())

    @property
    def done_steps(self) -> int:
        """Lane-steps done, those of running units included."""
        live = sum((step - start) * lanes for start, step, lanes in self._reached.values())
        return min(self.committed + live, self.steps)

    @property
    def trials(self) -> int:
        """Trials of the study."""
        return sum(arm.trials for arm in self.arms.values())

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return sum(arm.done for arm in self.arms.values())

    def ended(self, *statuses: str) -> int:
        """Trials that ended with one of the statuses."""
        return sum(arm.ended.get(status, 0) for arm in self.arms.values() for status in statuses)

    def rate(self) -> float | None:
        """Lane-steps per second over the last samples; None before there are any."""
        (t0, n0), (t1, n1) = self._samples[0], self._samples[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 and n1 > n0 else None

    def left_s(self) -> float | None:
        """Seconds left at that rate."""
        rate = self.rate()
        return None if rate is None else (self.steps - self.done_steps) / rate

    def _sample(self, now: float) -> None:
        window = max(RATE_WINDOW_S, RATE_SHARE * (now - self.started))
        if len(self._samples) > 2 and now - self._samples[-2][0] < window / 100:
            self._samples.pop()  # a hundred or two of them say as much as all
        self._samples.append((now, self.done_steps))
        while len(self._samples) > 2 and now - self._samples[0][0] > window:
            self._samples.popleft()


def line(board: Board, now: float) -> str:
    """The state of a sweep as one plain line."""
    parts = [
        f"[{duration(now - board.started)}] {count(board.done)}/{plural(board.trials, 'trial')}",
        f"{count(board.done_steps)}/{plural(board.steps, 'step')}{_percent(board)}",
    ]
    if (rate := board.rate()) is not None:
        parts.append(f"{count(round(rate))} steps/s")
    if (left := board.left_s()) is not None and board.done_steps < board.steps:
        parts.append(f"{duration(left)} left")
    losses = [f"{name} {arm.loss:.4g}" for name, arm in board.arms.items() if arm.loss is not None]
    if losses:
        parts.append("loss " + " ".join(losses))
    parts += _waiting(board) + troubles(board)
    return ", ".join(parts)


def troubles(board: Board) -> list[str]:
    """What went wrong, counted: ``["2 diverged", "1 failed"]``."""
    return [f"{n:,} {status}" for status in ("diverged", *BAD) if (n := board.ended(status))]


def _waiting(board: Board) -> list[str]:
    return [f"{plural(board.waiting, 'trial')} waiting for a criterion"] if board.waiting else []


def _percent(board: Board) -> str:
    return f" ({100 * board.done_steps / board.steps:.0f} %)" if board.steps else ""


def panel(board: Board, now: float) -> RenderableType:
    """The state of a sweep for a terminal: a bar, the pace, the arms, what went wrong."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    left = board.left_s()
    head.add_row(
        Text(output.clean(board.study), style="bold"),
        ProgressBar(total=max(board.steps, 1), completed=board.done_steps if board.steps else 1, width=32),
        Text(f"{duration(now - board.started)} passed" + (f", {duration(left)} left" if left is not None else "")),
    )
    rate = board.rate()
    pace = [
        f"{count(board.done)}/{plural(board.trials, 'trial')}",
        f"{count(board.done_steps)}/{plural(board.steps, 'step')}{_percent(board)}",
        *([f"{count(round(rate))} steps/s"] if rate is not None else []),
        f"{plural(board.running, 'trial')} training",
        *_waiting(board),
    ]
    arms = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    arms.add_column("arm")
    for name in ("done", "trials", "loss"):
        arms.add_column(name, justify="right")
    for name, arm in board.arms.items():
        loss = "" if arm.loss is None else f"{arm.loss:.4f}"
        arms.add_row(Text(output.clean(name)), count(arm.done), count(arm.trials), loss)
    wrong = troubles(board)
    return Group(head, Text(" · ".join(pace)), arms, *([Text(", ".join(wrong), style="red")] if wrong else []))


class Display:
    """Shows a sweep while it runs; the `Observer` that the command `run` gives to the driver."""

    def __init__(self, study: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Shows nothing until the driver has planned.

        Args:
            study: its name.
            clock: seconds of a steady clock.
        """
        self._study = study
        self._clock = clock
        self._began = clock()
        self._board: Board | None = None
        self._drawn = self._began
        self._live: Live | None = None

    def __enter__(self) -> Display:
        """Takes the terminal, if stderr is one that can be redrawn."""
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            from rich.live import Live

            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    # --- Observer ---

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        """A round begins with an empty board, or goes on with what criteria have decided."""
        if self._board is None or not goes_on:
            self._board = Board(self._study, arms, steps=steps, now=self._clock())
            self._board.started = self._began
        else:
            self._board.replan(arms, steps=steps)
        self._board.waiting = waiting

    def settled(self, arm: str, status: str) -> None:
        """A trial has ended."""
        if self._board is not None:
            self._board.settle(arm, status)
            self._draw()

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        """A unit began."""
        if self._board is not None:
            self._board.start(unit, self._clock(), start=start, lanes=lanes)
            self._draw()

    def reached(self, unit: str, step: int, losses: dict[str, float]) -> None:
        """A unit is at a step."""
        if self._board is not None:
            self._board.advance(unit, step, self._clock())
            for arm, value in losses.items():
                self._board.loss(arm, value)
            self._draw()

    def ended(self, unit: str, *, steps: int) -> None:
        """A unit ended."""
        if self._board is not None:
            self._board.end(unit, self._clock(), steps=steps)
            self._draw()

    def said(self, message: str) -> None:
        """A line for the user; a terminal shows it above the display."""
        output.note(message)

    def _draw(self) -> None:
        now = self._clock()
        if self._board is None or now - self._drawn < self._interval(now):
            return
        self._drawn = now
        if self._live is not None:
            self._live.update(panel(self._board, now), refresh=True)
        else:
            output.note(line(self._board, now))

    def _interval(self, now: float) -> float:
        """Seconds between two drawings; plain lines go from every 5 s to one a minute, or a night's log is a book."""
        return 0.1 if self._live is not None else min(max(5.0, (now - self._began) / 20), 60.0)
