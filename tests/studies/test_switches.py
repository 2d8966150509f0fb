"""Claims about what views say of switches and criteria: each column and event is what a reader of rows would find."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from core.alone import train_alone
from core.config import ModelConfig, TrainConfig, TrialConfig
from core.flops import flops_alone, link_flops
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig
from core.task_terms import MarkovTask
from core.watch import Check, ending
from studies.expand import Trial
from studies.keys import shape_key
from studies.schemas import TABLES
from studies.spec import parse_study
from studies.store import Store
from studies.switches import watched
from studies.views import VIEWS, open_views
from studies.wanted import wanted
from studies.watchers import ended_at, resolved
from sweeps.run import Limits, run
from tests.studies.rows import metrics, of_config, recorded, segment, trial
from tests.sweeps.direct import Direct

CRITERION = {"kind": "shift-scp", "check_every": 5, "latest": 33, "patience": 1, "delta2": 10.0}
STUDY = {
    "name": "stages",
    "question": "What do switches cost?",
    "seeds": 2,
    "base": {
        "task": {"states": 4, "chains": 2, "length": 8, "train_size": 64, "val_size": 32},
        "model": {"width": 8, "loops": 2},
        "train": {"steps": 40, "batch": 8, "evaluate_every": 5, "lr": 0.01},
    },
    "arms": {
        "single": {"schedule": {"kind": "single"}},
        "shift": {"schedule": {"kind": "shift"}, "axes": {"schedule.switch": [10, 0.5]}},
        "criterion": {"schedule": CRITERION, "axes": {"schedule.delta1": [1.0, 1e-9]}},
        "last-check": {"schedule": CRITERION | {"latest": 30, "patience": 5, "delta1": 10.0}},
        "blown": {"schedule": CRITERION, "train": {"optimizer": "sgd", "lr": 1000.0}},
        "grow": {"schedule": {"kind": "grow"}, "model": {"loops": 3}},
        "drawn": {"schedule": {"kind": "shift", "switch": 10, "draw": "poisson-lognormal"}},
    },
}


class Ran:
    """The study, trained."""

    def __init__(self, store: Store) -> None:
        self.store = store
        study = parse_study(STUDY, file="stages.toml")
        self.result = run(lambda: wanted(study, store), store, Direct(store.root), limits=Limits(), pack=4)
        self.wanted = wanted(study, store)
        self.frames = frames(self.wanted, store)
        self.of_id = {one.trial_id: one for one in self.wanted}


def frames(trials: Sequence[Trial], store: Store) -> dict[str, pd.DataFrame]:
    with open_views(trials, store) as views:
        return {name: views.arrow(name).to_pandas() for name in VIEWS}


def view(trials: Sequence[Trial], store: Store, name: str) -> list[dict[str, Any]]:
    with open_views(trials, store) as views:
        rows: list[dict[str, Any]] = views.arrow(name).to_pylist()
    return rows


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(Store.open(tmp_path_factory.mktemp("ran") / "store", create=True))


def test_all_kinds_of_ends_are_among_the_trials(ran: Ran) -> None:
    assert ran.result.counts == {"ok": 16, "diverged": 2}
    watchers = ran.frames["events"].query("kind == 'watcher'")
    fired = watchers.detail.map(json.loads).map(lambda detail: detail["fired"])
    assert set(zip(watchers.step, fired, strict=True)) == {(10, True), (30, True), (33, False)}


def losses(ran: Ran, trial_id: str, column: str = "val_loss") -> pd.Series:
    rows = ran.frames["metrics"]
    return rows[rows.trial_id == trial_id].set_index("step")[column]


def found_drops(ran: Ran) -> list[dict[str, Any]]:
    """By switch event: what the rows around it say, read one by one."""
    found = []
    for event in ran.frames["events"].query("kind == 'switch'").itertuples():
        loss, after = losses(ran, event.trial_id), json.loads(event.detail)["val_loss"]
        later = [step for step in loss.index if step > event.step and loss[step] <= loss[event.step]]
        back = event.step if after <= loss[event.step] else min(later, default=None)
        found.append({"trial_id": event.trial_id, "step": event.step, "after": after, "back": back})
    return found


def test_the_drop_and_the_way_back_are_what_the_rows_say(ran: Ran) -> None:
    first: dict[str, dict[str, Any]] = {}
    for drop in found_drops(ran):
        first.setdefault(drop["trial_id"], drop)
    rows = ran.frames["trials"]
    assert set(rows[rows.switch_step.notna()].trial_id) == set(first)
    for row in rows.itertuples():
        links = ran.of_id[row.trial_id].links
        if row.status == "ok":
            assert row.switches == len({link.stage for link in links}) - 1
        if row.trial_id not in first:
            assert pd.isna(
                [row.switch_step, row.switch_val_loss_before, row.switch_drop, row.switch_recovery_steps]
            ).all()
            continue
        drop, step = first[row.trial_id], next(link.start for link in links if link.stage == 1)
        assert (row.switch_step, drop["step"]) == (step, step)
        assert row.switch_val_loss_before == losses(ran, row.trial_id)[step]
        assert row.switch_val_accuracy_before == losses(ran, row.trial_id, "val_accuracy")[step]
        assert row.switch_val_loss_after == drop["after"]
        assert row.switch_drop == drop["after"] - losses(ran, row.trial_id)[step]
        back = drop["back"]
        assert row.switch_recovery_steps == back - step if back is not None else pd.isna(row.switch_recovery_steps)
    assert rows.switch_recovery_steps.nunique() > 3, "some recover soon, some late"
    assert (rows.switch_step.notna() & rows.switch_recovery_steps.isna()).any(), "and some never"


def test_every_switch_has_its_recovery_as_an_event(ran: Ran) -> None:
    events = ran.frames["events"].query("kind == 'recovery'")
    shown = {(row.trial_id, json.loads(row.detail)["switch"], row.step) for row in events.itertuples()}
    drops = found_drops(ran)
    assert shown == {(d["trial_id"], d["step"], d["back"]) for d in drops if d["back"] is not None}
    for row in events.itertuples():
        detail = json.loads(row.detail)
        assert detail["steps"] == row.step - detail["switch"]
        assert detail["val_loss"] in {losses(ran, row.trial_id)[row.step], *(d["after"] for d in drops)}
    grown = [len({d["step"] for d in drops if d["trial_id"] == t.trial_id}) for t in ran.wanted if t.arm == "grow"]
    assert grown == [2, 2]


def test_a_watcher_is_an_event_where_the_checks_say_that_it_ended(ran: Ran) -> None:
    events, checks = ran.frames["events"].query("kind == 'watcher'"), ran.frames["checks"]
    assert set(events.trial_id) == {one.trial_id for one in ran.wanted if one.ended}
    for row in events.itertuples():
        (one,) = watched(ran.of_id[row.trial_id])
        mine = checks[checks.trial_id == row.trial_id].set_index("step").drop(columns="trial_id")
        seen = {int(step): Check(**values) for step, values in mine.to_dict("index").items()}
        assert ending(one.watch.criterion, one.watch.start, seen) == row.step
        assert list(seen) == [step for step in one.watch.criterion.grid(0) if step <= row.step]
        detail = json.loads(row.detail)
        assert {key: detail[key] for key in one.watch.criterion.terms()} == one.watch.criterion.terms()
        assert detail["stage"] == 0


def test_what_a_trial_costs_alone_follows_its_own_chain(ran: Ran) -> None:
    for row in ran.frames["trials"].itertuples():
        one = ran.of_id[row.trial_id]
        if one.watch is not None:
            assert (row.status, pd.isna(row.flops_alone), pd.isna(row.switches)) == ("diverged", True, True)
            continue
        assert row.flops_alone == flops_alone(one.config, chain=one.links)
        last = ran.frames["metrics"].query("trial_id == @row.trial_id").flops_alone.iloc[-1]
        assert row.flops_alone == last, "as the engine counted it, drawn loops too"


def test_shares_add_up_to_the_work_that_somebody_needs(ran: Ran) -> None:
    needed: dict[str, tuple[Trial, int, int]] = {}
    segments = ran.store.read("segments").to_pandas().groupby("lineage").reached.max()
    for one in ran.of_id.values():
        for index, link in enumerate(one.links):
            end = min(link.end, segments[link.lineage])
            if link.lineage not in needed or needed[link.lineage][2] < end:
                needed[link.lineage] = one, index, end
    total = sum(
        link_flops(one.config, one.links[index], one.links[index].start, end) for one, index, end in needed.values()
    )
    once = ran.frames["trials"].drop_duplicates("trial_id")
    assert once.flops_spent.sum() == pytest.approx(total, rel=1e-12)
    assert once.spent_s.sum() <= ran.store.read("segments")["spent_s"].to_pandas().sum() * (1 + 1e-9)


def test_keys_are_unique_and_equal_rows_give_equal_views(ran: Ran, tmp_path: Any) -> None:
    keys = {"trials": ["study", "arm", "trial_id"], "events": ["trial_id", "step", "kind", "detail"]}
    for name, frame in ran.frames.items():
        unique = keys.get(name, ["trial_id", "step"])
        assert not frame.duplicated([key for key in unique if key in frame]).any() or name in ("curves", "spectra")
    copy = Store.open(tmp_path / "copy", create=True)
    copy.commit({name: ran.store.read(name) for name in TABLES if ran.store.read(name).num_rows})
    for name, frame in frames(ran.wanted, copy).items():
        pd.testing.assert_frame_equal(frame, ran.frames[name])


# --- a trial by itself -----------------------------------------------------------------------------------------------

LOSS = {"criterion": "loss", "delta1": 10.0, "patience": 1}
NEVER = {"criterion": "gradient", "delta2": 1e-12, "patience": 2}
LISTED = {
    "two criteria on one stage": ({}, [LOSS | {"latest": 12}, NEVER | {"latest": 31}], (1, 1, 2)),
    "a decay inside a watched stage": ({"lr_schedule": "wsd", "decay": 0.5}, [NEVER | {"latest": 30}], (1, 2)),
    "a decay after a criterion": ({"lr_schedule": "wsd", "decay": 0.5}, [LOSS | {"latest": 30}], (2, 1)),
    "two switches": ({}, [LOSS | {"latest": 20}, LOSS | {"latest": 33}], (1, 2, 3)),
}


@pytest.mark.parametrize(("terms", "ends", "loops"), LISTED.values(), ids=LISTED)
def test_views_give_back_what_a_trial_by_itself_records(
    store: Store, terms: dict[str, Any], ends: list[dict[str, Any]], loops: tuple[int, ...]
) -> None:
    stages = [StageConfig(loops=n, until=CriterionConfig(**end)) for n, end in zip(loops, ends, strict=False)]
    config = TrialConfig(
        task=MarkovTask(states=4, chains=2, length=8, train_size=64, val_size=32),
        model=ModelConfig(width=8),
        train=TrainConfig(**{"steps": 40, "batch": 8, "evaluate_every": 10, "lr": 0.01} | terms),
        schedule=ScheduleConfig(kind="stages", check_every=4, stages=(*stages, StageConfig(loops=loops[-1]))),
    )
    done = train_alone(config)
    rows = {"metrics": done.metrics, "checks": done.checks, "events": done.events}
    segments = []
    for link in done.chain:
        steps = {
            name: [row["step"] for row in rows[name] if row["lineage"] == link.lineage]
            for name in ("metrics", "checks")
        }
        own = {"evaluated": steps["metrics"], "checked": steps["checks"]}
        segments.append(segment(link.lineage, link.start, link.end, **own))
    store.commit({name: found for name, found in (rows | {"segments": segments}).items() if found})
    (one,) = resolved([of_config(config, "alone", {})], store)
    assert (one.ended, one.links) == (done.ended, done.chain)
    assert [row["step"] for row in view([one], store, "metrics")] == [row["step"] for row in done.metrics]
    expected = [{"trial_id": one.trial_id} | {k: v for k, v in row.items() if k != "lineage"} for row in done.checks]
    assert view([one], store, "checks") == expected
    events = view([one], store, "events")
    watchers = [json.loads(row["detail"]) for row in events if row["kind"] == "watcher"]
    assert [row["step"] for row in events if row["kind"] == "watcher"] == list(done.ended)
    assert [detail["fired"] for detail in watchers] == [end["criterion"] == "loss" for end in ends]
    stage_of = {step: next(k.stage for k in done.chain if k.start < step <= k.end) for step in done.ended}
    assert [detail["stage"] for detail in watchers] == list(stage_of.values())
    (row,) = view([one], store, "trials")
    assert row["status"] == "ok"
    assert row["switches"] == len([event for event in done.events if event["kind"] == "switch"])
    assert row["flops_alone"] == done.metrics[-1]["flops_alone"] == row["flops_spent"]


# --- rows by hand ----------------------------------------------------------------------------------------------------


def waiting(**schedule: Any) -> Trial:
    """A trial of 100 steps, evaluated and checked every 25, that waits for a criterion which never holds."""
    terms = {"kind": "shift-scp", "check_every": 25, "latest": 80, "delta1": 1e-9} | schedule
    config = TrialConfig(train=TrainConfig(steps=100, evaluate_every=25), schedule=ScheduleConfig(**terms))
    return of_config(config, "criterion", {})


def checked(one: Trial, steps: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Rows of checks on the first link of a trial, each in a segment of its one step."""
    lineage = one.links[0].lineage
    seen = [{"lineage": lineage, "step": step, "val_loss": 3 - step / 100, "grad_norm": float(step)} for step in steps]
    return {
        "checks": seen,
        "segments": [segment(lineage, s, s, checked=[s], evaluated=[], observed=f'{{"check":{s}}}') for s in steps],
    }


def test_a_trial_that_waits_has_only_what_is_known_to_be_its_own(store: Store) -> None:
    single, one = trial("single", seed=0), waiting()
    plain = of_config(TrialConfig(train=single.config.train, schedule=ScheduleConfig(kind="single")), "single", {})
    assert plain.links[0].lineage == one.links[0].lineage
    store.commit(recorded([plain]))
    for known, steps in (([], [0, 25]), ([25], [0, 25, 50]), ([75], [0, 25, 50])):
        if known:
            store.commit(checked(one, known))
        (same,) = resolved([one], store)
        assert same.watch is not None
        assert [row["step"] for row in view([same], store, "metrics")] == steps
        (row,) = view(
            [
                same,
            ],
            store,
            "trials",
        )
        assert [row[n] for n in ("status", "switch_step", "switches", "flops_alone", "alone_s")] == [None] * 5
        assert row["final_val_loss"] is None
    assert [row["step"] for row in view([one], store, "checks")] == [25]
    both = {row["arm"]: row for row in view([plain, one], store, "trials")}
    per_step = both["single"]["flops_alone"] / 100
    assert both["criterion"]["flops_spent"] == pytest.approx(25 * per_step), "half of the 50 steps known to be shared"
    assert both["single"]["flops_spent"] == pytest.approx(75 * per_step)
    store.commit(checked(one, [50]))
    (done,) = resolved([one], store)
    assert (done.watch, done.ended) == (None, (80,))
    assert [row["step"] for row in view([done], store, "checks")] == [25, 50, 75]
    (row,) = view([done], store, "trials")
    assert (row["status"], row["switch_step"], row["switches"]) == (None, 80, 1)


def test_a_trial_whose_trunk_diverged_before_its_criterion_ended_is_diverged(store: Store) -> None:
    one = waiting()
    lineage = one.links[0].lineage
    rows = checked(one, [25])
    rows["segments"] = [
        segment(lineage, 0, 80, reached=40, status="diverged", evaluated=[0, 25], checked=[25], observed="all")
    ]
    rows["metrics"] = metrics(lineage, [0, 25])
    rows["events"] = [{"lineage": lineage, "step": 41, "kind": "divergence", "detail": "loss not finite"}]
    store.commit(rows)
    (row,) = view(resolved([one], store), store, "trials")
    assert [row[n] for n in ("status", "flops_alone", "switch_step", "switches")] == ["diverged", None, None, None]
    assert row["flops_spent"] == 40 * link_flops(one.config, one.links[0], 0, 1)
    assert [(e["step"], e["kind"]) for e in view([one], store, "events")] == [(41, "divergence")]


def test_a_divergence_beyond_what_is_checked_is_not_the_trials_yet(store: Store) -> None:
    one = waiting()
    lineage = one.links[0].lineage
    store.commit(
        {
            "segments": [segment(lineage, 0, 100, reached=60, status="diverged", evaluated=[0, 25, 50])],
            "metrics": metrics(lineage, [0, 25, 50]),
            "events": [{"lineage": lineage, "step": 61, "kind": "divergence", "detail": "loss not finite"}],
        }
    )
    assert view([one], store, "events") == []
    assert view([one], store, "trials")[0]["status"] is None


@pytest.mark.parametrize(
    ("after", "steps"),
    [(2.0, 0), (2.5, 0), (2.6, 25), (None, 25)],
    ids=["no drop", "as before", "a drop", "not finite"],
)
def test_recovery_takes_no_step_where_there_is_no_drop(store: Store, after: float | None, steps: int) -> None:
    one = trial("shift", switch=50)
    rows = recorded([one])
    detail = json.dumps({"loops": [1, 3], "val_loss": after, "val_accuracy": 0.25})
    rows["events"] = [{"lineage": one.links[1].lineage, "step": 50, "kind": "switch", "detail": detail}]
    store.commit(rows)
    (row,) = view([one], store, "trials")
    assert (row["switch_val_loss_before"], row["switch_val_loss_after"]) == (2.5, after)
    assert (row["switch_val_accuracy_before"], row["switch_val_accuracy_after"]) == (0.5, 0.25)
    assert (row["switch_drop"], row["switch_recovery_steps"]) == (after and after - 2.5, steps)
    assert [e["step"] for e in view([one], store, "events") if e["kind"] == "recovery"] == [50 + steps]


def test_recovery_is_not_said_while_rows_may_be_missing(store: Store) -> None:
    one = trial("shift", switch=25)
    rows = recorded([one])
    for row in rows["segments"]:
        row["evaluated"] = [step for step in row["evaluated"] if step != 50]
    rows["metrics"] = [row for row in rows["metrics"] if row["step"] != 50]
    store.commit(rows)
    (row,) = view([one], store, "trials")
    assert (row["status"], row["switch_val_loss_before"], row["switch_recovery_steps"]) == (None, 2.75, None)
    assert view([one], store, "events") == []


def test_a_branch_does_not_show_where_its_trunk_was_run_again_and_diverged_earlier(store: Store) -> None:
    one = trial("shift", switch=50)
    trunk = one.links[0].lineage
    rows = recorded([one])
    rows["segments"][0] |= {"end": 100, "status": "diverged", "reached": 80}
    rows["events"] = [{"lineage": one.links[1].lineage, "step": 50, "kind": "switch", "detail": '{"val_loss":9.0}'}]
    store.commit(rows)
    assert [row["step"] for row in view([one], store, "metrics")] == [0, 25, 50, 75, 100]
    again = segment(trunk, 0, 100, generation=1, status="diverged", reached=30, evaluated=[0, 25])
    store.commit({"segments": [again], "metrics": metrics(trunk, [0, 25])})
    (row,) = view([one], store, "trials")
    assert (row["status"], row["switch_step"], row["switch_drop"]) == ("diverged", 50, None)
    assert [row["step"] for row in view([one], store, "metrics")] == [0, 25]
    assert view([one], store, "events") == []


def test_time_alone_follows_the_chain_that_a_criterion_decided(store: Store) -> None:
    one = ended_at(waiting(), 60)
    store.commit(recorded([one]))
    times = {one.links[0].lineage: 0.5, one.links[1].lineage: 2.0}
    rows = [
        {
            "shape": shape_key(one.config, link),
            "loops": link.loops,
            "numerics_class": "cpu",
            "pack": 1,
            "step_s": times[link.lineage],
        }
        for link in one.links
    ]
    store.commit({"calibrations": rows})
    assert view([one], store, "trials")[0]["alone_s"] == pytest.approx(60 * 0.5 + 40 * 2.0)
    assert view([waiting()], store, "trials")[0]["alone_s"] is None


def test_a_check_beyond_where_a_decay_begins_is_not_the_trials_though_the_lineage_goes_on(store: Store) -> None:
    """Of two lengths under WSD the longer goes on with the stable lineage where the decay of the shorter begins."""
    schedule = waiting(latest=80).config.schedule
    short = of_config(
        TrialConfig(train=TrainConfig(steps=100, evaluate_every=25, lr_schedule="wsd", decay=40), schedule=schedule),
        "short",
        {},
    )
    stable, decay = short.links[:2]
    assert (stable.end, decay.start, decay.stage) == (60, 60, 0)
    rows = checked(short, [25, 50, 75])
    store.commit(rows | {"segments": [*rows["segments"], segment(stable.lineage, 0, 160, evaluated=[0, 25, 50])]})
    store.commit({"segments": [segment(decay.lineage, 60, 80, evaluated=[75])]})
    assert [row["step"] for row in view([short], store, "checks")] == [25, 50]
    (row,) = view([short], store, "trials")
    assert row["switch_step"] is None
    assert resolved([short], store)[0].ended == ()
    own = {"lineage": decay.lineage, "step": 75, "val_loss": 2.0, "grad_norm": 1.0}
    store.commit({"segments": [segment(decay.lineage, 75, 75, checked=[75], evaluated=[])], "checks": [own]})
    (done,) = resolved([short], store)
    assert done.ended == (80,)
    assert [(row["step"], row["val_loss"]) for row in view([done], store, "checks")][-1] == (75, 2.0)
