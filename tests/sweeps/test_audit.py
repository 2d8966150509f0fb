"""An audit finds rows that the configuration does not give, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import MeasureConfig
from core.observation import with_measure
from studies.expand import Trial
from studies.store import Store
from sweeps.audit import audit, sample
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.direct import Direct
from tests.sweeps.work import config, of_config, trial

TRIALS = [trial(seed, kind="shift", steps=40, switch=switch) for switch in (10, 25) for seed in range(2)] + [
    trial(3, kind="looped", steps=40, optimizer="sgd", lr=1000.0)
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store", create=True)
    result = run(lambda: TRIALS, store, Direct(store.root), limits=Limits(), pack=4)
    assert result.counts == {"ok": 4, "diverged": 1}
    return store


def test_packed_branched_and_diverged_trials_have_the_bits_they_have_alone(store: Store) -> None:
    records = len(list((store.root / "records").iterdir()))
    found = audit(TRIALS, store, Direct(store.root), share=1.0)
    assert (found.trials, found.skipped, found.mismatches, found.exit_code) == (5, 0, (), 0)
    assert found.rows > 20
    assert len(list((store.root / "records").iterdir())) == records  # nothing is written


def test_measured_curvature_is_compared_by_its_bits_too(tmp_path: Path) -> None:
    measured = with_measure(
        config(1, kind="shift", steps=20), MeasureConfig(quantities=("lambda_max",), at=(10, 20), probe=8)
    )
    trials, store = [of_config(measured)], Store.open(tmp_path / "measured", create=True)
    run(lambda: trials, store, Direct(store.root), limits=Limits())
    found = audit(trials, store, Direct(store.root), share=1.0)
    assert (found.mismatches, found.rows) == ((), 3 + 2)
    row = store.read("curvature").to_pylist()[0]
    segment = next(s for s in store.read("segments").to_pylist() if s["lineage"] == row["lineage"] and s["measured"])
    wrong = row | {"error": [(name, value * (1 + 2**-52)) for name, value in row["error"]]}
    store.commit({"segments": [segment | {"generation": 1}], "curvature": [wrong]})
    (mismatch,) = audit(trials, store, Direct(store.root), share=1.0).mismatches
    assert f"curvature at step {row['step']}: error of lambda_max is recorded as" in mismatch


def test_quantities_that_were_measured_later_are_compared_one_by_one(tmp_path: Path) -> None:
    """What stands beside a number in its row, and so the row's key, depends on what was missing at the time."""
    store = Store.open(tmp_path / "later", create=True)

    def asking(*quantities: str) -> list[Trial]:
        measure = MeasureConfig(quantities=quantities, at=(0, 20), probe=8)
        return [of_config(with_measure(config(seed, steps=20), measure)) for seed in range(2)]

    run(lambda: asking("lambda_max"), store, Direct(store.root), limits=Limits())
    run(lambda: asking("lambda_max", "lambda_min", "eigenvalues"), store, Direct(store.root), limits=Limits())
    found = audit(asking("lambda_min", "eigenvalues", "lambda_max"), store, Direct(store.root), share=1.0)
    assert found.mismatches == ()
    assert found.rows == 2 * (3 + 2 * (3 + 20))  # evaluations; at two steps three quantities and 20 points of curves


def test_one_changed_bit_is_found_and_named(store: Store) -> None:
    rows = store.read("metrics").to_pylist()
    segments = store.read("segments").to_pylist()
    row = next(row for row in rows if row["lineage"] == TRIALS[1].links[1].lineage and row["step"] == 40)
    segment = next(s for s in segments if s["lineage"] == row["lineage"])
    wrong = row["val_loss"] + 2**-50
    store.commit({"segments": [segment | {"generation": 1}], "metrics": [row | {"val_loss": wrong}]})
    found = audit(TRIALS, store, Direct(store.root), share=1.0)
    assert found.exit_code == 3
    (mismatch,) = found.mismatches
    expected = f"{TRIALS[1].trial_id} metrics at step 40: val_loss is recorded as {wrong.hex()}, recomputed "
    assert mismatch.startswith(expected)


def test_rows_of_another_numerics_class_are_counted_and_not_compared(store: Store) -> None:
    rows = store.read("metrics").to_pylist()
    segments = store.read("segments").to_pylist()
    lineage = TRIALS[1].links[1].lineage
    (segment,) = (s for s in segments if s["lineage"] == lineage)
    theirs = [row | {"val_loss": 9.0} for row in rows if row["lineage"] == lineage]
    elsewhere = segment | {"generation": 1, "numerics_class": "cuda-x/torch-9/eager"}
    store.commit({"segments": [elsewhere], "metrics": theirs})
    found = audit(TRIALS[1:2], store, Direct(store.root), share=1.0)
    assert (found.mismatches, found.skipped) == ((), len(theirs))
    assert found.rows > 0


def test_a_sample_is_the_same_every_time_and_never_empty() -> None:
    many = [trial(seed) for seed in range(50)]
    assert sample(many, 0.1) == sample(many[::-1], 0.1)
    assert [len(sample(many, share)) for share in (1e-9, 0.1, 0.11, 1.0)] == [1, 5, 6, 50]
    assert len(sample([*many, *many], 1.0)) == 50
    assert sample([], 0.5) == []
