"""What a study needs on disk: rows and kept states in the end, passing states on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.config import TrialConfig
from core.flops import parameters
from studies.expand import Trial
from studies.tree import Node, Tree
from studies.watchers import watched_links
from sweeps.measure_cost import measure_cost

METRICS_ROW_BYTES = 90
SEGMENT_ROW_BYTES = 80
"""Bytes of a row on disk, from a part of 6,200 rows of 31 evaluations each with two strata: 86, and 69 a segment."""
CURVATURE_ROW_BYTES = 200
NUMBER_BYTES = 6
CHECK_ROW_BYTES = 40
"""Estimated, not measured: that of curvature depends on the number of quantities."""
_STATE_COPIES = {"adamw": 3, "sgd": 2}
"""Weights, and what the optimiser keeps of the same size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """Bytes."""

    complete: int
    """When all is recorded: rows, and the states that stay."""
    passing: int
    """At most at once beside these, while it runs: states that nodes to be run begin from."""


def disk_need(tree: Tree, waiting: Sequence[Trial]) -> Disk:
    """What the nodes of a tree need.

    Args:
        tree: of whole chains.
        waiting: trials for whose criteria checks are recorded, at most to the latest step.
    """
    sizes = _Sizes()
    complete = CHECK_ROW_BYTES * _checks(waiting)
    for node in tree.nodes:
        asked = node.asked
        complete += METRICS_ROW_BYTES * len(asked.evaluate) + sizes.measured(node) * len(asked.measure)
        complete += CHECK_ROW_BYTES * len(asked.check) + SEGMENT_ROW_BYTES
        complete += sizes.of(node.config) if node.keep else 0
    return Disk(complete=complete, passing=_passing(tree.nodes, sizes))


def _checks(waiting: Sequence[Trial]) -> int:
    """Checks on the trunks of trials that wait: each step of a trunk once."""
    most: dict[tuple[str, int], int] = {}
    for trial in waiting:
        if trial.watch is not None:
            key = watched_links(trial)[0].lineage, trial.watch.criterion.every
            most[key] = max(most.get(key, 0), len(trial.watch.criterion.grid(trial.watch.start)))
    return sum(most.values())


class _Sizes:
    """Bytes of states by what they depend on, each computed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}

    def measured(self, node: Node) -> int:
        """Bytes of what one measurement on a node records."""
        key = node.config.model, node.config.task, node.config.measure, node.where.loops
        found = self._known.get(key)
        if found is None:
            numbers = measure_cost(node.config, node.where, None).numbers
            found = self._known[key] = CURVATURE_ROW_BYTES + NUMBER_BYTES * numbers
        return found

    def of(self, config: TrialConfig) -> int:
        """Bytes of a state of this configuration."""
        train = config.train
        key = (config.model, config.task.context, config.task.vocabulary, train.optimizer, train.precision)
        found = self._known.get(key)
        if found is None:
            width = 8 if train.precision == "float64" else 4
            found = self._known[key] = _STATE_COPIES[train.optimizer] * width * parameters(config)
        return found


def _passing(nodes: Sequence[Node], sizes: _Sizes) -> int:
    """The most that passing states can take at once, whatever the order in which nodes run: an upper bound.

    The state at a node's end is there until the last node that begins from it has run. So of the subtree below it
    there are at most: the state itself and, of its children, the most of all but one, and of that one, which has just
    ended, its own last state; or, when the state has gone, the most of all children.
    """
    own = [0] * len(nodes)
    most = [0] * len(nodes)
    below = [0] * len(nodes)
    spared: list[int | None] = [None] * len(nodes)
    whole = 0
    for index in range(len(nodes) - 1, -1, -1):  # children before parents
        node, spare = nodes[index], spared[index]
        if spare is not None:  # somebody begins here
            own[index] = 0 if node.keep else sizes.of(node.config)
            most[index] = max(below[index], own[index] + below[index] - spare)
        else:
            most[index] = below[index]
        if node.parent is None:
            whole += most[index]
            continue
        below[node.parent] += most[index]
        if node.run:
            less, before = most[index] - own[index], spared[node.parent]
            spared[node.parent] = less if before is None else min(before, less)
    return whole
