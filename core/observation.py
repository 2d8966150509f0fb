"""When a trial is observed: the steps of its evaluations, measurements and checks; never part of what it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from core.config import MeasureConfig, TrialConfig
from core.lineage import Link, links
from core.schedule import Watch


@dataclass(frozen=True, slots=True)
class Asked:
    """Steps at which something is observed, each ascending."""

    evaluate: tuple[int, ...] = ()
    """Metrics are taken."""
    measure: tuple[int, ...] = ()
    """Curvature is measured."""
    check: tuple[int, ...] = ()
    """What criteria see is recorded."""

    def within(self, first: int, last: int) -> Asked:
        """Those of the steps first … last."""
        return Asked(*(tuple([s for s in steps if first <= s <= last]) for steps in self.all()))

    def all(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """(evaluate, measure, check)."""
        return self.evaluate, self.measure, self.check


NOTHING = Asked()
"""Nothing is observed."""


def asked(config: TrialConfig, chain: Sequence[Link], watch: Watch | None) -> Asked:
    """What a trial asks for, as far as its chain is known; checks only for what it still waits for."""
    last = chain[-1].end
    evaluate = evaluation_grid(config.train.steps, config.train.evaluate_every, [link.end for link in chain])
    check = () if watch is None else tuple(watch.criterion.grid(watch.start))
    return Asked(tuple(evaluate), tuple(measurement_grid(config.train.steps, config.measure)), check).within(0, last)


def evaluation_steps(config: TrialConfig, chain: Sequence[Link] | None = None) -> list[int]:
    """The steps at which a trial is evaluated: 0, each multiple of `evaluate_every`, each end of a link, the last.

    Args:
        config: the trial.
        chain: its links, where criteria have decided them; None: those of its configuration alone.
    """
    chain = links(config) if chain is None else chain
    return evaluation_grid(config.train.steps, config.train.evaluate_every, [link.end for link in chain])


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


def with_measure(config: TrialConfig, measure: MeasureConfig) -> TrialConfig:
    """The same trial, measured differently."""
    return replace(config, measure=measure)
