"""Claims and objectives that no result could decide: what they look at is not measured, not then, or not often enough.

A study is refused for them when it is read, with the way out, so a slip costs a second and not the night of the sweep.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from core.config import TrialConfig
from core.errors import InputError
from core.observation import evaluation_grid, measurement_steps
from core.quantities import CURVES, point, points, quantity_of
from core.task_terms import TASKS
from core.terms import nearest
from studies.claims import FUNCTIONALS, Claim, MetricRef, Part
from studies.grid import joined
from studies.objectives import objective, objectives
from studies.study import Study

MOST_TRIED = 100_000
"""Settings of an arm up to which a claim's filter is tried on each when the study is read."""


@dataclass(kw_only=True)
class Observed:
    """When the trials of one arm are observed, over all its settings."""

    evaluated: set[int] = field(default_factory=set)
    """Steps at which some trial is evaluated."""
    measured: set[int] = field(default_factory=set)
    """Steps at which curvature is measured on some trial."""
    most: int = 0
    """Measurements of the trial that has most of them."""
    metrics: set[str] = field(default_factory=set)
    """Metrics of their own that the tasks of its trials have."""
    lasts: dict[int, int] = field(default_factory=dict)
    """By the number of updates of a trial: its last measured step; −1 where it is never measured."""
    _clocks: set[tuple[int, int, frozenset[int]]] = field(default_factory=set)

    def measures(self, config: TrialConfig) -> None:
        """Takes note of when a trial is measured, and of what its task has of its own."""
        self.metrics.update(config.task.own_metrics)
        if config.train.steps not in self.lasts:
            steps = measurement_steps(config)
            self.measured |= set(steps)
            self.most = max(self.most, len(steps))
            self.lasts[config.train.steps] = steps[-1] if steps else -1

    def evaluates(self, config: TrialConfig, ends: frozenset[int]) -> None:
        """Takes note of when a trial is evaluated, whose links may end at these steps."""
        clock = (config.train.steps, config.train.evaluate_every, ends)
        if clock not in self._clocks:
            self._clocks.add(clock)
            self.evaluated |= set(evaluation_grid(*clock))


def undecidable(study: Study, observed: Mapping[str, Observed]) -> Iterator[tuple[str, str]]:
    """(place, message) of what a claim, or an objective, looks at and no trial of its arms will have.

    Args:
        study: the study.
        observed: by arm, of those whose settings are known; of the others nothing is refused.
    """
    # Parts that differ by the value of an axis alone look at the same, so each thing is said once.
    yield from dict.fromkeys(pair for claim in study.claims for pair in _claimed(study, claim, observed))
    for place, text in objectives(study.nuisance, study.search):
        arms = study.arm_names
        for _, message in _looked_at(study, objective(text), arms, observed, searched=True):
            yield place, message


def _claimed(study: Study, claim: Claim, observed: Mapping[str, Observed]) -> Iterator[tuple[str, str]]:
    for part in claim.parts:
        arms = [arm for arm in (part.arm, part.against) if arm is not None]
        if (nothing := _keeps_nothing(study, part)) is not None:
            yield f"{claim.place}.where", nothing
            continue
        for key, message in _looked_at(study, part.metric, arms, observed):
            yield f"{claim.place}.{key}", message


def _looked_at(
    study: Study, metric: MetricRef, arms: Collection[str], observed: Mapping[str, Observed], *, searched: bool = False
) -> Iterator[tuple[str, str]]:
    """(key, message) where a metric of these arms is not had."""
    quantity = _quantity(metric)
    if quantity is not None and quantity not in study.measure.quantities:
        if metric.source == "functional":
            message = f"{metric.text} needs the quantity {quantity}; add it to measure.quantities"
        else:
            message = f"{metric.name} is not measured; add {quantity} to measure.quantities"
        yield "metric", message
        return
    top = study.measure.top
    if metric.name == "hopping_at" and metric.arguments[0] > top:
        rank = f"{metric.arguments[0]:g}"
        yield "metric", f"{metric.text} looks beyond measure.top = {top} eigenvectors; raise measure.top to {rank}"
        return
    if metric.source == "curvature" and (of_curve := point(metric.name)) and metric.name not in points([study.measure]):
        term = CURVES[of_curve.curve].listed
        yield "metric", f"{metric.name} is not measured; add {of_curve.x} to measure.{term}"
        return
    known = {arm: observed[arm] for arm in arms if arm in observed}
    for arm, seen in known.items():
        if (own := _own_metric(metric)) is not None and own not in seen.metrics:
            kinds = ", ".join(kind for kind, task in TASKS.items() if own in task.own_metrics)
            yield "metric", f"{metric.name} is only had of tasks of kind {kinds}, and arm {arm} has none; take another"
            return
        steps = seen.evaluated if quantity is None else seen.measured
        if quantity is not None and not steps:
            way = f"add {min(seen.lasts)} to measure.at"
            yield (
                "metric",
                f"needs {quantity}, and arm {arm}, which ends at step {min(seen.lasts)}, is never measured; {way}",
            )
        elif type(metric.at) is int and metric.at not in steps:
            close = min(steps, key=partial(_distance, metric.at))
            act = "evaluated" if quantity is None else "measured"
            yield "at", f"arm {arm} is never {act} at step {metric.at}; the closest is {close}"
    if quantity is None or not all(seen.measured for seen in known.values()):
        return
    if metric.source == "functional":
        yield from _few(metric, known)
    elif metric.at == "final":
        yield from _no_end(metric, known, searched=searched)


def _keeps_nothing(study: Study, part: Part) -> str | None:
    """Why filters leave nothing to compare, or read what no setting has; None where they do not."""
    grids = {arm.name: joined([study.axes, arm.axes]) for arm in study.arms if arm.name in (part.arm, part.against)}
    axes = list(dict.fromkeys(key for grid in grids.values() for key in grid.keys))
    for filter_ in part.where:
        if unknown := sorted(filter_.names - set(axes)):
            known = nearest(unknown[0], axes) if axes else "they have none"
            return f"{filter_.text!r} reads {unknown[0]}, which is no axis of {' or '.join(grids)}; {known}"
    for arm, grid in grids.items() if part.where else ():
        settings = map(dict, itertools.islice(grid, MOST_TRIED))
        try:
            if grid.size <= MOST_TRIED and not any(all(f.admits(s) for f in part.where) for s in settings):
                return f"{part.where_text!r} keeps no setting of arm {arm}; compare with values that its axes have"
        except InputError as error:
            return f"{part.where_text!r} {error}"
    return None


def _own_metric(metric: MetricRef) -> str | None:
    """The metric, without its stratum, where only some tasks have it."""
    own = {name for task in TASKS.values() for name in task.own_metrics}
    return next((name for name in own if metric.name == name or metric.name.startswith(f"{name}_")), None)


def _few(metric: MetricRef, known: Mapping[str, Observed]) -> Iterator[tuple[str, str]]:
    least = FUNCTIONALS[metric.name].measurements
    few = {arm: seen.most for arm, seen in known.items() if seen.most < least}
    if few:
        got = ", ".join(f"{most} in arm {arm}" for arm, most in few.items())
        way = "lower measure.every, or list steps in measure.at"
        yield "metric", f"{metric.text} needs at least {least} measurements of a trial, got {got}; {way}"


def _no_end(metric: MetricRef, known: Mapping[str, Observed], *, searched: bool) -> Iterator[tuple[str, str]]:
    """A column at the end of trials none of which is measured there; arms that are alike share one line."""
    arms: dict[tuple[int, int], list[str]] = {}
    for arm, seen in known.items():
        if all(last < steps for steps, last in seen.lasts.items()):
            steps, last = max(seen.lasts.items(), key=lambda item: item[1])
            arms.setdefault((steps, last), []).append(arm)
    for (steps, last), names in arms.items():
        who = f"arm{'s' * (len(names) > 1)} {' and '.join(names)}"
        message = f"no trial of {who} is measured at its last step, {steps}; the closest is {last}"
        how = f"drop `final_` and claim at = {last}" if metric.text.startswith("final_") else f"claim at = {last}"
        if searched:
            how = f"take best_{metric.name}"
        yield "metric", f"{metric.text} is taken at the end, and {message}: add {steps} to measure.at, or {how}"


def _quantity(metric: MetricRef) -> str | None:
    """The quantity that a metric is read from; None where it needs no measurement."""
    if metric.source == "functional":
        return FUNCTIONALS[metric.name].quantity
    return quantity_of(metric.name) if metric.source == "curvature" else None


def _distance(wanted: int, step: int) -> tuple[int, int]:
    return abs(step - wanted), step
