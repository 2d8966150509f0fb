"""The plan: what is shared counts once in what is spent, and nothing heavy is imported to say so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import MeasureConfig, ModelConfig
from core.flops import flops_alone, parameters, step_flops
from core.observation import with_measure
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig
from studies.coverage import Coverage
from studies.expand import Trial
from studies.keys import shape_key
from studies.schemas import SEGMENTS
from studies.states import States
from studies.store import Store
from studies.tree import stage_tree
from studies.watchers import resolved
from sweeps.disk import disk_need
from sweeps.packs import DEFAULT_RATE, STEP_SECONDS
from sweeps.plan import DEFAULT_PACK, plan
from sweeps.round import Limits
from sweeps.run import run
from sweeps.standing import counts
from tests.studies.rows import metrics, of_config, segment
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
    # Trunks to 20 and on to 50, and two branches each, of four seeds, in packs of two for each of two workers.
    steps = 2 * (20 + 30 + 80 + 50)
    assert made.estimate_s == pytest.approx((made.flops_spent / DEFAULT_RATE + steps * STEP_SECONDS) / 2)
    alone = plan([trial(seed) for seed in range(DEFAULT_PACK + 1)], store, workers=1)
    assert alone.units == 2


def test_time_with_calibrations_is_steps_times_their_time(store: Store) -> None:
    trials = [trial(seed, steps=100) for seed in range(4)]
    shape = trials[0]
    row = {"shape": shape_key(shape.config, shape.links[0]), "loops": 1, "numerics_class": "cpu"}
    times = {1: 1.0, 2: 1.5, 4: 4.0}
    store.commit({"calibrations": [row | {"pack": k, "step_s": s, "memory_bytes": 1} for k, s in times.items()]})
    made = plan(trials, store, workers=1)
    assert (made.units, made.estimate_s, made.estimate_from) == (2, 2 * 1.5 * 100, "calibrations")
    assert plan(trials, store, workers=1, pack=4).estimate_s == 400.0
    assert plan(trials, store, workers=4).units == 4
    both = plan([*trials, trial(9, kind="looped")], store, workers=1)
    assert both.estimate_from == "both"


def test_measuring_is_priced_apart_and_exact_spectra_by_name(store: Store) -> None:
    def asking(*quantities: str, exact: int = 5000) -> list[Trial]:
        measure = MeasureConfig(quantities=quantities, every=10, probe=8, exact=exact)
        return [replace(trial(seed), config=with_measure(config(seed), measure)) for seed in range(2)]

    bare = plan(asking(), store, workers=2)
    assert bare.measuring is None
    ends = plan(asking("lambda_max"), store, workers=2)
    spectra = plan(asking("lambda_max", "entropy"), store, workers=2)
    sampled = plan(asking("lambda_max", "entropy", exact=10), store, workers=2)
    assert ends.measuring is not None
    assert spectra.measuring is not None
    assert sampled.measuring is not None
    assert ends.measuring.measurements == 2 * 3  # steps 0, 10, 20
    assert (ends.measuring.exact, spectra.measuring.exact, sampled.measuring.exact) == (0, 6, 0)
    size = parameters(config())
    assert spectra.measuring.products - ends.measuring.products == 6 * size
    assert spectra.measuring.memory_bytes == 16 * size**2
    assert ends.estimate_s == pytest.approx(bare.estimate_s + ends.measuring.seconds)
    assert bare.estimate_s < ends.estimate_s < spectra.estimate_s
    assert spectra.disk_bytes > ends.disk_bytes
    assert json.loads(json.dumps(spectra.to_dict()))["measuring"]["exact"] == 6


def test_an_estimate_without_step_times_is_near_that_with_them(store: Store) -> None:
    """Of tiny models `plan` said a hundredth of what `run` said: steps of theirs take what any step takes."""
    measure = MeasureConfig(quantities=("lambda_max", "entropy", "trace", "edge"), every=1, probe=8)
    trials = [
        replace(one, config=with_measure(one.config, measure)) for one in (trial(seed, steps=4) for seed in range(4))
    ]
    before = plan(trials, store, workers=2)
    shape, flops = trials[0], step_flops(trials[0].config, loops=1)
    row = {"shape": shape_key(shape.config, shape.links[0]), "loops": 1, "numerics_class": "cpu", "memory_bytes": 1}
    times = {size: 8e-4 + size * flops / 2e10 for size in (1, 2)}
    store.commit({"calibrations": [row | {"pack": size, "step_s": step_s} for size, step_s in times.items()]})
    after = plan(trials, store, workers=2)
    assert before.measuring is not None
    assert after.measuring is not None
    assert 0.5 < before.measuring.seconds / after.measuring.seconds < 2
    assert 0.5 < before.estimate_s / after.estimate_s < 2


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


def test_planning_imports_neither_torch_nor_ray_nor_the_reports() -> None:
    heavy = "('torch', 'ray', 'optuna', 'reports', 'matplotlib')"
    code = f"import sys, sweeps.commands_study; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- where criteria decide --------------------------------------------------------------------------------------------


def watched(*, deltas: int = 1, patience: int = 1, latest: int = 50, seeds: int = 1, loops: int = 2) -> list[Trial]:
    """Trials of 100 steps that wait for as many criteria, which are checked every 10 steps."""
    found = []
    for number in range(deltas):
        schedule = ScheduleConfig(
            kind="shift-scp", delta1=1e-3 * (1 + number), patience=patience, latest=latest, check_every=10
        )
        for seed in range(seeds):
            base = config(seed, steps=100)
            found.append(of_config(replace(base, schedule=schedule, model=replace(base.model, loops=loops)), "scp", {}))
    return found


ONE, TWO = (step_flops(config(), loops=loops) for loops in (1, 2))


def test_the_worst_case_ends_criteria_at_different_checks_and_the_best_all_at_one(store: Store) -> None:
    made = plan(watched(deltas=3), store, workers=1)
    alone = [ends * ONE + (100 - ends) * TWO for ends in (20, 30, 40)]
    assert made.flops_alone == sum(alone)
    assert made.flops_spent == made.flops_left == 40 * ONE + (80 + 70 + 60) * TWO
    assert made.saving == made.flops_alone / made.flops_spent
    assert made.saving_best == 3.0
    assert made.assumes is not None
    assert (made.waiting, made.nodes, made.done) == (3, 6, 0)


def test_when_the_checks_run_out_the_rest_share_the_first(store: Store) -> None:
    made = plan(watched(deltas=4, patience=3), store, workers=1)  # they can end at 40 and 50
    assert made.flops_spent == 50 * ONE + (60 + 50) * TWO
    assert made.flops_alone == 3 * (40 * ONE + 60 * TWO) + 50 * ONE + 50 * TWO


def test_the_most_patient_sets_the_step_of_the_best_case(store: Store) -> None:
    trials = [*watched(patience=1), *watched(patience=3, loops=3)]
    three = step_flops(config(), loops=3)
    made = plan(trials, store, workers=1)
    alone = 2 * 40 * ONE + 60 * (TWO + three)
    assert made.saving_best == pytest.approx(alone / (40 * ONE + 60 * (TWO + three)))
    assert made.flops_spent == 40 * ONE + 80 * TWO + 60 * three


def test_later_criteria_are_assumed_too(store: Store) -> None:
    stages = tuple(
        StageConfig(loops=loops, until=CriterionConfig(patience=1, latest=latest))
        for loops, latest in ((1, 30), (2, 90))
    )
    schedule = ScheduleConfig(kind="stages", stages=(*stages, StageConfig(loops=1)), check_every=10)
    made = plan([of_config(replace(config(0, steps=100), schedule=schedule), "staged", {})], store, workers=1)
    assert made.flops_alone == made.flops_spent == 20 * ONE + 20 * TWO + 60 * ONE
    assert made.saving == made.saving_best == 1.0


def test_seeds_and_fixed_switches_share_no_trunk_and_all_of_it(store: Store) -> None:
    fixed = trial(0, kind="shift", steps=100, switch=20)
    made = plan([fixed, *watched(seeds=2)], store, workers=1)
    assert made.flops_spent == 2 * (20 * ONE + 80 * TWO)
    assert made.flops_alone == 3 * (20 * ONE + 80 * TWO)


def test_recorded_checks_are_facts_in_both_cases(store: Store) -> None:
    trials = watched(deltas=2, patience=2)
    trunk = trials[0].links[0]
    loss = dict(zip((10, 20, 30, 40), (3.0, 2.0, 1.9985, 1.9970), strict=True))  # small for δ1 = 2e-3 alone
    same = {"lineage": trunk.lineage, "grad_norm": 1.0}
    checks = [same | {"step": step, "val_loss": value, "train_loss": value} for step, value in loss.items()]
    row = segment(trunk.lineage, 0, 40, evaluated=[0, 10, 20, 30, 40], checked=[10, 20, 30, 40])
    store.commit({"segments": [row], "checks": checks, "metrics": metrics(trunk.lineage, range(0, 41, 10))})
    relaxed = [
        of_config(replace(t.config, schedule=replace(t.config.schedule, change="absolute", delta2=1.0)), "scp", {})
        for t in trials
    ]
    known = resolved(relaxed, store)
    assert [each.ended for each in known] == [(), (40,)]
    made = plan(known, store, workers=1)
    assert made.flops_spent == 50 * ONE + (60 + 50) * TWO  # what has not ended by 40 ends at 50 at the earliest
    assert made.flops_left == made.flops_spent  # the state at 40 is gone: what is recorded is replayed
    assert made.saving == made.saving_best


def test_a_trunk_that_diverged_leaves_nothing_to_decide(store: Store) -> None:
    trials = watched(deltas=2)
    row = segment(trials[0].links[0].lineage, 0, 50, reached=15, status="diverged", evaluated=[0, 10], checked=[10])
    store.commit({"segments": [row]})
    made = plan(resolved(trials, store), store, workers=1)
    assert (made.done, made.waiting, made.missing, made.flops_left) == (2, 0, 0, 0)
    assert made.assumes is None
    assert counts(trials, Coverage(store.read("segments")))["waiting"] == 0


def test_no_criterion_no_assumption(store: Store) -> None:
    made = plan(TRIALS, store, workers=2)
    assert (made.waiting, made.assumes, made.saving) == (0, None, made.saving_best)


# --- budgets and disk -------------------------------------------------------------------------------------------------


def budgets(rate: str) -> list[Trial]:
    return [trial(0, arm="b", kind="looped", steps=steps, lr_schedule=rate) for steps in (20, 40, 80)]


def test_cosine_budgets_share_nothing_and_the_plan_names_wsd(store: Store) -> None:
    cosine = plan(budgets("cosine"), store, workers=1)
    assert cosine.saving == 1.0
    (note,) = cosine.notes
    assert "20, 40, 80 steps share nothing" in note
    assert '"wsd"' in note
    wsd = plan(budgets("wsd"), store, workers=1)
    assert wsd.notes == ()
    assert wsd.saving > 1.4
    assert plan(budgets("cosine")[:1], store, workers=1).notes == ()


def test_states_that_branches_begin_from_are_bounded(store: Store) -> None:
    state = 3 * 4 * parameters(config())
    one_seed = [t for t in TRIALS if t.config.seed == 0]
    assert plan(one_seed, store, workers=1).disk_passing_bytes == 2 * state  # at 20 and 50, while branches wait
    assert plan(TRIALS, store, workers=1).disk_passing_bytes == 8 * state
    assert plan([trial(0)], store, workers=1).disk_passing_bytes == 0
    kept = [trial(0, kind="shift", steps=100, switch=s, keep="all") for s in (20, 50)]
    assert plan(kept, store, workers=1).disk_passing_bytes == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(2, 4)), min_size=1, max_size=5), st.randoms())
def test_no_order_of_running_has_more_states_than_the_bound(switches: list[tuple[int, int]], random: Random) -> None:
    trials = [
        of_config(
            replace(config(0, kind="shift", steps=100, switch=10 * s), model=ModelConfig(width=8, loops=loops)), "a", {}
        )
        for s, loops in dict.fromkeys(switches)
    ]
    tree = stage_tree(trials, Coverage(SEGMENTS.schema().empty_table()), States())
    bound = disk_need(tree, trials).passing / (3 * 4 * parameters(trials[0].config))
    begins = Counter(node.parent for node in tree.nodes if node.parent is not None)
    waiting, done, there, most = set(range(len(tree.nodes))), set(), set(), 0
    while waiting:
        index = random.choice(sorted(i for i in waiting if tree.nodes[i].parent in done | {None}))
        parent = tree.nodes[index].parent
        waiting.discard(index)
        done.add(index)
        there |= {index} & begins.keys()
        most = max(most, len(there))
        if parent is not None:
            begins[parent] -= 1
            there -= {parent} if begins[parent] == 0 else set()
    assert most <= bound


def test_criteria_that_can_never_end_their_stage_are_named(store: Store) -> None:
    assert plan(watched(patience=2), store, workers=1).notes == ()
    (note,) = plan(watched(patience=50, seeds=2), store, workers=1).notes
    assert "patience 50 has too few checks to end its stage before its latest step, 50" in note
