"""Claims about the public views and `studies.load`."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pytest

import studies
from core.config import MeasureConfig, TrialConfig, trial_config
from core.errors import InputError
from core.flops import step_flops
from studies.expand import expand
from studies.keys import shape_key
from studies.nested import written
from studies.spec import parse_study
from studies.store import Store
from studies.views import VIEWS, open_views
from tests.studies.rows import metrics, of_config, recorded, trial

CONTRACT = {
    "metrics": "trial_id step stage loops lr train_loss grad_norm val_loss val_accuracy val_loss_low_ic "
    "val_loss_high_ic tokens flops_alone",
    "curvature": "trial_id step lambda_max method error products",
    "curves": "trial_id step quantity x y",
    "spectra": "trial_id step kind eigenvalues weights",
    "surfaces": "trial_id step kind x y z",
    "events": "trial_id step kind detail",
    "checks": "trial_id step val_loss train_loss grad_norm",
    "importances": "study arm search metric evaluator batch key value n",
    "trials": "trial_id study arm role seed status schedule.switch config final_val_loss final_val_loss_high_ic "
    "best_val_loss steps switch_step switches switch_val_loss_before switch_val_loss_after switch_drop "
    "switch_val_accuracy_before switch_val_accuracy_after switch_recovery_steps parameters flops_alone flops_spent "
    "alone_s spent_s attempts numerics_class pack_size error started_at finished_at provenance",
}


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


def view(trials, store, name):
    with open_views(trials, store) as views:
        return views.arrow(name).to_pylist()


TRIALS = [trial(seed=s) for s in (0, 1)] + [trial("shift", seed=s, switch=w) for w in (0.25, 0.5) for s in (0, 1)]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_the_columns_of_the_contract_are_there_in_order(store, name, filled):
    if filled:
        store.commit(recorded(TRIALS))
    with open_views(TRIALS, store) as views:
        names = views.arrow(name).schema.names
    contract = CONTRACT[name].split()
    assert [n for n in names if n in contract] == contract
    assert "lineage" not in names


def test_columns_carry_their_units(store):
    store.commit(recorded(TRIALS))
    with open_views(TRIALS, store) as views:
        units = {
            (name, column): (views.arrow(name).schema.field(column).metadata or {}).get(b"unit")
            for name, column in [
                ("metrics", "val_loss"),
                ("metrics", "val_loss_low_ic"),
                ("metrics", "tokens"),
                ("curvature", "lambda_max"),
                ("trials", "final_val_loss_high_ic"),
                ("trials", "alone_s"),
                ("trials", "switch_drop"),
                ("trials", "switch_recovery_steps"),
                ("checks", "grad_norm"),
            ]
        }
    expected = ["nats/token", "nats/token", "tokens", "nats/token", "nats/token", "s", "nats/token", "updates", "1"]
    assert [unit.decode() for unit in units.values()] == expected


def test_an_empty_study_has_its_views(store):
    with open_views([], store) as views:
        assert all(views.arrow(name).num_rows == 0 for name in VIEWS)
        with pytest.raises(InputError, match="'metrics'"):
            views.arrow("metric")


def test_each_trial_has_its_own_steps_once_however_much_others_recorded(store):
    dense, mine = trial(seed=0, evaluate_every=5), trial(seed=0, evaluate_every=50)
    store.commit(recorded([dense]))
    store.commit(recorded([dense]))
    rows = view([mine], store, "metrics")
    assert [row["step"] for row in rows] == [0, 50, 100]
    assert {row["trial_id"] for row in rows} == {mine.trial_id}
    both = view([mine, dense, mine], store, "metrics")
    assert [row["step"] for row in both] == list(range(0, 101, 5)), "one trial, asked twice"


def test_the_row_at_a_switch_belongs_to_the_stage_that_ends(store):
    shift = trial("shift", switch=50)
    store.commit(recorded([shift]))
    rows = view([shift], store, "metrics")
    assert [(row["step"], row["loops"]) for row in rows] == [(0, 1), (25, 1), (50, 1), (75, 3), (100, 3)]


def test_final_and_best_follow_the_registry_and_are_null_unless_the_trial_ended_ok(store):
    one, other, absent = trial(seed=0), trial(seed=1), trial(seed=2)
    store.commit(recorded([one]))
    name = one.links[0].lineage
    store.commit(
        {"segments": [recorded([one])["segments"][0] | {"generation": 1}], "metrics": metrics(name, [50], 0.5)}
    )
    rows = recorded([other], status="diverged", reached=60)
    rows["metrics"] = [row for row in rows["metrics"] if row["step"] <= 60]
    rows["segments"][0]["evaluated"] = [0, 25, 50]
    store.commit(rows)
    first, second, third = view([one, other, absent], store, "trials")
    assert (first["status"], first["final_val_loss"], first["best_val_loss"]) == ("ok", 2.0, 0.5)
    assert (first["final_val_loss_low_ic"], first["best_val_accuracy"]) == (0.5, 1.0)
    assert (second["status"], second["final_val_loss"], second["best_val_loss"]) == ("diverged", None, None)
    assert (third["status"], third["final_val_loss"], third["attempts"]) == (None, None, 0)
    assert len(view([one, other, absent], store, "metrics")) == 5 + 3


def test_varied_keys_are_columns_and_null_where_the_axis_does_not_act(store):
    rows = view(TRIALS, store, "trials")
    shown = {(row["arm"], row["seed"], row["schedule.switch"]) for row in rows}
    assert shown == {(t.arm, t.config.seed, t.varied.get("schedule.switch")) for t in TRIALS}
    assert len(rows) == len(TRIALS)
    assert {row["switch_step"] for row in rows if row["arm"] == "shift"} == {25, 50}
    assert json.loads(rows[0]["config"])["train"]["steps"] == 100


def test_shares_of_a_shared_trunk_add_up_to_what_was_run(store):
    trials = [trial("shift", switch=w) for w in (0.25, 0.5)]
    rows = recorded(trials)
    store.commit(rows)
    by_switch = {row["switch_step"]: row for row in view(trials, store, "trials")}
    one, three = (step_flops(trials[0].config, loops=n) for n in (1, 3))
    assert by_switch[25]["flops_spent"] == pytest.approx(12.5 * one + 75 * three)
    assert by_switch[50]["flops_spent"] == pytest.approx(37.5 * one + 50 * three)
    assert by_switch[50]["flops_alone"] == 50 * one + 50 * three
    assert sum(row["spent_s"] for row in by_switch.values()) == pytest.approx(len(rows["segments"]))


def test_equal_trials_of_two_arms_count_as_one_where_cost_is_shared(store):
    trials = [trial("a"), trial("b")]
    store.commit(recorded(trials))
    assert [row["spent_s"] for row in view(trials, store, "trials")] == [1.0, 1.0]


def test_time_alone_comes_from_the_first_calibration_at_a_pack_of_one(store):
    shift = trial("shift", switch=50)
    store.commit(recorded([shift]))

    def calibration(link, pack, step_s):
        row = {"shape": shape_key(shift.config, link), "loops": link.loops, "numerics_class": "cpu"}
        return row | {"pack": pack, "step_s": step_s}

    first, second = shift.links
    store.commit({"calibrations": [calibration(first, 1, 0.01), calibration(second, 16, 9.0)]})
    assert view([shift], store, "trials")[0]["alone_s"] is None
    store.commit({"calibrations": [calibration(first, 1, 0.5), calibration(second, 1, 0.03)]})
    assert view([shift], store, "trials")[0]["alone_s"] == pytest.approx(50 * 0.01 + 50 * 0.03)


def test_a_quantity_added_later_joins_the_row_of_its_step(store):
    base = trial(seed=0).config

    def asking(*quantities: str, probe: int = 32):
        measure = MeasureConfig(quantities=quantities, at=(50, 100), probe=probe)
        return of_config(TrialConfig(train=base.train, measure=measure), "looped", {})

    wide, narrow = asking("lambda_max", "lambda_min"), asking("lambda_max")
    store.commit(recorded([narrow]))
    later = recorded([asking("lambda_min")])
    for row in later["curvature"]:
        row |= {"lambda_min": -1.0, "method": {"lambda_min": "lanczos"}}
        row.pop("lambda_max")
    store.commit(later)
    rows = view([wide], store, "curvature")
    assert [(row["step"], row["lambda_max"], row["lambda_min"]) for row in rows] == [
        (50, 60.0, -1.0),
        (100, 110.0, -1.0),
    ]
    assert dict(rows[0]["method"]) == {"lambda_max": "lanczos", "lambda_min": "lanczos"}
    assert view([wide], store, "trials")[0]["status"] == "ok"
    assert view([asking("lambda_max", probe=8)], store, "curvature") == []


def test_events_are_those_of_the_chain(store):
    long, short = trial("shift", switch=75), trial("shift", switch=25)
    rows = recorded([long, short])
    trunk, branch = long.links[0].lineage, short.links[1].lineage
    rows["events"] = [
        {"lineage": trunk, "step": 60, "kind": "retry", "detail": "x"},
        {"lineage": branch, "step": 25, "kind": "switch", "detail": "{}"},
    ]
    store.commit(rows)
    found = {(row["trial_id"], row["step"], row["kind"]) for row in view([long, short], store, "events")}
    found = {event for event in found if event[2] != "recovery"}
    assert found == {(long.trial_id, 60, "retry"), (short.trial_id, 25, "switch")}


def test_what_another_study_measured_at_the_same_state_does_not_show(store):
    base = trial(seed=0).config

    def asking(*quantities):
        measure = MeasureConfig(quantities=quantities, at=(50,))
        return of_config(TrialConfig(train=base.train, measure=measure), "looped", {})

    rows = recorded([asking("lambda_max", "lambda_min")])
    for row in rows["curvature"]:
        row |= {"lambda_min": -1.0, "method": {"lambda_max": "lanczos", "lambda_min": "lanczos"}}
    store.commit(rows)
    (row,) = view([asking("lambda_max")], store, "curvature")
    assert (row["lambda_max"], row["lambda_min"], dict(row["method"])) == (60.0, None, {"lambda_max": "lanczos"})


@pytest.mark.parametrize(
    ("again", "shown"),
    [({"status": "diverged", "reached": 40}, [41]), ({"status": "ok", "reached": 100}, [])],
    ids=["earlier", "mended"],
)
def test_a_divergence_that_was_run_again_shows_as_it_ended_last(store, again, shown):
    one = trial()
    lineage = one.links[0].lineage

    def attempt(generation, status, reached):
        rows = recorded([one], status=status, reached=reached, generation=generation)
        rows["segments"][0]["evaluated"] = [step for step in (0, 25, 50, 75, 100) if step <= reached]
        rows["metrics"] = [row for row in rows["metrics"] if row["step"] <= reached]
        if status == "diverged":
            rows["events"] = [{"lineage": lineage, "step": reached + 1, "kind": "divergence", "detail": "x"}]
        return {name: found for name, found in rows.items() if found}

    store.commit(attempt(0, "diverged", 80))
    store.commit(attempt(1, **again))
    assert [row["step"] for row in view([one], store, "events")] == shown
    expected = [step for step in (0, 25, 50, 75, 100) if step <= again["reached"]]
    assert [row["step"] for row in view([one], store, "metrics")] == expected


# --- studies.load

STUDY = """
name = "small"
question = "Does it load?"
seeds = 2
[base.train]
steps = 100
evaluate_every = 25
[arms.single]
schedule.kind = "single"
[arms.looped]
schedule.kind = "looped"
"""


@pytest.fixture
def loaded(store, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    store.commit(recorded(studies.load(path, store=store).wanted))
    return studies.load(path, store=store.root)


def test_load_gives_frames_arrow_and_sql(loaded):
    trials = loaded.trials()
    assert list(trials.status) == ["ok"] * 4
    assert str(loaded.metrics().dtypes["val_loss"]) == "float64"
    assert len(loaded.metrics()) == 20
    assert isinstance(loaded.arrow("metrics"), pa.Table)
    others = (loaded.curvature(), loaded.curves(), loaded.spectra(), loaded.events(), loaded.checks())
    assert [len(frame) for frame in others] == [0] * 5
    means = loaded.sql("SELECT arm, avg(final_val_loss) AS loss FROM trials GROUP BY arm ORDER BY arm")
    assert means.to_dict("list") == {"arm": ["looped", "single"], "loss": [2.0, 2.0]}
    with pytest.raises(InputError):
        loaded.sql("DROP TABLE trials")


def test_load_takes_the_store_from_the_environment(loaded, store, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOPSWEEP_STORE", str(store.root))
    assert len(studies.load(tmp_path / "small.toml").trials()) == 4


def test_importing_studies_imports_neither_pandas_nor_duckdb():
    code = "import studies, sys; sys.exit(bool({'pandas', 'duckdb', 'torch', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stages_are_text_where_they_vary_and_come_back_from_the_configuration(store):
    found = parse_study(
        {
            "name": "s",
            "question": "?",
            "seeds": 1,
            "arms": {"listed": {"schedule": {"kind": "stages"}}},
            "axes": {
                "schedule.stages": [
                    [{"loops": 1, "until": 1}, {"loops": 2}],
                    [{"loops": 1, "until": {"criterion": "loss", "latest": 1.0}}, {"loops": 2}],
                    [{"loops": 1, "until": 0.5}, {"loops": 2, "rewarm": 5}],
                ]
            },
        },
        file="s.toml",
    )
    trials = expand(found)
    rows = {row["trial_id"]: row for row in view(trials, store, "trials")}
    assert len(rows) == 3
    for one in trials:
        row = rows[one.trial_id]
        assert trial_config(json.loads(row["config"])) == one.config
        assert row["schedule.stages"] == written(one.config.schedule.stages)
    assert {row["switch_step"] for row in rows.values()} == {1, 1500, None}
