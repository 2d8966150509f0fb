"""`loopsweep export optuna`, and the mirror of a real search: what Optuna reads is what the tables hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

import studies
from studies.expand import Proposal
from studies.wanted import recorded_values
from sweeps.cli import execute
from sweeps.search import propose

STUDY = """
name = "shown"
question = "Does the dashboard show it?"
seeds = {seeds}
[base.task]
kind = "markov"
states = 4
chains = 2
length = 8
train_size = 0
val_size = 16
[base.model]
width = 4
loops = 2
[base.train]
steps = 8
batch = 4
evaluate_every = 4
optimizer = "sgd"
[arms.single]
schedule.kind = "single"
[arms.looped]
axes."model.loops" = [2, 3]
[axes]
"train.lr" = {rates}
"train.momentum" = [0.0, 0.9]
"""
RATES = "[1e-3, 1e-2, 1e3]"


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        code = execute([*words, "--store", str(tmp_path / "store")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def written(folder: Path, seeds: int = 1, rates: str = RATES) -> str:
    path = folder / "shown.toml"
    path.write_text(STUDY.format(seeds=seeds, rates=rates))
    return str(path)


def opened(journal: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))


def test_a_grid_is_shown_as_it_was_recorded_and_grows(call, tmp_path):
    file, url = written(tmp_path), f"journal:///{tmp_path}/shown.log"
    code, _, err = call("export", "optuna", file, url)
    assert code == 2
    assert "nothing is recorded" in err
    assert call("run", written(tmp_path, seeds=2), "--workers", "1", "--pack", "8")[0] == 0
    code, out, _ = call("export", "optuna", written(tmp_path), url, "--json")
    assert code == 0
    counts = {one["name"]: (one["trials"], one["added"]) for one in json.loads(out)["studies"]}
    assert counts == {"shown/single": (6, 6), "shown/looped": (12, 12)}
    results = studies.load(file, store=tmp_path / "store")
    rows = {(row["arm"], row["trial_id"]): row for row in results.trials().to_dict("records")}
    losses = results.sql("SELECT trial_id, step, val_loss FROM metrics ORDER BY trial_id, step").to_dict("records")
    assert any(row["status"] == "diverged" for row in rows.values())
    for arm in ("single", "looped"):
        found = optuna.load_study(study_name=f"shown/{arm}", storage=opened(tmp_path / "shown.log"))
        assert found.direction == optuna.study.StudyDirection.MINIMIZE
        assert {trial.user_attrs["trial_id"] for trial in found.trials} == {i for a, i in rows if a == arm}
        for trial in found.trials:
            row = rows[arm, trial.user_attrs["trial_id"]]
            assert trial.state == (TrialState.COMPLETE if row["status"] == "ok" else TrialState.FAIL)
            assert (trial.values or [None])[0] == (row["final_val_loss"] if row["status"] == "ok" else None)
            assert trial.user_attrs["seed"] == row["seed"]
            assert trial.params["train.lr"] == row["train.lr"]
            assert trial.intermediate_values == {
                one["step"]: one["val_loss"]
                for one in losses
                if one["trial_id"] == row["trial_id"] and one["val_loss"] is not None
            }
        kinds: dict[str, Any] = {key: type(one) for key, one in found.trials[0].distributions.items()}
        loops = {"model.loops": IntDistribution} if arm == "looped" else {}
        assert kinds == {"train.lr": FloatDistribution, "train.momentum": FloatDistribution, **loops}
        assert found.trials[0].distributions["train.lr"].log  # type: ignore[attr-defined]
    grown = written(tmp_path, seeds=2)
    _, out, err = call("export", "optuna", grown, url)
    assert "shown/looped: 24 trials, 12 added" in out
    assert "anew" not in err
    assert "shown/looped: 24 trials, 0 added" in call("export", "optuna", grown, url)[1]


SEARCH = STUDY.split("[arms.looped]", maxsplit=1)[0] + (
    '[search]\nkind = "tpe"\ntrials = 3\nbatch = 2\n[search.space]\n'
    '"train.lr" = {{ low = 1e-3, high = 1e-1, log = true }}\n"train.clip" = [1.0, 2.0]\n'
)


def test_a_search_proposes_the_same_with_a_storage_and_without(call, tmp_path):
    file, url = tmp_path / "sought.toml", f"journal:///{tmp_path}/sought.log"
    file.write_text(SEARCH.format(seeds=2))
    assert call("run", str(file), "--workers", "1", "--pack", "1", "--optuna-storage", url)[0] == 0
    mirrored = studies.load(str(file), store=tmp_path / "store")
    with_storage = mirrored.store.read("proposals").to_pylist()
    storage = opened(tmp_path / "sought.log")
    (one,) = storage.get_all_studies()
    shown = optuna.load_study(study_name=one.study_name, storage=storage).trials
    trials = {row["trial_id"]: row["final_val_loss"] for row in mirrored.trials().to_dict("records")}
    for trial, row in zip(shown, with_storage, strict=True):
        assert trial.params == json.loads(row["params"])
        ids = trial.user_attrs["trial_ids"]
        assert trial.value == pytest.approx(sum(trials[name] for name in ids) / len(ids), rel=1e-15)
    assert isinstance(shown[0].distributions["train.clip"], CategoricalDistribution)
    rows = recorded_values(mirrored.wanted, mirrored.store, ["final_val_loss"])
    without: list[Proposal] = []
    while due := propose(mirrored.study, without, rows):
        without += [(row["arm"], row["number"], json.loads(row["params"])) for row in due]
    assert without == [(row["arm"], row["number"], json.loads(row["params"])) for row in with_storage]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--optuna-storage", "redis://host"], "--optuna-storage: must be journal:///path"),
        (["--optuna-storage", "journal:///tmp/x"], "shows a search, and the study has none"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_before_anything_runs(call, tmp_path, words, says):
    file = written(tmp_path)
    if "redis" in words[1]:
        Path(file).write_text(SEARCH.format(seeds=1))
    code, _, err = call("run", file, *words)
    assert code == 2
    assert says in err
    assert not (tmp_path / "store").exists()
