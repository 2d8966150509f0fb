"""Searches that train: each kind on the local executor, over losses, curvature and cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from studies.proposals import read_proposals
from studies.spec import parse_study
from studies.store import Store
from studies.study import Study
from studies.wanted import recorded_values, wanted
from sweeps.local_executor import LocalExecutor
from sweeps.run import run
from sweeps.search import proceed

SPACE = {"train.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "train.clip": [1.0, 2.0]}
OBJECTIVES = ["final_val_loss", "final_lambda_max", "best_lambda_max", "flops_alone", "alone_s"]


def sought(kind: str) -> Study:
    space = SPACE | ({"train.lr": SPACE["train.lr"] | {"points": 2}} if kind == "grid" else {})
    search = {"kind": kind, "metrics": OBJECTIVES, "batch": 2, "space": space} | (
        {} if kind == "grid" else {"trials": 4}
    )
    document = {
        "name": f"sought-{kind}",
        "question": "Which?",
        "seeds": 1,
        "base": {
            "task": {"kind": "markov", "states": 4, "chains": 2, "length": 8, "val_size": 16},
            "model": {"width": 4, "loops": 2},
            "train": {"steps": 8, "batch": 4, "evaluate_every": 4},
        },
        "arms": {"looped": {}, "shift": {"schedule": {"kind": "shift"}, "space": {"schedule.switch": [0.25, 0.5]}}},
        "measure": {"quantities": ["lambda_max"], "at": [4, 8], "probe": 2},
        "search": search,
    }
    return parse_study(document, file=kind)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(Path(tmp_path_factory.mktemp("searches")), create=True)


def test_each_kind_of_search_runs_to_its_end(store):
    with LocalExecutor(store.root, workers=2) as executor:
        for kind in ("grid", "random", "qmc", "tpe", "gp", "nsga2"):
            study = sought(kind)
            ended = run(
                lambda study=study: wanted(study, store),
                store,
                executor,
                pack=2,
                propose=lambda study=study: proceed(study, store),
            )
            assert ended.exit_code == 0
            proposals = read_proposals(study, store)
            expected = {"looped": 4, "shift": 8 if kind == "grid" else 4}
            assert Counter(arm for arm, *_ in proposals) == expected
            rows = recorded_values(wanted(study, store), store, OBJECTIVES)
            assert len(rows) == ended.trials
            assert all(row[name] is not None for row in rows for name in OBJECTIVES), rows
