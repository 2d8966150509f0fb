"""`loopsweep launch`: what it asks of a cluster follows from the plan, and what cannot be is refused in a line."""

from __future__ import annotations

import json

import pytest

from core.errors import InputError
from studies.keys import shape_key
from studies.store import Store
from sweeps.cli import execute
from sweeps.launch import GIB, LEAST_SECONDS, MOST_SECONDS, WORKER_BYTES, Asked, resources
from tests.sweeps.toy import TOY
from tests.sweeps.work import trial


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOOPSWEEP_STORE", raising=False)
    return Store.open(tmp_path / "results", create=True)


def trials(count, steps):
    return [trial(seed, kind="looped", steps=steps, evaluate_every=steps) for seed in range(count)]


def test_workers_have_a_quarter_of_an_hour_each_and_no_more_than_a_node_holds(store):
    assert resources(trials(4, 100), store, Asked()).workers == 1
    long = trials(40, 40_000_000)
    assert resources(long, store, Asked()).workers == 32
    assert resources(long, store, Asked(nodes=2)).workers == 40, "as many as there are trials"
    assert resources(long, store, Asked(nodes=2)).cpus == 20


def test_a_gpu_has_a_worker_and_several_need_ray(store):
    one = resources(trials(4, 100), store, Asked(device="cuda"))
    assert (one.workers, one.cpus, one.gpus, one.with_ray) == (1, 1, 1, False)
    eight = resources(trials(4, 100), store, Asked(device="cuda", gpus=4, nodes=2))
    assert (eight.workers, eight.cpus, eight.gpus, eight.with_ray) == (8, 4, 4, True)


def test_time_has_a_margin_within_bounds(store):
    assert resources(trials(1, 100), store, Asked()).time_s == LEAST_SECONDS
    middle = resources(trials(1, 4_000_000), store, Asked())
    assert middle.estimate_s * 3 + 600 <= middle.time_s < middle.estimate_s * 3 + 600 + 900
    assert resources(trials(1, 10**9), store, Asked()).time_s == MOST_SECONDS
    longer = resources(trials(1, 10**9), store, Asked(requeued=False))
    assert longer.time_s > longer.estimate_s > MOST_SECONDS, "what nobody puts back into a queue must end in it"
    assert resources(trials(1, 100), store, Asked(time_s=7200)).time_s == 7200
    assert any("is requeued until" in fact for fact in resources(trials(1, 10**9), store, Asked()).facts)


def test_more_workers_than_find_work_are_said(store):
    said = "of 9 workers at most 4 find work at once: lower --workers"
    assert said in resources(trials(4, 100), store, Asked(workers=9)).facts


def test_memory_is_the_measured_peak_with_a_margin_or_a_stated_estimate(store):
    found = resources(trials(2, 100), store, Asked())
    assert WORKER_BYTES < found.worker_bytes < 2 * WORKER_BYTES
    assert any("an estimate" in fact for fact in found.facts)
    one = trials(1, 100)[0]
    row = {"loops": 3, "numerics_class": "cpu-x/torch-2/eager", "pack": 1, "step_s": 0.001, "memory_bytes": 4 * GIB}
    store.commit({"calibrations": [row | {"shape": shape_key(one.config, link)} for link in one.links]})
    found = resources(trials(2, 100), store, Asked(workers=2))
    assert found.worker_bytes == 5 * GIB
    assert found.node_gib == 12, "two workers and the driver"
    assert any("measured" in fact for fact in found.facts)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        (Asked(gpus=2), "--gpus: asks for 2 GPUs, but trials train on CPUs; add --device cuda"),
        (Asked(device="cuda", gpus=4, workers=2), "--workers: must be at least one a GPU, got 2 for 4 GPUs"),
        (Asked(nodes=4, workers=2), "--workers: must be at least one a node, got 2 on 4 nodes"),
    ],
)
def test_what_cannot_be_is_refused(asked, rule, store):
    with pytest.raises(InputError, match=rule):
        resources(trials(1, 100), store, asked)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["slurm", "toy.toml", "--image", "x"], "--image: goes with launch kuberay, not slurm; leave it out"),
        (["ray-job", "toy.toml", "--nodes", "2"], "--nodes: goes with launch slurm and kuberay, not ray-job"),
        (["slurm", "toy.toml", "--time", "90"], "must be HH:MM:SS or D-HH:MM:SS, at least 00:05:00, got '90'"),
        (["slurm", "toy.toml", "--partition", "a b"], "must be of letters, digits and"),
        (
            ["kuberay", "toy.toml", "--store", "/elsewhere"],
            "--store: /elsewhere is not on the volume, which is mounted at /loopsweep",
        ),
        (["kuberay", "toy.toml", "--namespace", "A"], "must be of lower-case letters, digits, - and ., at most 63"),
        (["slurm", "toy.toml", "--out", "no/job.sh"], "there is no folder no; make it first"),
        (["slurm", "toyy.toml"], "toyy.toml: no such file; did you mean toy.toml?"),
        (["pbs", "toy.toml"], "'pbs'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, rule, store, tmp_path, capfd):
    (tmp_path / "toy.toml").write_text(TOY)
    assert execute(["launch", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert rule in err


def test_a_file_holds_what_stdout_would_and_json_has_both(store, tmp_path, capfd):
    (tmp_path / "toy.toml").write_text(TOY)
    assert execute(["launch", "slurm", "toy.toml"]) == 0
    text = capfd.readouterr().out
    assert execute(["launch", "slurm", "toy.toml", "--out", "job.sh"]) == 0
    out, err = capfd.readouterr()
    assert (out, (tmp_path / "job.sh").read_text()) == ("", text)
    assert err.endswith("next: sbatch job.sh\n")
    assert execute(["launch", "slurm", "toy.toml", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["text"] == text
    assert found["resources"]["workers"] == 1


def test_text_files_stay_where_they_are(store, tmp_path, capfd):
    (tmp_path / "words.txt").write_text("to be or not to be " * 400)
    study = TOY.replace('kind = "markov"\nstates = 8\nchains = 4\n', 'kind = "text"\nfiles = ["*.txt"]\n')
    (tmp_path / "text.toml").write_text(study)
    assert execute(["launch", "kuberay", "text.toml"]) == 2
    assert "text files, which do not travel; put both on the volume" in capfd.readouterr().err
    assert execute(["launch", "ray-job", "text.toml"]) == 0
    assert str(tmp_path / "text.toml") in capfd.readouterr().out
