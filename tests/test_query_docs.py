"""Claims about asking results: each block of docs/query.md runs, and so does each saved query."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from studies.query import check_query
from studies.saved_queries import assignments, bound, saved_queries, saved_query
from studies.spec import load_study
from studies.store import Store
from studies.views import VIEWS, open_views
from studies.wanted import wanted
from sweeps.cli import execute
from tests.studies.rows import recorded
from tests.test_docs import parse

TEXT = (Path(__file__).parents[1] / "docs/query.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Quickstart with rows for every trial; at step 3000 its losses are 3 - step / 100."""
    store = Store.open(tmp_path_factory.mktemp("quickstart") / "store", create=True)
    trials = wanted(load_study("quickstart"), store)
    rows = recorded(trials)
    spectrum = {"kind": "exact", "observed": "{}", "eigenvalues": [-1.0, 0.0, 3.0], "weights": [0.25, 0.25, 0.5]}
    end = trials[0].links[-1]
    store.commit(rows | {"spectra": [{"lineage": end.lineage, "step": end.end, **spectrum}]})
    return store


@pytest.fixture(scope="module")
def ask(store):
    """The answer to a query, without the process that guards it (tests/studies/test_query.py tests that)."""
    with open_views(wanted(load_study("quickstart"), store), store) as views:

        def answer(sql, **parameters):
            check_query(sql)
            return views.connection.sql(sql, params=parameters or None).to_arrow_table()

        yield answer


@pytest.mark.parametrize("sql", blocks("sql"))
def test_each_sql_recipe_gives_rows(ask, sql):
    assert ask(sql).num_rows > 0


def test_the_python_recipes_run_in_order_and_say_what_they_say(store, monkeypatch):
    monkeypatch.setenv("LOOPSWEEP_STORE", str(store.root))
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/query.md", "exec"), names)
    assert set(names["final"].index) == {"single", "looped", "shift", "depth3"}
    assert names["curves"].loc[300, "looped"] == pytest.approx(0.0)
    assert len(names["difference"]) == 5
    assert names["unit"] == "nats/token"
    assert isinstance(names["best"], pd.DataFrame)


LINES = [shlex.split(line, comments=True)[1:] for block in blocks("sh") for line in block.splitlines() if line]


@pytest.mark.parametrize("arguments", LINES, ids=shlex.join)
def test_each_command_of_the_page_parses(arguments):
    assert parse(arguments) in ("query", "tables")


def test_a_saved_query_is_asked_with_what_it_is_told(store, tmp_path):
    out = tmp_path / "best.csv"
    arguments = ["query", "quickstart", "best-settings", "--set", "top=1", "--out", str(out)]
    assert execute([*arguments, "--store", str(store.root)]) == 0
    assert len(out.read_text().splitlines()) == 5
    assert execute(["query", "quickstart", "--store", str(store.root)]) == 0


@pytest.mark.parametrize("query", saved_queries(), ids=lambda query: query.name)
def test_each_saved_query_runs_with_its_defaults(ask, query):
    assert query.question.endswith("?")
    assert set(re.findall(r"\$(\w+)", query.sql)) == {parameter.name for parameter in query.parameters}
    assert ask(query.sql, **bound(query, {})).num_rows > 0 or query.name in ("failures", "spectra-summary")


def test_what_a_query_is_told_is_a_value_and_never_sql(ask):
    query = saved_query("differences")
    given = bound(query, {"arm": "looped' OR true --"})
    assert ask(query.sql, **given).num_rows == 0
    reached = saved_query("cost-to-reach")
    rows = ask(reached.sql, **bound(reached, assignments(["loss=0.0"]))).to_pylist()
    assert {row["steps"] for row in rows} == {300.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["best-setings"], "did you mean 'best-settings'"),
        (["best-settings", "--set", "tops=3"], "did you mean 'top'"),
        (["failures", "--set", "top=3"], "it has none"),
        (["best-settings", "--set", "top"], "NAME=VALUE"),
        (["SELECT $x AS x"], "x"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(store, arguments, said, capsys):
    assert execute(["query", "quickstart", *arguments, "--store", str(store.root)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert not told.out


def test_every_column_of_every_view_says_what_it_means(store, capsys):
    assert execute(["tables", "quickstart", "--json", "--store", str(store.root)]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry for entry in entries if not entry["meaning"]] == []
    numbers = [entry for entry in entries if entry["type"] == "double" and entry["column"] not in ("lr", "x", "y")]
    assert [entry["column"] for entry in numbers if not entry["unit"]] == []
    assert {entry["view"] for entry in entries} == set(VIEWS)
