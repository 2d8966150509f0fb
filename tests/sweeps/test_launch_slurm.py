"""Batch scripts for Slurm, executed: they run a study to its end, go back into the queue, and read no path as code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from studies.store import Store
from sweeps.cli import execute
from sweeps.slurm_time import seconds_of, slurm_time
from tests.sweeps.slurm_stand_in import Slurm
from tests.sweeps.toy import TOY

ODD = "a 'b' \"c\" $(touch odd) `touch odd`; touch odd &\n#SBATCH --mem=1T\n"
"""A name of a folder that a shell would make much of."""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study in a folder of that name, which is also where the job runs."""
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LOOPSWEEP_STORE", raising=False)
    path = folder / "my study.toml"
    path.write_text(TOY)
    return path


def script(capfd, study, *options):
    """The text that the command prints."""
    assert execute(["launch", "slurm", str(study), *options]) == 0
    return capfd.readouterr().out


def batch(text, folder):
    """A script as sbatch keeps it: a file of its own."""
    path = folder / "slurm_script"
    path.write_text(text)
    return ["bash", str(path)]


def directives(text):
    """What sbatch reads: it stops at the first line that is no comment."""
    head = text.partition("\ndirectory=")[0]
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", head, re.M))


def test_a_warned_job_drains_and_goes_back_into_the_queue_and_then_ends(capfd, study, tmp_path):
    slurm, command = Slurm(tmp_path / "slurm"), batch(script(capfd, study), tmp_path)
    running = subprocess.Popen(command, env=slurm.environment(), cwd="/", stderr=subprocess.PIPE, text=True)
    with running:
        said = running.stderr.readline()  # that step times are measured: nothing is recorded yet
        running.terminate()  # Slurm's warning, to the script alone
        said += running.stderr.read()
    assert running.returncode == 143, said
    assert slurm.requeued == 1
    done = subprocess.run(command, env=slurm.environment(), cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert slurm.requeued == 1, "what is complete stays out of the queue"
    statuses = Store.open(study.parent / "results").read("segments", ["status"]).column("status").to_pylist()
    assert set(statuses) == {"ok"}
    assert not list(tmp_path.rglob("odd")), "no part of a path was run"
    assert not list(Path.cwd().glob("odd"))


@pytest.mark.parametrize(
    "ending", [(0, "RUNNING", 0), (1, "RUNNING", 0), (2, "RUNNING", 0), (143, "RUNNING", 1), (143, "COMPLETING", 0)]
)
def test_only_a_drained_job_that_nobody_cancelled_goes_back(ending, capfd, study, tmp_path):
    slurm, (code, state, requeued) = Slurm(tmp_path / "slurm"), ending
    slurm.state = state
    text = re.sub(r"^loopsweep=\(.*?\)", f"loopsweep=(bash -c 'exit {code}')", script(capfd, study), flags=re.M)
    done = subprocess.run(batch(text, tmp_path), env=slurm.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, slurm.requeued) == (code, requeued), done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("options", [(), ("--nodes", "3"), ("--device", "cuda", "--gpus", "2")])
def test_shellcheck_has_nothing_to_say(options, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = batch(script(capfd, "quickstart", *options), tmp_path)
    assert subprocess.run(["bash", "-n", command[1]], check=False).returncode == 0
    done = subprocess.run(["shellcheck", command[1]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_directives_ask_for_what_the_plan_says(capfd, study):
    asked = directives(script(capfd, study, "--workers", "6", "--partition", "short", "--account", "lab"))
    assert asked == {
        "job-name": "loopsweep-toy",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "6",
        "mem": "5G",  # 6 workers of 563 MiB and the driver
        "time": "00:30:00",
        "partition": "short",
        "account": "lab",
        "output": "loopsweep-toy-%j.out",
        "open-mode": "append",
        "signal": "B:TERM@120",
        "requeue": "",
    }


def test_several_nodes_share_the_workers_behind_a_token_on_no_command_line(capfd, study):
    text = script(
        capfd, study, "--nodes", "3", "--workers", "8", "--device", "cuda", "--gpus", "2", "--time", "2-00:00:00"
    )
    asked = directives(text)
    assert {key: asked[key] for key in ("nodes", "cpus-per-task", "gpus-per-node", "time")} == {
        "nodes": "3",
        "cpus-per-task": "3",
        "gpus-per-node": "2",
        "time": "2-00:00:00",
    }
    assert "no-kill" in asked, "a lost node is not the end of the job"
    assert "RAY_AUTH_MODE=token" in text
    assert "umask 077" in text
    assert "127.0.0" not in text


@pytest.mark.parametrize(("text", "seconds"), [("00:05:00", 300), ("36:00:00", 129_600), ("1-12:00:00", 129_600)])
def test_durations_are_read(text, seconds):
    assert seconds_of(text) == seconds
    assert seconds_of(slurm_time(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "1:2:3", "00:60:00", "1-24:00:00", "-1:00:00", "01:00:00 ", "1٢:00:00"])
def test_other_forms_are_no_durations(text):
    assert seconds_of(text) is None


@pytest.mark.soak
def test_two_nodes_run_a_study_through_ray_drain_and_go_on(capfd, study, tmp_path):
    """The script for several nodes, each a Ray node of this machine; two that join at once get into a fight."""
    slurm, command = Slurm(tmp_path / "slurm"), batch(script(capfd, study, "--nodes", "2"), tmp_path)
    running = subprocess.Popen(command, env=slurm.environment(), cwd="/", stderr=subprocess.PIPE, text=True)
    with running:
        said = ""
        for line in running.stderr:
            said += line
            if "measuring step times" in line:
                running.terminate()
                break
        said += running.stderr.read()
    assert running.returncode == 143, said
    assert slurm.requeued == 1
    done = subprocess.run(command, env=slurm.environment(), cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert slurm.requeued == 1
    assert not list(study.parent.glob(".loopsweep-*")), "the token is gone"
    assert not Path("/tmp/loopsweep-4711").exists()
