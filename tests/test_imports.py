"""Planning and help are quick because the heavy packages are not imported; each is proved in a fresh interpreter."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "ray", "optuna")
PROGRAM = """
import sys
from sweeps.cli import execute
code = execute(sys.argv[2:])
loaded = [name for name in sys.argv[1].split(",") if name in sys.modules]
print("LOADED", loaded, file=sys.stderr)
raise SystemExit(code)
"""


def loaded(packages, *arguments):
    """Runs a command in a fresh interpreter; which of `packages` it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(packages), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    packages = (*HEAVY, "numpy", "pandas", "pyarrow", "duckdb", "seaborn", "reports", "rich")
    assert loaded(packages, *arguments) == "LOADED []"


@pytest.mark.parametrize("command", ["plan", "status"])
def test_planning_imports_no_engine(command, tmp_path):
    assert loaded((*HEAVY, "reports"), command, "quickstart", "--store", str(tmp_path / "results")) == "LOADED []"


def test_launching_imports_no_engine():
    arguments = ["launch", "kuberay", "quickstart", "--store", "results"]
    assert loaded((*HEAVY, "reports"), *arguments) == "LOADED []"


def test_the_catalogue_imports_no_engine(tmp_path):
    assert loaded((*HEAVY, "reports"), "studies", "--store", str(tmp_path / "results")) == "LOADED []"


def test_help_is_quick():
    """Under 0.4 s of processor time, the best of 5 (a busy machine stretches the wall clock, not this)."""
    script = Path(sys.executable).with_name("loopsweep")
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([script, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4, os.getloadavg()
