"""One round of a sweep: the nodes of a tree that are to be run, from the first bundle to the last event.

Nodes are submitted as their parents finish (`sweeps.agenda`). What a worker committed is settled here; what it lost
goes again or is given up (`sweeps.losses`).

Where trials wait for a criterion, a trunk's rows decide what comes next: whenever a watched stretch was committed, the
round is planned anew from the store, and what runs goes on. So it is where trials that end let others go on.

Nothing of this is durable: after any end, planned or not, the next round starts from what the store holds.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from core.errors import StoreError
from core.numerics import Engine
from studies.store import Store
from sweeps.agenda import Agenda
from sweeps.executor import Committed, Event, Executor, Finished, LaneOutcome, Lost, Outcome, Progress, Started
from sweeps.holds import LOOK_S, Holds
from sweeps.look import Outlook
from sweeps.losses import again, fail_waiting, give_up
from sweeps.observer import Notes, Observer
from sweeps.packs import Ready
from sweeps.tables import plural
from sweeps.units import WORK, Bundle, Lane, Unit, unit

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How units are run."""

    device: str = "cpu"
    engine: Engine = "eager"
    attempts: int = 3
    """Times that a lane may be lost alone (or in a pack) before it is recorded as a failure; at least 1."""
    checkpoint_seconds: float = 600.0
    unit_timeout_s: float | None = None
    work: str = WORK


@dataclass(slots=True)
class _Flight:
    """A bundle that an executor has."""

    units: dict[str, Unit]
    """Those without an outcome, by id, in order."""
    running: str | None = None


@dataclass
class Round:
    """Runs the nodes of a tree; make one, call `run` once."""

    outlook: Outlook
    store: Store
    executor: Executor
    ready: Ready
    limits: Limits
    observer: Observer
    holds: Holds
    anew: Callable[[], Outlook] | None = None
    """Looks at the store again, where rows have decided a criterion or another driver has let go; None: the round
    leaves that to the next one, and runs what others hold."""
    follows: bool = False
    """Whether trials that end decide which are to run, so that the store is looked at again then too."""
    draining: Callable[[], bool] = lambda: False
    """Asked often: let running units end at their next block, begin no other?"""
    at_once: Callable[[], bool] = lambda: False
    """Asked often: kill what runs?"""
    clock: Callable[[], float] = time.monotonic
    progressed: bool = False
    """Whether anything new was recorded or left to other drivers, or a state was found to be gone."""
    _due: bool = False
    """Rows that criteria, or trials to come, wait for were committed since the last look."""
    _looked: tuple[float, float] = (0.0, 0.0)
    """When the last look ended, and how long it took."""
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _elsewhere: list[Lane] = field(default_factory=list)
    """What other drivers hold: left for later."""
    _awaited: frozenset[str] = frozenset()
    """The drivers of which it was said that they are waited for."""
    _agenda: Agenda = field(init=False)
    _needs: frozenset[str] = frozenset()
    """Lineages with states from which nodes are to begin."""
    _notes: Notes = field(init=False)
    _serial: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self._agenda = Agenda(self.outlook, self.ready, self.observer, self._flying)
        self._notes = Notes(self.observer)

    def run(self) -> None:
        """Runs until nothing is left to run, or the drain is over.

        Raises:
            StoreError: rows could not be written.
        """
        self.holds.look()
        self._plan(self.outlook)
        stopping = False
        while self._flights or ((len(self.ready) or self._may_look or self._elsewhere) and not stopping):
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
                self._watch_others()
                if self._may_look and (self._is_time or not self._flights):
                    self._look()
                self._submit()
            self.holds.renew(self._running, self._needs)
            if self._flights:
                for event in self.executor.poll(POLL_SECONDS):
                    self._handle(event)
            elif self._elsewhere and not stopping:
                self.holds.pause(POLL_SECONDS)

    # --- looking ---

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
        self.holds.planning()
        outlook, self._due = self.anew(), False
        self.ready.clear()
        self._elsewhere.clear()
        self._plan(outlook, goes_on=True)
        self._let_go()
        self._looked = (self.clock(), self.clock() - begun)

    def _plan(self, outlook: Outlook, *, goes_on: bool = False) -> None:
        # Where others begin at the front, this driver begins elsewhere: they meet less often.
        turn = int(self.holds.driver, 16) / 16 ** len(self.holds.driver) if self.holds.shared else 0.0
        self._agenda.plan(outlook, goes_on=goes_on, turn=turn)
        self._needs = frozenset(lineage for (lineage, _), count in self._agenda.begins.items() if count > 0)
        self.holds.changed()

    def _let_go(self) -> None:
        """Removes the passing states that nothing is to begin from: what was to follow is recorded, or never comes."""
        flying = {lane.lineage for lane in self._flying().values()}  # these may save states that nobody knows of yet
        tree = self._agenda.outlook.tree
        lineages = {node.lineage for node in tree.nodes} - flying - self.holds.needed
        begins = {state for state, count in self._agenda.begins.items() if count > 0}
        self.store.remove_passing(lineages, needed=begins | tree.resumed())

    def _flying(self) -> dict[tuple[str, int], Lane]:
        """The lanes that executors have, or that are put back, by lineage and end."""
        units = [unit for flight in self._flights.values() for unit in flight.units.values()]
        return {(lane.lineage, lane.end): lane for unit in (*units, *self.ready.again()) for lane in unit.lanes}

    def _running(self) -> Iterable[Lane]:
        return self._flying().values()

    # --- submitting ---

    def _submit(self) -> None:
        """Gives every slot a bundle and, where there is plenty, one that waits beside it, so no worker idles."""
        while taken := self._take():
            for units in self._agreed(taken):
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

    def _take(self) -> list[tuple[Unit, ...]]:
        slots, taken = self.executor.slots, list[tuple[Unit, ...]]()
        while (free := slots - len(self._flights) - len(taken)) > 0 or (free > -slots and self.ready.plenty):
            units = self.ready.take(max(1, free))
            if not units:
                break
            taken.append(units)
        return taken

    # --- other drivers ---

    def _agreed(self, taken: list[tuple[Unit, ...]]) -> list[tuple[Unit, ...]]:
        """Some bundles without the lanes that others hold; the rest is held from now on.

        Units that go again are held already. A round that can't look at the store again has no later.
        """
        if self.anew is None:
            self.holds.changed()
            return taken
        wanted = [lane for units in taken for one in units if one.attempt == 1 for lane in one.lanes]
        left = self.holds.agree(wanted, self._running, self._needs)
        if not left:
            return taken
        self._elsewhere += left
        self.progressed = True  # by others
        theirs = {id(lane) for lane in left}
        bundles = (tuple(_without(one, theirs) for one in units) for units in taken)
        return [units for bundle in bundles if (units := tuple(one for one in bundle if one is not None))]

    def _watch_others(self) -> None:
        """Where only what others hold is left, or had: once some of it is free, the store says what it has become."""
        waits = bool(self._elsewhere) and not len(self.ready)
        self.holds.look(every=0.0 if waits else LOOK_S)
        self._due |= self.holds.behind
        if not waits or not self._is_time:
            return
        held = [self.holds.other(lane) for lane in self._elsewhere]
        if None in held:
            self._due, self._awaited = True, frozenset()
        elif not self._flights:
            drivers = {hold.driver: hold for hold in held if hold is not None}
            if drivers.keys() != self._awaited:
                self._awaited = frozenset(drivers)
                who = " and ".join(hold.who for hold in drivers.values())
                held_by = f"{plural(len(held), 'stretch', 'stretches')} held by {who}"
                self.observer.said(f"waiting for another driver: {held_by}")

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
                self._due |= self.follows
            case Finished():
                del self._flights[event.bundle]
            case Lost():
                del self._flights[event.bundle]
                self._lost(flight, event)
                self._due |= self.follows

    def _by_arm(self, unit: Unit, losses: Sequence[float | None]) -> dict[str, float]:
        arms: dict[str, list[float]] = {}
        for lane, value in zip(unit.lanes, losses, strict=True):
            if value is not None and (arm := self._agenda.arm(lane)) is not None:
                arms.setdefault(arm, []).append(value)
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
            self.progressed |= lane.origin is not None and not self.store.has_state(*lane.origin)
            return
        self.progressed = True
        self.holds.recorded(lane, lane.end if result.status == "diverged" else result.reached)
        served = lane.origin is not None and self._agenda.served(lane.origin)
        if lane.origin is not None and served and not self.holds.needs(lane.origin[0]):
            self.store.remove_passing_state(*lane.origin)
        index = self._agenda.index(lane)
        if (lane.watches and lane.record) or lane.lineage in self._agenda.postponed:
            self._due = True  # its rows say what comes next
        elif index is None:  # planned otherwise since
            return
        elif result.status == "ok" and result.reached < lane.end:
            self._agenda.go_on(index, result.reached)
        elif not lane.record and result.status != "ok":
            reason = f"the replay of its past ended {result.status}"
            fail_waiting(index, "failed", reason, agenda=self._agenda, store=self.store, attempts=self.limits.attempts)
        else:
            self._agenda.close(index, result.status)

    def _lost(self, flight: _Flight, lost: Lost) -> None:
        if lost.kind == "store":
            raise StoreError(lost.reason)
        running = flight.running if flight.running in flight.units else next(iter(flight.units), None)
        innocent = [unit for key, unit in flight.units.items() if key != running]
        self.ready.put_back(innocent)
        if running is None:
            return
        unit, attempts = flight.units[running], self.limits.attempts
        self.observer.ended(unit.id, steps=0)
        units, said = again(unit, lost, attempts=attempts)
        self.observer.said(said)
        for one in units:
            self.ready.put_back([one])
        if not units:
            self.progressed |= give_up(unit, lost, agenda=self._agenda, store=self.store, attempts=attempts)


def _without(whole: Unit, lanes: Collection[int]) -> Unit | None:
    """A unit without some lanes, by identity; None where nothing is left of it."""
    rest = [lane for lane in whole.lanes if id(lane) not in lanes]
    if len(rest) == len(whole.lanes):
        return whole
    return unit(rest) if rest else None
