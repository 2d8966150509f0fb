"""Loss surfaces in reports: the rise and its cuts are those of the rows, figures say what they show, in words too."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

import studies
from reports import surfaces, words
from reports.build import build, to_text
from reports.figures import arm_colours, draw
from reports.panels import styled
from reports.render import html_report, markdown_report
from reports.surface_figures import levels, surface_figures
from reports.tables import Tables
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.reports.synthetic import ARMS, STEPS, SURFACES_COLUMNS, Arm, claims, results, study
from tests.sweeps.direct import Direct

X = np.linspace(-1.0, 1.0, 9)
LAST = STEPS[-1]


def shape(arm: str, seed: int) -> np.ndarray:
    """A rise: along the first axis a V for looped, else a parabola; along the other a parabola with a slope."""
    steep = (3.0 if arm == "looped" else 1.0) * (1 + 0.1 * seed)
    along = np.abs(X) if arm == "looped" else X**2
    return steep * along[:, None] + 0.5 * X**2 + 0.2 * X


def surfaced(frames, *, without=(), steps=(STEPS[15], LAST)):
    """The same results with surfaces of every finished trial but those `without`: (arm, seed, step)."""
    rows = [
        {
            "trial_id": one["trial_id"],
            "step": step,
            "kind": "top",
            "x": X,
            "y": X,
            "z": (2.0 + step / LAST * shape(one["arm"], one["seed"])).ravel(),
        }
        for one in frames.trials_[frames.trials_["status"] == "ok"].to_dict("records")
        for step in steps
        if (one["arm"], one["seed"], step) not in without
    ]
    return replace(frames, surfaces_=pd.DataFrame(rows, columns=SURFACES_COLUMNS))


def report_of(frames, arms=ARMS):
    return json.loads(to_text(build([(study(claims(arms=arms), arms=arms), frames)], command="x")))


def drawn(report):
    """The figures of surfaces of a report: the others take their time."""
    section = report["studies"][0]
    with styled():
        return list(surface_figures(section["name"], section, arm_colours(report)))


def line(panel, arm):
    return next(one for one in panel["series"] if one["arm"] == arm)


@pytest.fixture(scope="module")
def report():
    return report_of(surfaced(results(seeds=range(3)), without={("looped", 0, LAST)}))


@pytest.fixture(scope="module")
def panel(report):
    return report["studies"][0]["panels"]["surfaces"]


def test_the_surface_is_that_of_the_first_seed_that_has_one_at_the_last_step(panel):
    assert panel["step"] == LAST
    assert [one["arm"] for one in panel["series"]] == [arm.name for arm in ARMS]
    for arm, seed in (("single", 0), ("looped", 1)):
        found = line(panel, arm)["surface"]
        assert found["seed"] == seed
        assert (found["x"], found["y"]) == (X.tolist(), X.tolist())
        assert np.asarray(found["rise"]) == pytest.approx(shape(arm, seed))
        assert found["rise"][4][4] == 0.0
    assert (line(panel, "single")["n"], line(panel, "single")["lost"]) == (3, 0)
    assert (line(panel, "looped")["n"], line(panel, "looped")["lost"]) == (2, 1)


def test_cuts_are_means_over_seeds_with_t_intervals_beside_each_seed(panel):
    first, second = line(panel, "single")["cuts"]
    assert (first["axis"], second["axis"]) == (1, 2)
    assert [one["seed"] for one in first["seeds"]] == [0, 1, 2]
    for cut, along in ((first, lambda z: z[:, 4]), (second, lambda z: z[4])):
        for one in cut["seeds"]:
            assert one["rise"] == pytest.approx(along(shape("single", one["seed"])))
        assert [point["x"] for point in cut["points"]] == X.tolist()
        ends = [along(shape("single", seed))[-1] for seed in range(3)]
        assert cut["points"][-1]["mean"] == pytest.approx(np.mean(ends))
    ends = [shape("single", seed)[-1, 4] for seed in range(3)]
    low, high = scipy_stats.ttest_1samp(ends, 0).confidence_interval(0.95)
    assert (first["points"][-1]["low"], first["points"][-1]["high"]) == (pytest.approx(low), pytest.approx(high))


def test_the_exponent_tells_a_v_from_a_parabola_whatever_the_slope(panel):
    found = {arm: [cut["exponent"]["mean"] for cut in line(panel, arm)["cuts"]] for arm in ("single", "looped")}
    assert found == {"single": [pytest.approx(2.0)] * 2, "looped": [pytest.approx(1.0), pytest.approx(2.0)]}
    for power in (0.5, 1.0, 3.0):
        assert surfaces.exponent(X, np.abs(X) ** power + 0.3 * X) == pytest.approx(power)
        odd = np.linspace(-1.0, 1.0, 7)  # three places on either side: half the way is one of three
        assert surfaces.exponent(odd, np.abs(odd) ** power) == pytest.approx(power)
    assert surfaces.exponent(X, -(X**2)) is None
    assert surfaces.exponent(X, 0.3 * X) is None
    assert surfaces.exponent(np.array([-1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0])) is None


def test_without_surfaces_there_is_no_panel_and_no_figure():
    report = report_of(results(seeds=range(2)))
    assert report["studies"][0]["panels"]["surfaces"] is None
    assert not drawn(report)


def test_the_figures_say_in_words_what_they_show(report):
    contours, cuts = [d for d in draw(report) if d.kind == "surfaces"]
    assert "looped (seed 1) from" in contours.alt
    assert f"single (seed 0) from {words.number(float(shape('single', 0).min()))} to 1.70" in contours.alt
    assert "single 1.10 at −1.00 and 1.10 at 1.00, exponent 2.00 [2.00, 2.00]" in cuts.alt
    assert "exponent 1.00" in cuts.alt
    assert "trials without it, left out: looped 1" in cuts.alt
    page, text = html_report(report, [contours, cuts]), markdown_report(report, [contours, cuts])
    for drawing in (contours, cuts):
        assert drawing.svg in page
        assert f"figures/{drawing.name}.svg" in text
    assert "The loss around the last measured state" in page


def test_all_surfaces_share_axes_levels_and_colours(report):
    (contours, _) = drawn(report)
    for heading in ("single, seed 0", "looped, seed 1", "shift, seed 0", "depth-matched, seed 0"):
        assert contours.svg.count(heading) == 1
    assert contours.svg.count("rise (nats/token)") == 1, "one scale for all"


def test_a_line_that_is_a_mean_over_settings_has_cuts_and_its_best_setting_has_a_surface_too():
    arms = (Arm(name="single", loops=1), Arm(name="looped", axes={"train.lr": [n / 1000 for n in range(1, 10)]}))
    report = report_of(surfaced(results(arms, seeds=range(2))), arms=arms)
    panel = report["studies"][0]["panels"]["surfaces"]
    mean, best = (one for one in panel["series"] if one["arm"] == "looped")
    assert (mean["settings"], mean["best"], mean["surface"]) == (9, False, None)
    assert best["best"]
    assert best["surface"]["seed"] == 0
    assert len(mean["cuts"][0]["seeds"]) == 18
    assert mean["cuts"][0]["points"][0]["n"] == 2, "n counts seeds"
    assert {d.name for d in drawn(report)} == {"quickstart-surfaces", "quickstart-surface-cuts"}


def test_levels_are_1_and_3_times_powers_of_ten_below_the_highest():
    assert levels(6.5) == pytest.approx([0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
    assert levels(0.02) == pytest.approx([1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
    assert levels(0.0) == [1.0]
    assert all(math.isfinite(edge) for edge in levels(1e-300))


def test_a_flat_surface_is_drawn_too():
    frames = surfaced(results(ARMS[:2], seeds=range(2)))
    flat = frames.surfaces_.assign(z=[np.full(81, 2.0)] * len(frames.surfaces_))
    report = report_of(replace(frames, surfaces_=flat), arms=ARMS[:2])
    contours, cuts = drawn(report)
    assert "from 0 to 0" in contours.alt
    assert "no exponent" in cuts.alt


def test_rows_are_read_by_trial_and_step():
    frames = surfaced(results(ARMS[:1], seeds=range(1)))
    ((trial, by_step),) = surfaces.read(Tables.read(frames)).items()
    assert trial == frames.trials_["trial_id"].iloc[0]
    assert sorted(by_step) == [STEPS[15], LAST]
    assert by_step[LAST].z == pytest.approx(2.0 + shape("single", 0))


STUDY = """
name = "tiny"
question = "Is what a report shows what was measured?"
seeds = 2
[base]
task = { kind = "markov", states = 5, chains = 4, length = 4, val_size = 16 }
model = { width = 4, loops = 2, mlp_ratio = 0 }
train = { steps = 10, batch = 8 }
[arms.single]
schedule.kind = "single"
[arms.looped]
[measure]
quantities = ["loss_surface"]
probe = 4
points = 2
radius = 0.5
"""


def test_of_a_real_run_the_panel_has_the_losses_of_the_view(tmp_path):
    (tmp_path / "tiny.toml").write_text(STUDY)
    asked, store = load_study(tmp_path / "tiny.toml"), Store.open(tmp_path / "store", create=True)
    assert run(lambda: wanted(asked, store), store, Direct(store.root), pack=4).counts == {"ok": 4}
    loaded = studies.load(asked, store=store)
    panel = json.loads(to_text(build([(asked, loaded)], command="x")))["studies"][0]["panels"]["surfaces"]
    assert panel["step"] == 10
    ids = loaded.trials().set_index(["arm", "seed"])["trial_id"]
    rows = loaded.surfaces().set_index("trial_id")
    for arm in ("single", "looped"):
        losses = np.asarray(rows.loc[ids[arm, 0], "z"]).reshape(5, 5)
        found = line(panel, arm)
        assert np.asarray(found["surface"]["rise"]).tolist() == (losses - losses[2, 2]).tolist()
        assert found["surface"]["x"] == [-0.5, -0.25, 0.0, 0.25, 0.5]
        assert found["cuts"][1]["seeds"][0]["rise"] == (losses[2] - losses[2, 2]).tolist()
        assert found["n"] == 2
