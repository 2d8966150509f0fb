"""The worker function: what it commits, when, and what it says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import pytest

from core.config import MeasureConfig
from core.observation import NOTHING, Asked, with_measure
from studies.keys import observed
from studies.store import Store
from sweeps.executor import Committed, Event, Finished, LaneOutcome, Lost, Progress, Started
from sweeps.training import train_unit
from sweeps.unit_rows import unsound
from sweeps.units import Bundle, Lane, unit
from sweeps.worker import COMMIT_UNITS, Context, kind_of, reason_of, run_bundle
from tests.sweeps.work import bundle, lane


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def run(made: Bundle, store: Store, *, drained_after: int = 10**9) -> list[Event]:
    """All events; drains once so many units have started."""
    events: list[Event] = []
    run_bundle(
        made,
        store.root,
        events.append,
        drain=lambda: sum(isinstance(event, Started) for event in events) >= drained_after,
    )
    return events


def train(store: Store, *packs: Sequence[Lane], **terms: float) -> list[LaneOutcome]:
    events = run(Bundle(id="b", units=tuple(unit(lanes) for lanes in packs), **terms), store)  # type: ignore[arg-type]
    assert isinstance(events[-1], Finished), events[-1]
    committed = (event for event in events if isinstance(event, Committed))
    return [each for event in committed for outcome in event.outcomes for each in outcome.lanes]


def test_quick_units_are_committed_in_groups_and_reported_after(store: Store) -> None:
    events = run(bundle("quick", *([lane(seed)] for seed in range(COMMIT_UNITS + 6))), store)
    groups = [len(event.outcomes) for event in events if isinstance(event, Committed)]
    # A slow disk may make a group shorter, never longer.
    assert sum(groups) == COMMIT_UNITS + 6
    assert max(groups) <= COMMIT_UNITS
    assert len(list((store.root / "records").iterdir())) == len(groups) < 10


def test_a_row_of_segments_says_what_was_asked_how_it_ended_and_how_it_ran(store: Store) -> None:
    pair = [lane(1), lane(2)]
    assert train(store, pair) == [LaneOutcome(status="ok", reached=20)] * 2
    rows = {row["lineage"]: row for row in store.read("segments").to_pylist()}
    row = rows[pair[0].lineage]
    assert (row["start"], row["end"], row["reached"], row["status"]) == (0, 20, 20, "ok")
    assert row["evaluated"] == [0, 10, 20]
    assert row["observed"] == observed(Asked((0, 10, 20)), pair[0].config.measure)
    assert (row["pack_size"], row["attempts"], row["generation"], row["error"]) == (2, 1, 0, None)
    assert row["numerics_class"].startswith("cpu-")
    assert row["started_at"].tzinfo is not None
    assert row["started_at"].astimezone(UTC) <= row["finished_at"].astimezone(UTC)
    assert json.loads(row["provenance"])["threads"] == 1
    assert {r["step"] for r in store.read("metrics").to_pylist()} == {0, 10, 20}


def test_a_divergence_is_recorded_up_to_its_last_finite_step(store: Store) -> None:
    wild = lane(3, optimizer="sgd", lr=1000.0, steps=40)
    tame = lane(4, optimizer="sgd", steps=40)
    diverged, ok = train(store, [wild, tame])
    assert (diverged.status, ok) == ("diverged", LaneOutcome(status="ok", reached=40))
    rows = {row["lineage"]: row for row in store.read("segments").to_pylist()}
    row = rows[wild.lineage]
    assert (row["status"], row["end"], row["reached"]) == ("diverged", 40, diverged.reached)
    assert row["reached"] < 40
    assert max(row["evaluated"]) <= row["reached"]
    (event,) = store.read("events").to_pylist()
    assert (event["lineage"], event["kind"], event["step"]) == (wild.lineage, "divergence", diverged.reached + 1)
    assert not store.checkpoint(wild.lineage, 40).exists()
    assert store.checkpoint(tame.lineage, 40).exists()


def test_curvature_is_recorded_with_what_it_was_measured_on(store: Store) -> None:
    base = lane(5)
    config = with_measure(base.config, MeasureConfig(quantities=("lambda_max",), at=(20,), probe=8))
    train(store, [dataclasses.replace(base, config=config, asked=Asked(base.asked.evaluate, (20,)))])
    (row,) = store.read("curvature").to_pylist()
    assert (row["lineage"], row["step"]) == (base.lineage, 20)
    assert json.loads(row["observed"]) == {"lambda_max": {"probe": 8, "products": 256}}
    assert row["lambda_max"] is not None
    (segment,) = store.read("segments").to_pylist()
    assert segment["measured"] == [20]
    assert 0 < segment["measured_s"] <= segment["spent_s"]


def test_a_measurement_that_gave_no_number_is_told(store: Store) -> None:
    row = {"lineage": "a" * 16, "step": 20}
    reason = "products failed: the product is not symmetric: |uᵀHv − vᵀHu| is 2.0e-03 of ‖Hu‖ + ‖Hv‖"
    wrong = row | {"method": {"lambda_max": reason, "trace": reason}}
    partly = row | {"method": {"lambda_max": "lanczos", "edge": "lanczos failed: no preconditioner"}}
    assert unsound([partly, wrong]) == (f"curvature of {'a' * 16} at step 20 has no numbers: {reason}",)


def test_time_is_up_ends_a_unit_at_a_block_with_its_state_saved(store: Store) -> None:
    long = lane(6, steps=400)
    (outcome,) = train(store, [dataclasses.replace(long, checkpoint=False)], checkpoint_seconds=0.0)
    assert outcome.status == "ok"
    assert 0 < outcome.reached < 400
    assert store.checkpoint(long.lineage, outcome.reached, passing=True).exists()
    (row,) = store.read("segments").to_pylist()
    assert row["end"] == row["reached"] == outcome.reached
    rest = dataclasses.replace(lane(6, steps=400, start=outcome.reached), checkpoint=False)
    assert train(store, [rest]) == [LaneOutcome(status="ok", reached=400)]
    assert not store.checkpoint(long.lineage, 400).exists()


def test_a_lane_whose_state_is_gone_does_not_begin_and_its_pack_trains(store: Store) -> None:
    train(store, [lane(7, end=10)])
    there, gone = lane(7, start=10), lane(8, start=10)
    assert train(store, [gone, there]) == [
        LaneOutcome(status="ok", reached=10),
        LaneOutcome(status="ok", reached=20),
    ]
    assert gone.lineage not in store.read("segments")["lineage"].to_pylist()
    assert train(store, [gone]) == [LaneOutcome(status="ok", reached=10)]


def test_losses_are_told_by_lane_of_the_unit_also_where_one_did_not_begin(store: Store) -> None:
    """As where another driver has removed a passing state: the driver that is told knows the unit, not who began."""
    train(store, [lane(7, end=10)])
    told: list[list[float | None]] = []
    context = Context(
        store=store,
        device="cpu",
        engine="eager",
        stop=lambda _step: False,
        progress=lambda _step, losses: told.append(list(losses)),
    )
    train_unit(unit([lane(8, start=10), lane(7, start=10)]), context)
    assert told
    assert all(gone is None and there is not None for gone, there in told)


def test_a_replay_saves_its_state_and_records_nothing(store: Store) -> None:
    replay = dataclasses.replace(lane(9), asked=NOTHING, record=False)
    assert train(store, [replay]) == [LaneOutcome(status="ok", reached=20)]
    assert store.checkpoint(replay.lineage, 20).exists()
    assert store.read("segments").num_rows == 0


def test_a_drain_begins_no_further_unit(store: Store) -> None:
    events = run(bundle("b", [lane(1)], [lane(2)]), store, drained_after=1)
    assert isinstance(events[-1], Finished)
    assert [type(event) for event in events] == [Started, Committed, Finished]


def test_progress_is_told_now_and_then(store: Store) -> None:
    events = run(bundle("b", [lane(1, steps=40)], work="patient"), store)  # 0.8 s
    told = [event for event in events if isinstance(event, Progress)]
    assert 1 <= len(told) <= 6
    assert all(event.losses == (float(event.step),) for event in told)


def test_a_store_that_refuses_is_no_fault_of_the_unit(store: Store) -> None:
    (store.root / "records").write_text("in the way")
    end = run(bundle("b", [lane(1)]), store)[-1]
    assert isinstance(end, Lost)
    assert end.kind == "store"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (ValueError("anything else"), "failed"),
    ],
)
def test_kinds_of_errors(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_reasons_are_one_line_of_bounded_length() -> None:
    reason = reason_of(ValueError("a\n  b\n" + "c" * 1000))
    assert reason.startswith("ValueError: a b c")
    assert len(reason) == 300
