"""Who is told what happens while a sweep runs.

The driver knows no display: it tells an `Observer`. `sweeps.progress` has the one that the command line shows, `Silent`
shows nothing. All calls come from the driver's thread.
"""

from __future__ import annotations

from typing import Protocol

from sweeps.executor import Outcome


class Observer(Protocol):
    """Is told what happens while a sweep runs; `sweeps.progress` shows it. Calls come from one thread."""

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        """A round begins, or goes on after criteria have decided what comes next.

        Args:
            arms: trials by arm.
            steps: lane-steps that are to be trained, a shared one once; what comes after a criterion is not known.
            waiting: trials that wait for a criterion.
            goes_on: what runs goes on; its steps are among `steps`.
        """

    def settled(self, arm: str, status: str) -> None:
        """A trial of an arm has ended, now or before; told anew in every round, after `planned`."""

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        """A unit began at a step."""

    def reached(self, unit: str, step: int, losses: dict[str, float]) -> None:
        """A unit is at a step; mean training loss of its lanes by arm."""

    def ended(self, unit: str, *, steps: int) -> None:
        """A unit ended; lane-steps of it that are recorded, 0 where it was lost."""

    def said(self, message: str) -> None:
        """A line for the user: a lost worker, a retry, a measurement that begins."""


class Silent:
    """An observer that shows nothing."""

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        """Nothing."""

    def settled(self, arm: str, status: str) -> None:
        """Nothing."""

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        """Nothing."""

    def reached(self, unit: str, step: int, losses: dict[str, float]) -> None:
        """Nothing."""

    def ended(self, unit: str, *, steps: int) -> None:
        """Nothing."""

    def said(self, message: str) -> None:
        """Nothing."""


class Notes:
    """Passes the notes of outcomes on, each reason once: a thousand states may lack their numbers for the same one."""

    def __init__(self, observer: Observer) -> None:
        """Nothing has been told yet."""
        self._observer = observer
        self._told: set[str] = set()

    def tell(self, outcome: Outcome) -> None:
        """Tells what is new in an outcome; a note's reason is what follows its first colon."""
        for note in outcome.notes:
            reason = note.partition(": ")[2]
            if reason not in self._told:
                self._told.add(reason)
                self._observer.said(note)
