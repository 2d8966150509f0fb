"""The agenda of a round: which nodes of a tree are to be run, what waits for what, and what goes first.

It is planned from one look at the store, and planned anew when the round looks again; what runs then goes on and is
part of it. A node is *released* to the pool of ready lanes when the node before it has ended ok, and not while what
runs trains a part of it already, cut otherwise: then it is postponed until that has ended and the round looks again.
The longest chain of work goes first.

It counts by state who is still to begin from it, so that a passing state can go when the last one has. It writes
nothing: rows and files are the round's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.flops import step_flops
from core.observation import NOTHING
from core.watch import Check
from studies.tree import Node
from studies.watchers import own_checks
from sweeps.look import Outlook
from sweeps.measure_cost import to_measure
from sweeps.observer import Observer
from sweeps.packs import Ready
from sweeps.units import Lane


@dataclass
class Agenda:
    """What is to be run of the tree of an outlook; `plan` fills it."""

    outlook: Outlook
    ready: Ready
    observer: Observer
    flying: Callable[[], Mapping[tuple[str, int], Lane]]
    """The lanes that executors have, or that are put back, by lineage and end."""
    begins: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By state, the nodes that are to begin from it and have not ended."""
    postponed: set[str] = field(default_factory=set)
    """Lineages with nodes that wait until what runs there has ended."""
    _status: list[str | None] = field(default_factory=list)
    _waiting: dict[int, list[int]] = field(default_factory=dict)
    _index: dict[tuple[str, int], int] = field(default_factory=dict)
    _height: list[int] = field(default_factory=list)
    """By node, the FLOPs of the longest chain of work that begins with it."""
    _passing: list[list[int]] = field(default_factory=list)
    _left: list[int] = field(default_factory=list)
    _costs: dict[Hashable, int] = field(default_factory=dict)

    def plan(self, outlook: Outlook, *, goes_on: bool = False, turn: float = 0.0) -> None:
        """Plans from a look at the store, and releases what may start.

        Args:
            outlook: that look.
            goes_on: there is something that runs; it is not run again.
            turn: share in [0, 1) of what may start that comes after the rest of its height.
        """
        self.outlook = outlook
        nodes, flying = outlook.tree.nodes, self.flying()
        self._waiting.clear()
        self._status = [node.status for node in nodes]
        todo = outlook.tree.todo()
        self._index = {(nodes[i].lineage, nodes[i].until): i for i in todo}
        for i in todo:
            if nodes[i].after is not None:
                self._waiting.setdefault(nodes[i].after, []).append(i)  # type: ignore[arg-type]  # just tested
        self._height = [0] * len(nodes)
        for i in reversed(todo):
            node = nodes[i]
            # What follows where a criterion ends the stage is not in the tree: the rest of the longest trial.
            ahead = node.config.train.steps - node.end if node.watches else 0
            flops = self._flops(node)
            below = max((self._height[child] for child in self._waiting.get(i, ())), default=ahead * flops)
            self._height[i] = below + (node.until - node.begin) * flops
        self.postponed.clear()
        waiting = [i for i in todo if not _runs(flying.get((nodes[i].lineage, nodes[i].until)), nodes[i])]
        origins = [*(nodes[i].origin for i in waiting), *(lane.origin for lane in flying.values())]
        self.begins = Counter(state for state in origins if state is not None)
        self._announce(todo, goes_on=goes_on)
        aloft = _by_lineage(flying.values())
        free = [i for i in waiting if nodes[i].after is None]
        first = int(turn * len(free))
        for i in (*free[first:], *free[:first]):
            self._release(i, aloft)

    def _flops(self, node: Node) -> int:
        """Of one update of a node."""
        config, link = node.config, node.where
        key = (config.model, config.train.batch, config.task, link.loops, link.loss_on)
        found = self._costs.get(key)
        if found is None:
            found = self._costs[key] = step_flops(config, loops=link.loops, loss_on=link.loss_on)
        return found

    def _announce(self, todo: Iterable[int], *, goes_on: bool) -> None:
        """Tells the observer what there is, and remembers which trials wait for which nodes."""
        trials, tree = self.outlook.trials, self.outlook.tree
        nodes = tree.nodes
        arms: dict[str, int] = {}
        for trial in trials:
            arms[trial.arm] = arms.get(trial.arm, 0) + 1
        statuses = zip(trials, tree.statuses, strict=True)
        self.observer.planned(
            arms,
            sum(nodes[i].until - nodes[i].begin for i in todo),
            waiting=sum(trial.watch is not None and status is None for trial, status in statuses),
            goes_on=goes_on,
        )
        self._passing, self._left = [[] for _ in nodes], []
        for number, trial in enumerate(trials):
            missing = [i for i in tree.path(number) if nodes[i].run and nodes[i].record]
            self._left.append(len(missing))
            for i in missing:
                self._passing[i].append(number)
            if (status := tree.statuses[number]) is not None:
                self.observer.settled(trial.arm, status)

    # --- nodes and lanes ---

    def index(self, lane: Lane) -> int | None:
        """The node that a lane runs to its end; None where it has been planned otherwise since."""
        return self._index.get((lane.lineage, lane.end))

    def arm(self, lane: Lane) -> str | None:
        """The arm of the first trial that waits for a lane; None where nobody does."""
        index = self.index(lane)
        passing = [] if index is None else self._passing[index]
        return self.outlook.trials[passing[0]].arm if passing else None

    def lane(self, index: int, start: int | None = None) -> Lane:
        """The lane that runs a node from a step on; default: from where it begins."""
        node = self.outlook.tree.nodes[index]
        start = node.begin if start is None else start
        watches = node.watches if node.record else ()
        asked = node.asked.within(0 if start == 0 else start + 1, node.until) if node.record else NOTHING
        config, asked = to_measure(node, asked, self.outlook.coverage)
        return Lane(
            config=config,
            chain=node.chain,
            start=start,
            end=node.until,
            asked=asked,
            watches=watches,
            seen=self._seen(node, start) if watches else (),
            needed=node.needed or not watches,
            checkpoint=node.checkpoint,
            keep=node.keep,
            generation=node.generation,
            record=node.record,
        )

    def _seen(self, node: Node, start: int) -> tuple[tuple[int, Check], ...]:
        """The recorded checks of the watched stage up to a step."""
        stage = [link for link in node.chain if link.stage == node.where.stage]
        known = own_checks(stage, self.outlook.checks)
        return tuple(sorted((step, check) for step, check in known.items() if step <= start))

    # --- what may start, and what has ended ---

    def _release(self, index: int, aloft: Mapping[str, Sequence[Lane]]) -> None:
        """A node may start, unless something that runs, by lineage in `aloft`, trains a part of it."""
        node = self.outlook.tree.nodes[index]
        if any(lane.start < node.until and node.begin < lane.end for lane in aloft.get(node.lineage, ())):
            self.postponed.add(node.lineage)
        else:
            self.ready.add(self.lane(index), self._height[index])

    def go_on(self, index: int, start: int) -> None:
        """A node was run up to a step before its end: the rest of it may start."""
        rest = self.lane(index, start)
        self.begins[rest.lineage, start] += 1
        self.ready.add(rest, self._height[index])

    def served(self, state: tuple[str, int]) -> bool:
        """A lane has begun from a state and ended; returns whether nothing else is to begin from that state."""
        self.begins[state] -= 1
        return self.begins[state] <= 0

    def close(self, index: int, status: str) -> None:
        """A node ended: what waited for it may begin, or never will."""
        trials, stack = self.outlook.trials, [index]
        while stack:
            i = stack.pop()
            self._status[i] = status
            for number in self._passing[i]:
                self._left[number] -= 1
                end = self._status[self.outlook.tree.ends[number]]
                if self._left[number] == 0 and not (trials[number].watch is not None and end == "ok"):
                    self.observer.settled(trials[number].arm, str(end))
            children = self.forget(i)
            aloft = _by_lineage(self.flying().values()) if children and status == "ok" else {}
            for child in children:
                if status == "ok":
                    self._release(child, aloft)
                else:
                    stack.append(child)

    def forget(self, index: int) -> Sequence[int]:
        """The nodes that waited for one; they wait no more."""
        return self._waiting.pop(index, ())


def _runs(lane: Lane | None, node: Node) -> bool:
    """Whether a lane that runs to the same end does all that a node asks."""
    return lane is not None and lane.start <= node.begin and lane.record >= node.record


def _by_lineage(lanes: Iterable[Lane]) -> dict[str, list[Lane]]:
    found: dict[str, list[Lane]] = {}
    for lane in lanes:
        found.setdefault(lane.lineage, []).append(lane)
    return found
