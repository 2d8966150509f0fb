"""A sweep on a thousand nodes: where does the time go, and what limits?

    python benchmarks/simulation.py [--trials 100000] [--nodes 1000] [--unit 6.7] [--hours 24] [--commits 235]

The driver is the real one: a study is expanded and planned, and `sweeps.round.Round` with its agenda, packs, losses and
holds runs it. The executor is simulated: a unit takes so many seconds (within a fifth) of a clock that jumps from event
to event, each node is lost once in so many hours on the average, and is back after two minutes. The driver's own CPU
time, measured while it runs here, goes by on that clock too, since it does one thing at a time; the store takes so many
commits a second, one after the other. Nothing is extrapolated: the numbers are those of the trials that are simulated.
What a look at the store costs while a round goes on is not in them: in a study without criteria there is none.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import random
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.plan import document
from studies.expand import expand
from studies.spec import load_study
from studies.store import Store
from sweeps.executor import Committed, Event, Finished, LaneOutcome, Lost, Outcome, Started
from sweeps.holds import Holds
from sweeps.look import outlook_of
from sweeps.observer import Silent
from sweeps.packs import Pace, Ready
from sweeps.round import Limits, Round
from sweeps.units import Bundle, Lane, Unit

PACK = 16
BACK_S = 120.0


@dataclass
class Simulated:
    """Nodes with one slot each, on a clock of their own."""

    slots: int
    unit_s: float
    lost_every_s: float
    commit_s: float
    chance: random.Random
    now: float = 0.0
    driver_s: float = 0.0
    busy_s: float = 0.0
    lost_s: float = 0.0
    losses: int = 0
    commits: int = 0
    waited_s: float = 0.0
    """Of commits for those before them."""
    full_until: float = 0.0
    """When for the first time no bundle waited for a slot."""
    _store_free: float = 0.0
    _since: float = field(default_factory=time.process_time)
    _queue: deque[Bundle] = field(default_factory=deque)
    _nodes: list[float] = field(default_factory=list)
    """When each free node can take a bundle."""
    _done: list[tuple[float, int, list[Event], float]] = field(default_factory=list)
    _told: list[tuple[float, int, list[Event]]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self._nodes = [0.0] * self.slots

    def submit(self, bundle: Bundle) -> None:
        """It waits for a node."""
        self._queue.append(bundle)

    def _begin(self, bundle: Bundle) -> None:
        start = max(self.now, heapq.heappop(self._nodes))
        unit_s = self.unit_s * self.chance.uniform(0.8, 1.2)  # no two machines are alike
        seconds = unit_s * len(bundle.units)
        fails = self.chance.expovariate(1 / self.lost_every_s)
        if fails < seconds:
            done = int(fails / unit_s)
            self.lost_s += fails - done * unit_s
            self.losses += 1
            self._add(start + fails, self._events_of(bundle, done, "failed"), back_s=BACK_S)
        else:
            self.busy_s += seconds
            self._add(start + seconds, self._events_of(bundle, len(bundle.units), None))

    def _events_of(self, bundle: Bundle, done: int, lost: str | None) -> list[Event]:
        events: list[Event] = []
        for unit in bundle.units[:done]:
            lanes = tuple(LaneOutcome(status="ok", reached=lane.end) for lane in unit.lanes)
            events += [Started(bundle=bundle.id, unit=unit.id), self._committed(bundle, unit, lanes)]
        if lost is None:
            return [*events, Finished(bundle=bundle.id)]
        return [
            *events,
            Started(bundle=bundle.id, unit=bundle.units[done].id),
            Lost(bundle=bundle.id, kind="failed", reason="the node was lost"),
        ]

    def _committed(self, bundle: Bundle, unit: Unit, lanes: tuple[LaneOutcome, ...]) -> Event:
        self.commits += 1
        outcome = Outcome(unit=unit.id, lanes=lanes, wall_s=self.unit_s)
        return Committed(bundle=bundle.id, outcomes=(outcome,))

    def _add(self, at: float, events: list[Event], *, back_s: float = 0.0) -> None:
        self._number += 1
        heapq.heappush(self._done, (at, self._number, events, back_s))

    def _commit(self) -> None:
        """The first that is done goes through the store, which takes one after the other."""
        at, number, events, back_s = heapq.heappop(self._done)
        commits = sum(isinstance(event, Committed) for event in events)
        ended = max(at, self._store_free) + commits * self.commit_s if commits else at
        self._store_free = max(self._store_free, ended)
        self.waited_s += ended - at
        heapq.heappush(self._nodes, ended + back_s)
        heapq.heappush(self._told, (ended, number, events))

    def poll(self, timeout: float) -> list[Event]:
        """What has happened until now; the clock jumps to the next event, at most so far."""
        spent = time.process_time() - self._since
        self.driver_s += spent
        self.now += spent
        if not self._queue:
            self.full_until = self.full_until or self.now
        until = self.now + timeout
        found: list[Event] = []
        while not found and self.now < until:
            while self._queue and self._nodes and self._nodes[0] <= self.now:
                self._begin(self._queue.popleft())
            while self._done and self._done[0][0] <= self.now:
                self._commit()
            while self._told and self._told[0][0] <= self.now:
                found += heapq.heappop(self._told)[2]
            coming = [heap[0][0] for heap in (self._done, self._told) if heap]
            coming += self._nodes[:1] if self._queue and self._nodes else []
            if not found:
                self.now = min([until, *(at for at in coming if at > self.now)])
        self._since = time.process_time()
        return found

    def stop(self, *, drain: bool) -> None:  # noqa: ARG002 - nothing runs on
        """What waits does not begin."""
        self._queue.clear()

    def close(self) -> None:
        """Likewise."""
        self._queue.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--unit", type=float, default=6.7, help="seconds of a unit of 16 trials of 2,000 updates")
    parser.add_argument("--hours", type=float, default=24.0, help="between two losses of one node")
    parser.add_argument("--commits", type=float, default=235.0, help="that the store takes in a second")
    parser.add_argument("--grid", default="seeds", choices=("settings", "seeds", "switch"))
    options = parser.parse_args()
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "scale.toml"
        study.write_text(document(options.grid, options.trials), encoding="utf-8")
        store = Store.open(f"{folder}/store", create=True)
        begun = time.process_time()
        trials = expand(load_study(str(study)))
        outlook = outlook_of(trials, store)
        planned_s = time.process_time() - begun
        pace = Pace({1: options.unit / 2000 / 4, PACK: options.unit / 2000})

        def seconds(lane: Lane, lanes: int) -> float:
            return (lane.end - lane.start) * pace.seconds(lanes)

        executor = Simulated(
            slots=options.nodes,
            unit_s=options.unit,
            lost_every_s=3600 * options.hours,
            commit_s=1 / options.commits,
            chance=random.Random(0),  # noqa: S311 - a simulation
        )
        ready = Ready(slots=executor.slots, size=lambda _lane: PACK, seconds=seconds)
        limits, holds = Limits(attempts=1000), Holds(store)
        Round(
            outlook=outlook,
            store=store,
            executor=executor,
            ready=ready,
            limits=limits,
            observer=Silent(),
            holds=holds,
            anew=lambda: outlook,
        ).run()
    lines = {
        "planning, CPU of the driver": f"{planned_s:.1f} s",
        "wall time of the round": f"{executor.now:.1f} s",
        "  work / workers": share(executor.busy_s / options.nodes, executor.now),
        "  driver busy": share(executor.driver_s, executor.now),
        "  tail, when nothing is left to hand out": share(executor.now - executor.full_until, executor.now),
        "driver, per unit": f"{1e3 * executor.driver_s / executor.commits:.2f} ms",
        "commits": f"{executor.commits:,}, {executor.commits / executor.now:.0f} a second",
        "waiting for the store, per commit": f"{1e3 * executor.waited_s / executor.commits:.1f} ms",
        "workers lost, work lost with them": f"{executor.losses:,}, {executor.lost_s:,.0f} s",
    }
    print(f"{len(trials):,} trials, {len(outlook.tree.nodes):,} nodes of the tree, {options.nodes:,} workers")
    for name, value in lines.items():
        print(f"{name:42}{value}")


def share(seconds: float, whole: float) -> str:
    """Seconds, and of what they are how much."""
    return f"{seconds:.1f} s, {100 * seconds / whole:.0f} %"


if __name__ == "__main__":
    main()
