"""The stage tree: trials that share a past share the nodes of it, and only what nobody has recorded is to be run.

Pure: trials, what is recorded (`Coverage`) and which states lie on disk in, nodes out; no files, no torch.

Every lineage is cut where somebody needs its state: where a trial ends and where a child begins. A *node* is a stretch
between two cuts; trials that pass through the same stretch share the node, and it is observed at the union of the steps
they ask for, so a denser evaluation grid does not fork the tree. A node is run where its rows are not recorded; it is
*replayed* (run without recording) where its rows are there but somebody must begin from its last state, which has no
checkpoint. Where a past ended other than ``ok``, what would follow inherits that status and is never run.

A *trunk* is a lineage on which trials wait for a criterion. It is planned to the criterion's latest step, cut at fixed
checks so that branches can begin while it goes on; its nodes carry the watches. What comes after a criterion is not in
the tree before its rows are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from core.config import MeasureConfig, TrialConfig
from core.lineage import Link
from core.observation import Asked
from core.schedule import Watch
from studies.expand import Trial
from studies.schemas import FAILURES
from studies.stems import Stem, stems


class Recorded(Protocol):
    """What `stage_tree` asks of a recorded stretch; `studies.coverage.LinkState` gives it."""

    @property
    def status(self) -> str | None:
        """None where rows are missing, else how the stretch ended."""

    @property
    def covered(self) -> int:
        """Last step up to which all that is asked is recorded."""

    @property
    def last(self) -> int:
        """Last step that must be passed to have all that is asked; the stretch's end where training has not ended."""

    @property
    def generation(self) -> int:
        """Highest generation among its segments; 0 where there are none."""


class Records(Protocol):
    """What `stage_tree` asks of the store; `studies.coverage.Coverage` gives it."""

    def link(self, link: Link, asked: Asked, observation: MeasureConfig | None = None) -> Recorded:
        """What is recorded of a stretch of a lineage."""


class Kept(Protocol):
    """What `stage_tree` asks of the states on disk; `studies.states.States` gives it."""

    def has(self, lineage: str, step: int) -> bool:
        """Whether a state is there."""

    def nearest(self, lineage: str, after: int, last: int) -> int | None:
        """The latest step in (after, last] of which the lineage has a state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A stretch of a lineage between two cuts, shared by every trial that passes through it."""

    lineage: str
    start: int
    end: int
    config: TrialConfig
    """Of one trial that passes through it; its `measure` holds the quantities of all of them."""
    chain: tuple[Link, ...]
    """That trial's links up to the one that the node lies in."""
    asked: Asked
    """Union of the steps asked, in (start, end], and 0 where start is 0."""
    watches: tuple[Watch, ...]
    """What trials wait for on it, each once."""
    needed: bool
    """A trial that does not wait here passes through all of it: it is trained to its end whatever criteria do."""
    parent: int | None
    """Index of the node before it on the chain; None at step 0."""
    status: str | None
    """Recorded (ok, diverged, failed, timeout, oom) or inherited from a past that did not end ok; None = missing."""
    run: bool
    """It is to be run: missing, retried or replayed."""
    record: bool
    """False for a replay."""
    begin: int
    """Step it is run from (or would be, were a failure retried): `start`, or later where a state on the way is there
    and what precedes it is recorded."""
    until: int
    """Step it is run to: `end`, or earlier where all that is missing lies before and nobody needs its state."""
    after: int | None
    """Index of the node whose run must end first; None where the state to begin from is there."""
    checkpoint: bool
    """The state at its end is to be saved: somebody begins from it, or it is kept."""
    keep: bool
    """That state stays when nobody needs it any more: see `TrainConfig.keep`."""
    generation: int
    """Of the rows it will write."""

    @property
    def where(self) -> Link:
        """The link that it lies in; it goes on at least to `end`."""
        return self.chain[-1]

    @property
    def origin(self) -> tuple[str, int] | None:
        """The address (lineage, step) of the state it is run from; None where that is the initial one."""
        return origin(self.chain, self.begin)


def origin(chain: Sequence[Link], step: int) -> tuple[str, int] | None:
    """Where the state lies from which the last link of a chain is trained from a step on; None at step 0."""
    if step == 0:
        return None
    # The state at the start of a link was reached on the link before: it is kept under that lineage.
    return chain[-2 if step == chain[-1].start else -1].lineage, step


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

    def resumed(self) -> set[tuple[str, int]]:
        """The states from which what has failed would go on, were it retried; whether or not they are there."""
        failed = (node for node in self.nodes if node.status in FAILURES and not node.run)
        firsts = (node for node in failed if node.parent is None or self.nodes[node.parent].status == "ok")
        return {state for node in firsts if (state := node.origin) is not None}

    def todo(self) -> list[int]:
        """Indices of the nodes to be run, parents before children."""
        return [index for index, node in enumerate(self.nodes) if node.run]


def stage_tree(trials: Sequence[Trial], coverage: Records, states: Kept, *, retry: Collection[str] = ()) -> Tree:
    """The nodes of some trials and what of them is to be run.

    Args:
        trials: in any order; the order of the nodes follows it.
        coverage: what is recorded.
        states: what lies on disk.
        retry: recorded statuses that are run again, with the next generation.

    Raises:
        InputError: where trials that share a past measure it with different settings.
    """
    by_lineage = stems(trials)
    plans: list[_Plan] = []
    last: dict[tuple[str, int], int] = {}
    slices = _Slices()
    for lineage, stem in by_lineage.items():
        start, link = stem.link.start, stem.link
        parent = None if stem.parent is None else last[stem.parent, start]
        for end in stem.cuts():
            whole = slices.union([ask for (leaves, _), ask in stem.asks.items() if leaves >= end], start, end)
            piece = link if (start, end) == (link.start, link.end) else replace(link, start=start, end=end)
            known = coverage.link(piece, whole, stem.config.measure)
            plan = _Plan(
                stem=stem,
                lineage=lineage,
                start=start,
                end=end,
                asked=whole,
                parent=parent,
                status=known.status,
                covered=known.covered,
                last=known.last,
                generation=known.generation,
            )
            _settle(plan, None if parent is None else plans[parent].status, retry)
            parent = last[lineage, end] = len(plans)
            plans.append(plan)
            start = end
    _decide(plans, states)
    nodes = tuple([_node(plan) for plan in plans])
    ends = tuple(last[trial.links[-1].lineage, trial.links[-1].end] for trial in trials)
    complete: list[str | None] = []
    for node in nodes:
        missing = node.status is None or (node.parent is not None and complete[node.parent] is None)
        complete.append(None if missing else node.status)
    statuses = tuple(
        None if trial.watch is not None and complete[end] == "ok" else complete[end]
        for trial, end in zip(trials, ends, strict=True)
    )
    return Tree(nodes=nodes, ends=ends, statuses=statuses)


class _Slices:
    """Unions of what is asked over a stretch, each computed once: the lineages of a grid study look alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Asked] = {}

    def union(self, asks: Sequence[Asked], start: int, end: int) -> Asked:
        """What is asked in (start, end], and at 0 where start is 0."""
        key = (start, end, *map(id, asks))
        found = self._known.get(key)
        if found is None:
            pieces = [ask.within(0 if start == 0 else start + 1, end).all() for ask in asks]
            union = (tuple(sorted(set().union(*steps))) for steps in zip(*pieces, strict=True))
            found = self._known[key] = Asked(*union)
        return found


@dataclass(slots=True, kw_only=True)
class _Plan:
    """A node while it is decided."""

    stem: Stem
    lineage: str
    start: int
    end: int
    asked: Asked
    parent: int | None
    status: str | None
    covered: int
    last: int
    generation: int
    run: bool = False
    record: bool = True
    begin: int = 0
    until: int = 0
    after: int | None = None
    awaited: bool = False

    @property
    def keep(self) -> bool:
        """Whether the state at its end stays."""
        return self.stem.keep_all or self.end in self.stem.keep_at

    @property
    def watched(self) -> bool:
        """Whether trials wait for a criterion on it."""
        return any(last > self.start for last in self.stem.watches.values())


def _settle(plan: _Plan, past: str | None, retry: Collection[str]) -> None:
    """Whether a node is missing: not recorded (or retried), and nothing before it ended other than ok."""
    if plan.status is not None and plan.status in retry:
        if plan.status not in FAILURES:  # what was recorded before a failure stands
            plan.covered = plan.start
        plan.last = plan.end
        plan.status, plan.generation = None, plan.generation + 1
    if plan.status is None and past not in (None, "ok"):
        plan.status = past
    plan.run = plan.status is None


def _decide(plans: Sequence[_Plan], states: Kept) -> None:
    """Where each node begins, what it waits for, and what must be replayed; children first."""
    for plan in reversed(plans):
        if not plan.run and plan.status not in FAILURES:
            continue
        # A state on the way spares what leads to it, where that is recorded or need not be.
        last = min(plan.covered, plan.end - 1) if plan.record else plan.end - 1
        begin = states.nearest(plan.lineage, plan.start, last)
        plan.begin = plan.start if begin is None else begin
        if plan.parent is None or not plan.run:
            continue
        before = plans[plan.parent]
        if plan.watched and before.watched and before.run:
            # What criteria see before may end the stage there: nothing is trained ahead of it, though a state is there.
            plan.after, before.awaited = plan.parent, True
            continue
        if begin is not None or states.has(before.lineage, plan.start):
            continue
        plan.after, before.awaited = plan.parent, True
        if not before.run:
            before.run, before.record = True, False
    for plan in plans:
        plan.until = _until(plan, states)


def _until(plan: _Plan, states: Kept) -> int:
    """Where the run of a node ends: a replay for what was not observed goes no further than that."""
    needed = plan.awaited or not plan.record or bool(plan.stem.watches)
    if not plan.run or needed or (plan.keep and not states.has(plan.lineage, plan.end)):
        return plan.end
    return min(plan.end, max(plan.last, plan.begin + 1))


def _node(plan: _Plan) -> Node:
    stem = plan.stem
    wanted = plan.awaited or plan.keep or plan.end in stem.goes_on_at
    return Node(
        lineage=plan.lineage,
        start=plan.start,
        end=plan.end,
        config=stem.config,
        chain=stem.chain,
        asked=plan.asked,
        watches=tuple([watch for watch, last in stem.watches.items() if last > plan.start]),
        needed=plan.end <= stem.needed,
        parent=plan.parent,
        status=plan.status,
        run=plan.run,
        record=plan.record,
        begin=plan.begin,
        until=plan.until,
        after=plan.after,
        checkpoint=plan.run and plan.until == plan.end and wanted,
        keep=plan.keep,
        generation=plan.generation,
    )
