"""Where criteria end stages: told by the recorded checks alone, step by step as they come in."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import TrainConfig, TrialConfig
from core.lineage import links, watch
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig
from core.watch import Check
from studies.expand import Trial
from studies.store import Store
from studies.watchers import Checks, assumed, ended_at, read_checks, resolved, watched_links, with_checks
from tests.studies.rows import of_config, segment

FLAT = Check(val_loss=1.0, train_loss=1.0, grad_norm=1.0)


def scp(seed: int = 0, *, steps: int = 100, train: Mapping[str, Any] | None = None, **terms: Any) -> Trial:
    criterion = {"check_every": 10, "delta1": 0.01, "delta2": 0.1, "patience": 2, "latest": 60} | terms
    config = TrialConfig(
        train=TrainConfig(**{"steps": steps, "evaluate_every": 25} | dict(train or {})),
        schedule=ScheduleConfig(kind="shift-scp", **criterion),
        seed=seed,
    )
    return of_config(config, "scp", {})


def staged(*untils: CriterionConfig | int) -> Trial:
    """Stages of 1, 2, 3, … loops."""
    ends = [*untils, None]
    stages = tuple(StageConfig(loops=number, until=until) for number, until in enumerate(ends, 1))
    config = TrialConfig(
        train=TrainConfig(steps=100, evaluate_every=25),
        schedule=ScheduleConfig(kind="stages", stages=stages, check_every=10),
    )
    return of_config(config, "stages", {})


def told(trial: Trial, rows: Checks) -> Trial:
    (found,) = with_checks([trial], lambda lineages: {each: rows.get(each, {}) for each in lineages})
    return found


def falling(*losses: float, start: int = 0) -> dict[int, Check]:
    """Checks every ten steps with these losses."""
    return {start + 10 * n: Check(val_loss=value, train_loss=value, grad_norm=1.0) for n, value in enumerate(losses, 1)}


def test_a_trial_waits_until_the_rows_decide_and_is_then_a_fixed_switch() -> None:
    one = scp()
    trunk = one.links[0].lineage
    losses = falling(5.0, 4.0, 3.0, 2.999, 2.998)
    for known in range(5):
        waiting = told(one, {trunk: dict(list(losses.items())[:known])})
        assert (waiting.ended, waiting.watch) == ((), one.watch)
        assert waiting.links[-1].end == 60
    done = told(one, {trunk: losses})
    assert (done.ended, done.watch) == ((50,), None)
    fixed = TrialConfig(train=one.config.train, schedule=ScheduleConfig(kind="shift", switch=50))
    assert done.links == links(fixed)
    assert done.trial_id == one.trial_id  # what it is does not hang on what was found


def test_rows_beyond_a_gap_decide_nothing() -> None:
    one = scp()
    rows = falling(*[1.0] * 6)
    del rows[20]
    assert told(one, {one.links[0].lineage: rows}).watch == one.watch


def test_a_criterion_that_never_holds_ends_at_its_latest_step_once_all_checks_are_there() -> None:
    one = scp(latest=45)
    rows = falling(9.0, 7.0, 5.0, 3.0)
    assert told(one, {one.links[0].lineage: dict(list(rows.items())[:3])}).watch is not None
    assert told(one, {one.links[0].lineage: rows}).ended == (45,)
    whole = scp(latest=1.0)
    never = told(whole, {whole.links[0].lineage: falling(*range(20, 10, -1))})
    assert (never.ended, never.links) == ((100,), whole.links)


def test_the_second_criterion_counts_from_where_the_first_ended_and_reads_its_own_rows() -> None:
    quick = CriterionConfig(patience=1, latest=50)
    one = staged(quick, CriterionConfig(patience=2, latest=90))
    trunk = one.links[0].lineage
    first = told(one, {trunk: falling(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)})
    assert first.ended == (20,)
    assert first.watch is not None
    assert first.watch.start == 20
    branch = first.links[1].lineage
    assert branch != trunk
    rows = {trunk: falling(1.0, 1.0), branch: falling(1.0, 1.0, 1.0, start=20)}
    second = told(one, rows)
    assert (second.ended, second.watch) == ((20, 50), None)
    assert told(one, {branch: rows[branch]}).ended == ()


def test_a_stage_that_a_decay_cuts_reads_each_link_on_its_own_steps() -> None:
    """Other budgets go on with the stable lineage: their checks there are none of this trial's."""
    one = scp(train={"lr_schedule": "wsd", "decay": 70})
    stable, decay = watched_links(one)
    assert (stable.end, decay.start, decay.end) == (30, 30, 60)
    mine = {stable.lineage: falling(9.0, 7.0, 5.0), decay.lineage: falling(4.0, 3.0, 2.0, start=30)}
    others = mine | {stable.lineage: mine[stable.lineage] | falling(5.0, 5.0, 5.0, start=30)}
    assert told(one, others).ended == told(one, mine).ended == (60,)
    assert told(one, {stable.lineage: others[stable.lineage]}).watch is not None
    flat = mine | {decay.lineage: falling(5.0, 5.0, 5.0, start=30)}
    assert told(one, flat).ended == (50,)  # changes count across the cut


def test_seeds_settings_and_studies_that_see_the_same_rows_end_alike_and_others_apart() -> None:
    loose, strict, other = scp(delta1=0.5), scp(delta1=0.001), scp(1)
    rows = {loose.links[0].lineage: falling(5.0, 4.5, 4.0, 3.999, 3.998, 3.997)}
    found = with_checks([loose, strict, other], lambda lineages: {each: rows.get(each, {}) for each in lineages})
    assert [each.ended for each in found] == [(30,), (50,), ()]


@given(st.integers(0, 10**6))
def test_the_order_of_trials_and_how_rows_are_read_do_not_matter(seed: int) -> None:
    chance = random.Random(seed)
    trials = [
        scp(delta1=chance.choice([0.001, 0.05, 0.3]), patience=chance.choice([1, 2, 3]), latest=chance.choice([35, 60]))
        for _ in range(6)
    ]
    losses = [5.0]
    for _ in range(chance.randrange(8)):
        losses.append(losses[-1] * (1 - chance.choice([0.0, 0.0005, 0.02, 0.2])))
    rows = {trials[0].links[0].lineage: falling(*losses)}

    def read(lineages: Collection[str]) -> Checks:
        return {each: rows.get(each, {}) for each in lineages}

    together = [each.ended for each in with_checks(trials, read)]
    assert [told(each, rows).ended for each in trials] == together
    order = chance.sample(range(6), 6)
    assert [each.ended for each in with_checks([trials[i] for i in order], read)] == [together[i] for i in order]
    assert [each.ended for each in with_checks(with_checks(trials, read), read)] == together


def test_lineages_are_read_once_and_only_where_somebody_waits() -> None:
    asked: list[set[str]] = []

    def read(lineages: Collection[str]) -> Checks:
        asked.append(set(lineages))
        return {each: {} for each in lineages}

    plain = of_config(TrialConfig(), "looped", {})
    assert with_checks([plain], read) == [plain]
    assert asked == []
    with_checks([scp(delta1=delta) for delta in (0.1, 0.2)] + [plain, scp(1)], read)
    assert asked == [{scp().links[0].lineage, scp(1).links[0].lineage}]


def test_a_store_gives_the_rows_and_one_that_is_not_there_gives_none(tmp_path: Path) -> None:
    one, other = scp(), scp(1)
    trunk = one.links[0].lineage
    assert resolved([one], Store.open(tmp_path / "none")) == [one]
    store = Store.open(tmp_path / "store", create=True)
    steps = [10, 20, 30]
    flat = [{"lineage": trunk, "step": step, "val_loss": 1.0, "train_loss": None, "grad_norm": 1.0} for step in steps]
    store.commit({"segments": [segment(trunk, 0, 30, checked=steps)], "checks": flat})
    assert [each.ended for each in resolved([one, other], store)] == [(30,), ()]
    assert [each.ended for each in resolved([other, one], Store.open(store.root))] == [(), (30,)]
    known = read_checks(store, {trunk, "f" * 16})
    assert known["f" * 16] == {}
    assert known[trunk][20] == Check(val_loss=1.0, train_loss=None, grad_norm=1.0)
    assert resolved([scp(on="train")], store)[0].ended == ()  # a loss that is missing is no small change


@pytest.mark.parametrize(
    ("choose", "ends"),
    [(lambda trial, watch: watch.criterion.latest, (50, 90)), (lambda trial, watch: watch.start + 10, (10, 20))],
)
def test_trials_are_assumed_to_end_where_the_plan_says(choose: Any, ends: tuple[int, ...]) -> None:
    one = staged(CriterionConfig(latest=50), CriterionConfig(latest=90))
    (found,) = assumed([one], choose)
    assert (found.ended, found.watch) == (ends, None)
    assert found == ended_at(ended_at(one, ends[0]), ends[1])
    assert found.links == links(one.config, ends)
    assert watch(one.config, ends) is None
