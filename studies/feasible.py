"""What only shows on the settings that the axes of a study make, once its parts are sound.

Rules between terms are tried on every setting that the filters keep, so a filter may drop what cannot be. On the way it
shows which axes act on no arm, which arms are left empty, and which steps a claim names that nobody evaluates.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from core.config import MAX_ROWS, TrialConfig
from core.errors import Problem
from core.flops import parameters
from core.observation import evaluation_grid, measurement_steps
from core.quantities import QUANTITIES, QUANTITY_OF
from core.schedule import declared
from studies.grid import Grid, joined
from studies.settings import sound_settings
from studies.space import probe_grids
from studies.study import Arm, Study

MAX_CHECKED = 20_000
"""Settings of all arms whose rules are checked on reading; larger grids are checked when they are expanded."""


def setting_problems(study: Study) -> list[Problem]:
    """Rules between terms that settings break, axes that act nowhere, arms left empty, claims about steps not taken."""
    broken: dict[str, Problem] = {}
    acting: set[str] = set()
    varied: set[str] = set()
    observed: dict[str, tuple[set[int], set[int]]] = {}
    largest: dict[str, int] = {}
    for arm in study.arms:
        grids = settings_grids(study, arm)
        keys = {key for grid in grids for key in grid.keys}
        varied |= keys
        if sum(grid.size for grid in grids) > MAX_CHECKED // len(study.arms):
            acting |= keys
            continue
        maker = study.settings(arm)
        timed = _names_steps(study)
        kept = False
        before = len(broken)
        seen: set[Any] = set()
        evaluated: set[int] = set()
        measured: set[int] = set()
        for setting in sound_settings(maker, itertools.chain.from_iterable(grids), broken):
            kept = kept or any(maker.keeps(setting, seed) for seed in study.seeds)
            acting |= setting.varied.keys()
            config = setting.config
            largest[arm.name] = max(largest.get(arm.name, 0), parameters(config))
            if study.measure.every and config.train.steps // study.measure.every > MAX_ROWS:
                message = f"must give at most {MAX_ROWS} measurements of a trial, got {study.measure.every}"
                broken["measure"] = Problem("measure.every", f"{message} at {config.train.steps} steps")
                continue
            if not timed:
                continue
            clock = (config.train.steps, config.train.evaluate_every, ends := _possible_ends(config))
            if clock not in seen:
                seen.add(clock)
                evaluated |= set(evaluation_grid(config.train.steps, config.train.evaluate_every, ends))
                measured |= set(measurement_steps(config))
        if not kept and len(broken) == before:
            broken[arm.name] = Problem(f"arms.{arm.name}", "has no trial left after `where`; relax a filter")
        observed[arm.name] = evaluated, measured
    broken |= _too_large(study, largest)
    if broken:
        return list(broken.values())
    return [*_idle(study, varied - acting), *_unobserved(study, observed)]


def _possible_ends(config: TrialConfig) -> frozenset[int]:
    """The steps at which a link of a trial may end; a criterion decides while it trains, so all of its checks may."""
    train = config.train
    ends = {train.steps - train.decay_steps} if train.lr_schedule == "wsd" else set()
    begun = 0  # of a stage, at the earliest
    for stage in declared(config.model, train, config.schedule):
        if isinstance(stage.until, int):
            ends.add(begun := stage.until)
        else:  # patience counts changes from check to check, so one check more
            found = [*stage.until.grid(begun)[stage.until.patience :], stage.until.latest]
            ends.update(found)
            begun = found[0]
    return frozenset(ends)


def settings_grids(study: Study, arm: Arm) -> list[Grid]:
    """The grids whose assignments an arm may take; of a search, the ones on which it is tried."""
    if study.search is not None:
        return probe_grids(study.search.space)
    tuned = [study.nuisance.axes] if study.nuisance else []
    return [joined([study.axes, arm.axes, *tuned])]


def _idle(study: Study, keys: Collection[str]) -> Iterator[Problem]:
    """Axes whose values change no trial of any arm."""
    places = [("axes", study.axes.keys), *((f"arms.{arm.name}.axes", arm.axes.keys) for arm in study.arms)]
    places += [("nuisance", study.nuisance.axes.keys)] if study.nuisance else []
    places += [("search.space", tuple(study.search.space))] if study.search else []
    for place, own in places:
        for key in own:
            if key in keys:
                yield Problem(f'{place}."{key}"', "acts on no arm: every value gives the same trial; drop it")


def _too_large(study: Study, largest: Mapping[str, int]) -> dict[str, Problem]:
    """Quantities that only an exact spectrum settles, asked of models above its limit: one problem, the worst arm."""
    measure = study.measure
    names = [name for name in measure.quantities if QUANTITIES[name].means == "exact"]
    arm = max(largest, key=lambda name: largest[name], default=None)
    if not names or arm is None or largest[arm] <= measure.exact:
        return {}
    size = largest[arm]
    message = (
        f"{', '.join(names)} need the exact spectrum, taken up to {measure.exact} parameters; arm {arm} has "
        f"{size} parameters: raise measure.exact to {size} ({24 * size**2 / 2**30:.1f} GiB and {size} Hessian products "
        "each time), or leave them out"
    )
    return {"measure.exact": Problem("measure.exact", message)}


def _names_steps(study: Study) -> bool:
    """Whether the study names a step that a trial may not take."""
    parts = [part for claim in study.claims for part in claim.parts]
    return bool(study.measure.at) or any(type(part.metric.at) is int for part in parts)


def _unobserved(study: Study, observed: Mapping[str, tuple[Collection[int], Collection[int]]]) -> Iterator[Problem]:
    """Steps that are named and never taken, and quantities that are claimed and not measured."""
    for step in study.measure.at:
        if observed and not any(step in measured for _, measured in observed.values()):
            yield Problem("measure.at", f"no arm has a step {step}; stay within train.steps")
    for number, claim in enumerate(study.claims, start=1):
        for part in claim.parts:
            metric, where = part.metric, f"claims[{number}]"
            quantity = QUANTITY_OF.get(metric.name) if metric.source == "curvature" else None
            if quantity is not None and quantity not in study.measure.quantities:
                yield Problem(f"{where}.metric", f"{metric.name} is not measured; add {quantity} to measure.quantities")
                continue
            for arm in (part.arm, part.against):
                steps = observed.get(arm or "", ((), ()))[metric.source == "curvature"]
                if type(metric.at) is int and steps and metric.at not in steps:
                    close = min(steps, key=partial(_distance, metric.at))
                    act = "measured" if metric.source == "curvature" else "evaluated"
                    yield Problem(
                        f"{where}.at", f"arm {arm} is never {act} at step {metric.at}; the closest is {close}"
                    )


def _distance(wanted: int, step: int) -> tuple[int, int]:
    return abs(step - wanted), step
