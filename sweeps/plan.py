"""What a study would cost, before anything runs: numbers only, from the tree, the calibrations and the configuration.

Neither torch nor ray is imported. FLOPs *alone* are what the trials cost each by itself, *spent* what the tree trains;
their ratio is the saving. Time comes from recorded step times of the shapes; where a shape has none, from a stated
rate, and the plan says so. Where criteria have not decided yet, every number is that of the worst case of
`sweeps.cases`, and the saving is said for the best case too.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from core.config import TrialConfig
from core.flops import link_flops
from core.lineage import Link
from core.observation import Asked
from core.schedule import Criterion
from studies.branches import Outline, outline_dict
from studies.coverage import Coverage
from studies.expand import Trial
from studies.keys import shape_key
from studies.outline import outline, stopped_at
from studies.stage_ends import stage_ends
from studies.stage_words import steps_text
from studies.store import Store
from studies.tree import Node, Tree
from sweeps.cases import BEST, WORST, Case, best_case, worst_case
from sweeps.disk import disk_need
from sweeps.look import look
from sweeps.measure_cost import Measuring, measure_cost, measuring
from sweeps.measuring import missing
from sweeps.packs import Pace, even, lane_shape, paces, stated_seconds
from sweeps.tables import plural
from sweeps.units import Lane

DEFAULT_PACK = 16
"""Pack size assumed where a shape was never timed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of ``plan --json``."""

    trials: int
    done: int
    """Trials that are recorded, whatever their status."""
    confirming: int
    """Trials on fresh seeds (role ``confirm``) among them."""
    waiting: int
    """Trials whose chain depends on what criteria will decide."""
    nodes: int
    """Nodes of the stage tree, recorded ones included."""
    missing: int
    """Nodes that are to be run, replays included."""
    units: int
    """Packs that would be run."""
    flops_alone: int
    """Of all trials, each by itself."""
    flops_spent: int
    """Of all nodes: what the study costs from an empty store."""
    flops_left: int
    """Of the nodes that are to be run."""
    saving: float
    """alone / spent; 1 where nothing is shared. The worst case, where criteria decide."""
    saving_best: float
    """The best case; the same where no criterion decides."""
    assumes: Mapping[str, str] | None
    """What the worst and the best case assume, in words; None where no criterion decides."""
    estimate_s: float
    """Wall time of what is to be run on `workers` workers."""
    estimate_from: Literal["calibrations", "default rate", "both", "nothing to run"]
    """Whence step times came; see `sweeps.packs.stated_seconds`."""
    workers: int
    measuring: Measuring | None
    """Of the time, what measuring curvature takes on the way; None where nothing is measured."""
    kept_states: int
    """States on disk at which something is measured without training; `run` does so first, `measure` does so alone."""
    disk_bytes: int
    """What the store will take when all is recorded: rows and the checkpoints that stay."""
    disk_passing_bytes: int
    """The most that passing checkpoints take at once while it runs: an upper bound."""
    tree: Outline
    """The stage tree in short, as far as it is known."""
    notes: tuple[str, ...]
    """What should be known before it is run."""
    arms: Mapping[str, Mapping[str, int]]
    """By arm: trials, done."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        measuring = None if self.measuring is None else asdict(self.measuring)
        return plain | {"tree": outline_dict(self.tree), "measuring": measuring, "notes": list(self.notes)}


def plan(
    trials: Sequence[Trial],
    store: Store,
    *,
    workers: int,
    pack: int | Literal["auto"] = "auto",
    retry: Sequence[str] = (),
) -> Plan:
    """What running these trials would take; writes nothing.

    Args:
        trials: as far as known now; a tuned or searched study has more later.
        store: what is recorded; may not exist yet.
        workers: bundles that run at once, at least 1.
        pack: as for `sweeps.run.run`.
        retry: likewise.
    """
    segments = store.read("segments")
    coverage = Coverage(segments)
    kept = missing(trials, store, coverage).kept
    if kept:  # what is measured at kept states is not trained again
        coverage = Coverage(segments, assumed=_steps(kept))
    case = worst_case(trials, coverage)
    tree = look(case.trials, store, retry, coverage)
    costs = _Costs()
    alone = sum(costs.alone(trial) * number for trial, number in zip(case.trials, case.numbers, strict=True))
    spent = sum(costs.between(node.config, node.where, node.start, node.end) for node in tree.nodes)
    todo = [tree.nodes[index] for index in tree.todo()]
    left = sum(costs.between(node.config, node.where, node.begin, node.until) for node in todo)
    known = paces(store)
    units, seconds, sources = _time(todo, known, costs, workers=workers, pack=pack)
    measured = measuring(todo, known, workers, coverage)
    kept_s = sum(measure_cost(lane.config, lane.where, known.get(lane_shape(lane))).seconds for lane in kept) / workers
    done = _done(trials, tree, coverage, retry)
    arms: dict[str, Counter[str]] = defaultdict(Counter)
    for trial, is_done in zip(trials, done, strict=True):
        arms[trial.arm].update(trials=1, done=int(is_done))
    waiting = sum(trial.watch is not None and not ended for trial, ended in zip(trials, done, strict=True))
    saving = alone / spent if spent else 1.0
    best = max(saving, _saving(best_case(trials, coverage), costs)) if waiting else saving
    disk = disk_need(tree, trials)
    return Plan(
        trials=len(trials),
        done=sum(done),
        confirming=sum(trial.role == "confirm" for trial in trials),
        waiting=waiting,
        nodes=len(tree.nodes),
        missing=len(todo),
        units=units,
        flops_alone=alone,
        flops_spent=spent,
        flops_left=left,
        saving=saving,
        saving_best=best,
        assumes={"worst": WORST, "best": BEST} if waiting else None,
        estimate_s=seconds + kept_s + (measured.seconds if measured else 0.0),
        estimate_from=_source(sources),
        workers=workers,
        measuring=measured,
        kept_states=len(kept),
        disk_bytes=disk.complete,
        disk_passing_bytes=disk.passing,
        tree=outline(_as_trained(trials, done, coverage)),
        notes=(*_unshared_budgets(trials), *_idle_criteria(trials)),
        arms={arm: dict(counts) for arm, counts in arms.items()},
    )


def _steps(kept: Sequence[Lane]) -> dict[str, set[int]]:
    """By lineage, the steps of some lanes."""
    found: dict[str, set[int]] = defaultdict(set)
    for lane in kept:
        found[lane.lineage].add(lane.start)
    return found


def _done(trials: Sequence[Trial], tree: Tree, coverage: Coverage, retry: Collection[str]) -> list[bool]:
    """By trial: whether it is recorded; the tree's first trials are those that wait for nothing, in their order."""
    known = iter(tree.statuses)
    done = []
    for trial in trials:
        status = next(known) if trial.watch is None else None
        done.append(status is not None or _recorded(trial, coverage, retry))
    return done


def _as_trained(trials: Sequence[Trial], done: Sequence[bool], coverage: Coverage) -> list[Trial]:
    """The trials, those that ended before their criterion only as far as they came."""
    return [
        stopped_at(trial, coverage.chain(trial).reached) if ended and trial.watch is not None else trial
        for trial, ended in zip(trials, done, strict=True)
    ]


def _recorded(trial: Trial, coverage: Coverage, retry: Collection[str]) -> bool:
    """Whether all that a trial itself asks is recorded, though another that shares its past may ask for more."""
    status = coverage.chain(trial).status
    return status is not None and status not in retry


class _Costs:
    """FLOPs of one update by what they depend on, each computed once: the trials of a grid look alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}

    def between(self, config: TrialConfig, link: Link, start: int, end: int) -> int:
        """`core.flops.link_flops` from what is at hand; loops that are drawn are those of the seed."""
        if link.draw is not None or link.offset is not None:
            return link_flops(config, link, start, end)
        acting = (link.loops, link.loss_on, link.backprop)
        key = (config.model, config.train.batch, config.task.context, config.task.vocabulary, *acting)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = link_flops(config, link, 0, 1)
        return found * (end - start)

    def alone(self, trial: Trial) -> int:
        """FLOPs of a whole trial; `core.flops.flops_alone` from what is at hand."""
        return sum(self.between(trial.config, link, link.start, link.end) for link in trial.links)


def _saving(case: Case, costs: _Costs) -> float:
    """FLOPs alone over FLOPs spent, where every lineage is trained to the last step that a trial needs."""
    alone = 0
    reach: dict[str, tuple[TrialConfig, Link]] = {}
    for trial, number in zip(case.trials, case.numbers, strict=True):
        alone += costs.alone(trial) * number
        for link in trial.links:
            known = reach.get(link.lineage)
            if known is None or known[1].end < link.end:
                reach[link.lineage] = trial.config, link
    spent = sum(costs.between(config, link, link.start, link.end) for config, link in reach.values())
    return alone / spent if spent else 1.0


def _idle_criteria(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Arms with criteria that can never end their stage: too few checks before their latest step."""
    idle: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    seen: set[tuple[str, int, int]] = set()
    for trial in trials:
        key = (trial.arm, id(trial.config.schedule), id(trial.config.train))
        if key in seen or not trial.config.schedule.watches:
            continue
        seen.add(key)
        for end in stage_ends(trial):
            criterion = end.stage.until
            # At the earliest it begins where a fixed stage ends; one that begins late by another criterion is not told.
            if isinstance(criterion, Criterion) and len(criterion.grid(end.start)) <= criterion.patience:
                idle[trial.arm].add((criterion.every, criterion.patience, criterion.latest))
    return tuple(
        f"arm {arm}: a criterion checked every {every} steps with patience {patience} has too few checks to end its "
        f"stage before its latest step, {latest}, which it follows; lower schedule.check_every or patience"
        for arm, found in idle.items()
        for every, patience, latest in sorted(found)[:3]
    )


def _unshared_budgets(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Arms whose trials of different length share nothing since their learning rate depends on the whole length."""
    lengths: dict[str, set[int]] = defaultdict(set)
    for trial in trials:
        if trial.config.train.lr_schedule == "cosine":
            lengths[trial.arm].add(trial.config.train.steps)
    arms = [arm for arm, steps in lengths.items() if len(steps) > 1]
    if not arms:
        return ()
    steps = sorted(set().union(*(lengths[arm] for arm in arms)))
    return (
        f'train.lr_schedule = "cosine": trials of {steps_text(steps)} steps share nothing in '
        f"{plural(len(arms), 'arm')} ({', '.join(arms)}), since the learning rate depends on the whole length from the "
        'first update on; with lr_schedule = "wsd" they share one stable phase and only their decays are trained apart',
    )


def _time(
    todo: Sequence[Node], known: Mapping[str, Pace], costs: _Costs, *, workers: int, pack: int | Literal["auto"]
) -> tuple[int, float, set[str]]:
    """Units, seconds and whence the step times came, as if everything could start at once."""
    groups: Counter[tuple[str, int, int, Asked]] = Counter()
    example: dict[str, Node] = {}
    for node in todo:
        shape = shape_key(node.config, node.where)
        groups[shape, node.begin, node.until, node.asked] += 1
        example.setdefault(shape, node)
    units, seconds, sources = 0, 0.0, set()
    for (shape, begin, end, _), lanes in groups.items():
        pace = known.get(shape)
        best = pack if pack != "auto" else DEFAULT_PACK if pace is None else pace.best()
        size = even(lanes, min(best, math.ceil(lanes / workers)))
        count = math.ceil(lanes / size)
        one = example[shape]
        flops = costs.between(one.config, one.where, one.start, one.end) / (one.end - one.start)
        step_s = stated_seconds(flops, size) if pace is None else pace.seconds(size)
        sources.add("default rate" if pace is None else "calibrations")
        units += count
        seconds += count * step_s * (end - begin)
    return units, seconds / workers, sources


def _source(sources: set[str]) -> Any:
    if not sources:
        return "nothing to run"
    return "both" if len(sources) > 1 else next(iter(sources))
