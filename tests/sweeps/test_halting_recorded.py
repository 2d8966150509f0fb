"""Loops at test time on their way: at kept states alike, columns of the view, claimed, grown, priced, audited."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config import MeasureConfig
from core.errors import InputError
from core.flops import step_flops
from core.observation import with_measure
from core.quantities import CURVES
from studies.expand import Trial
from studies.query import run_query
from studies.store import Store
from studies.views import open_views
from sweeps.audit import audit
from sweeps.measure_cost import OUTPUT_WORK, measure_cost
from sweeps.measuring import measure_kept, missing
from sweeps.observer import Silent
from sweeps.packs import Pace
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.direct import Direct
from tests.sweeps.work import config, of_config

TABLES = ("curvature", "curves")


def asking(*quantities: str, at: tuple[int, ...] = (0, 10, 20), **settings: Any) -> list[Trial]:
    """Trials with a switch at step 10, and what they measure."""
    measure = replace(MeasureConfig(quantities=quantities, at=at, probe=8), **settings)
    return [
        of_config(with_measure(config(seed, kind="shift", steps=20, switch=10, keep="all"), measure))
        for seed in range(2)
    ]


def trained(root: Path, trials: list[Trial]) -> Store:
    store = Store.open(root, create=True)
    assert run(lambda: trials, store, Direct(store.root), limits=Limits(), pack=2).counts == {"ok": len(trials)}
    return store


def rows(store: Store, table: str) -> list[str]:
    return sorted(map(repr, store.read(table).to_pylist()))


def test_a_kept_state_gives_the_rows_that_training_gives(tmp_path: Path) -> None:
    wanted = asking("test_loops")
    direct, later = trained(tmp_path / "direct", wanted), trained(tmp_path / "later", asking())
    found = missing(wanted, later)
    assert (len(found.kept), found.gone) == (2 * 3, 0)
    measure_kept(found, Direct(later.root), limits=Limits(), observer=Silent())
    for table in TABLES:
        assert rows(later, table) == rows(direct, table)
    assert len(rows(direct, "curves")) == 2 * 3 * 2 * 4, "losses and accuracies at four numbers of loops"
    assert missing(wanted, later).kept == ()
    assert audit(wanted, direct, Direct(direct.root), share=1.0).mismatches == ()


def test_a_list_that_grows_is_measured_anew_without_training_and_the_old_one_stands(tmp_path: Path) -> None:
    before, grown = asking("lambda_max", "test_loops", test_loops=(1, 2)), asking("test_loops", test_loops=(1, 2, 6))
    store = trained(tmp_path / "store", before)
    metrics = store.read("metrics").to_pylist()
    found = missing(grown, store)
    assert {lane.config.measure.quantities for lane in found.kept} == {("test_loops",)}
    measure_kept(found, Direct(store.root), limits=Limits(), observer=Silent())
    assert missing(grown, store).kept == missing(before, store).kept == ()
    assert store.read("metrics").to_pylist() == metrics
    for trials, loops in ((before, (1, 2)), (grown, (1, 2, 6))):
        with open_views(trials, store) as views:
            points, measured = views.arrow("curves").to_pylist(), views.arrow("curvature").to_pylist()
        assert {point["x"] for point in points} == set(loops)
        curves = {(p["trial_id"], p["step"], f"{p['quantity']}_{p['x']:.0f}"): p["y"] for p in points}
        assert len(measured) == 2 * 3
        for row in measured:
            for name in (f"val_{what}_loops_{at}" for what in ("loss", "accuracy") for at in loops):
                assert row[name] == curves[row["trial_id"], row["step"], name]
                assert row["confident_loops"] is not None


def test_the_view_has_a_column_for_each_number_of_loops_that_some_trial_asks_for(tmp_path: Path) -> None:
    first, second = asking("test_loops", at=(20,), test_loops=(2, 8)), asking("lambda_max", at=(20,))
    store = trained(tmp_path / "store", first)
    measure_kept(missing(second, store), Direct(store.root), limits=Limits(), observer=Silent())
    other = [replace(trial, trial_id="f" * 16) for trial in second[:1]]
    with open_views([first[0], *other], store) as views:
        table = views.arrow("curvature")
    names = [f"{curve}_{loops}" for curve in CURVES if curve.endswith("_loops") for loops in (2, 8)]
    assert [name for name in table.column_names if "_loops_" in name] == names
    assert table.column_names[-4:] == ["asymmetry", "method", "error", "products"]
    field = table.schema.field("val_accuracy_loops_8")
    assert (field.type, field.metadata[b"unit"]) == ("double", b"fraction")
    assert field.metadata[b"doc"] == b"share of tokens predicted right, at 8 loops"
    mine, its = sorted(table.to_pylist(), key=lambda row: row["trial_id"] == "f" * 16)
    assert mine["val_loss_loops_8"] > 0
    assert mine["val_exact_loops_8"] is None
    assert its["lambda_max"] is not None
    assert its["val_loss_loops_8"] is None
    answer = run_query(first, store, "SELECT avg(val_loss_loops_2) AS loss FROM curvature WHERE step = 20").to_pylist()
    assert answer[0]["loss"] == pytest.approx(
        sum(row["val_loss"] for row in store.read("metrics").to_pylist() if row["step"] == 20) / 2, rel=1e-12
    )


def test_a_column_of_other_loops_is_said_with_the_way_to_it(tmp_path: Path) -> None:
    wanted = asking("test_loops", at=(20,), test_loops=(2, 8))
    store = trained(tmp_path / "store", wanted)
    with pytest.raises(InputError) as raised:
        run_query(wanted, store, "SELECT val_loss_loops_16 FROM curvature")
    assert str(raised.value) == (
        "val_loss_loops_16 is no column here: no trial of the study measures it; "
        "ask for test_loops, with 16 in measure.test_loops"
    )


# --- the price -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loops", [(1,), (1, 2, 4, 8), (3, 64)])
def test_the_price_is_that_of_one_pass_to_the_most_loops_with_an_output_after_each(loops: tuple[int, ...]) -> None:
    (trial, _) = asking("test_loops", test_loops=loops)
    cost = measure_cost(trial.config, trial.links[1], Pace({1: 1.0, 8: 8.0}))
    assert (cost.products, cost.exact, cost.memory_bytes) == (0, False, 0)
    assert cost.numbers == 2 * 5 * len(loops)
    model, task, train = trial.config.model, trial.config.task, trial.config.train
    head = 3 * 2 * model.width * task.vocabulary * task.context * train.batch
    work = step_flops(trial.config, loops=loops[-1]) + (len(loops) - 1) * head
    updates = work / step_flops(trial.config, loops=trial.links[1].loops) * task.val_size / train.batch
    assert cost.seconds == pytest.approx(OUTPUT_WORK * updates)


# --- the whole way -------------------------------------------------------------------------------------------------

STUDY = """
name = "test-time"
question = "What do loops at test time give?"
seeds = 3

[base]
task = { kind = "markov", states = 5, chains = 4, length = 8, val_size = 32 }
model = { width = 8, loops = 2 }
train = { steps = 60, batch = 16, evaluate_every = 60, lr = 0.02 }

[arms.looped]

[arms.single]
schedule.kind = "single"

[measure]
quantities = ["test_loops"]
test_loops = LOOPS

[[claims]]
text = "Trained loops beat loops never trained"
metric = "val_loss_loops_2"
arm = "looped"
against = "single"
expect = "lower"
"""


def test_a_claim_on_a_column_is_decided_by_its_numbers_and_the_list_grows_by_measuring_alone(
    call: Any, tmp_path: Path
) -> None:
    path, store = tmp_path / "study.toml", tmp_path / "results"
    path.write_text(STUDY.replace("LOOPS", "[1, 2]"))
    told = call("plan", path, "--store", store)
    assert told.code == 0, told.err
    assert call("run", path, "--store", store, "--workers", 1).code == 0
    path.write_text(STUDY.replace("LOOPS", "[1, 2, 4]"))
    assert json.loads(call("measure", path, "--store", store, "--workers", 1, "--json").out)["measured"] == 6
    columns = "arm, seed, val_loss_loops_2 AS loss, val_loss_loops_4 AS four"
    sql = f"SELECT {columns} FROM curvature JOIN trials USING (trial_id)"
    found = json.loads(call("query", path, sql, "--store", store, "--format", "json").out)
    assert all(row["four"] is not None for row in found)
    losses = {(row["arm"], row["seed"]): row["loss"] for row in found}
    assert call("report", path, "--store", store, "--out", tmp_path / "report").code == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    (claim,) = report["claims"]
    assert (claim["unit"], claim["better"]) == ("nats/token", "lower")
    assert claim["differences"] == pytest.approx([losses["looped", seed] - losses["single", seed] for seed in range(3)])
    assert claim["methods"] == {arm: ["forward passes"] for arm in ("looped", "single")}
    segments = Store.open(store).read("segments").to_pylist()
    assert sorted({row["end"] - row["start"] for row in segments}) == [0, 60], "trained once"


PARITY = """
name = "halting"
question = "Does halting by confidence find the loops that the length asks for?"
seeds = 2

[base]
task = { kind = "parity", train_length = [1, 4], test_length = [1, 6], val_size = 48 }
model = { width = 8, loops = 4 }
train = { steps = 40, batch = 16, evaluate_every = 40, lr = 0.02 }

[arms.fixed]

[arms.length]
model.loops_by = "length"

[measure]
quantities = ["test_loops"]
test_loops = [1, 4, 6]

[[claims]]
text = "Loops by length leave more problems solved after more loops than were ever trained"
metric = "val_exact_longer_loops_6"
arm = "length"
against = "fixed"
expect = "higher"

[[claims]]
text = "Halting by confidence is as good as the last output"
metric = "val_exact_confident"
arm = "length"
value = 0.0
expect = "higher"
"""


def test_problems_with_answers_have_exact_columns_that_agree_with_their_metrics(call: Any, tmp_path: Path) -> None:
    path, store = tmp_path / "study.toml", tmp_path / "results"
    path.write_text(PARITY)
    assert call("run", path, "--store", store, "--workers", 1).code == 0
    sql = "SELECT t.*, c.* EXCLUDE (error, trial_id) FROM curvature AS c JOIN trials AS t USING (trial_id)"
    rows = json.loads(call("query", path, sql, "--store", store, "--format", "json").out)
    assert len(rows) == 4
    for row in rows:
        names = ("val_exact", "val_exact_trained", "val_exact_longer", "val_loss")
        at_four, final = [row[f"{name}_loops_4"] for name in names], [row[f"final_{name}"] for name in names]
        assert (at_four == final) == (row["arm"] == "fixed"), "where loops go by length, no one number of loops does"
        several = [row[f"val_exact_loops_{loops}"] for loops in (1, 4, 6)]
        assert max(*several, row["val_exact_confident"]) <= row["val_exact_oracle"] <= 1
        assert 1 <= row["confident_loops"] <= 6
    assert call("report", path, "--store", store, "--out", tmp_path / "report").code == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    longer, _ = report["claims"]
    found = {(row["arm"], row["seed"]): row["val_exact_longer_loops_6"] for row in rows}
    assert longer["differences"] == pytest.approx([found["length", seed] - found["fixed", seed] for seed in (0, 1)])
    assert call("run", path, "--store", store, "--workers", 1, "--audit", "100%").code == 0
