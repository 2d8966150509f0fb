"""Claims about what is told of one trial and of two: stages, criteria, switches, and the steps they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.config import ScheduleConfig, StageConfig, TrainConfig, TrialConfig
from studies.expand import Trial
from studies.store import Store
from studies.watchers import ended_at, resolved
from sweeps.show import chain, facts, said, shared_steps
from tests.studies.rows import of_config, recorded, segment


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def trial(**schedule: Any) -> Trial:
    train = TrainConfig(steps=100, evaluate_every=25)
    return of_config(TrialConfig(train=train, schedule=ScheduleConfig(**schedule)), "arm", {})


WAITING = trial(kind="shift-scp", check_every=25, latest=80, delta1=1e-9)
SINGLE, EARLY, LATE = trial(kind="single"), trial(kind="shift", switch=30), trial(kind="shift", switch=90)


def check(store: Store, *steps: int) -> None:
    """Records checks, with all else up to where they are, on the lineage of one loop."""
    lineage = WAITING.links[0].lineage
    store.commit(
        {
            "segments": [segment(lineage, s, s, checked=[s], evaluated=[], observed=f'{{"check":{s}}}') for s in steps],
            "checks": [{"lineage": lineage, "step": s, "val_loss": 3 - s / 100, "grad_norm": float(s)} for s in steps],
        }
    )


def test_of_a_trial_that_waits_is_told_what_is_known(store: Store) -> None:
    store.commit(recorded([SINGLE]))
    check(store, 25)
    told = facts([WAITING], store)
    assert (told["status"], told["waits"], told["flops_alone"]) == (None, True, None)
    assert [row["step"] for row in told["metrics"]] == [0, 25, 50]
    assert [row["step"] for row in told["checks"]] == [25]
    (one,) = told["criteria"]
    assert (one["stage"], one["ended"], one["fired"], one["latest"], one["delta1"]) == (0, None, None, 80, 1e-9)
    assert told["switch"]["switch_step"] is None


def test_of_a_trial_whose_criterion_ended_is_told_where_and_what_the_switch_cost(store: Store) -> None:
    check(store, 25, 50, 75)
    (done,) = resolved([WAITING], store)
    rows = recorded([done])
    detail = '{"loops":[1,3],"val_accuracy":0.5,"val_loss":4.0}'
    rows["events"] = [{"lineage": done.links[1].lineage, "step": 80, "kind": "switch", "detail": detail}]
    store.commit(rows)
    told = facts([done], store)
    assert json.loads(json.dumps(told)) == told | {"config": json.loads(json.dumps(told["config"]))}
    (one,) = told["criteria"]
    assert (one["ended"], one["fired"]) == (80, False)
    assert [(link["start"], link["end"], link["loops"]) for link in told["chain"]] == [(0, 80, 1), (80, 100, 3)]
    before = 3 - 80 / 100
    assert told["switch"] == {
        "switch_step": 80,
        "switches": 1,
        "switch_val_loss_before": before,
        "switch_val_loss_after": 4.0,
        "switch_drop": 4.0 - before,
        "switch_val_accuracy_before": 0.8,
        "switch_val_accuracy_after": 0.5,
        "switch_recovery_steps": 20,
    }
    assert [event["kind"] for event in told["events"]] == ["switch", "watcher", "recovery"]
    assert told["status"] == "ok"


def test_states_on_the_chain_are_listed_kept_or_passing(store: Store) -> None:
    first, second = EARLY.links
    other = LATE.links[1]
    places = [(second.lineage, 100, ""), (first.lineage, 30, ""), (first.lineage, 20, ".passing")]
    for lineage, step, kind in [*places, (first.lineage, 40, ""), (other.lineage, 100, "")]:
        path = store.root / "checkpoints" / lineage[:2] / f"{lineage}-{step}{kind}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shown = [Path(name).name for name in facts([EARLY], store)["files"]]
    assert shown == [f"{lineage}-{step}{kind}.safetensors" for lineage, step, kind in reversed(places)]


def test_a_chain_says_what_begins_to_act(store: Store) -> None:
    stages = (StageConfig(loops=1, until=20), StageConfig(loops=2, lr_factor=0.5, rewarm=5, optimizer="reset"))
    one = trial(kind="stages", stages=stages)
    assert [link["acts"] for link in chain(one)] == [
        None,
        "learning rate × 0.5, warm-up of 5 updates, optimiser reset",
    ]
    assert said(one.config, "train.steps") == 100
    assert json.loads(said(one.config, "schedule.stages"))[1]["lr_factor"] == 0.5
    assert facts([one], store)["acting"]["schedule.kind"] == "stages"


def test_two_trials_share_steps_as_far_as_they_are_known_to(store: Store) -> None:
    assert shared_steps(EARLY, LATE, store) == (30, False)
    assert shared_steps(EARLY, trial(kind="looped"), store) == (0, False)
    # Nothing is checked: whoever waits trains at least to its first check, at step 25.
    assert shared_steps(WAITING, EARLY, store) == (25, True)
    assert shared_steps(WAITING, trial(kind="shift", switch=10), store) == (10, False)
    other = trial(kind="shift-scp", check_every=10, latest=80, delta1=1e-9)
    assert shared_steps(WAITING, other, store) == (10, True)
    check(store, 25, 50)
    assert shared_steps(WAITING, LATE, store) == (75, True)
    done = ended_at(WAITING, 80)
    assert shared_steps(done, trial(kind="shift", switch=80), store) == (100, False)
    assert shared_steps(done, LATE, store) == (80, False)
