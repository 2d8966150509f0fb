"""Controls in reports: a real run, whose claims pair every setting of an arm with the trial that is matched to it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import studies
from reports.build import build, to_text
from reports.paired import partnered
from reports.pairs import pair
from reports.tables import Tables
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.sweeps.direct import Direct

STUDY = """
name = "controls"
question = "Loops or blocks?"
seeds = 3

[base]
task = { kind = "markov", states = 5, chains = 4, length = 4, val_size = 16 }
model = { width = 4 }
train = { steps = 12, batch = 4, evaluate_every = 6, lr = 0.02 }

[arms.looped]
axes."model.depth" = [1, 2]

[arms.same-flops]
match = "flops"
match_to = "looped"

[arms.same-parameters]
match = "parameters"
match_to = "looped"

[arms.shift]
schedule.kind = "shift"

[axes]
"model.loops" = [1, 2, 3]

[[claims]]
text = "Blocks of their own beat loops of equal FLOPs"
metric = "final_val_loss"
arm = "same-flops"
against = "looped"
expect = "lower"

[[claims]]
text = "They cost the same"
metric = "flops_alone"
arm = "same-flops"
against = "looped"
expect = "not worse"
margin = 1.001
"""

SETTINGS = [(loops, depth) for loops in (1, 2, 3) for depth in (1, 2)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    path = folder / "controls.toml"
    path.write_text(STUDY)
    asked, store = load_study(path), Store.open(folder / "store", create=True)
    done = run(lambda: wanted(asked, store), store, Direct(store.root), pack=4)
    assert set(done.counts) == {"ok"}
    return studies.load(asked, store=store)


@pytest.fixture(scope="module")
def tables(results):
    return Tables.read(results)


@pytest.fixture(scope="module")
def report(results):
    return json.loads(to_text(build([(results.study, results)], command="x")))


def losses(results, arm):
    """The final loss of an arm's trials by (seed, blocks, loops, kind of schedule)."""
    rows = results.trials()
    rows = rows[rows["arm"] == arm]
    configs = [json.loads(text) for text in rows["config"]]
    keys = [(c["seed"], c["model"]["depth"], c["model"]["loops"]) for c in configs]
    return dict(zip(keys, rows["final_val_loss"], strict=True))


def blocks(results, arm):
    """The final loss of a control by (seed, blocks); it is a single pass."""
    return {(seed, depth): loss for (seed, depth, _), loss in losses(results, arm).items()}


def known(results):
    rows = results.trials()
    return dict(zip(rows["trial_id"], rows["final_val_loss"], strict=True))


def test_a_claim_pairs_every_setting_with_its_control(results, report):
    looped, control = losses(results, "looped"), blocks(results, "same-flops")
    assert len(looped) == 18
    assert {depth for _, depth in control} == {1, 2, 3, 4, 6}  # two blocks stand for (1 ⊗ 2) and (2 ⊗ 1)
    loss, cost = report["claims"]
    want = [np.mean([control[s, k * n] - looped[s, k, n] for n, k in SETTINGS]) for s in range(3)]
    np.testing.assert_allclose(loss["differences"], want, rtol=1e-12)
    assert (loss["n"], loss["settings"], loss["own_settings"], loss["incomplete"]) == (3, 6, {}, 0)
    assert cost["differences"] == [0.0, 0.0, 0.0]
    assert cost["verdict"] == "supported"


def test_two_controls_of_one_arm_are_paired_by_its_settings(results, tables):
    flops, parameters = blocks(results, "same-flops"), blocks(results, "same-parameters")
    assert {depth for _, depth in parameters} == {1, 2}
    pairs = pair(tables, known(results), arm="same-flops", against="same-parameters")
    want = [np.mean([flops[s, k * n] - parameters[s, k] for n, k in SETTINGS]) for s in range(3)]
    np.testing.assert_allclose(pairs.differences, want, rtol=1e-12, atol=1e-15)
    assert (pairs.settings, pairs.own, pairs.incomplete) == (6, {}, 0)


def test_with_another_arm_a_control_is_paired_on_the_axes_of_both(results, tables):
    control, shift = blocks(results, "same-flops"), losses(results, "shift")
    pairs = pair(tables, known(results), arm="same-flops", against="shift")
    want = [np.mean([(control[s, n] + control[s, 2 * n]) / 2 - shift[s, 1, n] for n in (1, 2, 3)]) for s in range(3)]
    np.testing.assert_allclose(pairs.differences, want, rtol=1e-12)
    assert (pairs.settings, pairs.own) == (3, {"same-flops": 2})


def test_against_a_number_every_trial_counts_once(results, tables):
    control = blocks(results, "same-flops")
    pairs = pair(tables, known(results), arm="same-flops", against=1.0)
    want = [np.mean([loss - 1.0 for (seed, _), loss in control.items() if seed == s]) for s in range(3)]
    np.testing.assert_allclose(pairs.differences, want, rtol=1e-12)
    assert pairs.settings == 5


def test_a_control_that_is_missing_takes_its_pairs_with_it(results, tables):
    values = known(results)
    rows = tables.compared("same-flops")
    lost = rows[(rows["model.depth"] == 2) & (rows["seed"] == 1)]["trial_id"]
    assert len(lost) == 1
    (name,) = lost
    also = tables.trials["trial_id"] == name  # it is the looped arm's (2 ⊗ 1) too
    assert also.sum() > 1
    cut = replace(tables, trials=tables.trials[~(also & (tables.trials["arm"] == "same-flops"))])
    pairs = pair(cut, values, arm="same-flops", against="looped")
    assert pairs.seeds == (0, 2)
    assert pairs.dropped_seeds == (1,)
    assert pairs.incomplete == 2  # of (1 ⊗ 2) and of (2 ⊗ 1)


def test_curves_pair_a_control_with_the_trials_that_it_stands_for(tables):
    looped = tables.compared("looped")
    ids = {(row["seed"], row["model.loops"], row["model.depth"]): row["trial_id"] for row in looped.to_dict("records")}
    found = partnered(tables, tables.compared("same-flops"), looped)
    for row, partners in found:
        seed, depth = row["seed"], row["model.depth"]
        assert partners == [ids[seed, n, k] for n, k in SETTINGS if n * k == depth]
    back = partnered(tables, looped, tables.compared("same-flops"))
    assert all(len(partners) == 1 for _, partners in back)


def test_the_columns_of_a_control_show_what_was_chosen_and_for_which_setting(results):
    rows = results.trials()
    rows = rows[(rows["arm"] == "same-flops") & (rows["seed"] == 0)]
    shown = {
        int(d): None if math.isnan(n) else int(n) for d, n in zip(rows["model.depth"], rows["model.loops"], strict=True)
    }
    assert shown == {1: 1, 2: None, 3: 3, 4: 2, 6: 3}
    assert rows["flops_alone"].notna().all()
