"""What a study would cost, before anything runs: numbers only, from the tree, the calibrations and the configuration.

Neither torch nor ray is imported. FLOPs *alone* are what the trials cost each by itself, *spent* what the tree trains;
their ratio is the saving. Time comes from recorded step times of the shapes; where a shape has none, from a stated
rate, and the plan says so.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.config import TrialConfig
from core.flops import parameters, step_flops
from core.observation import Asked
from studies.coverage import Coverage
from studies.expand import Trial
from studies.store import Store
from studies.tree import Node, Tree, shape_key
from sweeps.look import look
from sweeps.packs import Pace, even, paces

DEFAULT_RATE = 1e10
"""FLOP per second and worker where a shape was never timed.

Packs of small attention-only models did 2e10 to 5e10 on one quiet core (batch 8, width 16 to batch 32, width 32);
half of the lesser, since evaluation and data take time too.
"""
DEFAULT_PACK = 16
"""Pack size assumed where a shape was never timed."""
METRICS_ROW_BYTES = 90
SEGMENT_ROW_BYTES = 80
"""Bytes of a row on disk, from a part of 6,200 rows of 31 evaluations each with two strata: 86, and 69 a segment."""
CURVATURE_ROW_BYTES = 200
"""Estimated, not measured: it depends on the number of quantities."""
_STATE_COPIES = {"adamw": 3, "sgd": 2}
"""Weights, and what the optimiser keeps of the same size."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of ``plan --json``."""

    trials: int
    done: int
    """Trials that are recorded, whatever their status."""
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
    """alone / spent; 1 where nothing is shared. The worst case, where watchers decide."""
    saving_best: float
    """The best case; the same where no watcher decides."""
    estimate_s: float
    """Wall time of what is to be run on `workers` workers."""
    estimate_from: Literal["calibrations", "default rate", "both", "nothing to run"]
    """Whence step times came; see `DEFAULT_RATE`."""
    workers: int
    disk_bytes: int
    """What the store will take when all is recorded: rows and the checkpoints that stay."""
    arms: Mapping[str, Mapping[str, int]]
    """By arm: trials, done."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


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
    coverage = Coverage(store.read("segments"))
    tree = look(trials, store, retry, coverage)
    done = [
        status is not None or _recorded(t, coverage, retry) for t, status in zip(trials, tree.statuses, strict=True)
    ]
    costs = _Costs()
    step_flops_of = [costs.step(node) for node in tree.nodes]
    spent = sum(flops * (node.end - node.start) for flops, node in zip(step_flops_of, tree.nodes, strict=True))
    todo = [tree.nodes[index] for index in tree.todo()]
    left = sum(step_flops_of[index] * (tree.nodes[index].end - tree.nodes[index].begin) for index in tree.todo())
    alone = sum(costs.alone(trial) for trial in trials)
    units, seconds, sources = _time(todo, paces(store), costs, workers=workers, pack=pack)
    arms: dict[str, Counter[str]] = defaultdict(Counter)
    for trial, is_done in zip(trials, done, strict=True):
        arms[trial.arm].update(trials=1, done=int(is_done))
    saving = alone / spent if spent else 1.0
    return Plan(
        trials=len(trials),
        done=sum(done),
        nodes=len(tree.nodes),
        missing=len(todo),
        units=units,
        flops_alone=alone,
        flops_spent=spent,
        flops_left=left,
        saving=saving,
        saving_best=saving,
        estimate_s=seconds,
        estimate_from=_source(sources),
        workers=workers,
        disk_bytes=_disk_bytes(tree),
        arms={arm: dict(counts) for arm, counts in arms.items()},
    )


def _recorded(trial: Trial, coverage: Coverage, retry: Collection[str]) -> bool:
    """Whether all that a trial itself asks is recorded, though another that shares its past may ask for more."""
    status = coverage.chain(trial).status
    return status is not None and status not in retry


class _Costs:
    """FLOPs of one update by what they depend on, each computed once: the trials of a grid look alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}

    def of(self, config: TrialConfig, loops: int, loss_on: str) -> int:
        """FLOPs of one update."""
        key = (config.model, config.train.batch, config.task.context, config.task.vocabulary, loops, loss_on)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = step_flops(config, loops=loops, loss_on=loss_on)
        return found

    def step(self, node: Node) -> int:
        """FLOPs of one update of a node."""
        return self.of(node.config, node.where.loops, node.where.loss_on)

    def alone(self, trial: Trial) -> int:
        """FLOPs of a whole trial; `core.flops.flops_alone` from what is at hand."""
        return sum(self.of(trial.config, link.loops, link.loss_on) * (link.end - link.start) for link in trial.links)


def _time(
    todo: Sequence[Node], known: Mapping[str, Pace], costs: _Costs, *, workers: int, pack: int | Literal["auto"]
) -> tuple[int, float, set[str]]:
    """Units, seconds and whence the step times came, as if everything could start at once."""
    groups: Counter[tuple[str, int, int, Asked]] = Counter()
    example: dict[str, Node] = {}
    for node in todo:
        shape = shape_key(node.config, node.where)
        groups[shape, node.begin, node.end, node.asked] += 1
        example.setdefault(shape, node)
    units, seconds, sources = 0, 0.0, set()
    for (shape, begin, end, _), lanes in groups.items():
        pace = known.get(shape)
        best = pack if pack != "auto" else DEFAULT_PACK if pace is None else pace.best()
        size = even(lanes, min(best, math.ceil(lanes / workers)))
        count = math.ceil(lanes / size)
        step_s = size * costs.step(example[shape]) / DEFAULT_RATE if pace is None else pace.seconds(size)
        sources.add("default rate" if pace is None else "calibrations")
        units += count
        seconds += count * step_s * (end - begin)
    return units, seconds / workers, sources


def _source(sources: set[str]) -> Any:
    if not sources:
        return "nothing to run"
    return "both" if len(sources) > 1 else next(iter(sources))


def _disk_bytes(tree: Tree) -> int:
    """Rows of all nodes, and the states that stay."""
    sizes: dict[tuple[object, ...], int] = {}
    total = 0
    for node in tree.nodes:
        total += (
            METRICS_ROW_BYTES * len(node.asked.evaluate)
            + CURVATURE_ROW_BYTES * len(node.asked.measure)
            + SEGMENT_ROW_BYTES
        )
        if not node.keep:
            continue
        config = node.config
        key = (config.model, config.task.context, config.task.vocabulary, config.train.optimizer)
        if key not in sizes:
            width = 8 if config.train.precision == "float64" else 4
            sizes[key] = _STATE_COPIES[config.train.optimizer] * width * parameters(config)
        total += sizes[key]
    return total
