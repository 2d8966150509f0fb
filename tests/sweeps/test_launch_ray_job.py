"""Ray jobs: the printed script hands `ray job submit` one study, one command and no secret, whatever names hold."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from sweeps.cli import execute
from tests.sweeps.test_launch_slurm import ODD
from tests.sweeps.toy import TOY

RAY = """#!/usr/bin/env python3
import os, pathlib, shlex, sys
# As the real command: options before the dashes, and what comes after them joined for a shell on the cluster's head.
words = sys.argv[1:]
given, run = words[: words.index("--")], words[words.index("--") + 1 :]
where = pathlib.Path(given[given.index("--working-dir") + 1]) if "--working-dir" in given else None
out = pathlib.Path(os.environ["STAND_IN"])
(out / "given").write_bytes("\\0".join(given).encode())
(out / "files").write_text("\\n".join(f"{path.name}:{path.read_text()}" for path in where.iterdir()) if where else "")
sys.exit(os.system(shlex.join(run)) >> 8)
"""
LOOPSWEEP = """#!/usr/bin/env python3
import os, pathlib, sys
pathlib.Path(os.environ["STAND_IN"], "run").write_bytes("\\0".join(sys.argv[1:]).encode())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LOOPSWEEP_STORE", raising=False)
    for name, text in (("ray", RAY), ("loopsweep", LOOPSWEEP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    made = tmp_path / ODD
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def submitted(capfd, *arguments):
    """What the script, executed, hands to ``ray`` and what the cluster would run."""
    assert execute(["launch", "ray-job", *map(str, arguments)]) == 0
    text, stand_in = capfd.readouterr().out, os.path.dirname(os.getcwd())  # noqa: PTH109, PTH120 - bytes as they are
    environment = os.environ | {"PATH": f"{stand_in}:{os.environ['PATH']}", "STAND_IN": stand_in}
    subprocess.run(["sh", "-c", text], env=environment, cwd="/", check=True)
    read = {}
    for name in ("given", "run", "files"):
        with open(f"{stand_in}/{name}", encoding="utf-8") as file:  # noqa: PTH123
            read[name] = file.read()
    return read["given"].split("\0"), read["run"].split("\0"), read["files"], text


def test_a_study_travels_alone_and_no_name_is_run(capfd, folder, tmp_path):
    path = folder / "it's $(touch odd).toml"
    path.write_text(TOY)
    (folder / "large.bin").write_text("not asked for")
    given, run, files, _ = submitted(capfd, path, "--workers", "6", "--address", "https://ray.example:8265")
    assert files == f"study.toml:{TOY}"
    assert given[:4] == ["job", "submit", "--address", "https://ray.example:8265"]
    assert given[given.index("--submission-id") + 1].startswith("loopsweep-toy-2")
    assert run[:7] == ["run", "--on", "ray", "--address", "auto", "--workers", "6"]
    assert run[run.index("--store") + 1 :] == [str(folder / "results"), "--", "study.toml"]
    assert not list(tmp_path.rglob("odd"))


def test_a_study_of_the_catalogue_needs_no_file(capfd, folder):
    given, run, files, text = submitted(capfd, "p-hop@paper", "--workers", "64")
    assert (run[-1], files) == ("p-hop@paper", "")
    assert "--working-dir" not in given
    # SC2016 notes that $ in single quotes does not expand, which is what a path wants.
    if shutil.which("shellcheck") is not None:
        done = subprocess.run(
            ["shellcheck", "--exclude=SC2016", "-"], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
