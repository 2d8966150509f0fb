"""What a study costs where criteria have not decided yet: a worst case and a best case, as if they had.

Worst: on each trunk the criteria end their stages at different steps, each at the first check at which it can (its
(patience + 1)-th, and after all that is recorded) that no other on that trunk has taken; once the checks up to the
latest step are all taken, the rest share the first. So branches are as many and as long as they can be. Best: on each
trunk they all end at one step, the first check at which the most patient of them can. What is recorded is fact in both.
Neither is a bound to the last FLOP: where arms that share nothing stand beside them, other ends may save a little less.

Trials that such a case makes equal in all but their criterion are kept once, with their number: in the best case nearly
all of a trunk's are one, and even in the worst they are no more than the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.schedule import Criterion, Watch
from studies.coverage import Coverage
from studies.expand import Trial
from studies.outline import earliest
from studies.stage_ends import stage_ends
from studies.watchers import assumed, watched_links

WORST = (
    "worst case: the criteria of a trunk end at different checks, each at the first free one after its patience "
    "(when checks run out, the rest share one)"
)
BEST = "best case: all criteria of a trunk end at one check, the first at which the most patient can"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Trials as a case has them."""

    trials: tuple[Trial, ...]
    """Whole chains: first those that wait for nothing, in their order, then one for each that the case tells apart."""
    numbers: tuple[int, ...]
    """How many trials each stands for."""


def worst_case(trials: Sequence[Trial], coverage: Coverage) -> Case:
    """The trials as if criteria had decided for the least sharing; see the module's docstring.

    Args:
        trials: with their criteria ended as rows decide (`studies.watchers.resolved`).
        coverage: what is recorded of their trunks.
    """
    firsts = _Firsts(coverage)
    taken: dict[str, set[int]] = {}
    chosen: dict[tuple[str, Criterion], int] = {}

    def choose(trial: Trial, watch: Watch) -> int:
        trunk, criterion = watched_links(trial)[0].lineage, watch.criterion
        step = chosen.get((trunk, criterion))
        if step is None:
            used, first = taken.setdefault(trunk, set()), firsts.of(trial, watch)
            step = next((each for each in _checks(watch, first) if each not in used), first)
            used.add(step)
            chosen[trunk, criterion] = step
        return step

    return _case(trials, choose)


def best_case(trials: Sequence[Trial], coverage: Coverage) -> Case:
    """The trials as if criteria had decided for the most sharing; arguments as of `worst_case`."""
    firsts = _Firsts(coverage)
    common: dict[str, int] = {}
    for trial in trials:
        if trial.watch is not None:
            trunk = watched_links(trial)[0].lineage
            common[trunk] = max(common.get(trunk, 0), firsts.of(trial, trial.watch))

    def choose(trial: Trial, watch: Watch) -> int:
        first = firsts.of(trial, watch)
        step = common.get(watched_links(trial)[0].lineage, first)
        return next((each for each in _checks(watch, first) if each >= step), watch.criterion.latest)

    return _case(trials, choose)


def _checks(watch: Watch, first: int) -> range:
    """The checks of a criterion from one on."""
    return range(first, watch.criterion.latest + 1, watch.criterion.every)


class _Firsts:
    """The first step at which a criterion can still end its stage on a trunk."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._covered: dict[str, int] = {}
        self._first: dict[int, int] = {}
        self._held: list[Watch] = []

    def of(self, trial: Trial, watch: Watch) -> int:
        """By its patience, and after the checks that are recorded and did not end it."""
        trunk = trial.links[-1].lineage
        covered = self._covered.get(trunk)
        if covered is None:
            covered = self._covered[trunk] = self._coverage.chain(trial).covered
        first = self._first.get(id(watch))
        if first is None:
            first = self._first[id(watch)] = earliest(watch)
            self._held.append(watch)  # so that no other value gets its identity
        if covered < first:
            return first
        every = watch.criterion.every
        return min(covered - covered % every + every, watch.criterion.latest)


def _case(trials: Sequence[Trial], choose: Callable[[Trial, Watch], int]) -> Case:
    known = [trial for trial in trials if trial.watch is None]
    futures = _Futures()
    numbers: dict[tuple[str, int, int], int] = {}
    examples: list[Trial] = []
    for trial in trials:
        if trial.watch is not None:
            key = (watched_links(trial)[0].lineage, choose(trial, trial.watch), futures.of(trial))
            if key not in numbers:
                examples.append(trial)
            numbers[key] = numbers.get(key, 0) + 1
    return Case(
        trials=(*known, *assumed(examples, choose)),
        numbers=(*(1 for _ in known), *numbers.values()),
    )


class _Futures:
    """A number for all that trains and is observed after a criterion: trials of a trunk that agree in it are one."""

    def __init__(self) -> None:
        self._by_sections: dict[tuple[int, ...], int] = {}
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._held: list[Trial] = []

    def of(self, trial: Trial) -> int:
        """Of what follows the criterion that the trial waits for."""
        config = trial.config
        sections = (id(config.model), id(config.train), id(config.schedule), id(config.measure), len(trial.ended))
        found = self._by_sections.get(sections)
        if found is None:
            self._held.append(trial)  # its sections keep their identities
            key = (stage_ends(trial)[-1].follows, config.train, config.measure)
            found = self._by_sections[sections] = self._numbers.setdefault(key, len(self._numbers))
        return found
