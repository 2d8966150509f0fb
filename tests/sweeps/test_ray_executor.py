"""Ray Tune keeps the protocol, gives the rows that the local pool gives, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from core.errors import InputError
from core.task_terms import TextTask
from studies.expand import Trial
from studies.schemas import table
from studies.store import Store
from sweeps.executor import Finished, Lost, Progress
from sweeps.local_executor import LocalExecutor
from sweeps.ray_executor import RayExecutor, start
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.conformance import PATIENCE_S, ExecutorConformance, drive, ends, outcomes, until
from tests.sweeps.work import POISON, bundle, lane, trial

pytestmark = pytest.mark.timeout(900)  # of a busy machine, where each actor takes long to import torch

WORKERS = 2
SIGNALS = (signal.SIGTERM, signal.SIGINT)
BEFORE = [signal.getsignal(number) for number in SIGNALS]
"""Who handles them before Ray has begun."""


@pytest.fixture(scope="module", autouse=True)
def instance() -> Iterator[None]:
    """One Ray for the whole file, with room for two executors: they use the one that is there."""
    start(workers=2 * WORKERS)
    yield
    ray.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


class TestRay(ExecutorConformance):
    @staticmethod
    def open(root: Path) -> RayExecutor:
        return RayExecutor(root, workers=WORKERS)

    def test_actors_are_used_again(self, executor: RayExecutor, store: Store) -> None:
        """A fresh actor imports torch, for seconds: as many processes as there are slots run 30 bundles in a row."""
        events = drive(executor, *(bundle(f"again{i}", [lane(801 + i)], work="tells_process") for i in range(30)))
        assert len(outcomes(events)) == 30
        assert 1 <= len(list(store.scratch("processes").iterdir())) <= executor.slots

    def test_a_gpu_that_is_not_there_is_bad_input(self, executor: RayExecutor) -> None:
        with pytest.raises(InputError, match="an executor for cpu"):
            executor.submit(bundle("gpu", [lane()], device="cuda"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def actors(token: str) -> list[int]:
    """Process ids of the actors of the instance with this token; tests beside this one have others."""
    found, mine = [], f"RAY_AUTH_TOKEN={token}\0".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cmdline").read_bytes().startswith(b"ray::Bundle") and mine in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def results(store: Store) -> dict[str, list[dict[str, Any]]]:
    """The result columns of all that a sweep records."""
    found = {}
    for name in ("segments", "metrics", "events"):
        columns = [column.name for column in table(name).columns if column.kind == "result"]
        found[name] = store.read(name, columns).to_pylist()
    return found


def test_a_study_gives_the_same_rows_as_on_the_local_pool(tmp_path: Path) -> None:
    trials = [trial(seed, kind=kind) for seed in range(3) for kind in ("single", "looped", "shift")]
    here, there = (Store.open(tmp_path / name, create=True) for name in ("here", "there"))
    with LocalExecutor(here.root, workers=1) as pool:
        assert run(lambda: trials, here, pool, pack=1).exit_code == 0
    with RayExecutor(there.root, workers=WORKERS) as tune:
        assert run(lambda: trials, there, tune, pack=2).exit_code == 0
    assert results(here) == results(there)
    assert len(results(there)["metrics"]) > len(trials)


def test_an_actor_that_is_killed_costs_an_attempt_and_no_row(store: Store) -> None:
    trials: list[Trial] = [trial(seed) for seed in (*range(6), POISON)]
    with RayExecutor(store.root, workers=WORKERS) as executor:
        limits = Limits(work="tests.sweeps.work:killed_once")
        result = run(lambda: trials, store, executor, limits=limits, pack=1)
    assert (result.exit_code, result.counts) == (0, {"ok": 7})
    rows = store.read("segments", ["lineage", "attempts"]).to_pylist()
    assert sorted(row["lineage"] for row in rows) == sorted(trial.links[0].lineage for trial in trials)
    assert (store.scratch("killed-once") / "mark").exists()


def test_stopping_at_once_and_closing_leave_no_actor_and_no_file(store: Store) -> None:
    token = os.environ["RAY_AUTH_TOKEN"]
    before = set(actors(token))
    with RayExecutor(store.root, workers=1) as executor:
        executor.submit(bundle("long", [lane(1, steps=100_000)], work="patient"))
        until(executor, lambda events: any(isinstance(event, Progress) for event in events))
        mine = [pid for pid in actors(token) if pid not in before]
        assert mine
        executor.stop(drain=False)
        assert isinstance(ends(until(executor, lambda events: bool(ends(events))))["long"], Lost)
    assert gone(mine)
    assert list(store.scratch("ray").iterdir()) == []
    executor.close()
    assert executor.poll(0.0) == []


def test_a_node_without_the_texts_of_a_study_is_refused_by_name(store: Store) -> None:
    task = TextTask(files=("/no/such/folder/*.txt",), digest="0" * 16)
    with pytest.raises(
        InputError, match=r"^node \S+ \(127\.0\.0\.2\) lacks the text of the study \(.*matches no file"
    ) as found:
        RayExecutor(store.root, texts=(task,))
    assert len(found.value.problems) == 1
    assert list(store.scratch("ray").iterdir()) == []


def test_ray_says_nothing_on_the_console(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    with RayExecutor(store.root, workers=1) as executor:
        drive(executor, bundle("dead", [lane(POISON)], work="killed"))
        assert isinstance(ends(drive(executor, bundle("fine", [lane(2)])))["fine"], Finished)
    assert capfd.readouterr() == ("", "")


def test_signals_stay_the_drivers() -> None:
    assert [signal.getsignal(number) for number in SIGNALS] == BEFORE


def test_the_instance_asks_for_a_token_that_no_file_holds() -> None:
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    file = Path.home() / ".ray" / "auth_token"  # some other Ray's may lie there
    assert not file.exists() or file.read_text().strip() != os.environ["RAY_AUTH_TOKEN"]
    assert ray.get_runtime_context().gcs_address.startswith("127.")


DRIVER = """
import sys
from sweeps.ray_executor import RayExecutor
from tests.sweeps.work import bundle, lane
with RayExecutor(sys.argv[1], workers=1) as executor:
    executor.submit(bundle("long", [lane(1, steps=100_000)], work="patient"))
    while True:
        for event in executor.poll(1.0):
            print(type(event).__name__, flush=True)
"""


def test_actors_and_ray_end_with_a_driver_that_is_killed(store: Store) -> None:
    token = secrets.token_hex(32)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["RAY_AUTH_TOKEN"] = token
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(store.root)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert driver.stdout is not None
    with driver.stdout:
        assert driver.stdout.readline() == "Started\n"
        working = actors(token)
        assert working
        mine = working + children(driver.pid)
        assert len(mine) > 2
        driver.kill()
        driver.wait()
        assert gone(mine)


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]
