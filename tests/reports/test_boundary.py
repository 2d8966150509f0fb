"""The best of what was tuned at the end of its range is flagged; where nothing lies beyond, or inside, it is not."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from reports.boundary import boundaries, sentences
from reports.tables import Tables
from studies.expand import expand
from studies.spec import parse_study
from studies.tuning import winners
from tests.reports import synthetic

NAME = "final_val_loss"
HEAD = {"name": "s", "question": "?", "seeds": 2, "arms": {"looped": {}, "single": {"schedule": {"kind": "single"}}}}


def found(study, trials, loss):
    """What is flagged where `loss` gives the final loss of a trial."""
    empty = synthetic.results(seeds=range(1))
    rows = [
        {"trial_id": t.trial_id, "arm": t.arm, "role": t.role, "seed": t.config.seed, "status": "ok", NAME: loss(t)}
        for t in trials
    ]
    keys = {key for t in trials for key in t.varied}
    rows = [row | {key: t.varied.get(key) for key in keys} for row, t in zip(rows, trials, strict=True)]
    results = synthetic.Frames(
        **{**vars(empty.without(empty.trials_["seed"] < 0)), "trials_": pd.DataFrame(rows), "wanted": tuple(trials)}
    )
    return boundaries(study, results, Tables.read(results, tuned=keys))


def tuned(loss, **nuisance: Any):
    study = parse_study(HEAD | {"axes": {"model.loops": [2, 3]}, "nuisance": nuisance}, file="s.toml")
    asked = [t for t in expand(study) if t.role == "tune"]
    won = winners(study, [{"trial_id": t.trial_id, "status": "ok", NAME: loss(t)} for t in asked])
    return found(study, expand(study, winners=won), loss)


def sought(loss, space, proposals):
    study = parse_study(HEAD | {"search": {"kind": "random", "trials": 4, "space": space}}, file="s.toml")
    arms = [arm.name for arm in study.arms]
    asked = [(arm, number, values) for arm in arms for number, values in enumerate(proposals)]
    return found(study, expand(study, proposals=asked), loss)


def rate(trial):
    return trial.config.train.lr


def test_a_winner_at_an_end_is_flagged_with_the_number_of_settings():
    best = {("looped", 2): 1e-2, ("looped", 3): 3e-3, ("single", None): 1e-3}
    rows = tuned(lambda t: abs(rate(t) - best[t.arm, t.varied.get("model.loops")]), **{"train.lr": [1e-3, 3e-3, 1e-2]})
    assert [(r["arm"], r["key"], r["end"], r["value"], r["settings"], r["of"]) for r in rows] == [
        ("looped", "train.lr", "highest", 1e-2, 1, 2),
        ("single", "train.lr", "lowest", 1e-3, 1, 1),
    ]
    assert rows[0]["sentence"].startswith(
        "The best value of train.lr is 0.01, the highest of those tried (0.001 … 0.01): looped in 1 of 2 settings."
    )


def test_arms_that_tried_the_same_share_a_sentence():
    rows = tuned(rate, **{"train.lr": [1e-3, 3e-3, 1e-2]})
    (sentence,) = sentences(rows)
    assert "(0.001 … 0.01): looped in 2 of 2 settings, single." in sentence


def test_an_end_beyond_which_nothing_lies_is_no_boundary():
    assert tuned(lambda t: t.config.train.weight_decay, **{"train.weight_decay": [0.0, 0.1]}) == []
    assert len(tuned(lambda t: -t.config.train.weight_decay, **{"train.weight_decay": [0.0, 0.1]})) == 2


@pytest.mark.parametrize(("best", "ends"), [(1.05e-4, {"lowest"}), (3e-4, set()), (9.9e-3, {"highest"})])
def test_the_best_of_a_search_near_an_end_of_a_continuous_range_is_flagged(best, ends):
    space = {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    rows = sought(lambda t: abs(rate(t) - best), space, [{"train.lr": v} for v in (1.05e-4, 3e-4, 9.9e-3)])
    assert {r["end"] for r in rows} == ends
    assert {r["value"] for r in rows} <= {best}


def test_integers_and_choices_of_a_search_have_ends_texts_have_none():
    space = {"model.width": {"low": 8, "high": 16}, "model.norm": ["none", "layer"], "train.batch": [16, 32, 64]}
    rows = sought(
        lambda t: t.config.model.width - t.config.train.batch,
        space,
        [{"model.width": w, "model.norm": "none", "train.batch": b} for w, b in ((8, 32), (9, 64))],
    )
    assert {(r["key"], r["end"]) for r in rows} == {("train.batch", "highest")}


def test_what_was_not_tuned_is_not_flagged():
    study = parse_study(HEAD, file="s.toml")
    assert found(study, expand(study), lambda t: 1.0) == []
