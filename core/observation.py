"""When a trial is observed: the steps of its evaluations and of its measurements; never part of what it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from core.config import MeasureConfig, TrialConfig
from core.lineage import links


def evaluation_steps(config: TrialConfig) -> list[int]:
    """The steps at which a trial is evaluated: 0, each multiple of `evaluate_every`, each end of a link, the last."""
    return evaluation_grid(config.train.steps, config.train.evaluate_every, [link.end for link in links(config)])


def evaluation_grid(steps: int, every: int, ends: Iterable[int]) -> list[int]:
    """`evaluation_steps` by all that decides them: steps of the trial, `evaluate_every`, ends of its links."""
    return sorted({0, steps, *range(0, steps + 1, every), *ends})


def measurement_steps(config: TrialConfig) -> list[int]:
    """The steps at which curvature is measured: multiples of `every` and `at` within the trial, else its last step."""
    return measurement_grid(config.train.steps, config.measure)


def measurement_grid(steps: int, measure: MeasureConfig) -> list[int]:
    """`measurement_steps` by all that decides them: steps of the trial, what is measured."""
    if not measure.quantities:
        return []
    chosen = {step for step in measure.at if step <= steps}
    if measure.every:
        chosen |= set(range(0, steps + 1, measure.every))
    return sorted(chosen) if chosen or measure.at else [steps]


def with_observation(config: TrialConfig, *, evaluate_every: int, measure: MeasureConfig) -> TrialConfig:
    """The same trial, observed differently."""
    return replace(config, train=replace(config.train, evaluate_every=evaluate_every), measure=measure)
