"""Searches whose settings are halved, trained for real: nothing twice, whatever happens on the way."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import studies
from reports.build import build
from studies.expand import Trial
from studies.promotions import read_promotions
from studies.spec import load_study
from studies.store import Store
from studies.study import Study
from studies.wanted import wanted
from sweeps.executor import Event
from tests.sweeps.direct import Direct
from tests.sweeps.halved import STUDY, came_to, drive, recorded, written

SYNCHRONOUS, ASYNCHRONOUS = "", "asynchronous = true\n"


def fresh(folder: Path) -> Store:
    return Store.open(folder, create=True)


def names(trials: Sequence[Trial]) -> list[tuple[str, int, str]]:
    return [(trial.arm, trial.config.train.steps, trial.trial_id) for trial in trials]


def updates(store: Store) -> int:
    """Updates that the visible segments hold; none of them overlap."""
    rows = sorted(store.read("segments").to_pylist(), key=lambda row: (row["lineage"], row["start"]))
    for before, after in itertools.pairwise(rows):
        assert before["lineage"] != after["lineage"] or before["end"] <= after["start"]
    return sum(row["end"] - row["start"] for row in rows)


@pytest.mark.parametrize(("kind", "halving"), [("random", ASYNCHRONOUS), ("tpe", SYNCHRONOUS)])
def test_the_best_go_on_from_their_states(tmp_path: Path, kind: str, halving: str) -> None:
    text = STUDY.replace('kind = "random"', f'kind = "{kind}"\nbatch = 3')
    study, store = load_study(str(written(tmp_path, halving, text=text))), fresh(tmp_path / "store")
    executor = Direct(store.root)
    result = drive(study, store, executor, pack=2)
    trials = wanted(study, store)
    assert (result.exit_code, result.counts) == (0, {"ok": len(trials)})
    counts = came_to(trials)
    assert all(first == 9 and first // 3 <= second and second // 3 <= third for first, second, third in counts.values())
    assert {trial.role for trial in trials if trial.config.train.steps == 36} == {"compare"}
    assert {trial.role for trial in trials if trial.config.train.steps < 36} == {"tune"}
    # Every update once, though no state is asked to stay: 4 of all, 8 more of those that went on, and 24.
    assert updates(store) == sum(4 * a + 8 * b + 24 * c for a, b, c in counts.values())
    trained = [
        lane for bundle in executor.bundles for unit in bundle.units for lane in unit.lanes if bundle.id[0] == "b"
    ]
    assert sum(lane.end - lane.start for lane in trained) == updates(store)
    again = Direct(store.root)
    assert drive(study, store, again, pack=2).exit_code == 0
    assert again.bundles == []


def test_who_goes_on_when_all_have_ended_does_not_depend_on_packs_or_interruptions(tmp_path: Path) -> None:
    study = load_study(str(written(tmp_path, SYNCHRONOUS)))
    whole, broken = fresh(tmp_path / "whole"), fresh(tmp_path / "broken")
    drive(study, whole, Direct(whole.root), pack=1)
    for _ in range(2):
        with pytest.raises(DriverGoneError):
            drive(study, broken, _Losing(broken.root, slots=2), pack=4)
    drive(study, Store.open(broken.root), Direct(broken.root), pack=2)
    assert names(wanted(study, whole)) == names(wanted(study, broken))
    assert recorded(whole) == recorded(broken) == []
    _check_report(study, whole)
    # All settings run to the end in the same store: the best of each arm is the one that was found, at a quarter of the
    # updates.
    halved, cost = studies.load(study, store=whole).trials(), updates(whole)
    every = load_study(str(written(tmp_path, text=STUDY.replace("[search.halving]\n", ""))))
    drive(every, whole, Direct(whole.root), pack=4)
    rows = studies.load(every, store=whole).trials()
    assert len(rows) == 18
    best = rows.loc[rows.groupby("arm")["final_val_loss"].idxmin(), "trial_id"]
    assert set(halved[halved["steps"] == 36]["trial_id"]) == set(best)
    assert cost == 168
    assert cost < 0.3 * updates(whole)


def _check_report(study: Study, store: Store) -> None:
    """The best third of each rung went on, and what is compared are the settings that came to the end."""
    results = studies.load(study, store=store)
    rows = results.trials()
    for arm, (step, count, after) in itertools.product(("looped", "shift"), ((4, 3, 12), (12, 1, 36))):
        own = rows[rows["arm"] == arm]
        best = own[own["steps"] == step].nsmallest(count, "final_val_loss")["train.lr"]
        assert set(own[own["steps"] == after]["train.lr"]) == set(best)
    report = build([(study, results)], command="x")
    (section,) = report["studies"]
    assert section["axes"] == []
    assert {entry["arm"]: [rung["settings"] for rung in entry["rungs"]] for entry in section["rungs"]} == {
        "looped": [9, 3, 1],
        "shift": [9, 3, 1],
    }
    assert "of 9 settings at step 4 the best went on, 3 to step 12, 1 to step 36." in section["warnings"][0]
    last = rows[rows["steps"] == 36].set_index("arm")["final_val_loss"]
    assert report["claims"][0]["effect"] == pytest.approx(last["shift"] - last["looped"])
    assert [row["metrics"]["final_val_loss"]["mean"] for row in report["leaderboard"]] == sorted(last)


class DriverGoneError(Exception):
    """The driver of a test is gone."""


class _Losing(Direct):
    """Loses its driver when one bundle has trained."""

    def poll(self, timeout: float) -> list[Event]:
        if self._trained:
            raise DriverGoneError
        self._trained = self._queue[0].id.startswith("b") if self._queue else False
        return super().poll(timeout)

    _trained = False


def test_killed_and_run_by_two_drivers_at_once_it_follows_what_is_recorded(tmp_path: Path) -> None:
    path = written(tmp_path, ASYNCHRONOUS)
    study, store = load_study(str(path)), fresh(tmp_path / "store")

    line = [sys.executable, "-m", "tests.sweeps.halved", str(store.root), str(path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True) as killed:
        assert killed.stdout is not None
        for _ in killed.stdout:
            if recorded(Store.open(store.root)):
                break
        os.killpg(killed.pid, signal.SIGKILL)
    before = recorded(Store.open(store.root))
    assert before
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as other:
        assert drive(study, Store.open(store.root), Direct(store.root), pack=2).exit_code == 0
        assert other.wait(timeout=240) == 0
    after = Store.open(store.root)
    assert set(before) <= set(recorded(after))
    assert after.verify().damaged == ()
    trials = wanted(study, after)
    counts = came_to(trials)
    assert updates(after) == sum(4 * a + 8 * b + 24 * c for a, b, c in counts.values())
    reached = read_promotions(study, after)
    assert all(
        sum(rung >= k for (name, _), rung in reached.items() if name == arm) >= 9 // 3**k
        for arm in counts
        for k in (1, 2)
    )
    assert drive(study, after, Direct(after.root)).counts == {"ok": len(trials)}
