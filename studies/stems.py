"""The lineages that some trials pass through, each with what is asked of it: a *stem*, from which the tree is cut.

A stem is all stretches of one lineage, as far as the last trial leaves it. It knows the steps that each trial asks for,
what trials wait for on it, where they leave it and whose last states are kept; what is measured is the union of what
its trials measure, which must measure it alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from core.config import MeasureConfig, TrialConfig
from core.errors import InputError, Problem
from core.lineage import Link
from core.observation import Asked, asked, with_measure
from core.schedule import Watch
from core.terms import terms
from studies.expand import Trial

WATCH_CHECKS = 8
"""A trunk is cut after so many checks: often enough that branches start early, rarely enough that cuts cost little."""


@dataclass(slots=True)
class Stem:
    """All stretches of one lineage, while trials are collected."""

    config: TrialConfig
    chain: tuple[Link, ...]
    """Up to this lineage's link, the longest: it ends where the last trial leaves the lineage."""
    parent: str | None
    keep_all: bool = False
    keep_at: set[int] = field(default_factory=set)
    """Steps at which trials end that keep their last state."""
    goes_on_at: set[int] = field(default_factory=set)
    """Latest steps of criteria after which a trial goes on, how is not known yet."""
    asks: dict[tuple[int, int], Asked] = field(default_factory=dict)
    """By (step where a trial leaves the lineage, identity of what it asks): that; in the order of the trials."""
    needed: int = 0
    """Last step to which a trial that does not wait here goes."""
    watches: dict[Watch, int] = field(default_factory=dict)
    """By what is waited for, the last step to which a trial waits for it here."""

    @property
    def link(self) -> Link:
        """The lineage's own, the longest."""
        return self.chain[-1]

    def cuts(self) -> list[int]:
        """Steps at which nodes of this lineage end."""
        link = self.link
        ends = {end for end, _ in self.asks}
        for watch, last in self.watches.items():
            stride = watch.criterion.every * WATCH_CHECKS
            ends.update(range(link.start - link.start % stride + stride, last, stride))
        return sorted(ends)


def stems(trials: Iterable[Trial]) -> dict[str, Stem]:
    """The lineages of the trials, parents before children, each with what is asked of it."""
    found: dict[str, Stem] = {}
    asks: dict[tuple[object, ...], Asked] = {}
    for trial in trials:
        config, parent, watch = trial.config, None, trial.watch
        train, measure = config.train, config.measure
        ends = tuple([link.end for link in trial.links])
        checks = None if watch is None else (watch.criterion.every, watch.start)
        key = (train.steps, train.evaluate_every, ends, measure.quantities, measure.every, measure.at, checks)
        ask = asks.get(key)
        if ask is None:
            ask = asks[key] = asked(config, trial.links, watch)
        for index, link in enumerate(trial.links):
            stem = found.get(link.lineage)
            if stem is None:
                stem = found[link.lineage] = Stem(config, trial.links[: index + 1], parent)
            else:
                _join(stem, config, trial.links, index)
            stem.asks[link.end, id(ask)] = ask
            if watch is not None and link.stage == watch.stage:
                stem.watches[watch] = max(stem.watches.get(watch, 0), link.end)
            else:
                stem.needed = max(stem.needed, link.end)
            stem.keep_all |= train.keep == "all"
            parent = link.lineage
        # A criterion that may go on to the last step may end there: that state is the trial's last.
        if train.keep != "none" and (watch is None or trial.links[-1].end == train.steps):
            found[trial.links[-1].lineage].keep_at.add(train.steps)
        if watch is not None and trial.links[-1].end < train.steps:
            found[trial.links[-1].lineage].goes_on_at.add(trial.links[-1].end)
    for stem in found.values():
        if stem.keep_all and stem.config.train.keep != "all":  # whoever's configuration it is, one of them keeps all
            stem.config = replace(stem.config, train=replace(stem.config.train, keep="all"))
    return found


def _join(stem: Stem, config: TrialConfig, chain: tuple[Link, ...], index: int) -> None:
    """Another trial passes through a stem: the longest link and the union of quantities stay."""
    base, measure = stem.config, _merged(stem.config.measure, config.measure)
    if chain[index].end > stem.link.end:
        base, stem.chain = config, chain[: index + 1]
    if base.measure is not measure and base.measure.how != measure.how:
        base = with_measure(base, measure)
    stem.config = base


def _merged(mine: MeasureConfig, other: MeasureConfig) -> MeasureConfig:
    """What is measured where both are asked for."""
    if mine is other or mine.how == other.how or not other.quantities:
        return mine
    if not mine.quantities:
        return other
    mine_how, other_how = (replace(measure.how, quantities=()) for measure in (mine, other))
    for name in terms(MeasureConfig):
        first, second = getattr(mine_how, name), getattr(other_how, name)
        if first != second:
            message = f"trials that share a past measure it in one way, got {first} and {second}"
            raise InputError([Problem(f"measure.{name}", message)])
    return replace(mine, quantities=tuple(dict.fromkeys(mine.quantities + other.quantities)))
