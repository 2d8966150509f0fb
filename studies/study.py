"""A study as a checked value: what `studies.check` makes of a file and everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.config import MeasureConfig
from studies.claims import Claim
from studies.grid import Grid
from studies.match import ControlSettings, Match
from studies.rungs import Halving
from studies.settings import ArmSettings
from studies.space import Space, grid_size
from studies.texts import StudyText
from studies.where import Expression

BLIND = frozenset({"grid", "random", "qmc"})
"""Kinds of search that look at no results."""


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
    space: Space = field(default_factory=dict)
    """Under a search: the keys that are searched in this arm, the common ones and its own, as far as they act on it."""


@dataclass(frozen=True, kw_only=True)
class Nuisance:
    """Axes that are tuned inside each arm and each setting of the other axes."""

    axes: Grid
    seeds: tuple[int, ...]
    """On which each value is tried; disjoint from the study's."""
    metric: str
    """An objective, as `studies.objectives` takes one."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings proposed batch by batch, for each arm."""

    kind: str
    """grid | random | qmc | tpe | gp | nsga2"""
    metrics: tuple[str, ...]
    """Objectives (`studies.objectives`); the mean of each over the study's seeds is improved."""
    trials: int | None
    """Settings per arm; None for a grid, which has as many as it has points."""
    batch: int
    seed: int
    space: Space
    """The keys that all arms share; what an arm searches is `Arm.space`."""
    halving: Halving | None = None
    """At which rungs settings stop; None: all run to the end."""

    @property
    def metric(self) -> str:
        """The first objective: what rungs and confirmation rank by."""
        return self.metrics[0]

    @property
    def blind(self) -> bool:
        """Whether it needs no results: all of its settings are due at once."""
        return self.kind in BLIND

    def count(self, arm: Arm) -> int:
        """How many settings an arm is to get: a single one where nothing that is searched acts on it."""
        if self.trials is None or not arm.space:
            return grid_size(arm.space)
        return self.trials


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

    def __repr__(self) -> str:
        """One line; all that it holds is in its fields."""
        counts = f"arms={len(self.arms)}, seeds={len(self.seeds)}, claims={len(self.claims)}"
        return f"Study({self.name!r}, {counts})"

    def _repr_html_(self) -> str:
        """Its question, arms and claims, where a notebook shows it."""
        from studies.shown import study_html

        return study_html(self)

    @property
    def arm_names(self) -> list[str]:
        """The names of its arms, in file order."""
        return [arm.name for arm in self.arms]

    @property
    def searched(self) -> tuple[str, ...]:
        """The dotted keys that a search varies in any arm, each once, in file order."""
        if self.search is None:
            return ()
        return tuple(dict.fromkeys([*self.search.space, *(key for arm in self.arms for key in arm.space)]))

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
