"""The local pool keeps the protocol, and leaves no process behind whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studies.store import Store
from sweeps.executor import Finished, Lost, Started
from sweeps.local_executor import LocalExecutor
from tests.sweeps.conformance import PATIENCE_S, ExecutorConformance, drive, ends, until
from tests.sweeps.work import bundle, lane


class TestLocal(ExecutorConformance):
    @staticmethod
    def open(root: Path) -> LocalExecutor:
        return LocalExecutor(root, workers=2)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], patience_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + patience_s
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def test_workers_ignore_the_terminals_interrupt_and_close_leaves_none(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    with LocalExecutor(store.root, workers=1) as executor:
        executor.submit(bundle("long", [lane(1, steps=60)], work="patient"))
        events = until(executor, lambda events: any(isinstance(event, Started) for event in events))
        (pid,) = executor.pids
        assert os.getpgid(pid) != os.getpgrp()  # ^C at the terminal reaches the driver's group only
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        events += until(executor, lambda later: "long" in ends(events + later))
        assert isinstance(ends(events)["long"], Finished)
    assert gone([pid])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_worker_that_crashes_is_named_in_the_reason_and_replaced(tmp_path: Path, number: signal.Signals) -> None:
    store = Store.open(tmp_path / "store", create=True)
    with LocalExecutor(store.root, workers=1) as executor:
        executor.submit(bundle("long", [lane(1, steps=100_000)], work="patient"))
        events = until(executor, lambda events: any(isinstance(event, Started) for event in events))
        (pid,) = executor.pids
        os.kill(pid, number)
        events += until(executor, lambda later: "long" in ends(events + later))
        end = ends(events)["long"]
        assert isinstance(end, Lost)
        assert number.name in end.reason
        assert pid not in executor.pids
        assert isinstance(ends(drive(executor, bundle("next", [lane(2)])))["next"], Finished)


ORPHANS = """
import sys
from sweeps.local_executor import LocalExecutor
from tests.sweeps.work import bundle, lane

executor = LocalExecutor(sys.argv[1], workers=2)
executor.submit(bundle("a", [lane(1, steps=100_000)], work="patient"))
executor.submit(bundle("b", [lane(2, steps=100_000)], work="patient"))
print(*executor.pids, flush=True)
while True:
    executor.poll(1.0)
"""


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    driver = subprocess.Popen([sys.executable, "-c", ORPHANS, str(store.root)], stdout=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()]
        deadline = time.monotonic() + PATIENCE_S
        while len(list(store.scratch("patient").iterdir())) < 2:  # both are in the middle of a unit
            assert time.monotonic() < deadline
            time.sleep(0.05)
        driver.kill()
    assert len(pids) == 2
    assert gone(pids)
