"""The explorer's section: in columns, small, the same bytes from the same rows, and right."""

from __future__ import annotations

import json
import re

import pytest

from reports import explorer
from reports.explorer_curves import MOST_POINTS, MOST_STEPS
from reports.tables import Tables
from tests.reports.synthetic import ARMS, Arm, results

LR = [i / 1000 for i in range(1, 21)]
MANY = (
    Arm(name="single", loops=1, axes={"train.lr": LR}),
    Arm(name="looped", axes={"model.loops": [2, 3, 4, 6, 8], "train.lr": LR}),
    Arm(name="shift", switch=1500, axes={"model.loops": [2, 3, 4, 6, 8, 12, 16, 20], "train.lr": LR}),
)


def section(frames, arms=ARMS):
    names = [arm.name for arm in arms]
    return explorer.section([explorer.Source(name="quickstart", arms=names, tables=Tables.read(frames))])


def test_a_trial_has_its_values_and_its_history():
    frames = results(seeds=range(3), ended={("shift", 1): "diverged"})
    found = section(frames)
    place = {key: i for i, key in enumerate(found["trials"]["id"])}
    loss = next(one for one in found["metrics"] if one["name"] == "final_val_loss")["values"]
    history = next(one for one in found["curves"]["metrics"] if one["name"] == "val_loss_low_ic")["curves"]
    assert found["curves"]["single"]
    for trial in frames.trials_.to_dict("records"):
        i = place[trial["trial_id"]]
        assert found["arms"][found["trials"]["arm"][i]] == trial["arm"]
        assert found["trials"]["seed"][i] == trial["seed"]
        rows = frames.metrics_[frames.metrics_["trial_id"] == trial["trial_id"]]
        grid, values = history[i]
        assert found["curves"]["grids"][grid] == rows["step"].tolist()
        assert values == pytest.approx(rows["val_loss_low_ic"].tolist(), rel=1e-4)
        if trial["status"] == "ok":
            assert loss[i] == pytest.approx(trial["final_val_loss"], rel=1e-4)
        else:
            assert loss[i] is None
            assert len(values) == 8


def test_two_thousand_trials_leave_a_page_of_three_megabytes_its_room():
    frames = results(MANY, seeds=range(8), curvature=False)
    found = section(frames, MANY)
    assert len(found["trials"]["id"]) == 2240
    assert not found["curves"]["single"]
    assert len(found["curves"]["lines"]) == 280
    points = sum(len(curve[1]) for one in found["curves"]["metrics"] for curve in one["curves"] if curve)
    assert points <= MOST_POINTS
    assert max(map(len, found["curves"]["grids"])) <= MOST_STEPS
    scripts = explorer.scripts(found, [0] * 3)
    assert sum(len(text.encode()) for text in scripts) < 2_000_000  # leaves 1 MB to figures and tables


def test_a_line_of_a_setting_is_the_mean_over_its_seeds():
    frames = results(MANY, seeds=range(8), curvature=False)
    found = section(frames, MANY)
    curve = next(one for one in found["curves"]["metrics"] if one["name"] == "val_loss")["curves"][7]
    ids = [found["trials"]["id"][i] for i in found["curves"]["lines"][7]]
    own = frames.metrics_[frames.metrics_["trial_id"].isin(ids)].groupby("step")["val_loss"].mean()
    assert len(ids) == 8
    assert curve[1] == pytest.approx(own.loc[found["curves"]["grids"][curve[0]]].tolist(), rel=1e-4)


def test_equal_rows_give_equal_bytes_in_any_order():
    frames = results(seeds=range(3))
    shuffled = type(frames)(
        **{
            name: value.sample(frac=1, random_state=7) if hasattr(value, "sample") else value
            for name, value in vars(frames).items()
        }
    )
    given = [0] * 4
    assert explorer.scripts(section(frames), given) == explorer.scripts(section(shuffled), given)


def test_no_trial_or_too_many_have_no_explorer(monkeypatch):
    frames = results(seeds=range(2))
    assert section(frames.without(frames.trials_["seed"] > 9)) is None
    monkeypatch.setattr(explorer, "MOST_TRIALS", 7)
    assert section(frames) is None
    assert explorer.scripts(None, []) == []
    assert "script-src 'none'" in explorer.policy([])


def test_fields_of_charts_are_ours_alone():
    text = json.dumps(explorer.charts())
    assert set(re.findall(r'"field": "([^"]+)"', text)) <= {"x", "y", "low", "high", "c", "f", "i", "k", "p"}
    assert "expr" not in text
    assert "signal" not in text


def test_a_script_cannot_be_ended_by_a_text():
    found = section(results(seeds=range(2)))
    found["arms"][0] = "</script><!--\u2028"
    given = explorer.scripts(found, [0] * 4)[1]
    assert "</script" not in given
    assert "<!--" not in given
    assert "\\u003c/script>\\u003c!--\\u2028" in given
