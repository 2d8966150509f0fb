"""The command `measure` as a process: what it says of kept states, gone ones, untrained trials and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.progress import Display

PROGRAM = str(Path(sys.executable).with_name("loopsweep"))

STUDY = """
name = "measure-cli"
question = "What is said of what is measured?"
seeds = {seeds}

[base.task]
states = 5
chains = 2
length = 4
train_size = 0
val_size = 8

[base.model]
width = 4
loops = 2

[base.train]
steps = 4
batch = 2
evaluate_every = 4

[arms.looped]
"""

ASKED = """
[measure]
quantities = {quantities}
at = {at}
probe = 4
"""


def study(folder: Path, quantities: list[str], at: list[int], seeds: int = 2) -> Path:
    path = folder / "study.toml"
    path.write_text(STUDY.format(seeds=seeds) + ASKED.format(quantities=json.dumps(quantities), at=at))
    return path


def process(*arguments: Any) -> list[str]:
    return [PROGRAM, *(str(argument) for argument in arguments), "--workers", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a study of 26 seeds that was run: the gradient's norm is measured at the end."""
    folder = tmp_path_factory.mktemp("trained")
    asked = study(folder, ["probe_grad_norm"], [4], seeds=26)
    subprocess.run(process("run", asked, "--store", folder / "results"), check=True, capture_output=True)
    return folder


def test_a_study_that_was_never_run_is_said_to_be_untrained(call: Any, tmp_path: Path) -> None:
    """It said "0 kept states measured" and ended as if all were well."""
    path, store = study(tmp_path, ["probe_grad_norm"], [0, 4]), tmp_path / "results"
    told = call("measure", path, "--store", store)
    assert told.code == 0
    assert told.out.splitlines() == [
        "nothing to measure at kept states",
        f"2 of 2 trials are not trained to the end: loopsweep run {path} --store {store} trains and measures them",
    ]
    found = json.loads(call("measure", path, "--store", store, "--json").out)
    assert (found["asked"], found["left"], found["untrained"]) == (0, 0, 2)
    assert not store.exists()


def test_what_is_recorded_and_what_has_no_state_are_told_apart(call: Any, trained: Path, tmp_path: Path) -> None:
    store = trained / "results"
    told = call("measure", study(tmp_path, ["probe_grad_norm"], [4]), "--store", store)
    assert told.out == "nothing to measure: all that the study asks is recorded\n"
    path = study(tmp_path, ["probe_grad_norm"], [3, 4])
    told = call("measure", path, "--store", store)
    assert told.out.splitlines() == [
        "nothing to measure at kept states",
        f"2 measurements asked for where no state is kept: loopsweep run {path} --store {store} replays them",
    ]
    assert told.code == 0


def test_status_tells_trials_that_only_lack_measurements_from_those_that_run(
    call: Any, trained: Path, tmp_path: Path
) -> None:
    """It said that all were running though nobody did anything."""
    store = trained / "results"
    path = study(tmp_path, ["probe_grad_norm", "trace"], [4], seeds=2)
    told = call("status", path, "--store", store)
    assert told.code == 0
    assert (
        told.out.splitlines()[-1] == f"2 trials trained, measurements missing: loopsweep measure {path} --store {store}"
    )
    found = json.loads(call("status", path, "--store", store, "--json").out)
    assert {name: found[name] for name in ("trials", "done", "running", "failed", "remaining", "unmeasured")} == {
        "trials": 2,
        "done": 0,
        "running": 0,
        "failed": 0,
        "remaining": 2,
        "unmeasured": 2,
    }
    path = study(tmp_path, ["probe_grad_norm", "trace"], [3, 4], seeds=2)
    told = call("status", path, "--store", store)
    command = f"loopsweep run {path} --store {store}"
    assert told.out.splitlines()[-1].endswith(
        f"{command} measures at 2 kept states and replays up to 2 states not kept"
    )
    assert call("report", path, "--store", store, "--out", tmp_path / "report").err.startswith(
        f"error: {path}: no trial is complete in {store}; 2 trials trained, measurements missing: {command} "
    )


def test_without_measure_there_is_one_line(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(STUDY.format(seeds=1))
    told = call("measure", path, "--store", tmp_path / "results")
    assert told.code == 2
    assert told.err.startswith(f"error: {path}: measure: is missing")
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_an_interrupted_measurement_says_what_is_left_and_goes_on(
    call: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said "8 kept states measured" as a complete one does."""
    path, store = study(trained, ["probe_grad_norm", "entropy"], [4], seeds=26), trained / "results"
    said, signals = Display.said, [signal.SIGINT]

    def interrupted(self: Display, message: str) -> None:
        said(self, message)
        if message.startswith("measured ") and signals:
            os.kill(os.getpid(), signals.pop())  # while two packs of four have not been handed out

    monkeypatch.setattr(Display, "said", interrupted)
    told = call("measure", path, "--store", store, "--workers", "1", "--json")
    found = told.json()
    assert told.code == found["exit_code"] == 130
    assert found["asked"] == 26
    assert 0 < found["left"] == 26 - found["measured"]
    told = call("measure", path, "--store", store, "--workers", "1")
    assert told.out.startswith(f"{found['left']} kept state")
    told = call("query", path, "SELECT count(entropy) AS n FROM curvature", "--store", store, "--format", "json")
    assert json.loads(told.out) == [{"n": 26}]
