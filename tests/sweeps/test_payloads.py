"""Texts that mean something elsewhere do nothing: in pages, spreadsheets, TeX, terminals, all the way from a study."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.cli import execute
from tests.reports.tex_reader import read
from tests.studies.rows import recorded
from tests.sweeps.test_report_cli import STUDY

PAYLOAD = "=1+1 \x1b]0;owned\x07\x1b[2J\u202e<script>alert(1)</script> \\input{/etc/passwd} & % $ # _ ~ ^ `id` | **b**"
"""A formula, terminal escapes, reversed text, an element, a command of TeX, marks of Markdown."""
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What steers a terminal, but for the line breaks and tabs that are ours."""


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A study with the payload in its question, a claim, the name of its file and of its folder, and an error."""
    folder = tmp_path_factory.mktemp("payload") / PAYLOAD.replace("/", "")
    folder.mkdir()
    study = folder / "=1+1 \x1b[2J.toml"
    text = STUDY
    for said in ("Does the whole way work?", "SHIFT is not worse"):
        text = text.replace(f'"{said}"', json.dumps(PAYLOAD))
    study.write_text(text)
    store = Store.open(folder / "store", create=True)
    trials = wanted(load_study(str(study)), store)
    rows = recorded(trials)
    for row in rows["metrics"]:
        row |= {"tokens": 64 * row["step"], "flops_alone": 1000 * row["step"]}
    rows["segments"][-1] |= {"status": "failed", "error": PAYLOAD, "numerics_class": PAYLOAD}
    store.commit(rows)
    return SimpleNamespace(study=study, store=folder / "store", folder=folder)


def test_nothing_of_a_study_steers_a_terminal(evil, capfd):
    place = ["--store", str(evil.store)]
    failed = "select error, $x as \"=1\" from trials where status = 'failed'"
    commands = [
        ["status", str(evil.study), *place],
        ["query", str(evil.study), failed, "--set", f"x={PAYLOAD}", *place],
        ["query", str(evil.study), f"select '{PAYLOAD}' as x frm", *place],
        ["report", str(evil.study), "--out", str(evil.folder / "out"), "--fail-if", "not-supported", *place],
        ["report", str(evil.study), "--fail-if", PAYLOAD, *place],
        ["report", str(evil.study), "--watch", "--out", str(evil.folder / "out"), *place],
        ["report", PAYLOAD, *place],
        ["show", a_trial(evil), "--study", str(evil.study), *place],
    ]
    codes = []
    for command in commands:
        codes.append(execute(command))
        out, err = capfd.readouterr()
        assert not CONTROLS.search(out + err), command
        assert out + err
    assert codes == [0, 0, 2, 4, 2, 0, 2, 0]


def a_trial(evil):
    return wanted(load_study(str(evil.study)), Store.open(evil.store))[0].trial_id


def test_nothing_of_a_study_acts_in_a_file_of_its_report(evil):
    assert execute(["report", str(evil.study), "--out", str(evil.folder / "files"), "--store", str(evil.store)]) == 0
    files = [path for path in (evil.folder / "files").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".md", ".json", ".svg", ".pdf", ".csv", ".tex"}
    for path in files:
        if path.suffix == ".html":
            page = Tags(path.read_text())
            assert page.found.count("script") == 2  # our own
            assert any(PAYLOAD in text for text in page.text)
        if path.suffix == ".svg":
            assert "script" not in Tags(path.read_text()).found
        if path.suffix == ".md":
            assert "<script" not in re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                cells = [cell for row in csv.reader(file) for cell in row]
            assert not [c for c in cells if c.startswith(("=", "+", "@", "\t", "\r"))]
            assert not [c for c in cells if c.startswith("-") and not float(c) < 0]
        if path.suffix == ".tex":
            read(path.read_text())
        if path.suffix == ".pdf":
            assert not re.search(rb"/(JavaScript|JS|Launch|URI|OpenAction|AA)\b", path.read_bytes())
