"""A study as a checked value: what `studies.check` makes of a file and everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.config import MeasureConfig
from studies.claims import Claim
from studies.grid import Grid
from studies.match import ControlSettings, Match
from studies.rungs import Halving
from studies.settings import ArmSettings
from studies.space import Space
from studies.texts import StudyText
from studies.where import Expression


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm: what base and arm set, and the axes of its own."""

    name: str
    values: Mapping[str, Mapping[str, Any]]
    """By section, the values that stand in the file; what is silent takes its default."""
    axes: Grid
    """Of a control: those of the arm that it is matched to."""
    match: Match | None = None
    """What makes it a control."""


@dataclass(frozen=True, kw_only=True)
class Nuisance:
    """Axes that are tuned inside each arm and each setting of the other axes."""

    axes: Grid
    seeds: tuple[int, ...]
    """On which each value is tried; disjoint from the study's."""
    metric: str
    """A `final_` or `best_` column of the view `trials`."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings proposed batch by batch, for each arm."""

    kind: str
    metric: str
    """A `final_` or `best_` column of the view `trials`; its mean over the study's seeds is improved."""
    trials: int
    """Settings per arm."""
    batch: int
    seed: int
    space: Space
    halving: Halving | None = None
    """At which rungs settings stop; None: all run to the end."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A checked study."""

    name: str
    question: str
    file: str
    """Where it was read from, as the user named it."""
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    """In file order."""
    axes: Grid
    """For every arm."""
    where: tuple[Expression, ...]
    nuisance: Nuisance | None
    measure: MeasureConfig
    search: Search | None
    claims: tuple[Claim, ...]
    texts: tuple[StudyText, ...] = ()
    """What its text tasks read."""

    def settings(self, arm: Arm) -> ArmSettings:
        """The maker of an arm's settings."""
        if arm.match is None:
            return ArmSettings(arm.name, arm.values, measure=self.measure, where=self.where)
        target = next(other for other in self.arms if other.name == arm.match.to)
        return ControlSettings(
            arm.name,
            target.values,
            measure=self.measure,
            where=self.where,
            match=arm.match,
            target=self.settings(target),
            tuned=self.nuisance.axes.keys if self.nuisance else (),
        )
