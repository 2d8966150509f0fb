"""The command line does what the contract says: outputs, exit codes, streams, nothing written that should not be."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from studies.expand import expand
from studies.spec import load_study
from sweeps import commands_study
from tests.sweeps.toy import DIVERGING, SOLO, SOUGHT, TOY, TUNED

PROGRAM = str(Path(sys.executable).with_name("loopsweep"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The toy study, run once by a real process: its file and its store."""
    folder = tmp_path_factory.mktemp("finished")
    study, store = folder / "toy.toml", folder / "results"
    study.write_text(TOY)
    done = subprocess.run(
        [PROGRAM, "run", study, "--store", store, "--workers", "1", "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(study=study, store=store, summary=json.loads(done.stdout), err=done.stderr)


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(TOY)
    return path


# --- before anything runs --------------------------------------------------------------------------------------------


def test_the_catalogue_says_name_question_trials_and_cost(call, tmp_path):
    rows = {row["name"]: row for row in call("studies", "--json", "--store", tmp_path / "none").json()}
    assert {"quickstart", "looped-vs-single"} <= rows.keys()
    assert rows["quickstart"]["trials"] == 20
    assert rows["quickstart"]["flops_alone"] > 1e11
    assert rows["quickstart"]["question"].endswith("?")
    shown = call("studies", "--store", tmp_path / "none").out
    assert all(name in shown for name in rows)


def test_a_plan_has_the_keys_of_the_contract_and_writes_nothing(call, toy, tmp_path):
    store = tmp_path / "results"
    plan = call("plan", toy, "--store", store, "--json").json()
    assert {"trials", "done", "units", "nodes", "flops_alone", "flops_spent", "saving", "saving_best"} <= plan.keys()
    assert {"estimate_s", "disk_bytes"} <= plan.keys()
    assert (plan["trials"], plan["done"]) == (6, 0)
    assert plan["saving"] == plan["flops_alone"] / plan["flops_spent"] > 1
    assert list(tmp_path.iterdir()) == [toy]


def test_a_plan_for_people_names_arms_cost_and_saving(call, toy, tmp_path):
    shown = call("plan", toy, "--store", tmp_path / "results").out
    for words in ("Does the whole way work?", "single", "shift", "MFLOP", "saved", "6, of which 0 are recorded"):
        assert words in shown


@pytest.mark.parametrize("command", ["plan", "run", "status"])
def test_a_study_that_is_too_large_is_refused_from_the_product_alone(call, tmp_path, command):
    axes = "\n".join(f'"{key}" = [{", ".join(str(v) for v in range(1, 101))}]' for key in AXES)
    study = tmp_path / "huge.toml"
    study.write_text(TOY + f"\n[axes]\n{axes}\n")
    begin = time.process_time()
    done = call(command, study, "--store", tmp_path / "results")
    assert time.process_time() - begin < 1
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "--max-trials 1,000,000" in done.err
    assert str(study) in done.err
    assert list(tmp_path.iterdir()) == [study]


AXES = ("model.depth", "model.prelude", "model.coda", "train.warmup")


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_summary(finished):
    assert finished.summary["exit_code"] == 0
    assert finished.summary["status"] == {"ok": 6}
    assert finished.summary["endings"] == []
    assert {arm: line["done"] for arm, line in finished.summary["arms"].items()} == {"single": 2, "shift": 4}
    assert "Traceback" not in finished.err


def test_the_same_command_again_has_nothing_to_do(call, finished):
    records = names(finished.store / "records")
    done = call("run", finished.study, "--store", finished.store)
    assert done.code == 0
    assert "6 of 6 trials complete" in done.out
    assert "loopsweep report" in done.out
    assert names(finished.store / "records") == records
    assert call("plan", finished.study, "--store", finished.store, "--json").json()["done"] == 6


def test_status_adds_up(call, finished, toy, tmp_path):
    for store in (finished.store, tmp_path / "none"):
        found = call("status", toy, "--store", store, "--json").json()
        for counts in (found, *found["arms"].values()):
            parts = [counts[name] for name in ("done", "running", "failed", "remaining")]
            assert sum(parts) == counts["trials"]
            assert counts["done"] == counts["status"].get("ok", 0)
    assert call("status", toy, "--store", finished.store).out.count("\n") == 5


def test_the_store_comes_from_the_environment(call, finished, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPSWEEP_STORE", str(finished.store))
    assert call("status", finished.study, "--json").json()["done"] == 6
    assert list(tmp_path.iterdir()) == []


def test_an_audit_compares_bits(call, finished):
    done = call("run", finished.study, "--store", finished.store, "--workers", "1", "--audit", "20%")
    assert done.code == 0
    assert "audit of 2 trials" in done.out
    assert "every bit agrees" in done.out


def test_a_diverged_trial_is_a_result_and_is_named(call, tmp_path):
    study = tmp_path / "diverging.toml"
    study.write_text(DIVERGING)
    done = call("run", study, "--store", tmp_path / "results", "--workers", "1")
    assert done.code == 0
    assert done.out.count("diverged: ") == 2
    assert "6 of 6 trials complete" in done.out
    found = call("status", study, "--store", tmp_path / "results", "--json").json()
    assert found["arms"]["single"]["status"] == {"diverged": 2}


def test_a_timeout_is_exit_code_1_and_can_be_retried(call, toy, tmp_path):
    toy.write_text(SOLO)
    store = tmp_path / "results"
    done = call("run", toy, "--store", store, "--workers", "1", "--unit-timeout", "0.1")
    assert done.code == 1
    assert "timeout: " in done.out
    assert "--retry timeout" in done.out
    found = call("status", toy, "--store", store, "--json").json()
    assert found["failed"] == found["status"]["timeout"] == 1
    assert call("run", toy, "--store", store, "--workers", "1", "--retry", "timeout").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_cleanly_and_the_same_command_goes_on(tmp_path, number, code):
    study, store = tmp_path / "long.toml", tmp_path / "results"
    study.write_text(TOY.replace("steps = 30", "steps = 3000"))
    command = [PROGRAM, "run", study, "--store", store, "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # step times are being measured: it runs
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    assert "interrupted after" in out
    assert "Traceback" not in err
    left = subprocess.run([PROGRAM, "status", study, "--store", store, "--json"], capture_output=True, text=True)
    assert json.loads(left.stdout)["done"] < 6


def test_a_searched_study_proposes_until_all_is_run(call, tmp_path):
    study, store = tmp_path / "sought.toml", tmp_path / "results"
    study.write_text(SOUGHT)
    plan = call("plan", study, "--store", store, "--json").json()
    assert (plan["trials"], plan["trials_to_come_at_most"]) == (0, 4)
    done = call("run", study, "--store", store, "--workers", "1", "--json")
    assert done.code == 0
    assert done.json()["status"] == {"ok": 4}
    assert call("status", study, "--store", store, "--json").json()["done"] == 4


def test_a_tuned_study_goes_on_with_the_winners(call, tmp_path):
    study, store = tmp_path / "tuned.toml", tmp_path / "results"
    study.write_text(TUNED)
    plan = call("plan", study, "--store", store, "--json").json()
    assert (plan["trials"], plan["trials_to_come_at_most"]) == (6, 2)
    assert call("run", study, "--store", store, "--workers", "1").code == 0
    rows = call(
        "query", study, "select role, count(*) as n from trials group by role", "--store", store, "--json"
    ).json()
    assert {row["role"]: row["n"] for row in rows} == {"tune": 6, "compare": 2}


# --- asking ----------------------------------------------------------------------------------------------------------


SELECT = "select arm, seed, final_val_loss from trials order by all"


def test_a_query_answers_as_json_with_every_digit(call, finished):
    rows = call("query", finished.study, SELECT, "--store", finished.store, "--json").json()
    assert [row["arm"] for row in rows] == ["shift"] * 4 + ["single"] * 2
    steps = "select val_loss from metrics join trials using (trial_id) where step = 30 and arm = 'single' order by seed"
    last = call("query", finished.study, steps, "--store", finished.store, "--format", "json").json()
    assert [row["val_loss"] for row in last] == [row["final_val_loss"] for row in rows if row["arm"] == "single"]


def test_a_query_writes_the_format_that_the_ending_of_the_file_says(call, finished, tmp_path):
    for ending in ("csv", "json", "parquet", "txt"):
        done = call("query", finished.study, SELECT, "--store", finished.store, "--out", tmp_path / f"rows.{ending}")
        assert (done.code, done.out, done.err) == (0, "", "")
    assert pq.read_table(tmp_path / "rows.parquet").num_rows == 6
    assert len(json.loads((tmp_path / "rows.json").read_text())) == 6
    assert (tmp_path / "rows.csv").read_text().startswith("arm,seed,final_val_loss\nshift,0,")
    assert (tmp_path / "rows.txt").read_text().startswith("arm     seed")
    assert names(tmp_path) == ["rows.csv", "rows.json", "rows.parquet", "rows.txt"]


def test_a_query_that_fails_leaves_the_file_as_it_was(call, finished, tmp_path):
    (tmp_path / "rows.csv").write_text("mine")
    done = call("query", finished.study, "drop table trials", "--store", finished.store, "--out", tmp_path / "rows.csv")
    assert done.code == 2
    assert (tmp_path / "rows.csv").read_text() == "mine"
    assert names(tmp_path) == ["rows.csv"]


@pytest.mark.parametrize(
    ("sql", "options", "says"),
    [
        ("select 1; select 2", (), "exactly one SELECT"),
        ("copy trials to 'x.csv'", (), "exactly one SELECT"),
        ("select * from trails", (), "did you mean 'trials'?"),
        ("select los from metrics", (), "val_loss"),
        ("select count(*) from range(100000000000) a, range(1000) b", ("--timeout", "0.5"), "longer than 0.5 s"),
        ("select 1", ("--out", "missing/rows.csv"), "there is no folder missing"),
    ],
)
def test_a_query_that_cannot_be_answered_is_exit_code_2(call, finished, sql, options, says):
    done = call("query", finished.study, sql, "--store", finished.store, *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert says in done.err


def test_data_cannot_steer_the_terminal(call, finished):
    done = call("query", finished.study, "select chr(27) || ']0;owned' || chr(7) as x", "--store", finished.store)
    assert done.out.splitlines()[-1] == "\\x1b]0;owned\\x07"


def test_a_report_lies_in_the_store_and_the_command_says_where(call, finished):
    done = call("report", finished.study, "--store", finished.store)
    page = finished.store / "reports" / "toy" / "report.html"
    assert (done.code, done.out) == (0, f"report: {page}\n")
    assert "SHIFT is not worse" in page.read_text()
    assert json.loads((page.parent / "report.json").read_text())["claims"][0]["n"] == 2


def test_a_report_of_an_incomplete_study_says_so(call, finished, tmp_path):
    study = tmp_path / "grown.toml"
    study.write_text(TOY.replace("seeds = 2", "seeds = 3"))
    done = call("report", study, "--store", finished.store, "--out", tmp_path / "report", "--json")
    assert done.code == 0
    assert "3 of 9 trials are missing" in done.err
    assert Path(done.json()["report"]) == tmp_path / "report" / "report.html"


def test_a_report_of_nothing_says_what_to_do_first(call, toy, tmp_path):
    done = call("report", toy, "--store", tmp_path / "results")
    assert (done.code, done.out) == (2, "")
    assert "first do: loopsweep run" in done.err
    assert list(tmp_path.iterdir()) == [toy]


def test_show_takes_the_beginning_of_an_id(call, finished):
    whole = ids(finished)[0]
    found = call("show", whole[:8], "--store", finished.store, "--json").json()  # the store knows what was run in it
    assert call("show", whole, "--store", finished.store, "--study", finished.study, "--json").json() == found
    assert found["trial_id"] == whole
    assert found["status"] == "ok"
    assert found["asked_by"][0]["study"] == "toy"
    assert found["config"]["train"]["steps"] == 30
    assert [row["step"] for row in found["metrics"]][-1] == 30
    assert found["provenance"][0]
    assert all(Path(file).exists() for file in found["files"])
    assert found["files"]
    shown = call("show", whole, "--store", finished.store, "--study", finished.study).out
    for words in (whole, "terms that act", "train.lr", "val_loss", "provenance", ".safetensors"):
        assert words in shown


def test_diff_says_what_acts_differently_and_what_is_shared(call, finished):
    trials = [find(call, finished, trial) for trial in ids(finished)]
    early, late = (
        next(t["trial_id"] for t in trials if t["acting"].get("schedule.switch") == switch and t["seed"] == 0)
        for switch in (10, 20)
    )
    found = call("diff", early, late, "--store", finished.store, "--study", finished.study, "--json").json()
    assert found["terms"] == {"schedule.switch": [10, 20]}
    assert found["shared_steps"] == 10
    assert found["results"]["val_loss"][0] != found["results"]["val_loss"][1]
    shown = call("diff", early, late, "--store", finished.store, "--study", finished.study).out
    assert "They share the first 10 steps." in shown
    assert call("diff", early, early, "--store", finished.store).out.endswith("one trial\n")


@pytest.mark.parametrize(
    ("beginning", "says"),
    [
        ("ab", "first 3 or more"),
        ("xyz", "hex digits"),
        ("0" * 17, "hex digits"),
        ("0" * 16, "no such trial"),
    ],
)
def test_what_names_no_trial_is_said(call, finished, beginning, says):
    done = call("show", beginning, "--store", finished.store, "--study", finished.study)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def ids(finished):
    return [trial.trial_id for trial in expand(load_study(finished.study))]


def find(call, finished, trial):
    return call("show", trial, "--store", finished.store, "--study", finished.study, "--json").json()


# --- the store -------------------------------------------------------------------------------------------------------


def test_verify_tells_sound_from_damaged(call, finished, tmp_path):
    store = tmp_path / "copy"
    shutil.copytree(finished.store, store)
    sound = call("verify", "--store", store)
    assert sound.code == 0
    assert sound.out.endswith("sound\n")
    part = next((store / "parts" / "metrics").glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    damaged = call("verify", "--store", store)
    assert damaged.code == 3
    assert str(part) in damaged.err
    assert damaged.out.endswith("damaged\n")
    assert call("verify", "--store", store, "--json").json()["ok"] is False


def test_compact_folds_and_changes_nothing_that_is_seen(call, finished, tmp_path):
    store = tmp_path / "copy"
    shutil.copytree(finished.store, store)
    assert "folded into" in call("compact", "--store", store).out
    assert "nothing to fold" in call("compact", "--store", store).out
    assert call("status", finished.study, "--store", store, "--json").json()["done"] == 6
    assert call("verify", "--store", store).code == 0


@pytest.mark.parametrize("command", [("verify",), ("compact",), ("query", "toy.toml", "select 1")], ids=" ".join)
def test_a_store_that_is_not_there_is_not_called_sound(call, toy, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    done = call(*command, "--store", "resluts")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --store: there is no store resluts; `loopsweep run` makes one\n"
    assert list(tmp_path.iterdir()) == [toy]


@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_what_is_no_store_is_exit_code_3(call, toy, tmp_path, command):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    done = call(command, toy, "--store", tmp_path / "home")
    assert done.code == 3
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert names(tmp_path / "home") == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_exit_code_3(call, toy):
    done = call("run", toy, "--store", toy / "results")
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert "Not a directory" in done.err


def test_a_full_disk_is_exit_code_3_with_one_line(toy, tmp_path):
    """A limit on the size of files stands for the disk: a part of the results does not fit."""
    done = subprocess.run(
        [PROGRAM, "run", toy, "--store", tmp_path / "results", "--workers", "1"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_output_that_cannot_be_written_is_exit_code_3(toy, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "plan", toy, "--store", tmp_path / "none"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 3
    assert done.stderr == "error: cannot read or write stdout: No space left on device\n"


# --- a defect of ours ------------------------------------------------------------------------------------------------


def test_a_defect_is_one_line_that_names_the_traceback(call, monkeypatch, tmp_path):
    def broken(*_args, **_options):
        raise ZeroDivisionError("so it goes")

    monkeypatch.setattr(commands_study, "studies", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = call("studies")
    assert done.code == 70
    assert done.err.count("\n") == 1
    assert "ZeroDivisionError: so it goes" in done.err
    (kept,) = tmp_path.glob("loopsweep-*.txt")
    assert str(kept) in done.err
    assert "Traceback" in kept.read_text()
    monkeypatch.setenv("LOOPSWEEP_DEBUG", "1")
    assert "Traceback" in call("studies").err
