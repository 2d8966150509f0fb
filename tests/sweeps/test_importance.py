"""Importances: what they find on a function whose variance is known, when they are computed, what they leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from studies.expand import Proposal
from studies.importances import latest_importances
from studies.proposals import read_proposals
from studies.store import Store
from sweeps import search
from sweeps.importance import LEAST
from tests.sweeps.sought import CLIP, LR, results, sought

SPACE = {"train.lr": LR, "train.clip": CLIP, "train.warmup": {"low": 0, "high": 4}}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def mostly_clip(params: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Nine tenths of its variance come from the clip, none from the warm-up."""
    if params["train.clip"] > 3.9:
        return None
    return (3 * params["train.clip"] + params["train.lr"] / 10, params["train.lr"])


def test_both_evaluators_find_what_matters_and_are_recorded_by_name(store):
    study = sought("random", trials=40, batch=8, space=SPACE, metrics=["final_val_loss", "flops_alone"])
    search.advance(study, store, [])
    rows = results(study, read_proposals(study, store), mostly_clip)
    assert not search.advance(study, store, rows)
    found = store.read("importances").to_pylist()
    assert {(row["metric"], row["evaluator"]) for row in found} == {
        (metric, evaluator) for metric in ("final_val_loss", "flops_alone") for evaluator in ("ped-anova", "fanova")
    }
    for metric, key in (("final_val_loss", "train.clip"), ("flops_alone", "train.lr")):
        for evaluator in ("ped-anova", "fanova"):
            shares = {
                row["key"]: row["value"] for row in found if (row["metric"], row["evaluator"]) == (metric, evaluator)
            }
            assert sum(shares.values()) == pytest.approx(1)
            assert max(shares, key=lambda name: shares[name]) == key, (evaluator, shares)
    assert {row["batch"] for row in found} == {4}
    failed = sum(row["status"] != "ok" for row in rows)
    assert failed
    assert {row["n"] for row in found} == {40 - failed}
    assert not search.advance(study, store, rows)
    assert store.read("importances").num_rows == len(found), "computed once"
    latest = latest_importances(study, store)
    assert [(one["metric"], one["evaluator"], next(iter(one["shares"]))) for one in latest] == [
        ("final_val_loss", "fanova", "train.clip"),
        ("final_val_loss", "ped-anova", "train.clip"),
        ("flops_alone", "fanova", "train.lr"),
        ("flops_alone", "ped-anova", "train.lr"),
    ]


def test_they_wait_for_enough_settings_and_for_a_quarter_more(store):
    study = sought("tpe", trials=48, batch=4, space=SPACE)
    known: list[Proposal] = []
    while search.advance(study, store, results(study, known, lambda params: (params["train.clip"],))):
        known = read_proposals(study, store)
    ends = sorted({row["n"] for row in store.read("importances").to_pylist()})
    assert ends == [LEAST, 28, 36, 48]


def test_settings_that_all_have_one_value_have_no_importances(store):
    study = sought("random", trials=24, batch=8, space=SPACE)
    search.advance(study, store, [])
    search.advance(study, store, results(study, read_proposals(study, store), lambda params: (1.0,)))
    assert store.read("importances").num_rows == 0
