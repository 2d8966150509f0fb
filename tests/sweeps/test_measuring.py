"""Measuring at kept states: the rows that training would have written, for what is missing and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.config import MeasureConfig
from core.observation import with_measure
from studies.expand import Trial
from studies.store import Store
from sweeps.audit import audit
from sweeps.executor import Event, Lost
from sweeps.measuring import measure_kept, missing
from sweeps.observer import Silent
from sweeps.plan import plan
from sweeps.round import Limits
from sweeps.run import run
from sweeps.units import Bundle
from tests.sweeps.direct import Direct
from tests.sweeps.work import config, of_config

TABLES = ("curvature", "curves")


def asking(*quantities: str, at: tuple[int, ...] = (0, 10, 20), keep: str = "all", count: int = 2) -> list[Trial]:
    """Trials with a switch at step 10, and what they measure."""
    measure = MeasureConfig(quantities=quantities, at=at, probe=8, top=3)
    return [
        of_config(with_measure(config(seed, kind="shift", steps=20, switch=10, keep=keep), measure))
        for seed in range(count)
    ]


def trained(root: Path, trials: list[Trial]) -> Store:
    store = Store.open(root, create=True)
    assert run(lambda: trials, store, Direct(store.root), limits=Limits(), pack=2).counts == {"ok": len(trials)}
    return store


def rows(store: Store, table: str) -> list[tuple[tuple[str, object], ...]]:
    return sorted(tuple(sorted(row.items(), key=str)) for row in store.read(table).to_pylist())


def test_a_kept_state_gives_the_rows_that_training_gives(tmp_path: Path) -> None:
    wanted = asking("lambda_max", "eigenvalues")
    direct = trained(tmp_path / "direct", wanted)
    later = trained(tmp_path / "later", asking())
    found = missing(wanted, later)
    assert (len(found.kept), found.gone) == (2 * 3, 0)
    executor = Direct(later.root)
    result = measure_kept(found, executor, limits=Limits(), observer=Silent())
    assert (result.measured, result.lost) == (6, ())
    for table in TABLES:
        assert rows(later, table) == rows(direct, table)
        assert len(rows(later, table)) > 0
    assert missing(wanted, later).kept == ()
    assert later.read("metrics").num_rows == direct.read("metrics").num_rows
    updates = [(row["start"], row["end"], row["measured"]) for row in later.read("segments").to_pylist()]
    assert sorted(row for row in updates if row[2]) == [(0, 0, [0])] * 2 + [(10, 10, [10])] * 2 + [(20, 20, [20])] * 2


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking("lambda_max"))
    found = missing(asking("lambda_max", "lambda_min"), store)
    assert {lane.config.measure.quantities for lane in found.kept} == {("lambda_min",)}
    measure_kept(found, Direct(store.root), limits=Limits(), observer=Silent())
    assert all(row["lambda_max"] is None or row["lambda_min"] is None for row in store.read("curvature").to_pylist())


def test_run_measures_kept_states_and_replays_only_the_others(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking(keep="final"))
    wanted = asking("lambda_max", at=(5, 20), keep="final")
    assert missing(wanted, store).gone == 2  # step 5 has no state
    executor = Direct(store.root)
    assert run(lambda: wanted, store, executor, limits=Limits(), pack=2).counts == {"ok": 2}
    spans = {(lane.start, lane.end) for bundle in executor.bundles for unit in bundle.units for lane in unit.lanes}
    assert (20, 20) in spans
    assert not any(start < 20 and end == 20 for start, end in spans)  # the stretch to step 20 is not trained again
    assert missing(wanted, store) == replace(missing(wanted, store), kept=(), gone=0)


def test_a_replay_passes_by_what_is_recorded(tmp_path: Path) -> None:
    """A step that has no state is trained up to again; what was measured beside it is not measured twice."""
    store = trained(tmp_path / "store", asking("lambda_max", at=(0, 20), keep="final"))
    wanted = asking("lambda_max", at=(0, 5, 20), keep="final")
    assert run(lambda: wanted, store, Direct(store.root), limits=Limits(), pack=2).counts == {"ok": 2}
    assert store.read("curvature").num_rows == 2 * 3
    measured = [step for row in store.read("segments").to_pylist() for step in row["measured"]]
    assert sorted(measured) == [0, 0, 5, 5, 20, 20]
    assert audit(wanted, store, Direct(store.root), share=1.0).mismatches == ()


def test_a_replay_ends_at_the_last_step_that_lacks_something(tmp_path: Path) -> None:
    """It trained on to the end of the trial, though nothing was missing there."""
    store = trained(tmp_path / "store", asking("lambda_max", at=(20,), keep="final"))
    wanted = asking("lambda_max", at=(3, 13, 15, 20), keep="final")
    assert plan(wanted, store, workers=1).flops_left < 0.8 * plan(wanted, store, workers=1).flops_spent
    executor = Direct(store.root)
    assert run(lambda: wanted, store, executor, limits=Limits(), pack=2).counts == {"ok": 2}
    spans = {(lane.start, lane.end) for bundle in executor.bundles for unit in bundle.units for lane in unit.lanes}
    assert spans == {(0, 10), (10, 15)}  # the stretch after the switch begins from the state at its end
    direct = trained(tmp_path / "direct", wanted)
    for table in (*TABLES, "metrics"):
        assert rows(store, table) == rows(direct, table)
    assert store.verify().ok
    early = asking("lambda_max", at=(3, 4, 13, 15, 20), keep="final")
    executor = Direct(store.root)
    assert run(lambda: early, store, executor, limits=Limits(), pack=2).counts == {"ok": 2}
    assert {(lane.start, lane.end) for bundle in executor.bundles for lane in bundle.units[0].lanes} == {(0, 4)}


def test_the_plan_knows_what_is_measured_at_kept_states(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking("lambda_max", at=(20,), keep="final"))
    grown = plan(asking("lambda_max", "lambda_min", at=(20,), keep="final"), store, workers=1)
    assert (grown.done, grown.missing, grown.kept_states, grown.measuring) == (2, 0, 2, None)
    assert grown.estimate_s > 0
    denser = plan(asking("lambda_max", "lambda_min", at=(5, 20), keep="final"), store, workers=1)
    assert denser.measuring is not None
    assert (denser.kept_states, denser.measuring.measurements) == (2, 2)


def test_a_second_signal_ends_measuring_at_once(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking())
    executor = Direct(store.root)
    result = measure_kept(
        missing(asking("lambda_max"), store),
        executor,
        limits=Limits(),
        observer=Silent(),
        at_once=lambda: len(executor.bundles) > 1,
    )
    assert result.measured < 6
    assert executor._stopped


def test_a_damaged_state_is_given_up_with_its_reason_and_the_others_are_measured(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking(keep="final"))
    wanted = asking("lambda_max", at=(20,), keep="final")
    torn = store.checkpoint(wanted[0].links[-1].lineage, 20)
    torn.write_bytes(torn.read_bytes()[:-1])
    result = measure_kept(missing(wanted, store), Direct(store.root), limits=Limits(attempts=2), observer=Silent())
    assert result.measured == 1
    (reason,) = result.lost
    assert "gone or damaged; run the study" in reason
    assert run(lambda: wanted, store, Direct(store.root), limits=Limits()).counts == {"ok": 2}  # replayed
    assert missing(wanted, store).kept == ()


class Flaky(Direct):
    """Loses the first bundle that it is given, as a killed worker would."""

    def poll(self, timeout: float) -> list[Event]:
        if len(self._queue) and not getattr(self, "lost", False):
            self.lost = True
            return [Lost(bundle=self._queue.popleft().id, kind="failed", reason="the worker died")]
        return super().poll(timeout)


def test_a_lost_worker_loses_nothing(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking())
    wanted = asking("lambda_max")
    executor = Flaky(store.root)
    result = measure_kept(missing(wanted, store), executor, limits=Limits(), observer=Silent())
    assert (result.measured, result.lost) == (6, ())
    assert missing(wanted, store).kept == ()
    assert store.read("curvature").num_rows == 6


class Heard(Silent):
    """An observer that remembers what was said."""

    def __init__(self) -> None:
        self.said_: list[str] = []

    def said(self, message: str) -> None:
        self.said_.append(message)


def test_a_reason_that_many_states_have_is_told_once(tmp_path: Path) -> None:
    """Before the first update AdamW has no preconditioner: there was a line for every trial."""
    store, heard = trained(tmp_path / "store", asking(count=2)), Heard()
    found = missing(asking("edge", at=(0,), count=2), store)
    result = measure_kept(found, Direct(store.root), limits=Limits(), observer=heard)
    assert result.measured == 2
    told = [message for message in heard.said_ if "no numbers" in message]
    assert len(told) == 1
    assert "before the first update" in told[0]


def test_an_interrupt_ends_it_and_the_next_call_goes_on(tmp_path: Path) -> None:
    store = trained(tmp_path / "store", asking())
    wanted = asking("lambda_max")
    executor = Direct(store.root)
    asked: list[Bundle] = executor.bundles
    result = measure_kept(
        missing(wanted, store), executor, limits=Limits(), observer=Silent(), draining=lambda: len(asked) >= 1
    )
    assert 0 < result.measured < 6
    rest = measure_kept(missing(wanted, store), Direct(store.root), limits=Limits(), observer=Silent())
    assert result.measured + rest.measured == 6


@pytest.mark.parametrize("count", [1, 3])
def test_trials_that_share_a_past_measure_it_once(tmp_path: Path, count: int) -> None:
    shared = [
        of_config(
            with_measure(
                config(0, kind="shift", steps=20, switch=switch, keep="all"),
                MeasureConfig(quantities=("lambda_max",), at=(0, 20), probe=8),
            )
        )
        for switch in (5, 10, 15)[:count]
    ]
    plain = [of_config(with_measure(one.config, MeasureConfig())) for one in shared]
    store = trained(tmp_path / "store", plain)
    assert len(missing(shared, store).kept) == 1 + count
