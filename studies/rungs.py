"""Rungs of a search: numbers of updates at which settings are compared and only the best go on.

Successive halving (Jamieson & Talwalkar 2016) without partial trials: a setting at a rung is a trial by itself, the
setting's cut at the rung's step (`core.truncated`), so it has a row of its own, is trained once, and the trial of the
next rung goes on from its state. Its role is ``tune``: it decides which settings are compared, and is not compared
itself. The last rung is the whole trial, of role ``compare``.

Of each rung the best 1/factor go on, by the mean of the search's metric over the seeds. A setting with seeds that have
no value (diverged, failed) comes after all that have fewer of them; one without any value never goes on. Ties go to
the setting that was proposed first. The rules are here, pure; `studies.promotions` applies them to a store's rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config import TrialConfig
from core.errors import Problem
from core.quantities import QUANTITY_OF, point
from core.schedule_terms import step_of
from core.truncated import truncated, untruncatable
from studies.grammar import HalvingTable
from studies.settings import Setting

MAX_RUNGS = 20

RUNG_KEY = "train.steps"
"""The varied key that says at which rung a trial is."""

Score = tuple[int, float]
"""What a setting is ranked by at a rung, less is better: (seeds without a value, mean)."""

NO_VALUE = math.inf
"""The mean of a setting without any value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Halving:
    """How the settings of a search are halved."""

    rungs: int | tuple[float | int, ...]
    """How many, the last included, each `factor` times as long as the one before; or those before the last, each as a
    share of `train.steps` (float) or a step (integer)."""
    factor: int
    """Of each rung the best 1/factor go on."""
    asynchronous: bool
    """A setting goes on as soon as it is among the best of those that have ended at its rung (ASHA)."""

    @property
    def count(self) -> int:
        """Rungs, the last included."""
        return self.rungs if isinstance(self.rungs, int) else len(self.rungs) + 1

    def steps(self, last: int) -> tuple[int, ...]:
        """The step of each rung where the last is the step `last`; they need not ascend (see `rung_problem`)."""
        if isinstance(self.rungs, int):
            powers = (self.factor ** (self.rungs - 1 - rung) for rung in range(self.rungs))
            return tuple((2 * last + power) // (2 * power) for power in powers)  # rounded half up
        return (*(step_of(rung, last) for rung in self.rungs), last)

    def settings(self, first: int) -> tuple[int, ...]:
        """How many settings come to each rung at most, of `first` at the first rung, where each rung waits for all."""
        found = [first]
        for _ in range(1, self.count):
            found.append(quota(found[-1], self.factor, complete=True))
        return tuple(found)

    def most(self, first: int) -> int:
        """Trials of one seed at most, of `first` settings: asynchronously each may once be among the best."""
        return first * self.count if self.asynchronous else sum(self.settings(first))


def quota(ended: int, factor: int, *, complete: bool) -> int:
    """How many of a rung go on: 1/factor of those that have ended, rounded down; of a complete rung at least one.

    Args:
        ended: settings that have ended at the rung.
        factor: see `Halving`.
        complete: no other setting comes to the rung.
    """
    return max(ended // factor, min(ended, 1) if complete else 0)


def promotable(scores: Mapping[int, Score], factor: int, *, complete: bool) -> list[int]:
    """The settings of a rung that go on, best first.

    Args:
        scores: of the settings that have ended there, by the number of their proposal.
        factor: see `Halving`.
        complete: no other setting comes to the rung.
    """
    valued = [number for number, (_, mean) in scores.items() if mean < NO_VALUE]
    best = sorted(valued, key=lambda number: (*scores[number], number))
    return best[: quota(len(scores), factor, complete=complete)]


def score(values: Sequence[float | None], *, lower: bool) -> Score:
    """What a setting is ranked by, from the value of each seed; None where a seed has none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return len(values), NO_VALUE
    mean = math.fsum(known) / len(known)
    return len(values) - len(known), mean if lower else -mean


def value_of(row: Mapping[str, Any], metric: str) -> float | None:
    """The metric of one row of the view `trials`; None where it did not end ok or has no value."""
    value = row[metric]
    return float(value) if row["status"] == "ok" and value is not None else None


# --- settings at rungs -----------------------------------------------------------------------------------------------


def at_rungs(setting: Setting, halving: Halving, rungs: Collection[int], metric: str) -> Iterator[tuple[Setting, str]]:
    """A setting at some rungs, with the role of its trials there.

    Args:
        setting: the whole one.
        halving: how it is halved.
        rungs: which; 0 is the first.
        metric: by which settings are compared; where it is of curvature, that is measured at each rung's end.

    Raises:
        InputError: where a rung is none of this setting's; see `rung_problem`.
    """
    steps = halving.steps(setting.config.train.steps)
    bare = metric.removeprefix("final_").removeprefix("best_")
    measure_end = bare in QUANTITY_OF or point(bare) is not None
    for rung in sorted(rungs):
        config = truncated(setting.config, steps[rung], measure_end=measure_end)
        varied = {**setting.varied, RUNG_KEY: steps[rung]}
        role = "compare" if rung == halving.count - 1 else "tune"
        yield replace(setting, config=config, varied=varied), role


def rung_problem(halving: Halving, config: TrialConfig) -> Problem | None:
    """Why a setting cannot be halved, if it cannot; the place is that of the table."""
    train = config.train
    steps = halving.steps(train.steps)
    for number, (step, after) in enumerate(itertools.pairwise(steps), start=1):
        place = "search.halving.rungs" if isinstance(halving.rungs, int) else f"search.halving.rungs[{number}]"
        shown = f"step {step:,}" if isinstance(halving.rungs, int) else f"{halving.rungs[number - 1]!r} = step {step:,}"
        problem = untruncatable(train, step)
        if problem is not None and problem.where == "train.lr_schedule":
            return Problem("search.halving", f"needs a rung to be a beginning of the whole trial: {problem.message}")
        if step >= after:
            what = f"train.steps = {train.steps:,}" if number == len(steps) - 1 else f"the next one, step {after:,}"
            return Problem(place, f"must be before {what}, got {shown}; the last rung is train.steps, by itself")
        if problem is not None:
            return Problem(place, f"a trial {problem.message.rpartition(', got ')[0]}, got {shown}")
    return None


# --- the table [search.halving] --------------------------------------------------------------------------------------


def halving_of(table: HalvingTable) -> Halving:
    """The checked table as a value."""
    rungs = table.rungs if isinstance(table.rungs, int) else tuple(table.rungs)
    return Halving(rungs=rungs, factor=table.factor, asynchronous=table.asynchronous)


def malformed(rungs: Any) -> Problem | None:
    """What is wrong with the key `rungs`, whatever the settings; see `rung_problem` for the rest."""
    place = "search.halving.rungs"
    if type(rungs) is int:
        rule = f"must be 2 … {MAX_RUNGS} rungs, the last included"
        return None if 2 <= rungs <= MAX_RUNGS else Problem(place, f"{rule}, got {rungs}")
    if not isinstance(rungs, list) or not 1 <= len(rungs) < MAX_RUNGS:
        rule = f"must be a number of rungs, or a list of the 1 … {MAX_RUNGS - 1} before the last"
        return Problem(place, f"{rule}, got {rungs!r}")
    for number, rung in enumerate(rungs, start=1):
        share, step = type(rung) is float and 0 < rung < 1, type(rung) is int and rung >= 1
        if not share and not step:
            rule = "must be a share of train.steps, more than 0 and less than 1, or a step"
            return Problem(f"{place}[{number}]", f"{rule}, got {rung!r}; the last rung is train.steps, by itself")
    return None
