"""Several kinds of task in one study: axes over kinds and lengths, their strata, and what the documentation says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from core.errors import InputError
from core.task_terms import TASKS, AlgorithmicTask, MarkovTask
from core.terms import hints, terms
from studies.expand import expand
from studies.spec import parse_study
from tests.core.solvers import base, solve

TEXT = (Path(__file__).parents[2] / "docs/studies.md").read_text(encoding="utf-8")
SECTION = TEXT[TEXT.index("## Tasks") : TEXT.index("## Axes")]


def study(**tables):
    document = {"name": "s", "question": "?", "seeds": 1, "arms": {"looped": {}}}
    return parse_study(document | tables, file="s.toml")


def claim(metric):
    return {"text": metric, "metric": metric, "arm": "looped", "value": 1, "expect": "lower"}


def test_an_axis_over_kinds_of_one_class():
    base_task = {"kind": "parity", "train_length": [1, 10], "test_length": [1, 12], "symbols": 8}
    trials = expand(study(base={"task": base_task}, axes={"task.kind": ["parity", "copy", "addition"]}))
    assert [t.varied for t in trials] == [{"task.kind": kind} for kind in ("parity", "copy", "addition")]
    assert [t.config.task for t in trials] == [
        AlgorithmicTask(kind=kind, train_length=(1, 10), test_length=(1, 12), symbols=8)
        for kind in ("parity", "copy", "addition")
    ]
    assert len({t.trial_id for t in trials}) == 3


def test_an_axis_over_kinds_of_different_classes_gives_each_what_it_knows():
    tables = {"base": {"task": {"states": 8}}, "axes": {"task.kind": ["markov", "copy"], "task.symbols": [4, 6]}}
    trials = expand(study(**tables))
    assert [t.config.task for t in trials] == [
        MarkovTask(states=8),
        AlgorithmicTask(kind="copy", symbols=4),
        AlgorithmicTask(kind="copy", symbols=6),
    ]
    assert trials[0].varied == {"task.kind": "markov"}


def test_an_arm_may_have_another_task_than_the_base():
    trials = expand(
        study(base={"task": {"states": 8}}, arms={"chains": {}, "bits": {"task": {"kind": "parity", "val_size": 64}}})
    )
    assert [t.config.task for t in trials] == [MarkovTask(states=8), AlgorithmicTask(kind="parity", val_size=64)]


def test_a_list_of_lengths_is_an_axis_and_is_filtered():
    tables = {
        "base": {"task": {"kind": "copy", "test_length": [1, 9]}},
        "axes": {"task.train_length": [[1, 5], [2, 7], [1, 9]]},
    }
    trials = expand(study(**tables))
    assert [t.config.task.train_length for t in trials] == [(1, 5), (2, 7), (1, 9)]
    assert trials[0].varied == {"task.train_length": "[1,5]"}
    kept = expand(study(**tables, where=["task.train_length != [2, 7]", "task.test_length in [[1, 9]]"]))
    assert [t.config.task.train_length for t in kept] == [(1, 5), (1, 9)]


@pytest.mark.parametrize(
    ("axes", "metrics"),
    [
        ({"task.test_length": [[1, 5], [1, 9]]}, ["val_loss_len_9", "val_accuracy_longer"]),
        ({"task.kind": ["markov", "copy"]}, ["val_loss_high_ic", "val_loss_len_4"]),
        (
            {"zip": [{"task.kind": ["p_hop", "copy"], "task.test_length": [[8, 9], [1, 3]]}]},
            ["val_loss_len_9", "val_loss_len_1"],
        ),
        (
            {"union": [{"task.test_length": [[1, 7]]}, {"task.train_length": [[2, 4]]}]},
            ["val_loss_len_7", "val_loss_len_5"],
        ),
    ],
)
def test_claims_may_name_the_strata_of_every_task_on_the_axes(axes, metrics):
    tables = {"base": {"task": {"kind": "copy", "train_length": [4, 6], "test_length": [4, 5]}}, "axes": axes}
    assert len(study(**tables, claims=[claim(metric) for metric in metrics]).claims) == 2
    with pytest.raises(InputError, match="unknown metric"):
        study(**tables, claims=[claim("val_loss_len_10")])


# --- the documentation -----------------------------------------------------------------------------------------------


def rows():
    """The cells of each row of the section's tables, by the first name in it."""
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in SECTION.splitlines() if line.startswith("| `")
    ]
    return {row[0]: row[1:] for row in cells}


def test_the_documentation_says_every_kind_and_every_term_with_its_default():
    said = rows()
    kinds = set(get_args(hints(AlgorithmicTask)["kind"]))
    assert {f"`{kind}`" for kind in kinds} <= said.keys()
    assert kinds | {"markov"} <= {*re.findall(r"`(?:kind = \")?(\w+)\"?`", SECTION)} & TASKS.keys()
    for name, spec in terms(AlgorithmicTask).items():
        if spec.default is None or name == "kind":
            continue
        (row,) = [cells for names, cells in said.items() if f"`{name}`" in names]
        default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
        assert json.dumps(default) in row[-1], name


@pytest.mark.parametrize("kind", get_args(hints(AlgorithmicTask)["kind"]))
def test_the_examples_of_the_documentation_are_solved(kind):
    task = AlgorithmicTask(kind=kind, hops=1)
    asked, answer = rows()[f"`{kind}`"][1].strip("`").split(" > ")
    tokens = [int(token) if token.isdigit() else base(task) + 3 for token in asked.split()]
    assert " ".join(map(str, solve(tokens, task))) == answer
