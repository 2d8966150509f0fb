"""The command `report`: it fails for claims as asked, and keeps up with a sweep until nothing is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import InputError
from studies.proposals import read_proposals
from studies.spec import load_study
from studies.store import Store
from studies.wanted import recorded_values, wanted
from sweeps.cli import execute
from sweeps.fail_if import conditions, failing
from sweeps.refresh import more_to_come, refreshed
from sweeps.search import advance
from tests.studies.rows import recorded
from tests.sweeps.toy import SOUGHT, TOY

PROGRAM = str(Path(sys.executable).with_name("loopsweep"))
STUDY = TOY.replace('schedule.kind = "shift"\naxes."schedule.switch" = [10, 20]', 'schedule.kind = "looped"')
"""Without switches, whose events the rows that tests make up do not have."""
CLAIMS = [
    {"study": "toy", "verdict": "supported", "text": "a"},
    {"study": "other", "verdict": "undecided", "text": "b"},
    {"study": "toy", "verdict": "contradicted", "text": "c"},
]


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(STUDY)
    return path


def fill(study, root, count=None):
    """Records the first trials of a study, or all."""
    store = Store.open(root, create=True)
    trials = wanted(load_study(str(study)), store)
    rows = recorded(trials[:count])
    for row in rows["metrics"]:
        row |= {"tokens": 64 * row["step"], "flops_alone": 1000 * row["step"]}
    store.commit(rows)
    return store


# --- --fail-if -------------------------------------------------------------------------------------------------------


def test_conditions_are_of_all_claims_or_of_one(toy):
    studies = [load_study(str(toy))]
    names = {"contradicted": [2], "undecided": [], "not-supported": [2], "2=contradicted": [2], "1=not-supported": []}
    own = [claim for claim in CLAIMS if claim["study"] == "toy"]
    many = [SimpleNamespace(name="toy", claims=[0, 0]), SimpleNamespace(name="other", claims=[0])]
    assert len(studies[0].claims) == 1
    for text, numbers in names.items():
        found = failing(own, conditions([text], many[:1]))
        assert [one["claim"] for one in found] == numbers, text
    found = failing(CLAIMS, conditions(["other:1=undecided", "toy:2=not-supported"], many))
    assert [(one["study"], one["claim"], one["fail_if"]) for one in found] == [
        ("other", 1, "other:1=undecided"),
        ("toy", 2, "toy:2=not-supported"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("contradcted", "did you mean 'contradicted'"),
        ("2=undecided", "a claim's number is one of 1 to 1"),
        ("x=undecided", "no claim 'x'"),
        ("toyy:1=undecided", "did you mean 'toy'"),
        ("=undecided", "no claim ''"),
    ],
)
def test_a_condition_that_could_never_hold_is_refused(toy, text, said, call, tmp_path):
    done = call("report", toy, "--store", tmp_path / "store", "--fail-if", text)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_of_several_studies_one_is_named_and_without_claims_nothing_is_asked():
    many = [SimpleNamespace(name="a", claims=[]), SimpleNamespace(name="b", claims=[])]
    with pytest.raises(InputError, match=r"one must be named: a:1=undecided"):
        conditions(["1=undecided"], many)
    with pytest.raises(InputError, match="no claims are made"):
        conditions(["undecided"], many)


# --- --watch ---------------------------------------------------------------------------------------------------------


def test_it_writes_when_there_are_new_records_and_ends_when_nothing_is_missing(toy, tmp_path):
    store = Store.open(tmp_path / "store")
    study, looks, seen = load_study(str(toy)), [], []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            fill(toy, store.root, 2)
        if len(looks) == 4:
            store.compact()  # new names of files, no new rows
        if len(looks) == 5:
            fill(toy, store.root)

    def write():
        seen.append((len(looks), len(store.read("segments"))))
        return len(store.read("segments")) == len({link.lineage for t in wanted(study, store) for link in t.links})

    refreshed([store], write, every_s=3.0, sleep=sleep)
    assert [look for look, _ in seen] == [0, 2, 5]
    assert set(looks) == {3.0}
    rows = [rows for _, rows in seen]
    assert rows[0] == 0 < rows[1] < rows[2]


def test_a_search_is_open_until_all_of_its_settings_are_proposed(tmp_path):
    path = tmp_path / "sought.toml"
    path.write_text(SOUGHT)
    study, store = load_study(str(path)), Store.open(tmp_path / "store", create=True)
    proposed = 0
    while more_to_come(study, store):  # though no trial is missing
        assert advance(study, store, recorded_values(wanted(study, store), store, study.search.metrics))
        fill(path, store.root)
        assert proposed < (proposed := len(read_proposals(study, store)))
    assert proposed == sum(study.search.count(arm) for arm in study.arms)


def lines_until(process, says):
    """Reads stderr up to a line that says something."""
    for line in process.stderr:
        if says in line:
            return line
    raise AssertionError(f"it ended without saying {says!r}")


def test_a_page_follows_a_store_from_nothing_until_it_is_interrupted_or_complete(toy, call, tmp_path):
    page, places = tmp_path / "out/report.html", ["--store", tmp_path / "store", "--out", tmp_path / "out"]
    command = [PROGRAM, "report", toy, *places, "--watch", "--every", "0.1"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines_until(process, "waiting: no trial is complete of toy in")
    fill(toy, tmp_path / "store", 2)
    lines_until(process, "2 of 4 trials, more to come")
    assert '<meta http-equiv="refresh" content="0.1">' in page.read_text()
    assert not list((tmp_path / "out").rglob(".*"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=240)
    assert process.returncode == 130
    assert 'http-equiv="refresh"' not in page.read_text()
    fill(toy, tmp_path / "store")
    done = call("report", toy, *places, "--watch", "--fail-if", "not-supported", "--json")
    (claim,) = json.loads((tmp_path / "out/report.json").read_text())["claims"]
    (failed,) = json.loads(done.out)["failing"]
    assert claim["verdict"] != "supported"
    assert (done.code, failed["claim"], failed["verdict"]) == (4, 1, claim["verdict"])
    written, failing_line = done.err.splitlines()
    assert written.startswith(f"{page}: 4 of 4 trials, complete (")
    assert failing_line == f"error: claim 1 of toy is {claim['verdict']}: {claim['text']}"
    assert 'http-equiv="refresh"' not in page.read_text()


def test_a_watch_that_is_terminated_ends_with_143(toy, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sweeps.refresh.refreshed", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        execute(["report", str(toy), "--store", str(tmp_path / "store"), "--watch"])
    assert signal.getsignal(signal.SIGTERM) == before
