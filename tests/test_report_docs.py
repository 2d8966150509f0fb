"""Claims about reports in Python: each block of docs/reports.md runs, and what `studies.load` gives shows itself."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.figure
import pytest

import reports
import studies
from core.errors import InputError
from studies.shown import results_html, study_html
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from tests.studies.rows import recorded
from tests.test_docs import blocks, command_lines, parse

TEXT = (Path(__file__).parents[1] / "docs/reports.md").read_text(encoding="utf-8")
EVIL = "<script>alert(1)</script>\x1b]0;owned\x07"


class Page(HTMLParser):
    """Tags and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two seeds of the two arms of quickstart that do not switch."""
    store = Store.open(tmp_path_factory.mktemp("quickstart") / "store", create=True)
    trials = [t for t in wanted(load_study("quickstart"), store) if t.arm in ("single", "looped")]
    rows = recorded([trial for trial in trials if trial.config.seed < 2])
    for row in rows["metrics"]:
        row |= {"tokens": 64 * row["step"], "flops_alone": 1000 * row["step"]}
    store.commit(rows)
    return store


def test_the_python_blocks_run_in_order_and_say_what_they_say(store, monkeypatch):
    monkeypatch.setenv("LOOPSWEEP_STORE", str(store.root))
    names: dict[str, object] = {}
    for block in blocks("python", text=TEXT):
        exec(compile(block, "docs/reports.md", "exec"), names)
    board = names["board"].set_index("arm")
    assert board.loc["single", "final_val_loss_mean"] == names["results"].trials()["final_val_loss"].dropna().iloc[0]
    assert set(names["verdicts"]["verdict"]) <= {"supported", "contradicted", "undecided"}
    assert list(names["curves"].columns) == ["looped", "single"]
    assert names["names"][:2] == ["claims", "tree"]
    assert isinstance(names["drawing"].figure, matplotlib.figure.Figure)
    assert names["drawing"]._repr_html_().startswith("<svg ")


def test_what_there_is_not_is_said_with_what_is_near(store):
    results = studies.load("quickstart", store=store)
    with pytest.raises(InputError, match="did you mean 'curves'"):
        reports.sheet(results, "curve")
    with pytest.raises(InputError, match="did you mean 'curve-val-loss'"):
        reports.figure(results, "curve-val-los")
    assert reports.sheet(results, "maps").empty


@pytest.mark.parametrize("line", command_lines("loopsweep", TEXT), ids=" ".join)
def test_the_commands_of_the_page_parse(line):
    assert parse(line) in ("report", "confirm")


def test_results_and_studies_show_themselves(store):
    results = studies.load("quickstart", store=store)
    page = Page(results._repr_html_())
    assert "20 trials: 4 ok, 16 not run" in page.text
    assert page.text[page.text.index("single") :][:5] == ["single", "5", "2", "3", "-27"]
    assert repr(results) == f"Results('quickstart', trials=20, store={store.name!r})"
    assert repr(results.study) == "Study('quickstart', arms=4, seeds=5, claims=5)"
    assert {arm.name for arm in results.study.arms} <= set(Page(results.study._repr_html_()).text)


def test_texts_do_nothing_in_a_notebook(store):
    results = studies.load("quickstart", store=store)
    arms = (replace(results.study.arms[0], name=EVIL), *results.study.arms[1:])
    evil = replace(results.study, name=EVIL, question=EVIL, arms=arms)
    for shown in (study_html(evil), results_html(evil, results.arrow("trials"))):
        page = Page(shown)
        assert set(page.tags) == {"div", "p", "strong", "br", "table", "thead", "tbody", "tr", "th", "td"}
        assert EVIL in page.text
    assert repr(evil).isprintable()
