"""The exception tree: what a user or a disk can cause is raised as one of these, and each knows its exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input: where it stands, and the rule, the value and the next step in one line."""

    where: str
    """Dotted key (``train.lr``), or empty where the whole is meant."""
    message: str

    def __str__(self) -> str:
        """``where: message``, one line."""
        text = f"{self.where}: {self.message}" if self.where else self.message
        return " ".join(text.split())


class LoopsweepError(Exception):
    """Base of all errors that loopsweep raises on purpose."""

    exit_code = 1


class InputError(LoopsweepError):
    """Bad input by the user: every problem that was found, one line each; nothing was written."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[Problem]) -> None:
        """Takes one message, or all the problems of an input at once."""
        self.problems: tuple[Problem, ...] = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class StoreError(LoopsweepError):
    """The store cannot be written, or what it holds is damaged."""

    exit_code = 3
