"""The tasks of a study: trials that are validated on the same thing, whatever their training."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from reports import board
from reports.tables import Tables
from reports.tasks import length_of, split
from tests.reports.algorithmic import on_lengths
from tests.reports.synthetic import Arm, results


@pytest.mark.parametrize(
    ("column", "length"),
    [
        ("val_exact_len_12", 12),
        ("final_val_loss_len_1", 1),
        ("val_exact_longer", None),
        ("val_loss_len_", None),
        ("val_loss_len_12_more", None),
    ],
)
def test_the_length_of_a_column(column, length):
    assert length_of(column) == length


def tables(arms, **terms):
    return Tables.read(on_lengths(results(arms, seeds=range(2), curvature=False), **terms))


def test_a_study_of_one_task_is_left_as_it_is():
    whole = tables([Arm(name="a", axes={"model.loops": [2, 3]}), Arm(name="b")])
    (only,) = split(whole)
    assert (only.name, only.tables.axes) == ("", ("model.loops",))
    assert only.tables.trials["trial_id"].tolist() == whole.trials["trial_id"].tolist()
    assert [one["kind"] for one in only.terms] == ["parity"] * 6


def test_kinds_are_tasks_and_leave_the_settings():
    axes = {"task.kind": ["parity", "copy"], "model.loops": [2, 3]}
    found = split(tables([Arm(name="a", axes=axes), Arm(name="b", axes={"task.kind": ["parity"]})]))
    assert [task.name for task in found] == ["copy", "parity"]
    assert [len(task.tables.trials) for task in found] == [4, 6]
    assert all(task.tables.axes == ("model.loops",) for task in found)


def test_terms_that_act_on_the_validation_set_make_tasks_and_others_do_not():
    axes = {"task.hops": [16, 2], "task.curriculum": [0, 500]}
    found = split(tables([Arm(name="a", axes=axes)], kind="p_hop"))
    assert [task.name for task in found] == ["hops = 2", "hops = 16"]
    assert all(task.tables.axes == ("task.curriculum",) for task in found)
    longer = split(tables([Arm(name="a"), Arm(name="b")], train={"a": (1, 10), "b": (1, 20)}))
    assert len(longer) == 1


def test_a_study_without_trials_has_one_task_without_any():
    frames = results(seeds=range(1), curvature=False)
    (only,) = split(Tables.read(frames.without(frames.trials_["seed"] > 99)))
    assert (only.name, only.terms, len(only.tables.trials)) == ("", (), 0)


def test_the_leaderboard_ranks_each_task_by_itself():
    frames = results([Arm(name="looped", axes={"task.states": [4, 8], "model.loops": [2, 3]}), Arm(name="single")])
    rows = frames.trials_.to_dict("records")
    states = [None if pd.isna(row["task.states"]) else int(row["task.states"]) for row in rows]
    configs = [json.dumps({"task": {"kind": "markov", "states": one or 4}}) for one in states]
    losses = [(one or 4) + row["seed"] / 100 for one, row in zip(states, rows, strict=True)]
    tables = Tables.read(frames.with_trials(config=configs, final_val_loss=losses))
    found = board.leaderboard(tables, "s", ["looped", "single"], ())
    assert [(row["task"], row["arm"]) for row in found] == [
        *[("states = 4", "looped")] * 2,
        ("states = 4", "single"),
        *[("states = 8", "looped")] * 2,
    ]
    assert found[0]["setting"] == {"model.loops": 2, "task.states": 4}, "settings are named in full"
    shown = board.short(found, [])
    assert [task["task"] for task in shown["tasks"]] == ["states = 4", "states = 8"]
    assert [row["rank"] for row in shown["rows"]] == [1, 2, 3, 1, 2]
