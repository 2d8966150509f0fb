"""The stage tree, switches and criteria in ``report.json``: against rows made up with a known truth, and a real run."""

from __future__ import annotations

import json
import math

import pytest
from scipy import stats as scipy_stats

import studies
from core.flops import link_flops
from reports import switches
from reports.build import build, to_text
from reports.claims import judge
from reports.tables import Tables
from studies.claims import parse_claims
from studies.expand import expand
from studies.grid import Grid
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.reports.synthetic import ARMS, LATEST, Arm, results, study
from tests.sweeps.direct import Direct

SCP = (
    Arm(name="looped", axes={"model.loops": [2, 3]}, flops=3_000_000),
    Arm(
        name="scp",
        criterion=True,
        axes={"model.loops": [2, 3], "schedule.delta1": [0.002, 0.004, 0.016], "schedule.delta2": [0.1, 0.2]},
        flops=2_000_000,
    ),
)

STUDY = """
name = "tiny"
question = "What does a switch cost at first?"
seeds = 3

[base.task]
kind = "markov"
states = 8
chains = 4
length = 16
train_size = 0
val_size = 32

[base.model]
width = 8
loops = 3
mlp_ratio = 0

[base.train]
steps = 48
batch = 8
lr = 1e-2
evaluate_every = 8

[arms.looped]
schedule.kind = "looped"

[arms.shift]
schedule.kind = "shift"
axes."schedule.switch" = [0.25, 0.5]

[arms.scp]
schedule.kind = "shift-scp"
schedule.latest = 40
schedule.delta1 = 0.05
axes."schedule.delta2" = [0.001, 5.0]

[[claims]]
text = "A switch costs loss at first"
metric = "switch_drop"
arm = "shift"
value = 0
expect = "higher"
"""


def tables(arms, **terms):
    return Tables.read(results(arms, curvature=False, **terms))


# --- made-up rows ----------------------------------------------------------------------------------------------------


def test_the_rows_of_a_switch_are_means_over_seeds_of_what_the_trials_say():
    read = tables(ARMS)
    (entry,) = switches.switches(read, [arm.name for arm in ARMS], "looped")
    rows = read.trials[read.trials["arm"] == "shift"]
    assert (entry["arm"], entry["n"], entry["trials"], entry["switches"]) == ("shift", 5, 5, 1)
    assert entry["step"] == {"mean": 1500, "min": 1500, "median": 1500, "max": 1500}
    low, high = scipy_stats.ttest_1samp(rows["switch_drop"], 0).confidence_interval(0.95)
    want = {"mean": rows["switch_drop"].mean(), "low": low, "high": high, "n": 5}
    assert entry["drop"] == pytest.approx(want)
    assert entry["loss_after"]["mean"] - entry["loss_before"]["mean"] == pytest.approx(entry["drop"]["mean"])
    assert entry["accuracy_after"]["mean"] == pytest.approx(0.8 * entry["accuracy_before"]["mean"])
    assert entry["recovery"] == {"trials": 5, "never": 0, "median": 200}
    assert entry["cost"] == pytest.approx(2.05 / 3)


def test_settings_stand_apart_and_those_that_never_recover_count_as_infinite():
    arms = [Arm(name="looped"), Arm(name="shift", axes={"schedule.switch": [0.3, 0.6, 0.9]}, flops=1_500_000)]
    (entry,) = switches.switches(tables(arms), ["looped", "shift"], "looped")
    assert [p["step"]["mean"] for p in entry["settings"]] == [900, 1800, 2700]
    assert [p["recovery"] for p in entry["settings"]] == [
        {"trials": 5, "never": 0, "median": 200},
        {"trials": 5, "never": 0, "median": 200},
        {"trials": 5, "never": 5, "median": None},
    ]
    assert entry["recovery"] == {"trials": 15, "never": 5, "median": 200}
    assert (entry["step"]["min"], entry["step"]["median"], entry["step"]["max"]) == (900, 1800, 2700)
    assert entry["drop"]["n"] == 5  # seeds, not trials


def test_costs_are_compared_at_equal_settings_of_the_axes_that_act_on_both():
    read = tables(SCP)
    costs = {2: 1.0, 3: 3.0}  # the reference at three loops costs three times as much
    factor = read.trials["model.loops"].map(costs).where(read.trials["arm"] == "looped", 1.0)
    read.trials["flops_alone"] = (read.trials["flops_alone"] * factor).astype(float)
    entry = next(e for e in switches.switches(read, ["looped", "scp"], "looped") if e["arm"] == "scp")
    found = {(p["setting"]["model.loops"], round(p["cost"], 9)) for p in entry["settings"]}
    assert found == {(2, round(2 / 3, 9)), (3, round(2 / 9, 9))}
    assert entry["cost"] == pytest.approx(math.sqrt(2 / 3 * 2 / 9))


def test_an_arm_that_diverged_or_never_switches_has_no_entry():
    ended = {("shift", seed): "diverged" for seed in range(5)}
    assert switches.switches(tables(ARMS, ended=ended), [arm.name for arm in ARMS], "looped") == []


def test_criteria_say_when_they_fired_and_how_often_never():
    read = tables(SCP)
    (entry,) = switches.criteria(read, ["looped", "scp"])
    # 0.002 never fires, 0.004 at 2000, 0.016 at 500; two loops, two values of delta2, five seeds each
    assert entry == {
        "arm": "scp",
        "trials": 60,
        "settings": 12,
        "fired": {"trials": 40, "min": 500, "median": 1250, "max": 2000},
        "never": 20,
        "latest": [LATEST],
    }
    along = {e["axis"]: e["series"][0]["points"] for e in switches.criterion_axes(read, ["looped", "scp"])}
    assert list(along) == ["model.loops", "schedule.delta1", "schedule.delta2"]
    assert [(p["x"], p["mean"], p["n"]) for p in along["schedule.delta1"]] == [
        (0.002, LATEST, 5),
        (0.004, 2000, 5),
        (0.016, 500, 5),
    ]
    assert len({p["mean"] for p in along["schedule.delta2"]}) == 1


def test_a_claim_on_the_drop_pairs_arms_by_seed_and_says_why_others_have_none():
    arms = [Arm(name="one", switch=1500, drop=0.4), Arm(name="two", switch=1500, drop=0.1), Arm(name="never")]
    made = [
        {"metric": "switch_drop", "arm": "one", "against": "two", "expect": "higher"},
        {"metric": "switch_recovery_steps", "arm": "one", "value": 500, "expect": "lower"},
        {"metric": "switch_step", "arm": "one", "against": "never", "expect": "lower"},
    ]
    problems: list = []
    asked = [{"text": str(i)} | one for i, one in enumerate(made)]
    found = parse_claims(asked, axes={a.name: Grid() for a in arms}, strata=(), problems=problems)
    assert problems == []
    drop, back, step = judge(tables(arms), found)
    assert (drop["verdict"], drop["unit"], drop["n"]) == ("supported", "nats/token", 5)
    assert drop["effect"] == pytest.approx(0.3 * 1.02)
    assert (back["effect"], back["n"], back["unit"]) == (pytest.approx(-300), 5, "updates")
    assert (step["verdict"], step["n"]) == ("undecided", 0)
    assert "the trial never switches" in step["reason"]


# --- a real run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.toml"
    path.write_text(STUDY)
    asked, store = load_study(path), Store.open(folder / "store", create=True)
    executor = Direct(store.root)
    assert run(lambda: wanted(asked, store), store, executor, pack=4).counts == {"ok": 15}
    return asked, studies.load(asked, store=store)


def test_the_tree_saves_what_counting_every_update_once_saves(tiny):
    asked, loaded = tiny
    found = switches.tree(loaded.wanted)
    once = {trial.trial_id: trial for trial in loaded.wanted}
    updates = {}
    for trial in once.values():
        for link in trial.links:
            for step in range(link.start, link.end):
                updates[link.lineage, step] = link_flops(trial.config, link, step, step + 1)
    assert (found["trials"], found["waiting"], found["steps_trained"]) == (len(once), 0, len(updates))
    assert found["flops_trained"] == sum(updates.values())
    assert found["flops_alone"] == loaded.trials().drop_duplicates("trial_id")["flops_alone"].sum()
    assert found["flops_alone"] > found["flops_trained"]
    spent = loaded.trials().drop_duplicates("trial_id")["flops_spent"].sum()
    assert spent == pytest.approx(found["flops_trained"])  # nothing was replayed
    waiting = switches.tree(expand(asked))  # before anything ran
    assert (waiting["waiting"], waiting["trials"]) == (6, 15)
    assert switches.tree([]) is None


def test_the_numbers_of_the_report_are_those_of_events_and_metrics(tiny):
    asked, loaded = tiny
    report = json.loads(to_text(build([(asked, loaded)], command="x")))
    (section,) = report["studies"]
    assert [entry["arm"] for entry in section["switches"]] == ["shift", "scp"]
    metrics, trials = loaded.metrics(), loaded.trials()
    events = loaded.events()
    early = section["switches"][0]["settings"][0]
    assert (early["setting"], early["step"]["mean"]) == ({"schedule.switch": 0.25}, 12)
    ids = trials.loc[trials["schedule.switch"] == 0.25, "trial_id"]
    drops, backs = [], []
    for trial_id in ids:
        event = events[(events["trial_id"] == trial_id) & (events["kind"] == "switch")]
        after = json.loads(event["detail"].item())["val_loss"]
        history = metrics[metrics["trial_id"] == trial_id].set_index("step")["val_loss"]
        drops.append(after - history[12])
        later = [step for step in history.index if step > 12 and history[step] <= history[12]]
        backs.append(0 if after <= history[12] else (later[0] - 12 if later else math.inf))
    assert early["drop"]["mean"] == pytest.approx(sum(drops) / 3)
    assert early["recovery"]["never"] == sum(map(math.isinf, backs))
    assert early["recovery"]["median"] == (None if math.isinf(sorted(backs)[1]) else sorted(backs)[1])
    criteria = section["criteria"][0]
    strict = trials[(trials["schedule.delta2"] == 0.001)]
    assert (criteria["trials"], criteria["latest"]) == (6, [40])
    assert (strict["switch_step"] == 40).all()  # no gradient is so small
    assert criteria["never"] >= 3
    assert section["tree"] == switches.tree(loaded.wanted)
    assert report["claims"][0]["metric"] == "switch_drop"
    assert report["claims"][0]["effect"] == pytest.approx(section["switches"][0]["drop"]["mean"])


def test_a_report_before_anything_has_run_says_that_trials_wait(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY)
    asked = load_study(path)
    loaded = studies.load(asked, store=Store.open(tmp_path / "store", create=True))
    (section,) = build([(asked, loaded)], command="x")["studies"]
    assert (section["switches"], section["criteria"], section["criterion_axes"]) == ([], [], [])
    assert section["tree"]["waiting"] == 6


def test_a_study_without_trials_has_no_tree():
    assert build([(study(), results())], command="x")["studies"][0]["tree"] is None
