"""The command line on two small files: planned, trained by real workers, reported; and files that change on the way."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.direct import Direct

PROGRAM = str(Path(sys.executable).with_name("loopsweep"))

STUDY = """
name = "text-cli"
question = "Are two files enough?"
seeds = 2

[base.task]
kind = "text"
files = ["texts/*.txt"]
length = 16
val_size = 8
val_share = 0.2

[base.model]
width = 8
loops = 2

[base.train]
steps = 20
batch = 4
evaluate_every = 10

[arms.single]
schedule.kind = "single"

[arms.looped]

[[claims]]
text = "Two loops predict better than one"
metric = "final_val_bits_per_byte"
arm = "looped"
against = "single"
expect = "lower"
"""


def written(folder: Path) -> Path:
    (folder / "texts").mkdir(parents=True)
    (folder / "texts" / "a.txt").write_text("round and round the looped layer went\n" * 30)
    (folder / "texts" / "b.txt").write_text("once more, with the weights it had before\n" * 20)
    study = folder / "study.toml"
    study.write_text(STUDY)
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The study, run once by a real process with a worker."""
    folder = tmp_path_factory.mktemp("text")
    study, store = written(folder), folder / "results"
    command = [PROGRAM, "run", study, "--store", store, "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(study=study, store=store)


def rows(call: Any, at: SimpleNamespace, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call("query", at.study, sql, "--store", at.store, "--format", "json").out)
    return found


def test_plan_says_what_is_read(call: Any, finished: SimpleNamespace) -> None:
    (text,) = load_study(finished.study).texts
    said = call("plan", finished.study, "--store", finished.store).out
    assert f"2 files, 1.93 KiB, vocabulary 256, digest {text.digest}" in said
    told = json.loads(call("plan", finished.study, "--store", finished.store, "--json").out)
    files = [{"name": "a.txt", "bytes": 1140}, {"name": "b.txt", "bytes": 840}]
    assert told["texts"] == [{"digest": text.digest, "tokens": 256, "bytes": 1980, "files": files}]
    assert told["done"] == told["trials"] == 4


def test_every_evaluation_has_bits_per_byte_and_no_strata_or_floors(call: Any, finished: SimpleNamespace) -> None:
    found = rows(call, finished, "SELECT * FROM metrics ORDER BY trial_id, step")
    assert len(found) == 12
    for row in found:
        assert row["val_bits_per_byte"] == pytest.approx(row["val_loss"] / math.log(2), rel=1e-14)
        assert 0 <= row["val_accuracy"] <= 1
        assert row["excess_loss"] is row["bayes_loss"] is row["bayes_accuracy"] is None
        assert not [name for name in row if name.startswith("val_loss_")]
    ends = rows(call, finished, "SELECT final_val_bits_per_byte AS final, best_val_bits_per_byte AS best FROM trials")
    assert all(0 < row["best"] <= row["final"] < 9 for row in ends)


def test_the_report_has_bits_per_byte_and_no_bayes_line(call: Any, finished: SimpleNamespace, tmp_path: Path) -> None:
    assert call("report", finished.study, "--store", finished.store, "--out", tmp_path).code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    (bits,) = report["claims"]
    assert bits["n"] == 2
    assert bits["effect"] is not None
    (curve,) = report["studies"][0]["curves"]
    assert curve["metric"] == "val_loss"
    assert curve["floor"] is None
    page = (tmp_path / "report.md").read_text()
    assert "bits" in page
    assert "Bayes" not in page


def test_show_and_diff_tell_texts_apart(call: Any, finished: SimpleNamespace) -> None:
    first, second = rows(call, finished, "SELECT trial_id FROM trials WHERE seed = 0 ORDER BY arm")
    shown = call("show", first["trial_id"], "--study", finished.study, "--store", finished.store).out
    assert "task.digest" in shown
    assert "val_bits_per_byte" in shown
    told = json.loads(call("diff", first["trial_id"], second["trial_id"], "--study", finished.study,
                           "--store", finished.store, "--json").out)  # fmt: skip
    assert "task.digest" not in json.dumps(told)


def test_a_changed_file_makes_other_trials_and_the_old_rows_stay(
    call: Any, finished: SimpleNamespace, tmp_path: Path
) -> None:
    study = written(tmp_path)
    assert json.loads(call("plan", study, "--store", finished.store, "--json").out)["done"] == 4
    (tmp_path / "texts" / "a.txt").write_text("another text altogether\n" * 40)
    assert json.loads(call("plan", study, "--store", finished.store, "--json").out)["done"] == 0
    assert json.loads(call("plan", finished.study, "--store", finished.store, "--json").out)["done"] == 4


def test_a_file_that_changes_between_plan_and_run_fails_its_trials_in_one_plain_line(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    store = Store.open(tmp_path / "results", create=True)
    (digest,) = (text.digest for text in study.texts)
    (tmp_path / "texts" / "b.txt").write_text("changed\n" * 100)
    result = run(lambda: wanted(study, store), store, Direct(store.root), limits=Limits())
    assert result.counts == {"failed": 4}
    errors = set(store.read("segments")["error"].to_pylist())
    (there,) = (text.digest for text in load_study(tmp_path / "study.toml").texts)
    assert errors == {
        "InputError: the files of task.files have changed since the study was planned: "
        f"digest {digest} was planned, {there} is there; run plan again"
    }


def test_a_study_whose_files_are_gone_is_refused_with_nothing_written(call: Any, tmp_path: Path) -> None:
    study = written(tmp_path)
    for path in (tmp_path / "texts").iterdir():
        path.unlink()
    done = call("run", study, "--store", tmp_path / "results")
    assert done.code == 2
    assert f"{study}: base.task.files: '{tmp_path}/texts/*.txt' matches no file" in done.err
    assert not (tmp_path / "results").exists()


def test_show_finds_a_trial_of_a_text_without_its_study(call: Any, finished: SimpleNamespace) -> None:
    """The store keeps the study's text, and the folder at which its globs begin."""
    (first, *_) = rows(call, finished, "SELECT trial_id FROM trials")
    done = call("show", first["trial_id"], "--store", finished.store)
    assert done.code == 0, done.err
    assert "text-cli / " in done.out
