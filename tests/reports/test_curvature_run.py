"""A real run, measured, and its report: the numbers of the panels are those of the views."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import studies
from core.quantities import THRESHOLDS
from reports.build import build, to_text
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.sweeps.direct import Direct

STUDY = """
name = "tiny"
question = "Do the panels say what was measured?"
seeds = 2

[base]
task = { kind = "markov", states = 5, chains = 4, length = 4, val_size = 16 }
model = { width = 4, loops = 2, mlp_ratio = 0 }
train = { steps = 20, batch = 8, evaluate_every = 10, lr = 0.05, optimizer = "sgd", momentum = 0.5 }

[arms.single]
schedule.kind = "single"

[arms.looped]
schedule.kind = "looped"

[measure]
quantities = ["lambda_max", "entropy", "spectrum", "cumulative_force", "eigenvalues", "loop_parts"]
every = 10
probe = 4
top = 2

[[claims]]
text = "Looped-Attn has more force along its river"
metric = "force_at(0.02)"
arm = "looped"
against = "single"
expect = "higher"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.toml"
    path.write_text(STUDY)
    asked, store = load_study(path), Store.open(folder / "store", create=True)
    assert run(lambda: wanted(asked, store), store, Direct(store.root), pack=4).counts == {"ok": 4}
    loaded = studies.load(asked, store=store)
    return loaded, json.loads(to_text(build([(asked, loaded)], command="x")))


def test_the_panels_are_the_views_averaged(tiny):
    loaded, report = tiny
    panels = report["studies"][0]["panels"]
    trials = loaded.trials().set_index(["arm", "seed"])["trial_id"]
    spectra = loaded.spectra().set_index(["trial_id", "step"])["eigenvalues"]
    top = [np.abs(spectra[trials["looped", seed], 20]).max() for seed in range(2)]
    ranks = panels["ranks"]
    assert ranks["step"] == 20
    assert ranks["series"][1]["points"][0]["mean"] == pytest.approx(math.exp(np.mean(np.log(top))))
    curves = loaded.curves()
    force = curves[(curves["quantity"] == "cumulative_force") & (curves["step"] == 20)]
    force = force.set_index(["trial_id", "x"])["y"]
    (panel,) = [entry for entry in panels["curves"] if entry["quantity"] == "cumulative_force"]
    for point in panel["series"][0]["points"]:
        values = [force[trials["single", seed], point["x"]] for seed in range(2)]
        assert point["mean"] == pytest.approx(math.exp(np.mean(np.log(values))))
    last = min(THRESHOLDS, key=lambda x: abs(math.log(x / 0.02)))
    ratios = [math.log(force[trials["looped", s], last] / force[trials["single", s], last]) for s in range(2)]
    assert report["claims"][0]["effect"] == pytest.approx(np.mean(ratios))


def test_ends_agree_with_the_spectrum_and_the_limit_is_that_of_heavy_ball(tiny):
    loaded, report = tiny
    fan = report["studies"][0]["panels"]["fans"][0]
    assert (fan["arm"], fan["optimizer"]) == ("single", "sgd")
    assert [point["value"] for point in fan["limit"]] == pytest.approx([(2 + 2 * 0.5) / 0.05] * len(fan["limit"]))
    assert {point["step"] for point in fan["limit"]} >= {10, 20}
    trials = loaded.trials().set_index(["arm", "seed"])["trial_id"]
    spectra = loaded.spectra().set_index(["trial_id", "step"])["eigenvalues"]
    second = next(r for r in fan["ranks"] if (r["end"], r["rank"]) == ("bottom", 2))["points"][-1]
    want = [spectra[trials["single", seed], 20][1] for seed in range(2)]
    assert second["mean"] == pytest.approx(-math.exp(np.mean(np.log(-np.array(want)))), rel=1e-4)


def test_what_one_loop_cannot_have_is_a_failure_with_its_reason(tiny):
    _, report = tiny
    how = {row["quantity"]: row for row in report["studies"][0]["panels"]["how"]}
    assert how["cross_loop_trace"]["failures"] == [{"reason": "one loop", "arms": {"single": 6}}]
    assert (how["lambda_max"]["failed"], how["lambda_max"]["measurements"]) == (0, 12)
