"""Claims about what is told of one trial and of two: stages, criteria, switches, and the steps they share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config import MeasureConfig, TrainConfig, TrialConfig
from core.schedule_terms import ScheduleConfig, StageConfig
from studies.expand import Trial
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from studies.watchers import ended_at, resolved
from sweeps.cli import execute
from sweeps.commands_results import HIDDEN, _grid
from sweeps.show import chain, facts, said, shared_steps
from sweeps.show_curvature import failures
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


def asking(*quantities: str, study: str = "a", probe: int = 32) -> Trial:
    """One trial as a study asks for it to be measured, at steps 50 and 100."""
    measure = MeasureConfig(quantities=quantities, at=(50, 100), probe=probe)
    return replace(of_config(replace(SINGLE.config, measure=measure), "arm", {}), study=study)


def measure(store: Store, one: Trial, **values: Any) -> None:
    """Records a measurement, with these values in place of the largest eigenvalue."""
    rows = recorded([one])
    rows["curvature"] = [
        {key: row[key] for key in ("lineage", "step", "observed")} | values for row in rows["curvature"]
    ]
    store.commit(rows)


def test_quantities_added_later_stand_in_the_row_of_their_step(store: Store) -> None:
    """There were two rows at one step, each without the other's numbers."""
    measure(store, asking("lambda_max"), lambda_max=2.0)
    measure(store, asking("lambda_min"), lambda_min=-1.0)
    for uses in ([asking("lambda_max", "lambda_min")], [asking("lambda_max"), asking("lambda_min", study="b")]):
        rows = facts(uses, store)["curvature"]
        assert [(row["step"], row["lambda_max"], row["lambda_min"]) for row in rows] == [
            (50, 2.0, -1.0),
            (100, 2.0, -1.0),
        ]
        assert "study" not in rows[0]
    older, newer = asking("lambda_max"), asking("lambda_max", "lambda_min")
    assert facts([older], store, asking=[older, newer])["curvature"] == rows


def test_studies_that_measure_with_other_settings_have_rows_of_their_own(store: Store) -> None:
    a, b = asking("lambda_max"), asking("lambda_max", "lambda_min", study="b", probe=8)
    measure(store, a, lambda_max=2.0)
    measure(store, b, lambda_max=3.0, lambda_min=-1.0)
    both = facts([a, b], store)["curvature"]
    assert [(row["study"], row["step"], row["lambda_max"], row["lambda_min"]) for row in both] == [
        ("a", 50, 2.0, None),
        ("a", 100, 2.0, None),
        ("b", 50, 3.0, -1.0),
        ("b", 100, 3.0, -1.0),
    ]
    assert [(row["step"], row["lambda_max"]) for row in facts([a, b], store, asking=[b])["curvature"]] == [
        (50, 3.0),
        (100, 3.0),
    ]
    texts = facts([a], store, asking=[a, asking("lambda_max", probe=8)])["curvature"]
    assert [(row["study"], row["lambda_max"]) for row in texts] == [
        ("a", 2.0),
        ("a", 2.0),
        ("a (text 2)", 3.0),
        ("a (text 2)", 3.0),
    ]


def test_what_could_not_be_measured_is_said_once_for_each_reason() -> None:
    zero = {"edge": "lanczos failed: the moments are zero", "trace": "exact"}
    loops = {"cross_loop_trace": "exact failed: one loop", "cross_loop_lambda_max": "exact failed: one loop"}
    rows = [{"step": 0, "method": zero | loops}, {"step": 40, "method": loops}, {"step": 50}]
    assert failures(rows) == [
        "step 0: edge: the moments are zero",
        "steps 0, 40: cross_loop_trace, cross_loop_lambda_max: one loop",
    ]
    assert failures([rows[0] | {"study": "a"}])[0] == "a, step 0: edge: the moments are zero"
    assert failures([{"step": 0, "method": None}]) == []


STUDY = """
name = "{name}"
question = "How sharp is it?"
seeds = 1
[base.train]
steps = 4
[arms.looped]
[measure]
quantities = ["lambda_max", "edge"]
at = [4]
probe = {probe}
"""


def test_the_text_has_numbers_and_failures_of_the_study_that_is_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had the methods as a dictionary in each line, and the numbers of studies that were not named."""
    paths = {name: tmp_path / f"{name}.toml" for name in ("first", "second")}
    for (name, path), (probe, number) in zip(paths.items(), ((4, 2.5), (8, 7.5)), strict=True):
        path.write_text(STUDY.format(name=name, probe=probe))
        store.keep_study(path.read_bytes())
        (one,) = wanted(load_study(str(path)), store)
        methods = {"lambda_max": "lanczos", "edge": "lanczos failed: the moments are zero"}
        measure(store, one, lambda_max=number, method=methods)
    for named, shown in (("first", ["2.5"]), ("second", ["7.5"]), (None, ["first", "2.5", "second", "7.5"])):
        arguments = ["show", one.trial_id, "--store", str(store.root)]
        assert execute(arguments + (["--study", str(paths[named])] if named else [])) == 0
        section = capsys.readouterr().out.split("\ncurvature")[1].split("\n\nruns")[0]
        assert [word for word in ("first", "2.5", "second", "7.5") if word in section.split("not measured")[0]] == shown
        assert "lanczos" not in section
        assert "step 4: edge: the moments are zero" in section


def test_people_are_shown_ranges_of_lengths_and_no_single_ones() -> None:
    names = ["step", "val_loss", "val_exact", "val_exact_trained", "val_exact_longer"]
    lengths = [f"{name}_len_{n}" for name in ("val_loss", "val_accuracy", "val_exact") for n in (1, 12)]
    head = _grid([dict.fromkeys([*names, *lengths], 0.5)], hidden=HIDDEN).splitlines()[0]
    assert head.split() == names
