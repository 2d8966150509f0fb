"""A trial as it is at an earlier step: the configuration whose whole training is the beginning of another's.

A rung of successive halving is such a step. The shares of a schedule (switches, ramps, latest steps of criteria) are
those of the whole trial, worked out; stages that begin later are not there yet. So every link of the truncated trial is
one of the whole trial, up to the step, and whoever goes on trains nothing twice.

Refused is what has no beginning of its own: under a cosine schedule the first update depends on the last step already,
and within a WSD decay or a warm-up a trial of that length would be another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.config import MeasureConfig, TrainConfig, TrialConfig
from core.errors import InputError, Problem
from core.schedule import Acting, Criterion, Declared, declared
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig


def truncated(config: TrialConfig, step: int, *, measure_end: bool = False) -> TrialConfig:
    """The trial that ends at a step of another and is the same up to there.

    Args:
        config: the whole trial.
        step: in 1 … its last; at the last it is the trial itself.
        measure_end: whether what the whole trial measures at its end alone is measured at this end too.

    Returns:
        A configuration of `step` updates. Its state at the end stays (`train.keep` is not "none"): the whole trial
        goes on from it.

    Raises:
        InputError: where there is no such trial; see `untruncatable`.
    """
    train = config.train
    if step == train.steps:
        return config
    if problem := untruncatable(train, step):
        raise InputError([problem])
    # Until its decay a WSD schedule is a constant one.
    keep = "final" if train.keep == "none" else train.keep
    shorter = replace(train, steps=step, lr_schedule="constant", keep=keep)
    schedule = config.schedule
    if schedule.kind not in ("single", "looped"):
        stages = _begun(declared(config.model, train, schedule), step)
        schedule = ScheduleConfig(kind="stages", stages=stages, check_every=schedule.check_every)
    measure = config.measure if measure_end else _on_the_way(config.measure)
    return replace(config, train=shorter, schedule=schedule, measure=measure)


def untruncatable(train: TrainConfig, step: int) -> Problem | None:
    """Why a trial has no beginning of so many steps, if it has none: the term, the rule and the next step."""
    if train.lr_schedule == "cosine":
        message = (
            'under "cosine" every length is another training from its first update on, so nothing of a shorter trial '
            'can be gone on from; take "wsd" or "constant"'
        )
        return Problem("train.lr_schedule", message)
    stable = train.steps - train.decay_steps if train.lr_schedule == "wsd" else train.steps
    if not max(1, train.warmup) <= step <= stable:
        inside = f"{max(1, train.warmup):,} … {stable:,}"
        why = [f"train.steps = {train.steps:,}"]
        why += [f"train.warmup = {train.warmup:,} ends before"] if train.warmup else []
        why += [f"the decay of {train.decay_steps:,} steps begins after"] if train.lr_schedule == "wsd" else []
        return Problem("train.steps", f"can be cut at a step in {inside} ({', '.join(why)}), got {step:,}")
    return None


def _begun(stages: Sequence[Declared], step: int) -> tuple[StageConfig, ...]:
    """The stages that may have begun before a step, written out."""
    found: list[StageConfig] = []
    for stage in stages:
        until = stage.until
        if isinstance(until, int) and until >= step:
            return (*found, _listed(stage.acting, None))
        end = until if isinstance(until, int) else _criterion(until, step)
        found.append(_listed(stage.acting, end))
    return tuple(found)


def _listed(acting: Acting, until: int | CriterionConfig | None) -> StageConfig:
    drawn = {} if acting.draw is None else {"draw": "poisson-lognormal", "sigma": acting.draw}
    return StageConfig(
        loops=acting.loops,
        until=until,
        lr_factor=acting.lr_factor,
        rewarm=acting.rewarm,
        optimizer="reset" if acting.reset else "keep",
        **drawn,  # type: ignore[arg-type]  # a literal and a number
    )


def _criterion(criterion: Criterion, step: int) -> CriterionConfig:
    """The criterion, which at the latest ends its stage with the trial."""
    terms = {"delta1": criterion.delta1, "delta2": criterion.delta2}
    kinds = {"delta1": "gradient", "delta2": "loss"}  # of the term that does not matter
    silent = next((kinds[name] for name, value in terms.items() if value is None), "scp")
    return CriterionConfig(
        criterion=silent,  # type: ignore[arg-type]  # one of the literals
        patience=criterion.patience,
        change=criterion.change,  # type: ignore[arg-type]
        on=criterion.on,  # type: ignore[arg-type]
        latest=min(criterion.latest, step),
        **{name: value for name, value in terms.items() if value is not None},
    )


def _on_the_way(measure: MeasureConfig) -> MeasureConfig:
    """What is measured before the end of the whole trial."""
    return measure if measure.every or measure.at else replace(measure, quantities=())
