"""Two drivers of one study on one store, as processes: they share its work, and take over what the other leaves."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from studies.schemas import SEGMENTS
from studies.store import Store
from sweeps.look import look
from tests.sweeps.bits import differences
from tests.sweeps.held_process import trials


def start(root: Path, expire_s: float = 60.0) -> subprocess.Popen[str]:
    """A driver that waits to be told to begin."""
    command = [sys.executable, "-m", "tests.sweeps.held_process", str(root), str(expire_s)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(*drivers: subprocess.Popen[str]) -> None:
    """All at once, when all have started."""
    for driver in drivers:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("\n")
        driver.stdin.flush()


def begun(driver: subprocess.Popen[str], units: int = 1) -> list[str]:
    """Its lines until it has begun so many units, or has ended."""
    lines: list[str] = []
    assert driver.stdout is not None
    while sum(line.startswith("started") for line in lines) < units and (line := driver.stdout.readline()):
        lines.append(line)
    return lines


def trained(store: Store) -> int:
    """Updates that were trained and recorded, those that lost to an equal row of another record included."""
    files = [store.root / part.path for _, _, part in store.snapshot().parts(SEGMENTS)]
    rows = [row for file in files for row in pq.ParquetFile(file).read(["start", "reached"]).to_pylist()]
    return sum(row["reached"] - row["start"] for row in rows)


def check(store: Store) -> None:
    assert differences(trials(), store) == []
    assert not list((store.root / "checkpoints").rglob("[!.]*.passing.*"))
    assert store.verify().ok


def test_two_drivers_share_the_work_and_train_hardly_more_than_one(tmp_path: Path) -> None:
    root = tmp_path / "store"
    once = sum(node.end - node.start for node in look(trials(), Store.open(root)).nodes)
    with start(root) as one, start(root) as other:
        begin(one, other)
        lines = [driver.communicate(timeout=240)[0] for driver in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0)
    store = Store.open(root)
    check(store)
    assert all("started" in each for each in lines), lines
    assert once <= trained(store) <= 1.1 * once
    assert store.holds() == {}


def test_a_driver_takes_over_what_a_killed_one_and_a_stopped_one_held(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with start(root) as killed, start(root, 2.0) as stopped, start(root, 2.0) as last:
        begin(killed, stopped)
        begun(killed)
        killed.kill()
        begun(stopped)
        stopped.send_signal(signal.SIGSTOP)
        try:
            (root / "holds").mkdir(exist_ok=True)
            (root / "holds" / f"{'0' * 16}.json").write_text('{"driver": ', encoding="utf-8")
            begin(last)
            last.communicate(timeout=240)
            assert last.returncode == 0
            check(Store.open(root))
        finally:
            stopped.send_signal(signal.SIGCONT)
        stopped.communicate(timeout=240)
        assert stopped.returncode == 0
    check(Store.open(root))  # what it still ran was another copy of the same numbers


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_kills_of_two_drivers_lose_nothing(tmp_path: Path) -> None:
    chance, kills = random.Random(7), 0
    for number in range(100):
        root = tmp_path / f"store{number}"
        while kills < 20:
            with start(root, 2.0) as one, start(root, 2.0) as other:
                begin(one, other)
                victim = chance.choice([one, other])
                lines = begun(victim, chance.randrange(1, 4))
                victim.kill()
                kills += any(line.startswith("started") for line in lines)
                survivor = other if victim is one else one
                if chance.random() < 0.3:
                    begun(survivor, 1)
                    survivor.kill()
                    kills += 1
                survivor.communicate(timeout=240)
            if survivor.returncode == 0:
                break
        else:
            break
        check(Store.open(root))
    assert kills >= 20
