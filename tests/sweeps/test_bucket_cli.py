"""Every command with a store in a bucket: the study gives the same results, and credentials stay out of everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.object_store import SECRET
from tests.studies.odd_servers import odd_server
from tests.sweeps.bits import rows_of
from tests.sweeps.direct import Direct
from tests.sweeps.toy import TOY

PROGRAM = str(Path(sys.executable).with_name("loopsweep"))


def train(study: Path, store: str) -> str:
    """A run by real processes; all that it said."""
    command = [PROGRAM, "run", str(study), "--store", store, "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_study_in_a_bucket_is_the_study_in_a_folder_by_every_command(call, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, measured = tmp_path / "toy.toml", tmp_path / "measured.toml"
    study.write_text(TOY)
    measured.write_text(TOY + '\n[measure]\nquantities = ["lambda_max"]\nat = [30]\n')
    said = train(study, f"{bucket}/")
    assert f"loopsweep report {study} --store {bucket}\n" in said
    there, here = Store.open(bucket), Store.open(tmp_path / "folder", create=True)
    trials = wanted(load_study(study), here)
    assert run(lambda: trials, here, Direct(here.root), pack=1).counts == {"ok": 6}
    assert rows_of(trials, there) == rows_of(trials, here) != {}

    monkeypatch.setenv("LOOPSWEEP_STORE", bucket)
    assert call("plan", study, "--json").json()["missing"] == 0
    assert call("status", study, "--json").json()["done"] == 6
    assert call("query", study, "SELECT count(*) AS n FROM metrics", "--format", "csv").out == "n\n24\n"
    first, second = (trial.trial_id for trial in trials[:2])
    shown = call("show", first, "--json").json()
    assert shown["status"] == "ok"
    assert [file for file in shown["files"] if file.startswith(f"{bucket}/checkpoints/")]
    assert call("diff", first, second).code == 0
    assert call("measure", measured, "--workers", "1", "--json").json()["measured"] == 6
    report = call("report", study)
    assert report.out == "report: reports/toy/report.html\n"
    assert f"{bucket} has no folder" in report.err
    page = tmp_path / "reports" / "toy" / "report.html"
    assert bucket in page.read_text()
    assert "folded into" in call("compact").out
    assert "sound" in call("verify").out
    assert call("query", study, "SELECT count(*) AS n FROM trials", "--format", "csv").out == "n\n6\n"

    part = there.snapshot().manifest.parts[0].path
    there.place.write(part, there.place.read(part)[:-1])
    verified = call("verify")
    assert verified.code == 3
    assert f"{bucket}/{part}" in verified.err

    for kept in (said, *(there.place.read(each).decode("latin1") for each in there.place.names())):
        assert SECRET not in kept
        assert os.environ["AWS_ACCESS_KEY_ID"] not in kept
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_a_server_that_would_lose_results_is_refused_in_one_line(call, tmp_path, monkeypatch):
    (tmp_path / "toy.toml").write_text(TOY)
    with odd_server("ignores") as reached:
        for name, value in reached.items():
            monkeypatch.setenv(name, value)
        done = call("run", tmp_path / "toy.toml", "--store", "s3://any/store")
    assert done.code == 3
    assert done.err.startswith("error: s3://any/store: the server does not keep a conditional put")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("store", ["gs://bucket/x", "s3://bucket/a b"])
def test_an_address_of_another_kind_is_bad_input(call, tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["status", "quickstart"], ["verify"]):
        done = call(*command, "--store", store)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "s3://BUCKET/PREFIX" in done.err
    assert list(tmp_path.iterdir()) == []
