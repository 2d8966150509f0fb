"""What a halved search costs before anything runs: rung by rung, beside all of its settings run to the end.

Of each setting it is known what it takes to come from one rung to the next. How many go on at most is decided by
arithmetic (`studies.rungs`), which of them is not: here it is the costliest. A setting that is not proposed yet counts
as the costliest that the space has at its ends, and pasts that settings share are not taken off: the numbers are upper
bounds. An asynchronous search may exceed them, where settings went on that were among the best of fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from core.config import TrialConfig
from core.flops import flops_alone
from core.lineage import links, watch
from studies.expand import Proposal
from studies.space import grid_points, probe_grids
from studies.study import Arm, Study
from sweeps.tables import flops, plural


@dataclass(frozen=True, kw_only=True)
class RungCost:
    """Of the settings of an arm."""

    arm: str
    step: int
    settings: int
    """That come to the rung at most."""
    flops: int
    """From the rung before to this one, at most, of all seeds."""


@dataclass(frozen=True, kw_only=True)
class HalvingCost:
    """Of a study."""

    rungs: tuple[RungCost, ...]
    """Arm by arm, in the order of the steps."""
    flops: int
    """Of all rungs."""
    flops_whole: int
    """Of all settings to the end."""
    asynchronous: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """In words."""
        arms = {rung.arm for rung in self.rungs}
        for rung in self.rungs:
            of = f"{rung.arm}: " if len(arms) > 1 else ""
            yield f"{of}{plural(rung.settings, 'setting')} to step {rung.step:,}, {flops(rung.flops)}"
        share = self.flops / self.flops_whole
        more = "; some more where settings go on that later are not among the best" if self.asynchronous else ""
        yield f"{flops(self.flops)}, {share:.2f} of the {flops(self.flops_whole)} of all settings to the end{more}"


def halving_cost(study: Study, proposals: Sequence[Proposal]) -> HalvingCost | None:
    """The cost of a halved search; None of any other study.

    Args:
        study: the study.
        proposals: as far as they are recorded.
    """
    if study.search is None or study.search.halving is None:
        return None
    halving, seeds = study.search.halving, len(study.seeds)
    rungs: list[RungCost] = []
    whole = 0
    for arm in study.arms:
        configs = _configs(study, arm, proposals, study.search.count(arm))
        steps = halving.steps(configs[0].train.steps)  # which no search varies
        known = {id(config): _stretches(config, steps) for config in configs}
        costs = [known[id(config)] for config in configs]
        whole += seeds * sum(map(sum, costs))
        for rung, (step, going) in enumerate(zip(steps, halving.settings(len(configs)), strict=True)):
            dearest = sorted((cost[rung] for cost in costs), reverse=True)[:going]
            rungs.append(RungCost(arm=arm.name, step=step, settings=going, flops=seeds * sum(dearest)))
    return HalvingCost(
        rungs=tuple(rungs),
        flops=sum(rung.flops for rung in rungs),
        flops_whole=whole,
        asynchronous=halving.asynchronous,
    )


def _configs(study: Study, arm: Arm, known: Sequence[Proposal], count: int) -> list[TrialConfig]:
    """The settings of an arm: all of a grid, else those that are known, and the dearest of the space for the others."""
    maker = study.settings(arm)

    def config(params: Mapping[str, Any]) -> TrialConfig | None:
        setting = maker.setting(tuple(params.items()))
        return None if setting is None else setting.config

    if study.search is not None and study.search.kind == "grid":
        return [one for params in grid_points(arm.space, range(count)) if (one := config(params)) is not None]
    own = [one for name, _, params in known if name == arm.name and (one := config(params)) is not None][:count]
    if len(own) < count:
        ends = (config(dict(assignment)) for grid in probe_grids(arm.space) for assignment in grid)
        dearest = max((one for one in ends if one is not None), key=flops_alone)
        own += [dearest] * (count - len(own))
    return own


def _stretches(config: TrialConfig, steps: Sequence[int]) -> list[int]:
    """FLOPs of one seed from each rung to the next; where criteria decide, those of the dearer of the two extremes."""
    found = []
    for latest in (False, True):
        ended: tuple[int, ...] = ()
        while (waits := watch(config, ended)) is not None:
            first = next(iter(waits.criterion.grid(waits.start)), waits.criterion.latest)
            ended = (*ended, waits.criterion.latest if latest else first)
        chain = links(config, ended)
        until = [0, *(flops_alone(config, step, chain=chain) for step in steps)]
        found.append([after - before for before, after in pairwise(until)])
        if not ended:
            break
    return max(found, key=sum)
