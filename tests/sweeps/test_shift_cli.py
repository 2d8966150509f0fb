"""The command line on a study of schedules: what people are told of watched, shared, diverged and proposed trials."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.cli import execute

BASE = """
name = "shift-cli"
question = "Is a trial told of what is its own?"
seeds = 1

[base.task]
kind = "markov"
states = 6
chains = 4
length = 8
train_size = 0
val_size = 32

[base.model]
width = 8
loops = 2

[base.train]
steps = 40
batch = 4
evaluate_every = 20
{train}

[base.schedule]
check_every = 5

[arms.shift]
schedule.kind = "shift"
schedule.switch = 0.75

[arms.scp]
schedule.kind = "shift-scp"
schedule.delta1 = 1e9
schedule.delta2 = 1e9
axes."schedule.patience" = [1, 2]
"""

SOUGHT = """
[search]
kind = "random"
trials = 2
[search.space]
"train.lr" = [1e-3, 2e-3]
"""


def _run(folder: Path, *, train: str) -> SimpleNamespace:
    study, store = folder / "study.toml", folder / "results"
    study.write_text(BASE.format(train=train))
    assert execute(["run", str(study), "--store", str(store), "--workers", "1"]) == 0
    return SimpleNamespace(study=study, store=store)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study, run once."""
    return _run(tmp_path_factory.mktemp("finished"), train="lr = 3e-3")


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """The same with a learning rate at which nothing trains."""
    return _run(tmp_path_factory.mktemp("diverged"), train='lr = 1e3\noptimizer = "sgd"')


def rows(call, at: SimpleNamespace, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call("query", at.study, sql, "--store", at.store, "--format", "json").out)
    return found


def test_show_tells_of_the_rows_that_queries_give_and_of_no_others_on_the_trunk(call, finished) -> None:
    trials = rows(call, finished, "SELECT trial_id, arm, switch_step FROM trials ORDER BY arm DESC, switch_step")
    assert [(trial["arm"], trial["switch_step"]) for trial in trials] == [("shift", 30), ("scp", 10), ("scp", 15)]
    steps: dict[tuple[str, str], list[int]] = defaultdict(list)
    for view in ("metrics", "checks"):
        for row in rows(call, finished, f"SELECT trial_id, step FROM {view} ORDER BY step"):
            steps[view, row["trial_id"]].append(row["step"])
    shown = {}
    for trial in trials:
        name = trial["trial_id"]
        told = call("show", name, "--study", finished.study, "--store", finished.store, "--json").json()
        shown[name] = {view: [row["step"] for row in told[view]] for view in ("metrics", "checks")}
        assert shown[name] == {view: steps[view, name] for view in ("metrics", "checks")}
    # 10 and 15 are where others left the trunk.
    assert shown[trials[0]["trial_id"]] == {"metrics": [0, 20, 30, 40], "checks": []}


def test_explain_says_where_a_trial_diverged_that_waited_for_a_criterion(call, diverged) -> None:
    (trial, *_) = rows(call, diverged, "SELECT trial_id, status, switch_step FROM trials WHERE arm = 'scp'")
    assert (trial["status"], trial["switch_step"]) == ("diverged", None)
    told = call("plan", diverged.study, "--explain", trial["trial_id"], "--store", diverged.store)
    assert told.code == 0
    assert "where the trial diverged" in told.out
    assert "then diverged" in told.out
    assert "waits" not in told.out


def test_explain_of_a_trial_of_an_unknown_study_names_a_way_that_exists(call, tmp_path) -> None:
    refused = call("plan", "--explain", "0123456789abcdef", "--store", tmp_path / "none")
    assert refused.code == 2
    assert "--study" not in refused.err  # an option of other commands
    assert "plan STUDY --explain" in refused.err


def test_a_plan_before_settings_are_proposed_does_not_say_that_nothing_is_left(call, tmp_path) -> None:
    study = tmp_path / "sought.toml"
    text = BASE.format(train="lr = 3e-3").replace('axes."schedule.patience" = [1, 2]', "")
    study.write_text(text + SOUGHT)
    planned = call("plan", study, "--store", tmp_path / "none")
    assert planned.code == 0
    assert "trials to come" in planned.out
    assert "nothing is left" not in planned.out


def test_branches_of_a_watched_trunk_are_drawn_below_it(call, tmp_path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(BASE.format(train="lr = 3e-3"))
    tree = call("plan", study, "--store", tmp_path / "none").out.splitlines()
    (watch,) = [line for line in tree if "watch" in line and "at 10" in line]
    after = tree[tree.index(watch) + 1]
    assert watch.startswith("├─ ")
    assert after.startswith("└─ 2 loops")


def test_an_audit_of_watched_trials_agrees(call, finished) -> None:
    done = call("run", finished.study, "--store", finished.store, "--workers", "1", "--audit", "100%")
    assert done.code == 0, done.err
    assert "every bit agrees" in done.out
