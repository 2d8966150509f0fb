"""What only shows on the settings that the axes of a study make, once its parts are sound.

Rules between terms are tried on every setting that the filters keep, so a filter may drop what cannot be. On the way it
shows which axes act on no arm, which arms are left empty, and when its trials are observed, for `studies.decidable`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from core.config import TrialConfig
from core.errors import Problem
from core.flops import parameters
from core.quantities import QUANTITIES
from core.schedule import declared
from core.schedule_terms import MAX_ROWS
from studies.decidable import Observed, undecidable
from studies.grid import Grid, joined
from studies.rungs import rung_problem
from studies.settings import sound_settings
from studies.space import probe_grids
from studies.study import Arm, Study
from studies.texts import lacks

MAX_CHECKED = 20_000
"""Settings of all arms whose rules are checked on reading; larger grids are checked when they are expanded."""


@dataclass(frozen=True, kw_only=True)
class Walked:
    """What a walk over the settings of a study has shown."""

    problems: list[Problem]
    """Rules between terms that settings break, axes that act nowhere, arms left empty, what nothing decides."""
    acting: Mapping[str, Collection[str]]
    """By arm, the varied keys that act on some setting of it."""


def searched_where_acting(study: Study, walked: Walked) -> Study:
    """The study whose arms search only the keys that act on them."""
    arms = [
        replace(arm, space={key: d for key, d in arm.space.items() if key in walked.acting[arm.name]})
        for arm in study.arms
    ]
    return replace(study, arms=tuple(arms))


def walk(study: Study) -> Walked:
    """Tries the rules between terms on every setting of a study, or on a searched space's probes."""
    broken: dict[str, Problem] = {}
    acting: dict[str, set[str]] = {arm.name: set() for arm in study.arms}
    observed: dict[str, Observed] = {}
    largest: dict[str, int] = {}
    timed = _names_steps(study)
    texts = {text.digest: text for text in study.texts}
    halving = None if study.search is None else study.search.halving
    # Controls come last: they are as sound as the arms that they are matched to.
    for arm in sorted(study.arms, key=lambda arm: arm.match is not None):
        grids = settings_grids(study, arm)
        if sum(grid.size for grid in grids) > MAX_CHECKED // len(study.arms):
            acting[arm.name] = {key for grid in grids for key in grid.keys}
            continue
        maker = study.settings(arm)
        kept = False
        before = len(broken)
        seen = observed[arm.name] = Observed()
        for setting in sound_settings(maker, itertools.chain.from_iterable(grids), broken):
            kept = kept or any(maker.keeps(setting, seed) for seed in study.seeds)
            acting[arm.name] |= setting.varied.keys()
            config = setting.config
            if halving is not None and (unfit := rung_problem(halving, config)) is not None:
                broken.setdefault(unfit.where, unfit)
            for problem in lacks(config, texts):
                broken.setdefault(f"{arm.name} {problem}", Problem(f"arms.{arm.name}.{problem.where}", problem.message))
            largest[arm.name] = max(largest.get(arm.name, 0), parameters(config))
            if study.measure.every and config.train.steps // study.measure.every > MAX_ROWS:
                message = f"must give at most {MAX_ROWS} measurements of a trial, got {study.measure.every}"
                broken["measure"] = Problem("measure.every", f"{message} at {config.train.steps} steps")
                continue
            seen.measures(config)
            if timed:
                seen.evaluates(config, _possible_ends(config))
        if not kept and len(broken) == before and not (arm.match and broken):
            broken[arm.name] = Problem(f"arms.{arm.name}", "has no trial left after `where`; relax a filter")
    broken |= _too_large(study, largest)
    found = list(broken.values()) or [*_idle(study, acting), *_unobserved(study, observed)]
    return Walked(problems=found, acting=acting)


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
        return probe_grids(arm.space)
    tuned = [study.nuisance.axes] if study.nuisance else []
    return [joined([study.axes, arm.axes, *tuned])]


def _idle(study: Study, acting: Mapping[str, Collection[str]]) -> Iterator[Problem]:
    """Axes whose values change no trial of any arm, and what an arm searches of its own that changes none of it."""
    anywhere = {key for keys in acting.values() for key in keys}
    own = [arm for arm in study.arms if arm.match is None]
    places = [("axes", study.axes.keys), *((f"arms.{arm.name}.axes", arm.axes.keys) for arm in own)]
    places += [("nuisance", study.nuisance.axes.keys)] if study.nuisance else []
    common = study.search.space if study.search else {}
    places += [("search.space", tuple(common))]
    for place, listed in places:
        for key in listed:
            if key not in anywhere:
                yield Problem(f'{place}."{key}"', "acts on no arm: every value gives the same trial; drop it")
    for arm in study.arms:
        for key, dimension in arm.space.items():
            if dimension is not common.get(key) and key not in acting[arm.name]:
                message = "does not act on this arm: every value gives the same trial; drop it"
                yield Problem(f'arms.{arm.name}.space."{key}"', message)


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
    """Whether a claim names a step at which a trial may not be evaluated."""
    parts = [part for claim in study.claims for part in claim.parts]
    return any(type(part.metric.at) is int for part in parts)


def _unobserved(study: Study, observed: Mapping[str, Observed]) -> Iterator[Problem]:
    """Steps that are named and never taken, and claims that look at what is not measured."""
    for step in study.measure.at:
        if observed and not any(step in seen.measured for seen in observed.values()):
            yield Problem("measure.at", f"no arm has a step {step}; stay within train.steps")
    yield from itertools.starmap(Problem, undecidable(study, observed))
