"""Sizes on the command line: one runs, reports and is found like any study; plans state the cost of each."""

from __future__ import annotations

import json

import pytest

from sweeps import size_costs
from tests.sweeps.toy import TOY

SIZED = f"{TOY}\n[sizes.paper]\nseeds = [5, 6, 7]\nbase.train.steps = 40\n"


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(SIZED)
    return path


def test_a_plan_states_the_cost_of_every_size_as_their_own_plans_do(call, toy, tmp_path):
    store = tmp_path / "none"
    plans = {size: call("plan", f"{toy}@{size}", "--store", store, "--json").json() for size in ("small", "paper")}
    numbers = ("trials", "flops_alone", "flops_spent", "estimate_s")
    expected = {size: {name: plan[name] for name in numbers} for size, plan in plans.items()}
    assert plans["small"]["sizes"] == plans["paper"]["sizes"] == expected
    assert (expected["small"]["trials"], expected["paper"]["trials"]) == (6, 9)
    assert expected["small"]["flops_alone"] < expected["paper"]["flops_alone"]
    shown = call("plan", toy, "--store", store).out.splitlines()
    assert shown[-1].startswith("size paper ")
    assert "9 trials, " in shown[-1]
    assert not any(line.startswith("size small") for line in shown)
    shown = call("plan", f"{toy}@paper", "--store", store).out.splitlines()
    assert shown[0].startswith("toy@paper: ")
    assert shown[-1].startswith("size small ")
    assert not store.exists()


def test_a_size_that_is_too_large_is_only_counted(call, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(size_costs, "MOST_PLANNED", 8)
    store = tmp_path / "none"
    sizes = call("plan", toy, "--store", store, "--json").json()["sizes"]
    assert sizes["paper"] == {"trials": 9, "flops_alone": None, "flops_spent": None, "estimate_s": None}
    last = call("plan", toy, "--store", store).out.splitlines()[-1]
    assert last.split()[:6] == ["size", "paper", "up", "to", "9", "trials;"]
    assert last.endswith(f"loopsweep plan {toy}@paper")
    own = call("plan", f"{toy}@paper", "--store", store, "--json").json()["sizes"]
    assert own["paper"]["flops_alone"] > own["small"]["flops_alone"] > 0


def test_the_catalogue_shows_sizes(call, toy, tmp_path, monkeypatch):
    from studies import spec

    monkeypatch.setattr(spec, "CATALOGUE", toy.parent)
    store = tmp_path / "none"
    (row,) = call("studies", "--json", "--store", store).json()
    assert (row["name"], row["trials"]) == ("toy", 6)
    assert {size: cost["trials"] for size, cost in row["sizes"].items()} == {"small": 6, "paper": 9}
    lines = call("studies", "--store", store).out.splitlines()[2:]
    assert [line.split()[:2] for line in lines] == [["toy", "6"], ["toy@paper", "9"]]


def test_a_size_runs_reports_and_is_found(call, toy, tmp_path):
    store = tmp_path / "results"
    study = f"{toy}@paper"
    done = call("run", study, "--store", store, "--workers", "1", "--json")
    assert (done.code, done.json()["study"], done.json()["done"]) == (0, "toy@paper", 9)
    assert call("status", toy, "--store", store, "--json").json()["done"] == 0  # other seeds, other steps
    sql = "SELECT DISTINCT study, steps FROM trials"
    assert call("query", study, sql, "--store", store, "--format", "json").json() == [
        {"study": "toy@paper", "steps": 40}
    ]
    shown = call("report", study, "--store", store)
    assert shown.code == 0
    folder = store / "reports" / "toy@paper"
    report = json.loads((folder / "report.json").read_text())
    assert [found["name"] for found in report["studies"]] == ["toy@paper"]
    assert f"loopsweep run {study} " in report["provenance"]["command"]
    figures = [path.name for path in (folder / "figures").iterdir()]
    assert figures
    assert all(name.startswith("toy-paper-") for name in figures)
    ids = call("query", study, "SELECT trial_id FROM trials", "--store", store, "--format", "json").json()
    found = call("show", ids[0]["trial_id"], "--store", store, "--json")  # by the text kept in the store, in its size
    assert found.code == 0
    assert found.json()["trial_id"] == ids[0]["trial_id"]


def test_an_unknown_size_is_exit_code_2_and_writes_nothing(call, toy, tmp_path):
    for command in ("plan", "run", "status"):
        done = call(command, f"{toy}@papre", "--store", tmp_path / "none")
        assert done.code == 2
        assert done.err.splitlines() == [f"error: {toy}: has no size 'papre'; did you mean 'paper'?"]
    assert not (tmp_path / "none").exists()


def test_the_limit_on_trials_is_that_of_the_size_that_is_asked_for(call, toy, tmp_path):
    limit = ("--max-trials", "6", "--store", tmp_path / "none", "--json")
    assert call("plan", toy, *limit).code == 0
    refused = call("plan", f"{toy}@paper", *limit)
    assert refused.code == 2
    assert f"{toy}@paper: has up to 9 trials" in refused.err
