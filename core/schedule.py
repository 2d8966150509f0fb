"""From a schedule to its stages: which loops act from which step on, as far as that is known.

A schedule is *declared* as a list of stages, each with what acts in it and how it ends: at a step, or by a criterion.
A criterion decides while the trial trains (`core.watch`), so the stages of a trial are a function of its configuration
and of the steps at which its criteria have ended so far. Until the next one has, the stage may go on to the criterion's
latest step and nothing beyond it is known: the trial has a *watch*.

Once a criterion has ended a stage at step s, the trial is that of a fixed switch at s: nothing here remembers why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from core.config import ModelConfig, TrainConfig
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig, step_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """A criterion with its steps worked out; see `core.schedule_terms.CriterionConfig` for the terms."""

    delta1: float | None
    """None: the loss does not matter."""
    delta2: float | None
    """None: the gradient norm does not matter."""
    patience: int
    change: str
    on: str
    latest: int
    """Step."""
    every: int
    """Steps between checks: it is checked at the multiples of this after the stage's start, up to `latest`."""

    def terms(self) -> dict[str, Any]:
        """What it is, for the identity of a trial."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def grid(self, start: int) -> range:
        """The steps at which it is checked in a stage that begins at `start`."""
        return range(start - start % self.every + self.every, self.latest + 1, self.every)


@dataclass(frozen=True, kw_only=True, slots=True)
class Acting:
    """What acts in a stage, wherever it lies."""

    loops: int
    injection: str = "none"
    loss_on: str = "last"
    draw: float | None = None
    """Loops of each update are drawn with mean `loops` (Poisson-lognormal, this sigma); None: they are `loops`."""
    offset: int | None = None
    """A sequence of length n is looped n + offset times, at least once and at most `loops`; None: `loops` times."""
    backprop: int = 0
    """Gradients flow through the last so many loops; 0: through all."""
    lr_factor: float = 1.0
    rewarm: int = 0
    """Updates of linear warm-up at the stage's start."""
    reset: bool = False
    """The optimiser state is zero at the stage's start."""

    def terms(self) -> dict[str, Any]:
        """As plain values, for lineages; what acts on nothing is left out."""
        looped = self.loops > 1 or self.draw is not None
        plain: dict[str, Any] = {"loops": self.loops}
        if looped:
            # The order of a sum in the backward pass of an injection changed after trials had been recorded.
            injection = "add, 2" if self.injection == "add" else self.injection
            plain |= {"injection": injection, "loss_on": self.loss_on}
        plain |= {} if self.draw is None else {"draw": self.draw}
        plain |= {} if self.offset is None else {"offset": self.offset}
        plain |= {"backprop": self.backprop} if self.backprop else {}
        plain |= {} if self.lr_factor == 1.0 else {"lr_factor": self.lr_factor}
        plain |= {"rewarm": self.rewarm} if self.rewarm else {}
        return plain | ({"reset": True} if self.reset else {})

    def goes_on(self, before: Acting, updates: int) -> bool:
        """Whether a stage that acts so after so many updates of `before`, or more, changes nothing: they are one."""
        alike = self == replace(before, rewarm=0, reset=False)
        warm = before.rewarm - 1  # the last update of a re-warm-up has the whole learning rate
        return alike and not self.rewarm and not self.reset and updates >= warm


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A stage as it is declared: what acts, and its end; for the last, the last step of the trial."""

    acting: Acting
    until: int | Criterion


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage in its place: from the state at step `start` to that at `end`."""

    start: int
    end: int
    """Of a stage that is being watched, the latest step."""
    acting: Acting


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What a trial waits for: the criterion of the stage that it is in."""

    criterion: Criterion
    start: int
    """Step from which it counts: where its stage, as declared, began; the stage in its place may go on from before."""
    stage: int
    """Index of the stage in its place."""


def declared(model: ModelConfig, train: TrainConfig, schedule: ScheduleConfig) -> tuple[Declared, ...]:
    """The stages of a schedule, without those that change nothing (see `_merged`)."""
    steps = train.steps
    every = schedule.check_every or train.evaluate_every
    first = _acting(model, schedule, 1)
    looped = _acting(model, schedule, model.loops)

    def begun(acting: Acting) -> Acting:
        """How a stage after the first acts."""
        reset = schedule.optimizer == "reset"
        return replace(acting, lr_factor=schedule.lr_factor, rewarm=_rewarm(schedule), reset=reset)

    def parts(ends: Sequence[int | Criterion], acts: Sequence[Acting]) -> list[Declared]:
        found: list[Declared] = []
        before = 0
        for acting, end in zip(acts, [*ends, steps], strict=True):
            if isinstance(end, int):
                if end <= before:  # more stages than updates
                    continue
                before = end
            found.append(Declared(acting=begun(acting) if found else acting, until=end))
        return found

    match schedule.kind:
        case "single":
            found = parts([], [first])
        case "looped":
            found = parts([], [looped])
        case "shift":
            found = parts([step_of(schedule.switch, steps)], [first, looped])
        case "reverse":
            found = parts([step_of(schedule.switch, steps)], [looped, first])
        case "shift-scp":
            found = parts([_criterion(schedule, steps, every)], [first, looped])
        case "grow" | "linear-grow":
            ends = _grown(model.loops, steps, schedule)
            found = parts(ends, [_acting(model, schedule, loops) for loops in range(1, model.loops + 1)])
        case _:
            found = [_listed(stage, model, steps, every) for stage in schedule.stages]
    return _merged(found)


def _acting(model: ModelConfig, schedule: ScheduleConfig | StageConfig, loops: int) -> Acting:
    if loops == 1:
        return Acting(loops=1)
    draw = None if schedule.draw == "fixed" else schedule.sigma
    truncated = model.backprop_loops < loops or draw is not None
    return Acting(
        loops=loops,
        injection=model.injection,
        loss_on=model.loss_on,
        draw=draw,
        offset=model.loops_offset if model.loops_by == "length" else None,
        backprop=model.backprop_loops if truncated else 0,
    )


def _rewarm(schedule: ScheduleConfig | StageConfig) -> int:
    """Updates of re-warm-up; one update makes none, since the last of them has the whole learning rate."""
    return schedule.rewarm if schedule.rewarm > 1 else 0


def _listed(stage: StageConfig, model: ModelConfig, steps: int, every: int) -> Declared:
    acting = replace(
        _acting(model, stage, model.loops if stage.loops is None else stage.loops),
        lr_factor=stage.lr_factor,
        rewarm=_rewarm(stage),
        reset=stage.optimizer == "reset",
    )
    match stage.until:
        case None:
            return Declared(acting=acting, until=steps)
        case CriterionConfig():
            return Declared(acting=acting, until=_criterion(stage.until, steps, every))
        case until:
            return Declared(acting=acting, until=step_of(until, steps))


def _criterion(terms: CriterionConfig, steps: int, every: int) -> Criterion:
    return Criterion(
        delta1=None if terms.criterion == "gradient" else terms.delta1,
        delta2=None if terms.criterion == "loss" else terms.delta2,
        patience=terms.patience,
        change=terms.change,
        on="val" if terms.criterion == "gradient" else terms.on,
        latest=step_of(terms.latest, steps),
        every=every,
    )


def _grown(loops: int, steps: int, schedule: ScheduleConfig) -> list[int]:
    """Ends of the stages with 1, 2, … loops − 1 loops.

    ``grow``: equal parts of the steps. ``linear-grow``: the update after step s has
    1 + (loops − 1) · s / ramp loops, rounded half up (the curriculum of McLeish et al., arXiv 2511.07384).
    """
    if schedule.kind == "grow":
        return [(2 * part * steps + loops) // (2 * loops) for part in range(1, loops)]  # rounded half up
    ramp = step_of(schedule.ramp, steps)
    return [-(-ramp * (2 * part - 1) // (2 * (loops - 1))) for part in range(1, loops)]


def _merged(stages: Sequence[Declared]) -> tuple[Declared, ...]:
    """With neighbours joined that act alike whenever the first ends; the later end counts.

    Not where the later end is a criterion, which waits for the first: it counts from there on. In their places they are
    one stage all the same (`placed`).
    """
    merged: list[Declared] = []
    began = ended = 0  # of the last one: at the latest
    for stage in stages:
        if merged and isinstance(stage.until, int):
            last = merged[-1]
            updates = ended - began if isinstance(last.until, int) else 0
            if stage.acting.goes_on(last.acting, updates):
                merged[-1] = replace(last, until=stage.until)
                ended = stage.until
                continue
        merged.append(stage)
        began, ended = ended, stage.until if isinstance(stage.until, int) else stage.until.latest
    merged[0] = replace(merged[0], acting=replace(merged[0].acting, reset=False))  # at step 0 it is zero anyway
    return tuple(merged)


@lru_cache(maxsize=65536)
def placed(stages: tuple[Declared, ...], ended: tuple[int, ...]) -> tuple[tuple[Stage, ...], Watch | None]:
    """The stages in their places, as far as the criteria that have ended decide it.

    Args:
        stages: as declared.
        ended: by criterion, in order, the step at which it ended its stage; shorter where that is not known yet.

    Returns:
        The stages up to the one that is being watched (which is there up to its latest step), and the watch; all of
        them and None where nothing is to be watched any more.

    Raises:
        ValueError: more ends than criteria, or an end outside its stage.
    """
    found: list[Stage] = []
    start, left = 0, list(ended)
    for declared_stage in stages:
        acting, until = declared_stage.acting, declared_stage.until
        waits: Criterion | None = None
        if isinstance(until, int):
            end = until
        elif start >= until.latest:  # criteria before it have taken all steps
            continue
        elif left:
            end = left.pop(0)
            if not start < end <= until.latest:
                raise ValueError(f"a criterion ends its stage in {start + 1} … {until.latest}, got {end}")
        else:
            end, waits = until.latest, until
        if end > start:
            if found and acting.goes_on(found[-1].acting, start - found[-1].start):
                found[-1] = replace(found[-1], end=end)
            else:
                found.append(Stage(start=start, end=end, acting=acting))
        if waits is not None:
            return tuple(found), Watch(criterion=waits, start=start, stage=len(found) - 1)
        start = end
    if left:
        raise ValueError(f"the schedule has {len(ended) - len(left)} criteria, got {len(ended)} ends")
    return tuple(found), None
