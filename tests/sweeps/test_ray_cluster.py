"""A study on a cluster of nodes of several sizes that come and go, run by the command line: results as of a local run.

The cluster is a process of its own and so is each driver, with nothing in common but a store and an address. Drivers
run a copy of the packages that differs in one fact, so that rows tell whose code has made them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from studies.schemas import TABLES, table
from studies.store import Store
from sweeps.cli import execute
from sweeps.ray_address import reach
from sweeps.ray_code import PACKAGES
from tests.sweeps.ray_cluster import Cluster, cluster, token
from tests.sweeps.toy import TOY

PATIENCE_S = 600.0
STUDY = TOY.replace("steps = 30", "steps = 600").replace("every = 10", "every = 150").replace("[10, 20]", "[200, 400]")
STUDY = STUDY.replace("[arms.single]", '[measure]\nquantities = ["lambda_max"]\nevery = 300\n\n[arms.single]')
"""Trunks, branches at two steps, and curvature on the way and at the end."""
JOB = {"runtime_env": {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip", "env_vars": {"OMP_NUM_THREADS": "8"}}}
"""What the environment of a driver holds that ``ray job submit --working-dir`` has sent."""
DRIVER = "import sys; from sweeps.cli import main; sys.exit(main())"


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited in vain for: {what}")
        time.sleep(0.05)


class Place:
    """A folder with a study, a store, a copy of the packages and the means to reach a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "store"
        self.environ = token(folder)
        self.study = folder / "study.toml"
        self.study.write_text(STUDY)
        self.copy = folder / "copy"
        for name in PACKAGES:
            shutil.copytree(name, self.copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        numerics = self.copy / "core" / "numerics.py"
        text = numerics.read_text()
        assert '"python": platform.python_version(),' in text
        numerics.write_text(text.replace('"python": platform.python_version(),', '"python": "of the copy",'))
        self.said = folder / "said"

    def driver(self, ray: Cluster, *more: str) -> subprocess.Popen[bytes]:
        """``loopsweep run`` on a cluster, from elsewhere than the checkout."""
        words = ["run", str(self.study), "--store", str(self.root), "--on", "ray", "--address", ray.address, *more]
        with self.said.open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-c", DRIVER, *words, "--checkpoint-minutes", "0.01", "--pack", "2"],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**self.environ, "PYTHONPATH": str(self.copy), "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(JOB)},
                cwd=self.folder,
            )

    def records(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return len(list((self.root / "records").iterdir()))
        return 0

    def actors(self) -> list[int]:
        """Process ids of the actors of this cluster."""
        mine = f"RAY_AUTH_TOKEN_PATH={self.environ['RAY_AUTH_TOKEN_PATH']}\0".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "cmdline").read_bytes().startswith(b"ray::Bundle") and mine in (
                    path / "environ"
                ).read_bytes():
                    found.append(int(path.name))
        return found

    def sessions(self) -> Iterator[Path]:
        """The folders of Ray Tune's own state."""
        return (self.root / "scratch" / "ray").glob("session-*")


def results(store: Store) -> dict[str, list[dict[str, Any]]]:
    """The result columns of everything recorded but how it was cut, which is execution."""
    found = {}
    for name in ("metrics", "curvature", "curves", "spectra", "events", "checks"):
        columns = [column.name for column in table(name).columns if column.kind == "result"]
        found[name] = store.read(name, columns).to_pylist()
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("local")
    (folder / "study.toml").write_text(STUDY)
    assert (
        execute(["run", str(folder / "study.toml"), "--store", str(folder / "store"), "--workers", "1", "--pack", "1"])
        == 0
    )
    return results(Store.open(folder / "store"))


def check(place: Place, undisturbed: dict[str, list[dict[str, Any]]]) -> None:
    """Nothing is lost, nothing is there twice, every number is the local run's."""
    store = Store.open(place.root)
    found = results(store)
    assert {name: len(rows) for name, rows in found.items()} == {n: len(rows) for n, rows in undisturbed.items()}
    assert found == undisturbed
    assert found["metrics"]
    assert found["curvature"]
    for name in TABLES:
        keys = [tuple(row.values()) for row in store.read(name).select(list(table(name).key)).to_pylist()]
        assert len(keys) == len(set(keys)), name
    assert store.verify().ok


@pytest.mark.timeout(1800)
def test_driver_and_nodes_come_and_go_and_every_number_is_a_local_runs(
    place: Place, undisturbed: dict[str, list[dict[str, Any]]]
) -> None:
    with cluster(place.environ) as ray:
        # Nobody works yet; the first who joins sees another folder where the store is, and is passed over.
        first = place.driver(ray)
        until(lambda: list((place.root / "canaries").glob("*")), "the driver is up")
        ray.tell("blind", "blind", 1, place.root)
        until(lambda: "does not see the store" in place.said.read_text(), "the blind node is refused")
        assert place.records() == 0
        ray.tell("add", "one", 1)
        ray.tell("add", "two", 2)
        until(lambda: place.records() >= 3, "the nodes that joined work")
        first.kill()
        first.wait()
        until(lambda: not place.actors(), "actors end with their driver")
        assert place.said.read_text().count("does not see the store") == 1
        for session in place.sessions():  # torn, as a killed driver may leave it
            for path in session.rglob("*"):
                if path.is_file():
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        # Whoever starts while the blind node is there is told, and nothing runs.
        before = place.records()
        assert place.driver(ray).wait(PATIENCE_S) == 2
        refused = [line for line in place.said.read_text().splitlines() if "node" in line]
        assert len(refused) == 1
        assert f"does not see the store {place.root}; keep it on a file system that every node mounts" in refused[0]
        assert place.records() == before
        ray.tell("lose", "blind")
        with place.driver(ray) as second:
            until(lambda: place.records() > before, "the second driver goes on")
            ray.tell("lose", "two")
            for session in place.sessions():
                for path in session.rglob("*"):
                    if path.is_file():
                        path.unlink()
            ray.tell("add", "three", 2)
            assert second.wait(PATIENCE_S) == 0, place.said.read_text()
    check(place, undisturbed)
    rows = Store.open(place.root).read("segments", ["provenance"])["provenance"].to_pylist()
    assert {json.loads(row)["python"] for row in rows} == {"of the copy"}


def test_what_is_wrong_with_an_address_is_one_line_and_exit_code_2(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Path(place.environ["RAY_AUTH_TOKEN_PATH"])
    with cluster(place.environ) as ray:
        assert reach(ray.address, place.environ)
        with pytest.raises(InputError, match="asks for another token"):
            reach(ray.address, {**place.environ, "RAY_AUTH_TOKEN": "a" * 64})
        with pytest.raises(InputError, match="asks for another token"):
            reach(ray.address, {**place.environ, "RAY_AUTH_MODE": "disabled"})
        kept.chmod(0o644)
        with pytest.raises(InputError, match=r"may be read by others \(mode 0644\); chmod 600"):
            reach(ray.address, place.environ)
        kept.chmod(0o600)
        ray.tell("version", "2.53.0")
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(kept))
        words = ["run", str(place.study), "--store", str(place.root), "--on", "ray", "--address", ray.address]
        assert execute(words) == 2
        ray.tell("version", "2.60.0")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"the cluster at '{ray.address}' runs Ray 2.53.0 with Python" in said[0]
    assert not place.root.exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "must be"),
        ("local", "must be"),
        ("127.0.0.1:1", "no Ray cluster answers"),
        ("127.0.0.1:99999", "no Ray cluster answers"),
        ("ray://127.0.0.1:10001", "name HOST:PORT of its head"),
    ],
)
def test_an_address_where_no_cluster_listens_is_bad_input_at_once(address: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        reach(address)


def goes_on(driver: subprocess.Popen[bytes], place: Place, before: int) -> bool:
    return place.records() > before or driver.poll() is not None


AGAIN = ("--retry", "failed")
"""A unit may be killed as often as it may be tried; what was given up is then tried by the next driver."""


def disturb(place: Place, ray: Cluster, losses: int, seed: int) -> dict[str, int]:
    """Kills drivers, actors and nodes of a running sweep at random moments; how many of each."""
    chance, done = random.Random(seed), dict.fromkeys(("driver", "worker", "node"), 0)
    names = ["n0", "n1"]
    for name in names:
        ray.tell("add", name, 2)
    while sum(done.values()) < losses:
        before = place.records()
        driver = place.driver(ray, *AGAIN)
        try:
            while driver.poll() is None and sum(done.values()) < losses:
                until(partial(goes_on, driver, place, before), "work is recorded")
                time.sleep(chance.random())
                kind = chance.choice(["driver", "worker", "worker", "node"])
                if kind == "driver":
                    driver.kill()
                elif kind == "worker":
                    with contextlib.suppress(ProcessLookupError, IndexError):  # it ends just now, or none has begun
                        os.kill(chance.choice(place.actors()), signal.SIGKILL)
                else:
                    ray.tell("lose", names.pop(chance.randrange(len(names))))
                    names.append(f"n{sum(done.values()) + 2}")
                    ray.tell("add", names[-1], 2)
                done[kind] += 1
                print(f"{sum(done.values())}: {kind}", flush=True)
                if kind == "driver":
                    break
                before = place.records()
        finally:
            complete = driver.poll() == 0
            driver.kill()
            driver.wait()
        assert driver.returncode in (0, 1, -signal.SIGKILL), place.said.read_text()
        if complete:  # before all losses were spent: begin anew, so that each disturbs something
            for path in (place.root / "records").iterdir():
                path.unlink()
    return done


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_twenty_losses_of_nodes_workers_and_driver_change_no_number(
    place: Place, undisturbed: dict[str, list[dict[str, Any]]]
) -> None:
    with cluster(place.environ) as ray:
        done = disturb(place, ray, losses=20, seed=6)
        print(done)
        assert min(done.values()) >= 2
        assert place.driver(ray, *AGAIN).wait(PATIENCE_S) == 0, place.said.read_text()
    check(place, undisturbed)
