"""The plan: what is shared counts once in what is spent, and nothing heavy is imported to say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.flops import flops_alone, parameters, step_flops
from studies.coverage import Coverage
from studies.store import Store
from sweeps.plan import DEFAULT_PACK, DEFAULT_RATE, plan
from sweeps.round import Limits
from sweeps.run import run
from sweeps.standing import counts
from tests.sweeps.direct import Direct
from tests.sweeps.work import config, trial

TRIALS = [trial(seed, kind="shift", steps=100, switch=switch) for switch in (20, 50) for seed in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def test_the_trunk_is_spent_once_and_alone_counts_every_trial(store: Store) -> None:
    made = plan(TRIALS, store, workers=2)
    one, two = (step_flops(config(), loops=loops) for loops in (1, 2))
    assert made.flops_alone == sum(flops_alone(each.config) for each in TRIALS)
    assert made.flops_spent == made.flops_left == 4 * (50 * one + 80 * two + 50 * two)
    assert made.saving == made.saving_best == made.flops_alone / made.flops_spent > 1
    assert (made.trials, made.done, made.nodes, made.missing) == (8, 0, 4 * 4, 4 * 4)
    assert made.units == 8  # four shapes and spans, each shared between two workers
    assert made.arms == {"shift": {"trials": 8, "done": 0}}


def test_done_means_what_the_trial_itself_asks_whatever_another_asks_of_their_past(store: Store) -> None:
    coarse = trial(0, steps=20, evaluate_every=10)
    run(lambda: [coarse], store, Direct(store.root), limits=Limits(work="tests.sweeps.work:noop"))
    both = [coarse, trial(0, arm="dense", steps=40, evaluate_every=5)]
    made = plan(both, store, workers=1)
    assert made.done == 1
    assert counts(both, Coverage(store.read("segments")))["done"] == 1
    assert made.arms["single"] == {"trials": 1, "done": 1}


def test_time_without_calibrations_is_by_the_stated_rate_and_says_so(store: Store) -> None:
    made = plan(TRIALS, store, workers=2)
    assert made.estimate_from == "default rate"
    assert made.estimate_s == pytest.approx(made.flops_spent / DEFAULT_RATE / 2)
    alone = plan([trial(seed) for seed in range(DEFAULT_PACK + 1)], store, workers=1)
    assert alone.units == 2


def test_time_with_calibrations_is_steps_times_their_time(store: Store) -> None:
    trials = [trial(seed, steps=100) for seed in range(4)]
    shape = trials[0]
    from studies.tree import shape_key

    row = {"shape": shape_key(shape.config, shape.links[0]), "loops": 1, "numerics_class": "cpu"}
    times = {1: 1.0, 2: 1.5, 4: 4.0}
    store.commit({"calibrations": [row | {"pack": k, "step_s": s, "memory_bytes": 1} for k, s in times.items()]})
    made = plan(trials, store, workers=1)
    assert (made.units, made.estimate_s, made.estimate_from) == (2, 2 * 1.5 * 100, "calibrations")
    assert plan(trials, store, workers=1, pack=4).estimate_s == 400.0
    assert plan(trials, store, workers=4).units == 4
    both = plan([*trials, trial(9, kind="looped")], store, workers=1)
    assert both.estimate_from == "both"


def test_what_is_recorded_costs_nothing_more(store: Store) -> None:
    limits = Limits(work="tests.sweeps.work:noop")
    run(lambda: TRIALS[:4], store, Direct(store.root), limits=limits, pack=1)
    made = plan(TRIALS, store, workers=1)
    assert (made.trials, made.done) == (8, 4)
    assert 0 < made.flops_left < made.flops_spent
    done = plan(TRIALS[:4], store, workers=1)
    assert (done.done, done.missing, done.units, done.flops_left, done.estimate_s) == (4, 0, 0, 0, 0.0)
    assert done.estimate_from == "nothing to run"


def test_disk_is_rows_and_the_states_that_stay(store: Store) -> None:
    kept = plan([trial(0)], store, workers=1).disk_bytes
    none = plan([trial(0, keep="none")], store, workers=1).disk_bytes
    assert kept - none == 3 * 4 * parameters(config())
    assert 0 < none < 5000


def test_planning_imports_neither_torch_nor_ray() -> None:
    code = "import sys, sweeps.plan; print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
