"""The stage tree: trials that share a past share the nodes of it, and only what nobody has recorded is to be run.

Pure: trials, what is recorded (`Coverage`) and a predicate for checkpoints in, nodes out; no files, no torch.

Every lineage is cut where somebody needs its state: where a trial ends and where a child begins. A *node* is a stretch
between two cuts; trials that pass through the same stretch share the node, and it is observed at the union of the steps
they ask for, so a denser evaluation grid does not fork the tree. A node is run where its rows are not recorded; it is
*replayed* (run without recording) where its rows are there but somebody must begin from its last state, which has no
checkpoint. Where a past ended other than ``ok``, what would follow inherits that status and is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from core.config import MeasureConfig, TrialConfig
from core.errors import InputError, Problem
from core.lineage import Link, canonical_json, digest16, pack_shape
from core.observation import evaluation_steps, measurement_steps, with_observation
from studies.expand import Trial

KEEP_ORDER = ("none", "final", "all")
"""Of trials that share a stretch, the one that keeps most decides."""


class Recorded(Protocol):
    """What `stage_tree` asks of a recorded stretch; `studies.coverage.LinkState` gives it."""

    @property
    def status(self) -> str | None:
        """None where rows are missing, else how the stretch ended."""

    @property
    def covered(self) -> int:
        """Last step up to which all that is asked is recorded."""

    @property
    def generation(self) -> int:
        """Highest generation among its segments; 0 where there are none."""


class Records(Protocol):
    """What `stage_tree` asks of the store; `studies.coverage.Coverage` gives it."""

    def link(
        self, link: Link, evaluate: Sequence[int], measure: Sequence[int], observation: MeasureConfig | None = None
    ) -> Recorded:
        """What is recorded of a stretch of a lineage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A stretch of a lineage between two cuts, shared by every trial that passes through it."""

    lineage: str
    start: int
    end: int
    config: TrialConfig
    """Of one trial that passes through it; its `measure` holds the quantities of all of them."""
    link: int
    """Index into that trial's links."""
    where: Link
    """That link: it goes on at least to `end`."""
    evaluate: tuple[int, ...]
    """Union of the steps asked, in (start, end], and 0 where start is 0."""
    measure: tuple[int, ...]
    parent: int | None
    """Index of the node before it on the chain; None at step 0."""
    status: str | None
    """Recorded (ok, diverged, failed, timeout, oom) or inherited from a past that did not end ok; None = missing."""
    run: bool
    """It is to be run: missing, retried or replayed."""
    record: bool
    """False for a replay."""
    begin: int
    """Step it is run from: `start`, or later where the first part is recorded and its state is kept."""
    after: int | None
    """Index of the node whose run must end first; None where the state to begin from is there."""
    checkpoint: bool
    """The state at its end is to be saved."""
    keep: str
    """How long checkpoints stay: see `TrainConfig.keep`."""
    generation: int
    """Of the rows it will write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """All nodes of some trials, parents before children."""

    nodes: tuple[Node, ...]
    ends: tuple[int, ...]
    """By trial: index of its last node."""
    statuses: tuple[str | None, ...]
    """By trial: how its chain ended; None where something on it is still to be run."""

    def path(self, trial: int) -> list[int]:
        """Indices of a trial's nodes from step 0 to its end."""
        path: list[int] = []
        index: int | None = self.ends[trial]
        while index is not None:
            path.append(index)
            index = self.nodes[index].parent
        return path[::-1]

    def todo(self) -> list[int]:
        """Indices of the nodes to be run, parents before children."""
        return [index for index, node in enumerate(self.nodes) if node.run]


def shape_key(config: TrialConfig, link: Link) -> str:
    """`pack_shape` as text: the key ``shape`` of the table calibrations."""
    return _shape_text(pack_shape(config, link))


@lru_cache(maxsize=4096)
def _shape_text(shape: tuple[object, ...]) -> str:
    return canonical_json(list(shape))


@lru_cache(maxsize=65536)
def observed(evaluate: tuple[int, ...], measure: tuple[int, ...], observation: MeasureConfig) -> str:
    """What a segment observed, as canonical JSON: the column ``observed`` of the table segments.

    Args:
        evaluate: steps of the segment at which metrics were asked.
        measure: steps at which curvature was asked.
        observation: what was measured, and on how large a probe.
    """
    grid = digest16(canonical_json([evaluate, measure]))
    quantities = sorted(observation.quantities) if measure else []
    return canonical_json({"grid": grid, "quantities": quantities, "probe": observation.probe if measure else None})


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """The steps that a trial asks for; one object however many trials ask the same."""

    evaluate: tuple[int, ...]
    measure: tuple[int, ...]


@dataclass(slots=True)
class _Stem:
    """All stretches of one lineage, while trials are collected."""

    config: TrialConfig
    link: Link
    """The longest: it ends where the last trial leaves the lineage."""
    index: int
    parent: str | None
    keep: str
    asks: dict[tuple[int, _Grid], None] = field(default_factory=dict)
    """Ordered set of (step where a trial leaves the lineage, what it asks)."""


def stage_tree(
    trials: Sequence[Trial],
    coverage: Records,
    has_checkpoint: Callable[[str, int], bool],
    *,
    retry: Collection[str] = (),
) -> Tree:
    """The nodes of some trials and what of them is to be run.

    Args:
        trials: in any order; the order of the nodes follows it.
        coverage: what is recorded.
        has_checkpoint: whether the state (lineage, step) lies on disk.
        retry: recorded statuses that are run again, with the next generation.

    Raises:
        InputError: where trials that share a past measure it on probes of different size.
    """
    stems = _collect(trials)
    plans: list[_Plan] = []
    last: dict[tuple[str, int], int] = {}
    slices = _Slices()
    for lineage, stem in stems.items():
        start, link = stem.link.start, stem.link
        parent = None if stem.parent is None else last[stem.parent, start]
        for end in sorted({end for end, _ in stem.asks}):
            grids = [grid for leaves, grid in stem.asks if leaves >= end]
            evaluate, measure = slices.union(grids, start, end)
            piece = link if (start, end) == (link.start, link.end) else replace(link, start=start, end=end)
            known = coverage.link(piece, evaluate, measure, stem.config.measure)
            plan = _Plan(
                stem=stem,
                lineage=lineage,
                start=start,
                end=end,
                evaluate=evaluate,
                measure=measure,
                parent=parent,
                status=known.status,
                covered=known.covered,
                generation=known.generation,
            )
            _settle(plan, None if parent is None else plans[parent].status, retry)
            parent = last[lineage, end] = len(plans)
            plans.append(plan)
            start = end
    _decide(plans, has_checkpoint)
    nodes = tuple([_node(plan) for plan in plans])
    ends = tuple(last[trial.links[-1].lineage, trial.links[-1].end] for trial in trials)
    complete: list[str | None] = []
    for node in nodes:
        missing = node.status is None or (node.parent is not None and complete[node.parent] is None)
        complete.append(None if missing else node.status)
    return Tree(nodes=nodes, ends=ends, statuses=tuple(complete[end] for end in ends))


def _collect(trials: Iterable[Trial]) -> dict[str, _Stem]:
    """The lineages of the trials, parents before children, each with what is asked of it."""
    stems: dict[str, _Stem] = {}
    grids: dict[tuple[object, ...], _Grid] = {}
    for trial in trials:
        config, parent = trial.config, None
        train, measure = config.train, config.measure
        ends = tuple([link.end for link in trial.links])
        key = (train.evaluate_every, ends, measure.quantities, measure.every, measure.at)
        grid = grids.get(key)
        if grid is None:
            grid = grids[key] = _Grid(tuple(evaluation_steps(config)), tuple(measurement_steps(config)))
        for index, link in enumerate(trial.links):
            stem = stems.get(link.lineage)
            if stem is None:
                stem = stems[link.lineage] = _Stem(config, link, index, parent, train.keep)
            else:
                _join(stem, config, link, index)
            stem.asks[link.end, grid] = None
            parent = link.lineage
    return stems


def _join(stem: _Stem, config: TrialConfig, link: Link, index: int) -> None:
    """Another trial passes through a stem: the longest link, the union of quantities and the most kept stay."""
    base, measure = stem.config, _merged(stem.config.measure, config.measure)
    if link.end > stem.link.end:
        base, stem.link, stem.index = config, link, index
    if base.measure is not measure and _probed(base.measure) != _probed(measure):
        base = with_observation(base, evaluate_every=base.train.evaluate_every, measure=measure)
    stem.config = base
    if KEEP_ORDER.index(config.train.keep) > KEEP_ORDER.index(stem.keep):
        stem.keep = config.train.keep


def _probed(measure: MeasureConfig) -> tuple[tuple[str, ...], int]:
    return measure.quantities, measure.probe


def _merged(mine: MeasureConfig, other: MeasureConfig) -> MeasureConfig:
    """What is measured where both are asked for."""
    if mine is other or _probed(mine) == _probed(other) or not other.quantities:
        return mine
    if not mine.quantities:
        return other
    if mine.probe != other.probe:
        message = f"trials that share a past measure it on one probe, got {mine.probe} and {other.probe}"
        raise InputError([Problem("measure.probe", message)])
    return replace(mine, quantities=tuple(dict.fromkeys(mine.quantities + other.quantities)))


class _Slices:
    """Unions of grids over a stretch, each computed once: the lineages of a grid study look alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def union(self, grids: Sequence[_Grid], start: int, end: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Steps asked in (start, end], and 0 where start is 0: (evaluate, measure)."""
        key = (start, end, *grids)
        found = self._known.get(key)
        if found is None:
            first = -1 if start == 0 else start
            evaluate = {step for grid in grids for step in grid.evaluate if first < step <= end}
            measure = {step for grid in grids for step in grid.measure if first < step <= end}
            found = self._known[key] = tuple(sorted(evaluate)), tuple(sorted(measure))
        return found


@dataclass(slots=True, kw_only=True)
class _Plan:
    """A node while it is decided."""

    stem: _Stem
    lineage: str
    start: int
    end: int
    evaluate: tuple[int, ...]
    measure: tuple[int, ...]
    parent: int | None
    status: str | None
    covered: int
    generation: int
    run: bool = False
    record: bool = True
    begin: int = 0
    after: int | None = None
    awaited: bool = False


def _settle(plan: _Plan, past: str | None, retry: Collection[str]) -> None:
    """Whether a node is missing: not recorded (or retried), and nothing before it ended other than ok."""
    if plan.status is not None and plan.status in retry:
        plan.status, plan.covered, plan.generation = None, plan.start, plan.generation + 1
    if plan.status is None and past not in (None, "ok"):
        plan.status = past
    plan.run = plan.status is None


def _decide(plans: Sequence[_Plan], has_checkpoint: Callable[[str, int], bool]) -> None:
    """Where each node begins, what it waits for, and what must be replayed; children first."""
    for plan in reversed(plans):
        if not plan.run:
            continue
        plan.begin = plan.start
        if plan.start < plan.covered < plan.end and has_checkpoint(plan.lineage, plan.covered):
            plan.begin = plan.covered
            continue
        if plan.parent is None:
            continue
        before = plans[plan.parent]
        if has_checkpoint(before.lineage, plan.start):
            continue
        plan.after, before.awaited = plan.parent, True
        if not before.run:
            before.run, before.record, before.covered = True, False, before.start


def _node(plan: _Plan) -> Node:
    stem = plan.stem
    return Node(
        lineage=plan.lineage,
        start=plan.start,
        end=plan.end,
        config=stem.config,
        link=stem.index,
        where=stem.link,
        evaluate=plan.evaluate,
        measure=plan.measure,
        parent=plan.parent,
        status=plan.status,
        run=plan.run,
        record=plan.record,
        begin=plan.begin,
        after=plan.after,
        checkpoint=plan.run and (plan.awaited or stem.keep != "none"),
        keep=stem.keep,
        generation=plan.generation,
    )
