"""One round of a sweep: the nodes of a tree that are to be run, from the first bundle to the last event.

Nodes are submitted as their parents finish. What a worker committed is settled here; what it lost costs its running
unit an attempt, and a pack that was lost is halved, so that one poisonous trial ends up alone and its neighbours do
not suffer. A lane that was lost alone as often as is allowed is recorded as a failure, with its reason.

Where trials wait for a criterion, a trunk's rows decide what comes next: whenever a watched stretch was committed, the
round is planned anew from the store, and what runs goes on.

Nothing of this is durable: after any end, planned or not, the next round starts from what the store holds.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from core.errors import StoreError
from core.flops import step_flops
from core.numerics import Engine
from core.observation import NOTHING
from core.watch import Check
from studies.coverage import Coverage
from studies.expand import Trial
from studies.store import Store
from studies.tree import Node, Tree
from studies.watchers import Checks, own_checks
from sweeps.executor import Committed, Event, Executor, Finished, LaneOutcome, Lost, Outcome, Progress, Started
from sweeps.measure_cost import to_measure
from sweeps.packs import Ready
from sweeps.units import Bundle, Lane, Unit
from sweeps.worker import segment_row

POLL_SECONDS = 0.5


class Observer(Protocol):
    """Is told what happens while a sweep runs; `sweeps.progress` shows it. Calls come from one thread."""

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        """A round begins, or goes on after criteria have decided what comes next.

        Args:
            arms: trials by arm.
            steps: lane-steps that are to be trained, a shared one once; what comes after a criterion is not known.
            waiting: trials that wait for a criterion.
            goes_on: what runs goes on; its steps are among `steps`.
        """

    def settled(self, arm: str, status: str) -> None:
        """A trial of an arm has ended, now or before; told anew in every round, after `planned`."""

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        """A unit began at a step."""

    def reached(self, unit: str, step: int, losses: dict[str, float]) -> None:
        """A unit is at a step; mean training loss of its lanes by arm."""

    def ended(self, unit: str, *, steps: int) -> None:
        """A unit ended; lane-steps of it that are recorded, 0 where it was lost."""

    def said(self, message: str) -> None:
        """A line for the user: a lost worker, a retry, a measurement that begins."""


class Silent:
    """An observer that shows nothing."""

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        """Nothing."""

    def settled(self, arm: str, status: str) -> None:
        """Nothing."""

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        """Nothing."""

    def reached(self, unit: str, step: int, losses: dict[str, float]) -> None:
        """Nothing."""

    def ended(self, unit: str, *, steps: int) -> None:
        """Nothing."""

    def said(self, message: str) -> None:
        """Nothing."""


class Notes:
    """Passes the notes of outcomes on, each reason once: a thousand states may lack their numbers for the same one."""

    def __init__(self, observer: Observer) -> None:
        """Nothing has been told yet."""
        self._observer = observer
        self._told: set[str] = set()

    def tell(self, outcome: Outcome) -> None:
        """Tells what is new in an outcome; a note's reason is what follows its first colon."""
        for note in outcome.notes:
            reason = note.partition(": ")[2]
            if reason not in self._told:
                self._told.add(reason)
                self._observer.said(note)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How units are run."""

    device: str = "cpu"
    engine: Engine = "eager"
    attempts: int = 3
    """Times that a lane may be lost alone (or in a pack) before it is recorded as a failure; at least 1."""
    checkpoint_seconds: float = 600.0
    unit_timeout_s: float | None = None
    work: str = "sweeps.worker:train_unit"


@dataclass(slots=True)
class _Flight:
    """A bundle that an executor has."""

    units: dict[str, Unit]
    """Those without an outcome, by id, in order."""
    running: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a round is planned from: one look at the store."""

    trials: Sequence[Trial]
    tree: Tree
    coverage: Coverage
    checks: Checks
    """Of the lineages on which trials wait for a criterion."""


@dataclass
class Round:
    """Runs the nodes of a tree; make one, call `run` once."""

    outlook: Outlook
    store: Store
    executor: Executor
    ready: Ready
    limits: Limits
    observer: Observer
    anew: Callable[[], Outlook] | None = None
    """Looks at the store again, where rows have decided a criterion; None: the round ends, and the next one looks."""
    draining: Callable[[], bool] = lambda: False
    """Asked often: let running units end at their next block, begin no other?"""
    at_once: Callable[[], bool] = lambda: False
    """Asked often: kill what runs?"""
    clock: Callable[[], float] = time.monotonic
    progressed: bool = False
    """Whether anything new was recorded, or a state was found to be gone."""
    _due: bool = False
    """Rows that criteria wait for were committed since the last look."""
    _looked: tuple[float, float] = (0.0, 0.0)
    """When the last look ended, and how long it took."""
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _status: list[str | None] = field(default_factory=list)
    _waiting: dict[int, list[int]] = field(default_factory=dict)
    _index: dict[tuple[str, int], int] = field(default_factory=dict)
    _height: list[int] = field(default_factory=list)
    """By node, the FLOPs of the longest chain of work that begins with it."""
    _passing: list[list[int]] = field(default_factory=list)
    _left: list[int] = field(default_factory=list)
    _begins: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By state, the nodes that are to begin from it and have not ended."""
    _held: set[str] = field(default_factory=set)
    """Lineages with nodes that are held back until what runs there has ended."""
    _notes: Notes = field(init=False)
    _serial: itertools.count[int] = field(default_factory=itertools.count)
    _costs: dict[Hashable, int] = field(default_factory=dict)

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials, as far as rows have decided them."""
        return self.outlook.trials

    @property
    def tree(self) -> Tree:
        """Their tree."""
        return self.outlook.tree

    def run(self) -> None:
        """Runs until nothing is left to run, or the drain is over.

        Raises:
            StoreError: rows could not be written.
        """
        self._prepare()
        stopping = False
        while self._flights or ((len(self.ready) or self._may_look) and not stopping):
            if self.at_once():
                self.executor.stop(drain=False)
                return
            if self.draining() and not stopping:
                stopping = True
                self.observer.said(
                    "ending in good order: running units stop at their next block; once more ends at once"
                )
                self.executor.stop(drain=True)
            if not stopping:
                if self._may_look and (self._is_time or not self._flights):
                    self._look()
                self._submit()
            if self._flights:
                for event in self.executor.poll(POLL_SECONDS):
                    self._handle(event)

    # --- set-up ---

    def __post_init__(self) -> None:
        self._notes = Notes(self.observer)

    @property
    def _may_look(self) -> bool:
        return self._due and self.anew is not None

    @property
    def _is_time(self) -> bool:
        """Whether another look takes at most a tenth of the driver's time."""
        ended, took = self._looked
        return self.clock() - ended >= 9 * took

    def _look(self) -> None:
        """Plans the round anew from the store; what runs goes on."""
        if self.anew is None:
            return
        begun = self.clock()
        self.outlook, self._due = self.anew(), False
        self.ready.clear()
        self._prepare(goes_on=True)
        self._let_go()
        self._looked = (self.clock(), self.clock() - begun)

    def _let_go(self) -> None:
        """Removes the passing states that nothing is to begin from: what was to follow is recorded, or never comes."""
        flying = {lane.lineage for lane in self._flying().values()}  # these may save states that nobody knows of yet
        lineages = {node.lineage for node in self.tree.nodes} - flying
        begins = {state for state, count in self._begins.items() if count > 0}
        self.store.remove_passing(lineages, needed=begins | self.tree.resumed())

    def _flying(self) -> dict[tuple[str, int], Lane]:
        """The lanes that executors have, or that are put back, by lineage and end."""
        units = [unit for flight in self._flights.values() for unit in flight.units.values()]
        return {(lane.lineage, lane.end): lane for unit in (*units, *self.ready.again()) for lane in unit.lanes}

    def _prepare(self, *, goes_on: bool = False) -> None:
        nodes, flying = self.tree.nodes, self._flying()
        self._waiting.clear()
        self._status = [node.status for node in nodes]
        todo = self.tree.todo()
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
        self._held.clear()
        waiting = [i for i in todo if not _runs(flying.get((nodes[i].lineage, nodes[i].until)), nodes[i])]
        origins = [*(nodes[i].origin for i in waiting), *(lane.origin for lane in flying.values())]
        self._begins = Counter(state for state in origins if state is not None)
        self._announce(todo, goes_on=goes_on)
        aloft = _by_lineage(flying.values())
        for i in waiting:
            if nodes[i].after is None:
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
        nodes = self.tree.nodes
        arms: dict[str, int] = {}
        for trial in self.trials:
            arms[trial.arm] = arms.get(trial.arm, 0) + 1
        statuses = zip(self.trials, self.tree.statuses, strict=True)
        self.observer.planned(
            arms,
            sum(nodes[i].until - nodes[i].begin for i in todo),
            waiting=sum(trial.watch is not None and status is None for trial, status in statuses),
            goes_on=goes_on,
        )
        self._passing, self._left = [[] for _ in nodes], []
        for number, trial in enumerate(self.trials):
            missing = [i for i in self.tree.path(number) if nodes[i].run and nodes[i].record]
            self._left.append(len(missing))
            for i in missing:
                self._passing[i].append(number)
            if (status := self.tree.statuses[number]) is not None:
                self.observer.settled(trial.arm, status)

    # --- submitting ---

    def _release(self, index: int, aloft: Mapping[str, Sequence[Lane]]) -> None:
        """A node may start; not while what runs already trains a part of it, cut otherwise: then it is looked at anew.

        Args:
            index: of the node.
            aloft: what runs, by lineage.
        """
        node = self.tree.nodes[index]
        if any(lane.start < node.until and node.begin < lane.end for lane in aloft.get(node.lineage, ())):
            self._held.add(node.lineage)
        else:
            self.ready.add(self._lane(node, node.begin), self._height[index])

    def _submit(self) -> None:
        """Gives every slot a bundle and, where there is plenty, one that waits beside it, so no worker idles."""
        slots = self.executor.slots
        while (free := slots - len(self._flights)) > 0 or (free > -slots and self.ready.plenty):
            units = self.ready.take(max(1, free))
            if not units:
                break
            bundle = Bundle(
                id=f"b{next(self._serial)}",
                units=units,
                device=self.limits.device,
                engine=self.limits.engine,
                checkpoint_seconds=self.limits.checkpoint_seconds,
                unit_timeout_s=self.limits.unit_timeout_s,
                work=self.limits.work,
            )
            self._flights[bundle.id] = _Flight({unit.id: unit for unit in units})
            self.executor.submit(bundle)

    # --- events ---

    def _handle(self, event: Event) -> None:
        flight = self._flights.get(event.bundle)
        if flight is None:
            return
        match event:
            case Started():
                flight.running = event.unit
                unit = flight.units[event.unit]
                self.observer.started(unit.id, start=unit.lanes[0].start, lanes=len(unit.lanes))
            case Progress():
                self.observer.reached(event.unit, event.step, self._by_arm(flight.units[event.unit], event.losses))
            case Committed():
                for outcome in event.outcomes:
                    self._settle_unit(flight.units.pop(outcome.unit), outcome)
            case Finished():
                del self._flights[event.bundle]
            case Lost():
                del self._flights[event.bundle]
                self._lost(flight, event)

    def _by_arm(self, unit: Unit, losses: Sequence[float | None]) -> dict[str, float]:
        arms: dict[str, list[float]] = {}
        for lane, value in zip(unit.lanes, losses, strict=True):
            index = self._index.get((lane.lineage, lane.end))
            passing = [] if index is None else self._passing[index]
            if value is not None and passing:
                arms.setdefault(self.trials[passing[0]].arm, []).append(value)
        return {arm: sum(values) / len(values) for arm, values in arms.items()}

    def _settle_unit(self, unit: Unit, outcome: Outcome) -> None:
        steps = 0
        for lane, result in zip(unit.lanes, outcome.lanes, strict=True):
            # After a divergence nothing of the lane is left to train, so its whole length counts as done.
            steps += (lane.end if result.status == "diverged" else result.reached) - lane.start
            self._settle_lane(lane, result)
        self.observer.ended(unit.id, steps=steps)
        self._notes.tell(outcome)

    def _settle_lane(self, lane: Lane, result: LaneOutcome) -> None:
        if result.status == "ok" and result.reached == lane.start:
            # Drained before its first step, or its state is gone: the next round plans it anew.
            self.progressed |= lane.origin is not None and self.store.state(*lane.origin) is None
            return
        self.progressed = True
        self._served(lane)
        index = self._index.get((lane.lineage, lane.end))
        if (lane.watches and lane.record) or lane.lineage in self._held:
            self._due = True  # its rows say what comes next
        elif index is None:  # planned otherwise since
            return
        elif result.status == "ok" and result.reached < lane.end:
            rest = self._lane(self.tree.nodes[index], result.reached)
            self._begins[lane.lineage, result.reached] += 1
            self.ready.add(rest, self._height[index])
        elif not lane.record and result.status != "ok":
            self._fail_waiting(index, "failed", f"the replay of its past ended {result.status}")
        else:
            self._close(index, result.status)

    def _served(self, lane: Lane) -> None:
        """A lane has begun from its state and ended: a passing state goes when nothing else is to begin from it."""
        if lane.origin is None:
            return
        self._begins[lane.origin] -= 1
        if self._begins[lane.origin] <= 0:
            self.store.checkpoint(*lane.origin, passing=True).unlink(missing_ok=True)

    def _close(self, index: int, status: str) -> None:
        """A node ended: what waited for it may begin, or never will."""
        stack = [index]
        while stack:
            i = stack.pop()
            self._status[i] = status
            for number in self._passing[i]:
                self._left[number] -= 1
                end = self._status[self.tree.ends[number]]
                if self._left[number] == 0 and not (self.trials[number].watch is not None and end == "ok"):
                    self.observer.settled(self.trials[number].arm, str(end))
            children = self._waiting.pop(i, ())
            aloft = _by_lineage(self._flying().values()) if children and status == "ok" else {}
            for child in children:
                if status == "ok":
                    self._release(child, aloft)
                else:
                    stack.append(child)

    # --- losses ---

    def _lost(self, flight: _Flight, lost: Lost) -> None:
        if lost.kind == "store":
            raise StoreError(lost.reason)
        running = flight.running if flight.running in flight.units else next(iter(flight.units), None)
        innocent = [unit for key, unit in flight.units.items() if key != running]
        self.ready.put_back(innocent)
        if running is None:
            return
        unit = flight.units[running]
        self.observer.ended(unit.id, steps=0)
        if len(unit.lanes) > 1:
            # Alone, each lane gets one more attempt at least, for the fault may be its neighbour's.
            attempt = min(unit.attempt + (lost.kind != "oom"), max(1, self.limits.attempts - 1))
            self.observer.said(f"a pack of {len(unit.lanes)} was lost and is halved: {lost.reason}")
            for half in unit.split():
                self.ready.put_back([_again(half, attempt)])
        elif unit.attempt < self.limits.attempts:
            self.observer.said(f"attempt {unit.attempt} of {self.limits.attempts} was lost: {lost.reason}")
            self.ready.put_back([_again(unit, unit.attempt + 1)])
        else:
            self.observer.said(f"given up after {unit.attempt} attempts: {lost.reason}")
            self._give_up(unit, lost)

    def _give_up(self, unit: Unit, lost: Lost) -> None:
        lane = unit.lanes[0]
        index = self._index.get((lane.lineage, lane.end))
        if lane.record:
            self._record_failure(lane, lost.kind, lost.reason, unit.attempt)
            if index is not None:
                self._close(index, lost.kind)
        elif index is not None:
            self._fail_waiting(index, lost.kind, f"the replay of its past was lost: {lost.reason}")

    def _fail_waiting(self, index: int, kind: str, reason: str) -> None:
        """A replay did not bring back its state: what waited for it fails, its own rows stand."""
        for child in self._waiting.pop(index, ()):
            node = self.tree.nodes[child]
            if node.record:
                self._record_failure(self._lane(node, node.begin), kind, reason, self.limits.attempts)
                self._close(child, kind)
            else:
                self._fail_waiting(child, kind, reason)

    def _record_failure(self, lane: Lane, kind: str, reason: str, attempts: int) -> None:
        now = datetime.now(UTC)
        row = segment_row(
            lane,
            status=kind,
            end=lane.end,
            reached=lane.start,
            attempts=attempts,
            error=reason,
            pack_size=1,
            started_at=now,
            finished_at=now,
        )
        self.store.commit({"segments": [row]})
        self.progressed = True

    # --- lanes ---

    def _lane(self, node: Node, start: int) -> Lane:
        """The lane that runs a node from a step on."""
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


def _runs(lane: Lane | None, node: Node) -> bool:
    """Whether a lane that runs to the same end does all that a node asks."""
    return lane is not None and lane.start <= node.begin and lane.record >= node.record


def _by_lineage(lanes: Iterable[Lane]) -> dict[str, list[Lane]]:
    found: dict[str, list[Lane]] = {}
    for lane in lanes:
        found.setdefault(lane.lineage, []).append(lane)
    return found


def _again(unit: Unit, attempt: int) -> Unit:
    return Unit(id=unit.id, lanes=unit.lanes, attempt=attempt)
