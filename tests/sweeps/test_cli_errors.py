"""A user's mistake is exit code 2 and one clear line per error: no traceback, nothing written, within a second."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.cli import execute
from tests.studies.malformed_cases import CASES
from tests.sweeps.toy import TOY

PROGRAM = str(Path(sys.executable).with_name("loopsweep"))
AS_PROCESSES = {"no-toml", "no-name", "deeply-nested", "beyond-64-bits"}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_malformed_study_is_refused(case, command, capsys, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(case.text, encoding="utf-8")
    begin = time.process_time()
    code = execute([command, str(study), "--store", str(tmp_path / "results")])
    assert time.process_time() - begin < 1
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert all(line.startswith(f"error: {study}: ") for line in err.splitlines())
    assert any(case.key in line and case.says in line for line in err.splitlines())
    assert list(tmp_path.iterdir()) == [study]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in AS_PROCESSES], ids=lambda case: case.name)
def test_so_it_is_by_a_real_process(case, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(case.text, encoding="utf-8")
    done = subprocess.run([PROGRAM, "run", "study.toml"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(line.startswith("error: study.toml: ") for line in done.stderr.splitlines())
    assert case.says in done.stderr
    assert list(tmp_path.iterdir()) == [study]


def test_those_that_run_as_processes_exist():
    assert {case.name for case in CASES} >= AS_PROCESSES


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pln", "toy.toml"], "did you mean 'plan'?"),
        (["plan"], "missing argument 'STUDY'"),
        (["plan", "toy.toml", "more"], "unexpected extra argument"),
        (["plan", "toy.toml", "--max-trails", "3"], "did you mean --max-trials?"),
        (["plan", "toy.toml", "--max-trials", "many"], "'--max-trials'"),
        (["plan", "toy.toml", "--max-trials", "0"], "'--max-trials'"),
        (["plan", "toy.tml"], "no such study in the catalogue"),
        (["plan", "quickstrat"], "did you mean 'quickstart'?"),
        (["plan", "./tyo.toml"], "did you mean toy.toml?"),
        (["run", "toy.toml", "--on", "slurm"], "'local', 'ray'"),
        (["run", "toy.toml", "--workers", "0"], "'--workers': must be an integer of at least 1, got '0'"),
        (["run", "toy.toml", "--device", "tpu"], "'cpu', 'cuda'"),
        (["run", "toy.toml", "--engine", "jit"], "'eager', 'compiled'"),
        (["run", "toy.toml", "--engine", "compiled", "--audit", "1%"], "compares bits with eager training"),
        (["run", "toy.toml", "--pack", "some"], "must be auto or an integer"),
        (["run", "toy.toml", "--pack", "0"], "must be auto or an integer"),
        (["run", "toy.toml", "--pack", "-1"], "must be auto or an integer"),
        (["run", "toy.toml", "--checkpoint-minutes", "nan"], "must be a finite number above 0"),
        (["run", "toy.toml", "--unit-timeout", "-3"], "must be a finite number above 0"),
        (["run", "toy.toml", "--unit-timeout", "inf"], "must be a finite number above 0"),
        (["run", "toy.toml", "--retry", "faild"], "did you mean 'failed'?"),
        (["run", "toy.toml", "--retry", "ok"], "unknown status 'ok'"),
        (["run", "toy.toml", "--audit", "0%"], "must be a share"),
        (["run", "toy.toml", "--audit", "101%"], "must be a share"),
        (["run", "toy.toml", "--audit", "nan"], "must be a share"),
        (["run", "toy.toml", "--audit"], "requires an argument"),
        (["run", "toy.toml", "--address", "auto"], "add --on ray"),
        (["run", "toy.toml", "--dashboard"], "add --on ray"),
        (["run", "toy.toml", "--on", "ray", "--address", "10.0.0.1:6379", "--dashboard"], "a cluster has its own"),
        (["run", "toy.toml", "--on", "ray", "--address", "ray://head:10001"], "name HOST:PORT of its head, or auto"),
        (["query"], "missing argument 'STUDY'"),
        (["query", "toy.toml", "select 1", "--format", "xls"], "'parquet'"),
        (["query", "toy.toml", "select 1", "--json", "--format", "csv"], "does not go with --json"),
        (["query", "toy.toml", "select 1", "--out", "."], "must be a file, got the folder ."),
        (["query", "toy.toml", "--set", "top=3"], "missing argument 'SQL'"),
        (["query", "toy.tml"], "no such study in the catalogue"),
        (
            ["query", "toy.toml", "cost-to-reach", "--set", "loss=low"],
            "--set loss: must be a number, as 2.0, got 'low'",
        ),
        (["query", "toy.toml", "best-settings", "--set", "top=1.5"], "must be a whole number"),
        (["query", "toy.toml", "best-settings", "--set", "top=1", "--set", "top=2"], "is given twice"),
        (["report", "toy.toml", "--out", "toy.toml/report"], "must be a folder, got the file toy.toml"),
        (["report", "toy.toml", "--out", ""], "must be a folder, got nothing"),
        (["report", "toy.toml", "--every", "5"], "add --watch"),
        (["status", "toy.toml", "--store", ""], "got nothing"),
        (["show"], "missing argument 'ID'"),
        (["diff", "abc"], "missing argument"),
        (["status", "toy.toml", "--store"], "requires an argument"),
        (["--verbose"], "no such option"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line(arguments, says, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(TOY)
    assert execute(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('kind = "shift"', 'kind = "shift"\nschedule.draw = "poisson-lognormal"'), "as in the arm shift"),
        (("", ""), "needs a C++ compiler"),
    ],
    ids=["drawn", "without"],
)
def test_what_the_compiled_engine_cannot_do_is_said_before_anything_is_written(
    change, says, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "g++" if change[0] and shutil.which("g++") else "no-such-compiler")
    (tmp_path / "toy.toml").write_text(TOY.replace(*change))
    assert execute(["run", "toy.toml", "--engine", "compiled"]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


def test_no_command_shows_the_help(capsys):
    assert execute([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Commands:" in err


def test_the_name_of_a_study_cannot_steer_the_terminal(capsys, tmp_path):
    execute(["plan", "\x1b]0;owned\x07.toml", "--store", str(tmp_path / "results")])
    assert "\x1b" not in capsys.readouterr().err
