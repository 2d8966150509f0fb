"""The driver: runs what is missing and nothing else, isolates what goes wrong, drains when told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core.checkpoint import load
from core.errors import LoopsweepError, StoreError
from studies.expand import Trial
from studies.schemas import table
from studies.store import Store
from sweeps import calibrate
from sweeps.local_executor import LocalExecutor
from sweeps.observer import Silent
from sweeps.round import Limits
from sweeps.run import RunResult, run
from tests.sweeps import work
from tests.sweeps.direct import Direct
from tests.sweeps.work import POISON, trial


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


class Heard(Silent):
    """Remembers what it is told."""

    def __init__(self, signals: Sequence[signal.Signals] = ()) -> None:
        self.messages: list[str] = []
        self.settled_trials: list[tuple[str, str]] = []
        self.steps = 0
        self.steps_done = 0
        self._signals = list(signals)

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        self.settled_trials, self.steps, self.steps_done = [], steps, 0

    def settled(self, arm: str, status: str) -> None:
        self.settled_trials.append((arm, status))

    def ended(self, unit: str, *, steps: int) -> None:
        self.steps_done += steps

    def said(self, message: str) -> None:
        self.messages.append(message)

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        while self._signals:
            os.kill(os.getpid(), self._signals.pop())


def go(trials: Sequence[Trial], store: Store, work: str = "noop", **terms: Any) -> tuple[RunResult, Direct, Heard]:
    """One run in this process with made-up numbers."""
    executor, heard = Direct(store.root), Heard()
    limits = Limits(work=f"tests.sweeps.work:{work}", **terms.pop("limits", {}))
    result = run(lambda: trials, store, executor, limits=limits, observer=heard, **terms)
    return result, executor, heard


def results(store: Store, name: str) -> pa.Table:
    """The result columns of a table."""
    return store.read(name).select([c.name for c in table(name).columns if c.kind == "result"])


FOUR = [trial(seed) for seed in range(4)]


def test_everything_missing_runs_once_and_the_same_again_runs_nothing(store: Store) -> None:
    result, executor, heard = go(FOUR, store)
    assert (result.trials, result.counts, result.exit_code, result.rounds) == (4, {"ok": 4}, 0, 1)
    assert executor.lanes == 4
    assert heard.settled_trials == [("single", "ok")] * 4
    assert heard.steps == heard.steps_done == 80
    records = sorted(path.name for path in (store.root / "records").iterdir())
    again, executor, heard = go(FOUR, store)
    assert (again.counts, again.exit_code, again.rounds) == ({"ok": 4}, 0, 0)
    assert executor.bundles == []
    assert sorted(path.name for path in (store.root / "records").iterdir()) == records


def test_a_grown_study_and_another_study_run_only_what_is_new(store: Store) -> None:
    go(FOUR[:2], store)
    _, executor, _ = go(FOUR, store)
    assert executor.lanes == 2
    other = [trial(seed, arm="mine", evaluate_every=20) for seed in range(4)]  # a coarser grid of the same trials
    assert go(other, store)[1].lanes == 0


def test_the_trials_of_a_pack_survive_a_poisoned_one_which_is_recorded_with_its_reason(store: Store) -> None:
    trials = [trial(seed) for seed in range(10, 18)]
    result, _, heard = go(trials, store, "raises", pack=8)
    assert result.counts == {"ok": 7, "failed": 1}
    assert result.exit_code == 1
    assert heard.steps == heard.steps_done + 20
    failed = [row for row in store.read("segments").to_pylist() if row["status"] == "failed"]
    assert [row["lineage"] for row in failed] == [trial(POISON).links[0].lineage]
    assert failed[0]["error"] == "ValueError: poisoned trial"
    assert failed[0]["attempts"] == 3
    assert go(trials, store)[1].bundles == []  # a failure is a result until somebody asks for more
    assert go(trials, store, retry=["timeout"])[1].bundles == []
    mended, executor, _ = go(trials, store, retry=["failed"])
    assert (mended.counts, mended.exit_code, executor.lanes) == ({"ok": 8}, 0, 1)
    rows = {row["lineage"]: row for row in store.read("segments").to_pylist()}
    assert rows[failed[0]["lineage"]]["generation"] == 1


def test_a_retry_that_fails_again_is_tried_once(store: Store) -> None:
    trials = [trial(POISON)]
    go(trials, store, "raises")
    result, executor, _ = go(trials, store, "raises", retry=["failed"])
    assert (result.counts, executor.lanes) == ({"failed": 1}, 3)


def test_out_of_memory_halves_the_pack_at_once(store: Store) -> None:
    result, executor, _ = go([trial(seed) for seed in range(8)], store, "greedy", pack=8)
    assert result.counts == {"ok": 8}
    assert sorted(len(unit.lanes) for bundle in executor.bundles for unit in bundle.units) == [2, 2, 2, 2, 4, 4, 8]
    assert set(store.read("segments")["attempts"].to_pylist()) == {1}


def test_what_follows_a_diverged_trunk_is_diverged_and_not_run(store: Store) -> None:
    trials = [trial(POISON, kind="shift", switch=step) for step in (5, 10)] + [trial(1, kind="shift", switch=5)]
    result, executor, heard = go(trials, store, "diverges")
    assert result.counts == {"diverged": 2, "ok": 1}
    assert result.exit_code == 0  # a diverged trial is a result
    assert executor.lanes == 3  # two trunks, one branch
    assert sorted(heard.settled_trials) == [("shift", "diverged")] * 2 + [("shift", "ok")]


def test_children_begin_when_their_parent_has_ended(store: Store) -> None:
    trials = [trial(seed, kind="shift", switch=switch) for switch in (5, 10, 15) for seed in (1, 2)]
    result, executor, _ = go(trials, store, pack=2)
    assert result.counts == {"ok": 6}
    seen: set[tuple[str, int]] = set()
    for bundle in executor.bundles:
        for each in (lane for unit in bundle.units for lane in unit.lanes):
            assert each.origin is None or each.origin in seen
        seen |= {(lane.lineage, lane.end) for unit in bundle.units for lane in unit.lanes}


def test_work_that_comes_to_nothing_is_an_error_and_no_endless_loop(store: Store) -> None:
    with pytest.raises(LoopsweepError, match="1 stretches stay missing"):
        go(FOUR[:1], store, "stuck")


def test_a_store_that_cannot_be_written_is_an_error(store: Store) -> None:
    (store.root / "records").write_text("in the way")
    with pytest.raises(StoreError):
        go(FOUR, store)


def test_rounds_go_on_while_rows_decide_more_trials_and_a_search_proposes(store: Store) -> None:
    def ask() -> list[Trial]:
        return FOUR[: 1 + store.read("segments", ["lineage"]).num_rows]

    proposals = iter([True, False])
    limits = Limits(work="tests.sweeps.work:noop")
    executor = Direct(store.root)
    result = run(ask, store, executor, limits=limits, propose=lambda: False)
    assert (result.trials, result.rounds) == (4, 4)
    asked: list[Trial] = []

    def propose() -> bool:
        asked.append(trial(20 + len(asked)))
        return next(proposals)

    assert run(lambda: asked, store, executor, limits=limits, propose=propose).counts == {"ok": 1}


def test_a_search_that_is_drained_between_batches_is_interrupted_and_not_complete(store: Store) -> None:
    asked = [trial(30)]

    def propose() -> bool:
        asked.append(trial(31))
        return True

    executor, heard = Direct(store.root), Heard([signal.SIGINT])
    limits = Limits(work="tests.sweeps.work:noop")
    # The signal comes as the first unit starts; the unit that runs is the last of its batch.
    executor.stop = lambda *, drain: None  # type: ignore[method-assign]
    result = run(lambda: asked, store, executor, limits=limits, propose=propose, observer=heard)
    assert (result.exit_code, result.counts) == (130, {"ok": 1, "missing": 1})


# --- real training, in this process ---------------------------------------------------------------------------------


def train(trials: Sequence[Trial], store: Store, **terms: Any) -> tuple[RunResult, Direct, Heard]:
    executor, heard = Direct(store.root), Heard()
    limits = Limits(**terms.pop("limits", {}))
    return run(lambda: trials, store, executor, limits=limits, observer=heard, **terms), executor, heard


REAL = [trial(seed, kind="shift", steps=160, switch=70, evaluate_every=40) for seed in (0, 1)] + [
    trial(0, kind="looped", steps=160, evaluate_every=40)
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("undisturbed") / "store", create=True)
    assert train(REAL, store, pack=2)[0].counts == {"ok": 3}
    return store


def test_units_that_are_cut_by_time_give_the_rows_of_the_uncut_run(store: Store, undisturbed: Store) -> None:
    result, executor, _ = train(REAL, store, pack=1, limits={"checkpoint_seconds": 0.0})
    assert result.counts == {"ok": 3}
    assert len(executor.bundles) > 5  # each unit ends at its first block
    assert results(store, "metrics").equals(results(undisturbed, "metrics"))
    kept = {path.name for path in (store.root / "checkpoints").rglob("*.safetensors")}
    ends = {f"{each.links[-1].lineage}-160.safetensors" for each in REAL}
    assert kept == ends  # those of the switch and of the cuts have served


def test_lost_checkpoints_are_replayed_without_new_rows(store: Store) -> None:
    train(REAL[:1], store, pack=1)
    for path in (store.root / "checkpoints").rglob("*.safetensors"):
        path.unlink()
    other = trial(0, kind="shift", steps=200, switch=70, evaluate_every=40)  # begins where the first one ended
    result, executor, _ = train([other], store, pack=1)
    assert result.counts == {"ok": 1}
    spans = [(lane.start, lane.end, lane.record) for b in executor.bundles for u in b.units for lane in u.lanes]
    assert spans == [(0, 70, False), (70, 200, True)]
    steps = [row["step"] for row in store.read("metrics").to_pylist()]
    assert sorted(steps) == [0, 40, 70, 80, 120, 160, 200]


def test_a_damaged_checkpoint_is_removed_and_replayed(store: Store) -> None:
    train(REAL[:1], store, pack=1)
    trunk, branch = REAL[0].links
    torn = store.checkpoint(trunk.lineage, 70)
    torn.write_bytes(b"torn")
    other = trial(0, kind="shift", steps=160, switch=70, evaluate_every=20)
    result, _, _ = train([other], store, pack=1)
    assert (result.counts, result.rounds) == ({"ok": 1}, 2)
    assert not torn.exists()  # brought back as a passing state, which has served
    steps = [row["step"] for row in store.read("metrics").to_pylist() if row["lineage"] == branch.lineage]
    assert steps == [80, 100, 120, 140, 160]


def test_a_checkpoint_of_another_state_is_not_begun_from(store: Store) -> None:
    train(REAL[:2], store, pack=1)
    right, wrong = (store.checkpoint(each.links[-1].lineage, 160) for each in REAL[:2])
    right.write_bytes(wrong.read_bytes())
    dense = trial(0, kind="shift", steps=200, switch=70, evaluate_every=40)  # begins where the first one ended
    train([dense], store, pack=1)
    fresh = Store.open(store.root.parent / "fresh", create=True)
    train([dense], fresh, pack=1)
    known = results(store, "metrics").to_pylist()
    assert all(row in known for row in results(fresh, "metrics").to_pylist())
    assert not right.exists()
    assert load(store.checkpoint(dense.links[-1].lineage, 200)).lineage == dense.links[-1].lineage


def test_states_that_are_damaged_one_behind_the_other_are_replayed(store: Store) -> None:
    def decayed(steps: int) -> Trial:
        return trial(0, kind="shift", steps=steps, switch=20, lr_schedule="wsd", decay=steps - 40)

    train([decayed(60)], store, pack=1)
    for link in decayed(60).links:
        store.checkpoint(link.lineage, link.end).write_bytes(b"torn")
    assert train([decayed(70)], store, pack=1)[0].counts == {"ok": 1}


def test_states_that_another_study_keeps_stay(store: Store) -> None:
    short = trial(0, steps=20)
    kept = store.checkpoint(short.links[0].lineage, 20)
    train([short], store, pack=1)
    train([trial(0, steps=40)], store, pack=1)  # begins where it ended
    train([trial(0, steps=20, keep="none")], store, pack=1)
    assert kept.exists()


def test_keep_none_leaves_no_state_and_keeps_every_row(store: Store, undisturbed: Store) -> None:
    trials = [
        trial(each.config.seed, kind=each.arm, steps=160, switch=70, evaluate_every=40, keep="none") for each in REAL
    ]
    assert train(trials, store, pack=2)[0].counts == {"ok": 3}
    assert list((store.root / "checkpoints").rglob("*.safetensors")) == []
    assert results(store, "metrics").equals(results(undisturbed, "metrics"))


def test_auto_packs_are_measured_once_and_alone_always(store: Store) -> None:
    trials = [trial(seed, steps=4) for seed in range(4)]
    _, executor, heard = train(trials, store)
    assert heard.messages == ["measuring step times of 1 shape"]
    assert executor.bundles[0].work == calibrate.WORK
    rows = store.read("calibrations").to_pylist()
    assert rows[0]["pack"] == 1
    assert all(0 < row["step_s"] < 5 and row["memory_bytes"] > 0 for row in rows)
    _, executor, _ = train([trial(9, steps=4)], store, pack=1)
    assert all(bundle.work != calibrate.WORK for bundle in executor.bundles)


def test_what_comes_before_the_first_step_is_in_no_step_time_of_a_short_trial() -> None:
    """Of trials of four steps it was most of the time, and prices of measurements a dozen times what they took."""
    steps, seconds = calibrate._timed([work.lane(0, steps=4)], 4, "cpu", "eager")
    assert steps == 3
    assert 0 < seconds < 3


def test_finished_trials_are_not_run_again_on_another_device(store: Store) -> None:
    train(REAL[2:], store, pack=1)
    result, executor, heard = train(REAL[2:], store, pack=1, limits={"device": "cuda"})
    assert (result.counts, executor.bundles) == ({"ok": 1}, [])
    assert heard.messages == ["1 of 1 trials are finished on cpu; they are not run again on cuda"]


# --- real workers ----------------------------------------------------------------------------------------------------


def pool(trials: Sequence[Trial], store: Store, work: str, heard: Heard | None = None, **limits: Any) -> RunResult:
    with LocalExecutor(store.root, workers=2) as executor:
        terms = Limits(work=f"tests.sweeps.work:{work}", **limits)
        return run(lambda: trials, store, executor, limits=terms, pack=4, observer=heard)


def test_a_worker_that_dies_costs_an_attempt_and_not_the_sweep(store: Store) -> None:
    trials = [trial(seed) for seed in range(10, 18)]
    assert pool(trials, store, "killed_once").counts == {"ok": 8}


def test_a_trial_that_hangs_ends_as_a_timeout_and_its_neighbours_end_well(store: Store) -> None:
    trials = [trial(seed) for seed in (POISON, 1)]
    assert pool(trials, store, "sleeps", unit_timeout_s=2.0, attempts=1).counts == {"timeout": 1, "ok": 1}
    (row,) = (row for row in store.read("segments").to_pylist() if row["status"] == "timeout")
    assert row["error"] == "a unit took longer than 2 s"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["interrupt", "terminate"]
)
def test_a_signal_drains_and_the_same_command_goes_on(store: Store, number: signal.Signals, code: int) -> None:
    trials = [trial(seed, steps=100_000) for seed in (1, 2, 3)]
    before = signal.getsignal(number)
    result = pool(trials, store, "patient", Heard([number]))
    assert (result.exit_code, result.interrupted) == (code, True)
    assert signal.getsignal(number) == before
    rows = store.read("segments").to_pylist()
    assert rows
    assert all(row["status"] == "ok" and 0 < row["reached"] == row["end"] < 100_000 for row in rows)
    assert go(trials, store)[0].counts == {"ok": 3}


def test_a_second_signal_stops_at_once(store: Store) -> None:
    trials = [trial(seed, steps=100_000) for seed in (1, 2, 3)]
    result = pool(trials, store, "patient", Heard([signal.SIGINT, signal.SIGINT]))
    assert (result.exit_code, result.counts) == (130, {"missing": 3})
    assert store.read("segments").num_rows == 0
