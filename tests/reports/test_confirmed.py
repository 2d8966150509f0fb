"""Confirmed settings in the report: fresh seeds alone give the interval, the first estimate stands beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.confirmed import confirmed
from reports.tables import Tables
from studies.confirm import chosen, ranking
from studies.expand import expand
from studies.spec import parse_study
from tests.reports import synthetic

NAME = "final_val_loss"


@pytest.fixture
def made(tmp_path):
    """Twelve equal settings on three seeds and the best two of them on four fresh ones."""
    from studies.confirm import choose, read_confirmations
    from studies.store import Store
    from studies.wanted import wanted

    document = {"name": "s", "question": "?", "seeds": 3, "arms": {"looped": {}}}
    study = parse_study(document | {"axes": {"model.loops": list(range(2, 14))}}, file="s.toml")
    noise = np.random.default_rng(5).normal(1.0, 0.1, 100)
    losses = {trial.trial_id: noise[place] for place, trial in enumerate(expand(study))}
    store = Store.open(tmp_path / "r", create=True)
    rows = [{"trial_id": key, "status": "ok", NAME: value} for key, value in losses.items()]
    best = chosen(ranking(expand(study), rows, NAME), top=2)
    choose(study, best, store, metric=NAME, seeds=4)
    trials = wanted(study, store)
    fresh = [trial for trial in trials if trial.role == "confirm"]
    losses |= {trial.trial_id: noise[50 + place] for place, trial in enumerate(fresh)}
    frame = pd.DataFrame(
        {
            "trial_id": t.trial_id,
            "arm": t.arm,
            "role": t.role,
            "seed": t.config.seed,
            "status": "ok",
            "model.loops": t.varied["model.loops"],
            NAME: losses[t.trial_id],
        }
        for t in trials
    )
    results = synthetic.results([synthetic.Arm(name="looped")], range(1))
    empty = results.without(results.trials_["seed"] < 0)
    made = synthetic.Frames(
        **{**vars(empty), "trials_": frame, "wanted": trials, "confirmations": read_confirmations(study, store)}
    )
    return made, losses, best


def test_the_fresh_mean_is_of_the_fresh_seeds_alone_and_the_first_stands_beside_it(made):
    results, losses, best = made
    found = confirmed(results, Tables.read(results))
    assert [(row["place"], row["of"], row["setting"]) for row in found] == [
        (place, 12, dict(one.trial.varied)) for place, one in enumerate(best, 1)
    ]
    first = found[0]
    own = [t for t in results.wanted if t.varied == best[0].trial.varied]
    fresh = [losses[t.trial_id] for t in own if t.role == "confirm"]
    assert first["fresh"] | {} == pytest.approx(
        {"mean": np.mean(fresh), "n": 4, "low": first["fresh"]["low"], "high": first["fresh"]["high"]}
    )
    assert first["chosen"]["n"] == 3
    assert first["change"] == pytest.approx(np.mean(fresh) - first["chosen"]["mean"])
    assert first["low"] < first["change"] < first["high"]
    assert first["luck_sd"] == pytest.approx(1.6292 / np.sqrt(3), abs=1e-3)
    assert first["luck"] == pytest.approx(first["luck_sd"] * 0.1, rel=0.5)
    assert "the best of 12 settings: on 4 fresh seeds" in first["sentence"]
    assert "worse than on the 3 that chose it" in first["sentence"], "the best of equals falls back"


def test_a_confirmation_that_has_not_run_is_said_and_has_no_numbers(made):
    results, *_ = made
    results = results.with_trials(status=["ok" if r == "compare" else None for r in results.trials_["role"]])
    first = confirmed(results, Tables.read(results))[0]
    assert (first["fresh"]["n"], first["change"], first["asked"]) == (0, None, 4)
    assert "none of its 4 fresh seeds has a value yet" in first["sentence"]


def test_confirming_trials_have_no_part_in_what_is_compared(made):
    results, *_ = made
    compared = Tables.read(results).compared()
    assert set(compared["role"]) == {"compare"}
    assert len(compared) == 36
