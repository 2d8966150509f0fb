"""From a study to its trials, in canonical order.

Arms in file order; in each, the study's axes, then the arm's own, in file order, the first slowest; seeds last. An axis
that does not act gives one trial, not copies: of equal trials of an arm the first stays. A setting with nuisance axes
is a *slot*: its candidates run on the tuning seeds (role ``tune``), the winner on the study's seeds (role
``compare``), as soon as it is known. A search's trials come from its proposals. A control's trials are those that match
the settings of another arm (`studies.match`); one that matches several of them is one trial, and says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config import TrialConfig
from core.errors import InputError, Problem
from core.lineage import Link, trial_id, under_seeds, watch
from core.schedule import Watch
from studies.grid import Assignment, Grid, joined
from studies.located import located
from studies.rungs import at_rungs
from studies.settings import Setting, converter, known_keys, sound_settings
from studies.study import Arm, Study

SlotKey = tuple[str, Assignment]
"""Arm, and the values of the compared axes that act on any candidate."""

Winners = Mapping[SlotKey, Assignment]
"""By slot, the nuisance values that won."""

Proposal = tuple[str, int, Mapping[str, Any]]
"""Arm, number, values by dotted key."""

Promoted = Mapping[tuple[str, int], int]
"""By arm and number of a proposal that has come further than the first rung (0): the highest one (`studies.rungs`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial of a study: what it trains, and what it is for."""

    study: str
    arm: str
    role: str
    """compare | tune | confirm"""
    config: TrialConfig
    trial_id: str
    links: tuple[Link, ...]
    """Its chain as far as known: to its end, or to the latest step of the criterion that it waits for."""
    varied: Mapping[str, Any]
    """By dotted key, the values of axes (and nuisance and search keys) that act on this trial. Of a control also the
    term that is chosen, and of the axes that act on the other arm the values that are equal in all of `matched`."""
    ended: tuple[int, ...] = ()
    """By criterion of its schedule, the step at which it ended its stage, as far as recorded rows tell."""
    watch: Watch | None = None
    """The criterion that it waits for; None where its whole chain is known."""
    matched: tuple[Assignment, ...] = ()
    """Of a control: the settings of the compared axes that it stands for, as those of the arm that it is matched to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One setting of the compared axes of an arm, and the nuisance settings that compete for it."""

    arm: str
    setting: Assignment
    candidates: tuple[Setting, ...]
    """In canonical order; one where nothing is to be tuned."""
    keeps: Callable[[Setting, int], bool]
    """Whether filters that read the seed keep a candidate under it."""
    matched: tuple[Assignment, ...] = ()
    """Of a control, as in `Trial`."""

    @property
    def key(self) -> SlotKey:
        """Its name in `Winners`."""
        return self.arm, self.setting

    def nuisance(self, candidate: Setting) -> Assignment:
        """The values of a candidate that compete."""
        own = dict(self.setting)
        return tuple((key, value) for key, value in candidate.varied.items() if key not in own)


def count(study: Study) -> int:
    """How many trials a study can have at most, by arithmetic alone: before filters, and counting idle axes."""
    if study.search is not None:
        search, seeds = study.search, len(study.seeds)
        settings = [search.count(arm) for arm in study.arms]
        return seeds * sum(settings if search.halving is None else map(search.halving.most, settings))
    total = 0
    for arm in study.arms:
        per_slot = len(study.seeds)
        if study.nuisance is not None:
            per_slot += study.nuisance.axes.size * len(study.nuisance.seeds)
        total += joined([study.axes, arm.axes]).size * per_slot
    return total


def expand(
    study: Study,
    winners: Winners | None = None,
    proposals: Iterable[Proposal] | None = None,
    promoted: Promoted | None = None,
) -> list[Trial]:
    """The trials of a study.

    Args:
        study: a checked study.
        winners: of nuisance slots, as far as known (`studies.tuning.winners`); their compare trials are given too.
        proposals: of the search, as recorded; a search has no trials without.
        promoted: of a search whose settings are halved, as far as known; its proposals are at the first rung without.

    Raises:
        InputError: where settings break rules between terms, or a winner or proposal is none of this study's.
    """
    try:
        if study.search is not None:
            found = (trial for _, _, trial in proposed(study, proposals or (), promoted))
            return _distinct(found, alike=study.search.halving is not None)
        return _distinct(_planned(study, winners or {}))
    except InputError as error:
        raise InputError(located(error.problems, study.file)) from error


def slots(study: Study) -> Iterator[Slot]:
    """The slots of a study, in canonical order; without nuisance axes each has one candidate.

    Raises:
        InputError: where settings break rules between terms.
    """
    broken: dict[str, Problem] = {}
    for arm in study.arms:
        yield from _arm_slots(study, arm, broken)
    if broken:
        raise InputError(broken.values())


def _arm_slots(study: Study, arm: Arm, broken: dict[str, Problem]) -> Iterator[Slot]:
    maker = study.settings(arm)
    compared = joined([study.axes, arm.axes])
    if study.nuisance is None and arm.match is None:
        for setting in sound_settings(maker, iter(compared), broken):
            yield Slot(arm=arm.name, setting=tuple(setting.varied.items()), candidates=(setting,), keeps=maker.keeps)
        return
    # Outer settings that differ only in what does not act are one slot; of equal candidates the first stays.
    tuned = study.nuisance.axes if study.nuisance is not None else Grid()
    merged: dict[Assignment, dict[str, Setting]] = {}
    matched: dict[Assignment, dict[Assignment, None]] = {}
    for outer in compared:
        found = list(sound_settings(maker, (outer + inner for inner in tuned), broken))
        own = _own(arm, outer, found)
        for setting in found:
            merged.setdefault(own, {}).setdefault(trial_id(setting.config), setting)
        if arm.match is not None and found:
            own_keys = [key for key, _ in outer]
            paired = {key: value for setting in found for key, value in (setting.paired or {}).items()}
            stands_for = tuple((key, paired[key]) for key in own_keys if key in paired)
            matched.setdefault(own, {})[stands_for] = None
    for own, candidates in merged.items():
        yield Slot(
            arm=arm.name,
            setting=own,
            candidates=tuple(candidates.values()),
            keeps=maker.keeps,
            matched=tuple(matched.get(own, ())),
        )


def _own(arm: Arm, outer: Assignment, found: Sequence[Setting]) -> Assignment:
    """The values that name a slot: of the compared axes that act on any candidate, and what a match has chosen."""
    by = None if arm.match is None else arm.match.by
    own = tuple(pair for pair in outer if pair[0] != by and any(pair[0] in setting.varied for setting in found))
    return own if by is None or not found else (*own, (by, found[0].varied[by]))


def _planned(study: Study, winners: Winners) -> Iterator[Trial]:
    tuned = study.nuisance.seeds if study.nuisance else ()
    unknown = set(winners)
    for slot in slots(study):
        unknown.discard(slot.key)
        if len(slot.candidates) == 1:
            yield from _trials(study, slot, slot.candidates[0], "compare", study.seeds)
            continue
        for candidate in slot.candidates:
            yield from _trials(study, slot, candidate, "tune", tuned)
        if slot.key in winners:
            winner = _winner(slot, winners[slot.key])
            yield from _trials(study, slot, winner, "compare", study.seeds)
    if unknown:
        raise InputError(f"winners must be of slots of this study, got one of {min(map(str, unknown))}")


def _winner(slot: Slot, nuisance: Assignment) -> Setting:
    for candidate in slot.candidates:
        if slot.nuisance(candidate) == tuple(nuisance):
            return candidate
    shown = ", ".join(f"{key} = {value!r}" for key, value in nuisance)
    raise InputError(f"arm {slot.arm}: the winner must be one of the candidates, got {shown}")


def _trials(study: Study, slot: Slot, setting: Setting, role: str, seeds: Iterable[int]) -> Iterator[Trial]:
    kept = (seed for seed in seeds if slot.keeps(setting, seed))
    first = watch(setting.config) if setting.config.schedule.watches else None
    varied = {**_agreed(slot.matched), **setting.varied} if slot.matched else setting.varied
    for config, key, chain in under_seeds(setting.config, kept):
        yield Trial(
            study=study.name,
            arm=slot.arm,
            role=role,
            config=config,
            trial_id=key,
            links=chain,
            varied=varied,
            watch=first,
            matched=slot.matched,
        )


def _agreed(matched: Sequence[Assignment]) -> dict[str, Any]:
    """The values that all the settings have in which a control stands for them."""
    rest = [dict(setting) for setting in matched[1:]]
    return {key: value for key, value in matched[0] if all(other.get(key) == value for other in rest)}


def proposed(
    study: Study, proposals: Iterable[Proposal], promoted: Promoted | None = None
) -> Iterator[tuple[tuple[str, int], int, Trial]]:
    """The trials of some proposals: (arm and number of the proposal, rung, trial); equal ones are not joined.

    Args:
        study: with a search; one without has none.
        proposals: as recorded.
        promoted: as in `expand`.
    """
    search = study.search
    if search is None:
        return
    arms = {arm.name: study.settings(arm) for arm in study.arms}
    spaces = {arm.name: arm.space for arm in study.arms}
    convert = converter(known_keys())
    order = {name: index for index, name in enumerate(arms)}
    for arm, number, params in sorted(proposals, key=lambda p: (order.get(p[0], -1), p[1])):
        where = f"proposal {number} of arm {arm}"
        if arm not in arms:
            raise InputError([Problem(where, "the study has no such arm")])
        if set(params) != set(spaces[arm]):
            wanted, got = (", ".join(keys) or "nothing" for keys in (spaces[arm], params))
            raise InputError([Problem(where, f"must give {wanted}, got {got}")])
        assignment = []
        for key in spaces[arm]:
            value, wrong = convert(key, params[key])
            if wrong is not None:
                raise InputError([Problem(f"{where}: {key}", wrong)])
            assignment.append((key, value))
        setting = arms[arm].setting(tuple(assignment))
        if setting is None:  # a search has no filters
            continue
        slot = Slot(arm=arm, setting=tuple(setting.varied.items()), candidates=(setting,), keeps=arms[arm].keeps)
        halving, highest = search.halving, (promoted or {}).get((arm, number), 0)
        if halving is None:
            rungs = [(setting, "compare")]
        else:
            rungs = list(at_rungs(setting, halving, range(highest + 1), search.metric))
        for rung, (at_rung, role) in enumerate(rungs):
            for trial in _trials(study, slot, at_rung, role, study.seeds):
                yield (arm, number), rung, trial


def _distinct(trials: Iterable[Trial], *, alike: bool = False) -> list[Trial]:
    """The trials without those that an earlier one of the same arm trains already; as a control it stands for both.

    Args:
        trials: in canonical order.
        alike: one that stands for several settings says only what is equal in all of them: at a rung before a switch,
            what is searched may not act yet.
    """
    found: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        known = found.setdefault((trial.arm, trial.trial_id), trial)
        if known is not trial and trial.matched != known.matched:
            both = tuple(dict.fromkeys([*known.matched, *trial.matched]))
            varied = {key: value for key, value in known.varied.items() if trial.varied.get(key) == value}
            found[trial.arm, trial.trial_id] = replace(known, matched=both, varied=varied)
        elif alike and known is not trial and trial.varied != known.varied:
            varied = {key: value for key, value in known.varied.items() if trial.varied.get(key) == value}
            found[trial.arm, trial.trial_id] = replace(known, varied=varied)
    return list(found.values())
