"""One report of several stores: the same trials are told apart by place, and compared bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.build import build
from studies import load
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.sweeps.direct import Direct
from tests.sweeps.toy import TOY

TINY = (
    TOY.replace('schedule.kind = "shift"\naxes."schedule.switch" = [10, 20]', 'schedule.kind = "looped"')
    .replace("steps = 30", "steps = 10")
    .replace("length = 16", "length = 6")
)


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return call


def test_a_study_in_two_stores_is_compared_trial_by_trial(call):
    """Trained twice, in packs of other sizes: the bits agree. Longer training is flagged, other data are refused."""
    texts = {
        "tiny": TINY,
        "longer": TINY.replace("steps = 10", "steps = 20"),
        "other": TINY.replace("chains = 4", "chains = 5"),
    }
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(text)
    places = (("tiny", "results", 1), ("tiny", "again", 2), ("longer", "again", 2), ("other", "x", 2))
    read = []
    for name, place, pack in places:
        study, store = load_study(f"{name}.toml"), Store.open(place, create=True)
        run(lambda study=study, store=store: wanted(study, store), store, Direct(store.root), pack=pack)
        read.append((study, load(study, store=store)))
    asked = ["tiny.toml", "tiny.toml::again", "tiny.toml::./again"]
    done = call("report", *asked, "--store", "results", "--out", "report", "--fail-if", "toy (again):1=contradicted")
    assert (done.code, done.out) == (0, "report: report/report.html\n")
    report = json.loads(Path("report/report.json").read_text())
    assert [one["name"] for one in report["studies"]] == ["toy", "toy (again)"]
    assert [one["store"] for one in report["provenance"]["studies"]] == ["results", "again"]
    assert report["provenance"]["command"].endswith("&& loopsweep report tiny.toml::results tiny.toml::again")
    for again in report["across"]["comparisons"]:
        assert (again["refused"], again["flags"], again["ran_twice"], again["recorded_once"]) == (None, [], 2, 0)
        assert {line["equal_bits"] for line in again["metrics"]} == {2}
        assert {line["effect"] for line in again["metrics"]} == {0}

    report = build(read, command="", stores=[place for _, place, _ in places])
    names = ["toy (again)", "toy (longer.toml)", "toy (x)"]
    of = {one["study"]: one for one in report["across"]["comparisons"] if one["arm"] == "single"}
    again, longer, other = (of[name] for name in names)
    assert again["ran_twice"] == 2
    assert longer["ran_twice"] == 0
    assert longer["flags"] == [
        f"Unequal {what}: a trial of toy (longer.toml) has 2 times those of toy." for what in ("tokens", "FLOPs")
    ]
    assert other["refused"] == "their data differ: task.chains is 5 against 4"
    differing = {row["key"] for row in report["differences"]["rows"]}
    assert {"train.steps", "task.chains", "schedule.kind"} <= differing
    assert not differing & {"train.lr", "model.width"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("toy.toml::", "write STUDY::STORE"),
        ("::results", "write STUDY::STORE"),
        ("toy.toml::ftp://x", "toy.toml::ftp://x: must be a directory or s3://BUCKET/PREFIX"),
        ("toy.toml::nowhere", "nothing is recorded in nowhere; first do: loopsweep run toy.toml --store nowhere"),
    ],
)
def test_a_store_that_is_none_is_one_line(call, text, said):
    Path("toy.toml").write_text(TINY)
    done = call("report", text, "--store", "results")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1
