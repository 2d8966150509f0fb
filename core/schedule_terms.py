"""How many loops when: the terms of a schedule, of its stages and of the criteria that end them.

Shares of the steps stay shares here; `core.schedule` works out stages and their places. No torch: planning imports
this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.terms import term, terms

MAX_ROWS = 100_000
"""Evaluations, and measurements, that one trial may have: each is a row, and their steps are listed in plans."""


@dataclass(frozen=True, kw_only=True)
class CriterionConfig:
    """When a stage ends by what is seen of it: SCP, the SHIFT Criterion with Patience, or one half of it."""

    criterion: Literal["scp", "loss", "gradient"] = term(
        "scp", "loss and gradient norm both change little; the loss alone; the gradient norm alone"
    )
    delta1: float = term(0.01, "scp, loss: the loss changes by less than this from check to check", gt=0)
    delta2: float = term(0.1, "scp, gradient: the gradient norm changes by less than this from check to check", gt=0)
    patience: int = term(3, "consecutive checks at which that must hold", ge=1, le=MAX_ROWS)
    change: Literal["relative", "absolute"] = term(
        "relative", "a change is divided by the value at the check before, or not"
    )
    on: Literal["val", "train"] = term("val", "the loss of the validation set, or of the fixed training batch")
    latest: float | int = term(
        0.9, "the stage ends here if it has not before; share of the steps (float, 1.0 = never) or step (integer)", gt=0
    )

    def criterion_acting(self) -> set[str]:
        """Names of the terms of the criterion that act."""
        names = set(terms(CriterionConfig))
        if self.criterion == "loss":
            names.discard("delta2")
        if self.criterion == "gradient":
            names -= {"delta1", "on"}
        return names


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of an explicit list: how many loops, how it begins, and when it ends."""

    loops: int | None = term(None, "loops in it; silent = model.loops", ge=1, le=4096)
    until: float | int | CriterionConfig | None = term(  # noqa: RUF009 - `term` makes a field
        None, "its end: share of the steps (float), step (integer) or criterion (table); the last stage has none", gt=0
    )
    lr_factor: float = term(1.0, "its learning rate over that of the schedule", gt=0, le=1e3)
    rewarm: int = term(0, "updates of linear warm-up at its start", ge=0)
    optimizer: Literal["keep", "reset"] = term("keep", "optimiser state at its start: kept, or zero")
    draw: Literal["fixed", "poisson-lognormal"] = term(
        "fixed", "the loops of each update: `loops`, or drawn with this mean"
    )
    sigma: float = term(0.5, "poisson-lognormal: standard deviation of the logarithm of the rate", ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(CriterionConfig):
    """How many loops when: the list of stages, in short form by its kind or written out."""

    kind: Literal["single", "looped", "shift", "shift-scp", "grow", "linear-grow", "reverse", "stages"] = term(
        "looped",
        "one loop; model.loops; one, then model.loops from the switch on (fixed, or by the criterion); 1, 2, 3 … "
        "model.loops in equal parts; linearly over the ramp; model.loops, then one; the stages as listed",
    )
    switch: float | int = term(
        0.5, "shift, reverse: fraction of the steps (float in (0, 1)) or step (integer) of the switch", gt=0
    )
    ramp: float | int = term(
        0.5, "linear-grow: loops grow to model.loops over so much; share of the steps (float) or step (integer)", gt=0
    )
    check_every: int = term(0, "steps between the checks of a criterion; 0 = train.evaluate_every", ge=0)
    lr_factor: float = term(1.0, "learning rate of the stages after the first over that of the schedule", gt=0, le=1e3)
    rewarm: int = term(0, "updates of linear warm-up at the start of each stage after the first", ge=0)
    optimizer: Literal["keep", "reset"] = term(
        "keep", "optimiser state at the start of each stage after the first: kept, or zero"
    )
    draw: Literal["fixed", "poisson-lognormal"] = term(
        "fixed", "loops of an update where a stage has more than one: these, or drawn with this mean"
    )
    sigma: float = term(0.5, "poisson-lognormal: standard deviation of the logarithm of the rate", ge=0, le=1)
    stages: tuple[StageConfig, ...] = term((), "stages written out, in order")

    @property
    def watches(self) -> bool:
        """Whether a stage ends by a criterion."""
        listed = any(isinstance(stage.until, CriterionConfig) for stage in self.stages)
        return self.kind == "shift-scp" or (self.kind == "stages" and listed)

    def acting(self) -> set[str]:
        """Names of the terms that act, if the schedule has more than one stage."""
        names = {"kind", *_OF_KIND.get(self.kind, ())}
        if self.kind not in ("single", "stages"):
            names |= {"draw"} | ({"sigma"} if self.draw != "fixed" else set())
        if self.kind not in ("single", "looped", "stages"):
            names |= {"lr_factor", "rewarm", "optimizer"}
        if self.kind == "shift-scp":
            names |= self.criterion_acting()
        return names | ({"check_every"} if self.watches else set())


_OF_KIND: dict[str, tuple[str, ...]] = {
    "shift": ("switch",),
    "reverse": ("switch",),
    "linear-grow": ("ramp",),
    "stages": ("stages",),
}


def overlaid(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of a schedule where `upper` (an arm, an axis) lies over `lower` (what it changes).

    A list of stages and a short form displace each other: listing stages makes the kind ``stages``, naming another
    kind drops the list.
    """
    merged = {**lower, **upper}
    if upper.get("stages") and "kind" not in upper:
        merged["kind"] = "stages"
    elif upper.get("kind", "stages") != "stages" and "stages" not in upper:
        merged.pop("stages", None)
    return merged


def stage_rules(stages: Sequence[StageConfig], steps: int) -> list[tuple[str, str]]:
    """Rules on a list of stages: each but the last has an end, and every end is later than the latest end before.

    Of criteria in a row the latest ends may be the same step: where one has taken all until then, the next has none.
    """
    broken = []
    first = 1  # step at which a stage may end
    for number, stage in enumerate(stages, start=1):
        where = f"schedule.stages[{number}].until"
        if number == len(stages):
            if stage.until is not None:
                broken.append((where, "is not for the last stage, which ends with the trial; drop it"))
            break
        if stage.until is None:
            broken.append((where, "is required: every stage but the last has an end"))
            continue
        if isinstance(stage.until, CriterionConfig):
            where, end, last = f"{where}.latest", stage.until.latest, steps
            low = first - 1 if number > 1 and isinstance(stages[number - 2].until, CriterionConfig) else first
        else:
            end, last, low = stage.until, steps - 1, first
        step = step_of(end, steps)
        if not low <= step <= last:
            rule = f"must be in {low} … {last}, after the stage before and within train.steps = {steps}"
            if low > last:
                rule = f"has no step left, since the stage before may go on to {first - 1} of train.steps = {steps}"
            broken.append((where, f"{rule}, got {end!r}{f' = step {step}' if isinstance(end, float) else ''}"))
        first = max(first, step + 1)
    return broken


def step_of(value: float | int, steps: int) -> int:
    """A step given as such (integer), or as a share of the steps (float), rounded half up; far beyond the end, 2^63."""
    return value if isinstance(value, int) else math.floor(min(value * steps + 0.5, 2.0**63))
