"""Killed at any moment, the same command goes on: nothing lost, nothing twice, every number the undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from studies.coverage import Coverage
from studies.schemas import table
from studies.store import Store
from studies.watchers import resolved
from tests.sweeps.bits import rows_of
from tests.sweeps.sweep_process import trials


def start(root: Path | str, pack: int, workers: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.sweeps.sweep_process", str(root), str(pack), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(root: Path | str, pack: int) -> None:
    with start(root, pack, workers=1) as process:
        process.communicate(timeout=240)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("undisturbed") / "store"
    finish(root, 4)
    return Store.open(root)


def check(store: Store, undisturbed: Store) -> None:
    """Every trial is there, each row once, with the numbers of the undisturbed sweep."""
    coverage, asked = Coverage(store.read("segments")), resolved(trials(), store)
    found = [coverage.chain(trial).status for trial in asked]
    assert found == ["ok"] * (len(asked) - 1) + ["diverged"]
    assert rows_of(trials(), store) == rows_of(trials(), undisturbed)
    for name in ("metrics", "events", "checks"):
        keys = [tuple(row.values()) for row in store.read(name).select(list(table(name).key)).to_pylist()]
        assert len(keys) == len(set(keys)), name
    # What a killed writer had not published stays hidden, and goes once it is old.
    assert not [name for name in store.place.names("checkpoints") if ".passing." in name and "/." not in name]
    report = store.verify()
    assert report.ok, report


def disturb(root: Path | str, kills: int, seed: int) -> None:
    """Kills the driver or a worker of a running sweep, again and again, each at a random moment."""
    chance, left = random.Random(seed), kills
    while left:
        process = start(root, pack=chance.choice([1, 2, 4]))
        assert process.stdout is not None
        with process:
            # The first line comes when a worker begins its first unit; only then is there something to disturb.
            line = process.stdout.readline()
            while line and left:
                pids = [int(word) for word in line.split()]
                time.sleep(chance.random() * 0.25)
                left -= 1
                if chance.random() < 0.5:
                    process.kill()
                    break
                with contextlib.suppress(ProcessLookupError):  # it has been replaced meanwhile
                    os.kill(chance.choice(pids), signal.SIGKILL)
                line = process.stdout.readline()
            if not left and process.poll() is None:
                process.kill()
        if not line and left:
            # It was complete before all kills were spent: begin anew, so that each kill disturbs something.
            place = Store(root).place
            place.remove(*(f"records/{name}" for name in place.names("records")))


def test_three_kills_of_driver_and_workers_change_no_number(tmp_path: Path, undisturbed: Store) -> None:
    disturb(tmp_path / "store", kills=3, seed=1)
    finish(tmp_path / "store", 2)
    check(Store.open(tmp_path / "store"), undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills_of_driver_and_workers_change_no_number(tmp_path: Path, undisturbed: Store, seed: int) -> None:
    disturb(tmp_path / "store", kills=10, seed=100 + seed)
    finish(tmp_path / "store", 2)
    check(Store.open(tmp_path / "store"), undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kills_change_no_number_of_a_store_in_a_bucket(bucket: str, undisturbed: Store) -> None:
    disturb(bucket, kills=10, seed=200)
    finish(bucket, 2)
    check(Store.open(bucket), undisturbed)


def test_two_drivers_with_different_packs_at_once_record_each_row_once(tmp_path: Path, undisturbed: Store) -> None:
    root = tmp_path / "store"
    with start(root, 1, workers=1) as first, start(root, 3, workers=1) as second:
        first.communicate(timeout=240)
        second.communicate(timeout=240)
    assert (first.returncode, second.returncode) == (0, 0)
    check(Store.open(root), undisturbed)


def test_the_sweep_has_shared_trunks_and_a_divergence(undisturbed: Store) -> None:
    """The other tests would prove little on a sweep without them."""
    found = resolved(trials(), undisturbed)
    lineages = {link.lineage for trial in found for link in trial.links}
    assert len(lineages) < sum(len(trial.links) for trial in found)
    assert len({trial.ended for trial in found if trial.ended}) > 2
    kinds = Counter(row["kind"] for row in undisturbed.read("events").to_pylist())
    assert kinds["divergence"] == 1
    assert kinds["switch"] > 0
