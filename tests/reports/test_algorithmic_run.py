"""A real run of tasks with lengths, and its report: the numbers of the panels are those of the views."""

from __future__ import annotations

import json

import pytest

import studies
from core.flops import flops_alone, parameters
from reports.build import build, to_text
from reports.figures import draw
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.sweeps.direct import Direct

STUDY = """
name = "tiny"
question = "Do the panels say what was trained?"
seeds = 2

[base]
task = { kind = "parity", train_length = [1, 3], test_length = [1, 6], val_size = 12 }
model = { width = 4, mlp_ratio = 0 }
train = { steps = 10, batch = 4, evaluate_every = 5 }

[arms.single]
schedule.kind = "single"
axes."task.kind" = ["parity", "copy"]

[arms.looped]
schedule.kind = "looped"
axes."task.kind" = ["parity", "copy"]
axes."model.loops" = [2, 3]
axes."model.depth" = [1, 2]

[measure]
quantities = ["test_loops"]
test_loops = [1, 2, 4]
probe = 12
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.toml"
    path.write_text(STUDY)
    asked, store = load_study(path), Store.open(folder / "store", create=True)
    assert run(lambda: wanted(asked, store), store, Direct(store.root), pack=4).counts == {"ok": 20}
    loaded = studies.load(asked, store=store)
    return loaded, json.loads(to_text(build([(asked, loaded)], command="x")))


def test_each_task_has_every_panel(tiny):
    _, report = tiny
    (section,) = report["studies"]
    for name in ("lengths", "loop_counts", "maps", "costs"):
        assert {entry["task"] for entry in section[name]} == {"parity", "copy"}
    assert {e["metric"] for e in section["loop_counts"]} == {
        *("val_loss", "val_accuracy", "val_exact", "val_exact_trained", "val_exact_longer")
    }
    kinds = [d.kind for d in draw(report)]
    assert {"lengths", "loops", "maps", "cost"} <= set(kinds)
    assert not {"curvature", "valleys"} & set(kinds)


def test_accuracy_at_a_length_is_the_mean_of_its_column(tiny):
    loaded, report = tiny
    trials = loaded.trials()
    own = trials[(trials["arm"] == "single") & (trials["task.kind"] == "copy")]
    (entry,) = [one for one in report["studies"][0]["lengths"] if one["task"] == "copy"]
    assert entry["train_length"] == [1, 3]
    (metric,) = [one for one in entry["metrics"] if one["metric"] == "val_accuracy"]
    single = metric["series"][0]
    assert [p["x"] for p in single["points"]] == list(range(1, 7))
    assert single["points"][4]["mean"] == pytest.approx(own["final_val_accuracy_len_5"].mean())
    assert entry["rows"][0]["means"]["val_exact_longer"]["mean"] == pytest.approx(own["final_val_exact_longer"].mean())


def test_at_the_loops_of_training_other_loops_give_what_the_evaluation_gave(tiny):
    loaded, report = tiny
    trials = loaded.trials()
    own = trials[(trials["arm"] == "looped") & (trials["task.kind"] == "parity") & (trials["model.loops"] == 2)]
    for name in ("val_loss", "val_exact"):
        (entry,) = [e for e in report["studies"][0]["loop_counts"] if (e["task"], e["metric"]) == ("parity", name)]
        for depth in (1, 2):
            setting = {"model.depth": depth, "model.loops": 2}
            (line,) = [s for s in entry["series"] if s["setting"] == setting]
            (point,) = [p for p in line["points"] if p["x"] == line["trained_loops"]]
            assert point["mean"] == pytest.approx(own.loc[own["model.depth"] == depth, f"final_{name}"].mean())


def test_a_cell_has_the_loss_the_size_and_the_cost_of_its_configuration(tiny):
    loaded, report = tiny
    (entry,) = [e for e in report["studies"][0]["maps"] if (e["task"], e["metric"]) == ("copy", "val_loss")]
    assert (entry["x"]["axis"], entry["y"]["axis"], len(entry["cells"])) == ("model.loops", "model.depth", 4)
    trials = loaded.trials()
    for cell in entry["cells"]:
        setting = {"task.kind": "copy", "model.loops": cell["x"], "model.depth": cell["y"]}
        trial = next(t for t in loaded.wanted if t.arm == "looped" and dict(t.varied) == setting)
        rows = trials[(trials["model.loops"] == cell["x"]) & (trials["model.depth"] == cell["y"])]
        assert cell["mean"] == pytest.approx(rows.loc[rows["task.kind"] == "copy", "final_val_loss"].mean())
        assert cell["parameters"] == parameters(trial.config)
        assert cell["flops_alone"] == [flops_alone(trial.config)] * 2
