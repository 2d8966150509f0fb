"""What every executor must do: one class of tests that the test of each executor inherits.

class TestMine(ExecutorConformance):
    @staticmethod
    def open(root): return MyExecutor(root, workers=2)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.schedule_terms import ScheduleConfig
from studies.expand import Trial
from studies.store import Store
from studies.watchers import resolved
from sweeps.executor import Committed, Event, Executor, Finished, Lost, Progress, Started
from sweeps.observer import Silent
from sweeps.run import run
from sweeps.units import Bundle, unit
from sweeps.worker import run_bundle
from tests.sweeps.bits import rows_of
from tests.sweeps.direct import Direct
from tests.sweeps.work import POISON, bundle, config, lane, of_config

PATIENCE_S = 240.0
"""Of a busy machine; nobody waits so long but for what never comes."""

RESULTS = ["lineage", "step", "train_loss", "grad_norm", "val_loss", "val_accuracy", "excess_loss_low_ic"]


def until(executor: Executor, done: Callable[[list[Event]], bool]) -> list[Event]:
    """All events until `done` says so of those seen so far."""
    events: list[Event] = []
    deadline = time.monotonic() + PATIENCE_S
    while not done(events):
        if time.monotonic() > deadline:
            pytest.fail(f"nothing came of it; events so far: {events}")
        events += executor.poll(0.5)
    return events


def ends(events: list[Event]) -> dict[str, Event]:
    """The event that ended each bundle."""
    return {event.bundle: event for event in events if isinstance(event, (Finished, Lost))}


def drive(executor: Executor, *bundles: Bundle) -> list[Event]:
    """Submits and polls until every bundle has ended."""
    for each in bundles:
        executor.submit(each)
    return until(executor, lambda events: set(ends(events)) >= {each.id for each in bundles})


def outcomes(events: list[Event]) -> list[str]:
    """Ids of the units that were committed, in order."""
    return [outcome.unit for event in events if isinstance(event, Committed) for outcome in event.outcomes]


def watched() -> list[Trial]:
    """Trials on two trunks whose criteria end at several steps."""
    made = []
    for seed in range(2):
        base = config(seed, steps=150, evaluate_every=50, lr=1e-2)
        for delta, patience, latest in ((0.05, 2, 0.5), (0.01, 4, 0.5), (0.003, 2, 0.5), (1e-12, 2, 1.0)):
            terms = {"check_every": 5, "delta1": delta, "delta2": 10.0, "patience": patience, "latest": latest}
            made.append(of_config(replace(base, schedule=ScheduleConfig(kind="shift-scp", **terms))))
    return made


class Stopped(Silent):
    """Interrupts the run when its second unit begins."""

    def __init__(self) -> None:
        self._begun = 0

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        self._begun += 1
        if self._begun == 2:
            os.kill(os.getpid(), signal.SIGINT)


class ExecutorConformance:
    """Inherit and give `open`."""

    @staticmethod
    def open(root: Path) -> Executor:
        """An executor over the store at `root`, with at least one slot."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, tmp_path_factory: pytest.TempPathFactory) -> Store:
        return Store.open(tmp_path_factory.mktemp("conformance") / "store", create=True)

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, store: Store) -> Iterator[Executor]:
        made = cls.open(store.root)
        yield made
        made.close()

    def test_finished_means_committed(self, executor: Executor, store: Store) -> None:
        mine = [bundle(f"f{i}", [lane(100 + i)], [lane(110 + i), lane(120 + i)]) for i in range(4)]
        events = drive(executor, *mine)
        assert all(isinstance(end, Finished) for end in ends(events).values())
        assert sorted(outcomes(events)) == sorted(unit.id for each in mine for unit in each.units)
        recorded = set(store.read("segments", ["lineage"])["lineage"].to_pylist())
        assert recorded >= {lane.lineage for each in mine for unit in each.units for lane in unit.lanes}

    def test_events_of_a_bundle_come_in_order(self, executor: Executor) -> None:
        mine = bundle("order", [lane(200)], [lane(201)])
        events = [event for event in drive(executor, mine) if not isinstance(event, Progress)]
        first, second = (each.id for each in mine.units)
        assert [event.unit for event in events if isinstance(event, Started)] == [first, second]
        assert outcomes(events) == [first, second]
        assert isinstance(events[-1], Finished)

    def test_a_killed_worker_loses_its_bundle_and_a_fresh_one_takes_its_place(self, executor: Executor) -> None:
        mine = bundle("dead", [lane(POISON)], work="killed")
        end = ends(drive(executor, mine))["dead"]
        assert isinstance(end, Lost)
        assert end.kind == "failed"
        assert len(end.reason.splitlines()) == 1
        assert isinstance(ends(drive(executor, bundle("alive", [lane(300)])))["alive"], Finished)

    def test_an_exception_is_lost_with_its_reason_after_what_came_before_is_committed(self, executor: Executor) -> None:
        mine = bundle("raise", [lane(400)], [lane(POISON)], [lane(401)], work="raises")
        events = drive(executor, mine)
        end = ends(events)["raise"]
        assert isinstance(end, Lost)
        assert (end.kind, end.reason) == ("failed", "ValueError: poisoned trial")
        assert outcomes(events) == [mine.units[0].id]

    def test_no_memory_is_oom(self, executor: Executor) -> None:
        end = ends(drive(executor, bundle("oom", [lane(500), lane(501), lane(502)], work="greedy")))["oom"]
        assert isinstance(end, Lost)
        assert end.kind == "oom"

    def test_a_unit_that_takes_too_long_is_timed_out(self, executor: Executor) -> None:
        end = ends(drive(executor, bundle("late", [lane(POISON)], work="sleeps", unit_timeout_s=1.0)))["late"]
        assert isinstance(end, Lost)
        assert end.kind == "timeout"

    def test_it_trains_to_the_same_bits_as_a_call_in_this_process(
        self, executor: Executor, store: Store, tmp_path: Path
    ) -> None:
        lanes = [lane(seed) for seed in (600, 601, 602)]
        theirs = Bundle(id="train", units=(unit(lanes),))
        assert isinstance(ends(drive(executor, theirs))["train"], Finished)
        mine = Store.open(tmp_path / "mine", create=True)
        run_bundle(Bundle(id="mine", units=tuple(unit([each]) for each in lanes)), mine.root, lambda event: None)
        lineages = {each.lineage for each in lanes}
        rows = [row for row in store.read("metrics", RESULTS).to_pylist() if row["lineage"] in lineages]
        assert rows == mine.read("metrics", RESULTS).to_pylist()
        assert len(rows) == 9

    def test_a_watched_study_gives_the_rows_that_it_gives_in_this_process_also_when_stopped_in_a_trunk(
        self, tmp_path: Path
    ) -> None:
        trials = watched()
        here, there = (Store.open(tmp_path / name, create=True) for name in ("here", "there"))
        assert run(lambda: resolved(trials, here), here, Direct(here.root), pack=1).exit_code == 0
        stopped = Stopped()
        executor = self.open(there.root)
        try:  # a unit that is drained ends at its next block: well before the end of the trunk
            result = run(lambda: resolved(trials, there), there, executor, pack=2, observer=stopped)
        finally:
            executor.close()
        assert (result.exit_code, result.interrupted) == (130, True)
        assert result.counts["missing"] > 0
        trunks = {trial.links[0].lineage for trial in trials}
        reached = [row["reached"] for row in there.read("segments").to_pylist() if row["lineage"] in trunks]
        assert 0 < max(reached) < 150
        executor = self.open(there.root)
        try:
            assert run(lambda: resolved(trials, there), there, executor, pack=2).counts == {"ok": len(trials)}
        finally:
            executor.close()
        assert rows_of(trials, there) == rows_of(trials, here)
        assert len({trial.ended for trial in resolved(trials, there)}) > 2
        assert not list((there.root / "checkpoints").rglob("*.passing.*"))

    def test_a_drain_ends_and_commits_what_runs_and_begins_nothing_else(self, store: Store) -> None:
        executor = self.open(store.root)
        try:
            running = [bundle(f"p{i}", [lane(700 + i, steps=100_000)], work="patient") for i in range(executor.slots)]
            waiting = bundle("waiting", [lane(750)])
            for each in (*running, waiting):
                executor.submit(each)
            marks = store.scratch("patient")
            events = until(executor, lambda _: all((marks / each.units[0].id).exists() for each in running))
            executor.stop(drain=True)
            wanted = {"waiting", *(each.id for each in running)}
            events += until(executor, lambda later: set(ends(events + later)) >= wanted)
            assert all(isinstance(end, Finished) for end in ends(events).values())
            assert sorted(outcomes(events)) == sorted(each.units[0].id for each in running)
            reached = {
                row["lineage"]: row["reached"] for row in store.read("segments", ["lineage", "reached"]).to_pylist()
            }
            assert all(0 < reached[each.units[0].lanes[0].lineage] < 100_000 for each in running)
        finally:
            executor.close()
            executor.close()  # twice is once
