"""Claims about metrics as matrices: what is read a column at a time is what the frame of all columns says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

import studies
from core.errors import InputError
from reports import stats
from reports.metrics import Metrics
from studies.store import Store
from tests.studies.rows import recorded, trial

TRIALS = [trial(seed=s) for s in (0, 1)] + [trial("shift", seed=s, switch=w) for w in (0.25, 0.5) for s in (0, 1)]
DENSE = [trial(seed=0, evaluate_every=10)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Results of trials that share trunks, of which another study has evaluated one more often."""
    store = Store.open(tmp_path_factory.mktemp("wide") / "store", create=True)
    store.commit(recorded(TRIALS))
    store.commit(recorded(DENSE))
    found = studies.load("quickstart", store=store)
    found.wanted = TRIALS
    found._views = type(found._views)(TRIALS, store)
    return found


@pytest.mark.parametrize("name", ["val_loss", "val_accuracy", "val_loss_low_ic", "loops", "stage", "tokens"])
def test_a_wide_metric_is_the_frame_turned(loaded, name):
    frame = loaded.metrics()
    turned = frame.pivot(index="trial_id", columns="step", values=name).astype(float)
    wide = loaded.wide(name)
    assert wide.index.tolist() == turned.index.tolist()
    assert wide.columns.tolist() == turned.columns.tolist()
    np.testing.assert_array_equal(wide.to_numpy(), turned.to_numpy())


def test_what_has_a_value_is_known_and_what_is_no_metric_is_refused(loaded):
    frame = loaded.metrics()
    there = [c for c in frame.columns if c not in ("trial_id", "step") and frame[c].notna().any()]
    assert loaded.evaluated() == there
    with pytest.raises(InputError, match="did you mean 'val_loss'"):
        loaded.wide("val_los")


def test_metrics_read_each_column_once_and_know_the_last_step(loaded):
    read = []
    metrics = Metrics(loaded.evaluated(), lambda name: read.append(name) or loaded.wide(name))
    last = loaded.metrics().groupby("trial_id")["step"].max()
    assert metrics.last_steps() == {key: int(step) for key, step in last.items()}
    assert metrics.wide("val_loss").shape == metrics.wide("val_loss").shape
    assert metrics.wide("nothing").empty
    assert read == ["val_loss"]


def test_half_widths_are_scipys():
    values = np.random.default_rng(0).normal(size=(6, 5))
    mean, half = stats.t_intervals(values)
    low, high = scipy_stats.t.interval(0.95, 5, loc=values.mean(axis=0), scale=scipy_stats.sem(values))
    np.testing.assert_allclose(mean - half, low, rtol=1e-12)
    np.testing.assert_allclose(mean + half, high, rtol=1e-12)
    assert stats.t_intervals(values[:1])[1] is None
    assert math.isfinite(float(half.max()))
