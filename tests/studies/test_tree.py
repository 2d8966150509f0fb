"""The stage tree: what is shared, what is missing, what must be replayed, what waits for what."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from core.config import MeasureConfig, ModelConfig, TrainConfig, TrialConfig
from core.errors import InputError
from core.lineage import links, trial_id
from core.schedule_terms import ScheduleConfig
from core.task_terms import MarkovTask
from studies.coverage import Coverage
from studies.expand import Trial
from studies.keys import observed, shape_key
from studies.schemas import SEGMENTS
from studies.states import States
from studies.stems import WATCH_CHECKS
from studies.tree import Node, Tree, stage_tree
from studies.watchers import ended_at
from tests.studies.rows import of_config

NOTHING: list[dict[str, Any]] = []


def trial(
    kind: str = "shift", seed: int = 0, switch: float = 0.5, measure: MeasureConfig | None = None, **train: Any
) -> Trial:
    config = TrialConfig(
        task=MarkovTask(),
        model=ModelConfig(),
        train=TrainConfig(**{"steps": 1000, "evaluate_every": 100, **train}),
        schedule=ScheduleConfig(kind=kind, switch=switch),  # type: ignore[arg-type]
        measure=measure or MeasureConfig(),
        seed=seed,
    )
    return Trial(
        study="test",
        arm=kind,
        role="compare",
        config=config,
        trial_id=trial_id(config),
        links=links(config),
        varied={},
    )


def tree(
    trials: Iterable[Trial], rows: list[dict[str, Any]] = NOTHING, kept: Iterable[tuple[str, int]] = (), **terms: Any
) -> Tree:
    coverage = Coverage(pa.Table.from_pylist(rows, schema=SEGMENTS.schema()))
    return stage_tree(list(trials), coverage, States(kept), **terms)


def segment(node: Node, *, end: int | None = None, status: str = "ok", reached: int | None = None) -> dict[str, Any]:
    """The row that running a node (or its beginning) records."""
    last = node.end if end is None else end
    at = last if reached is None else reached
    asked, known = node.asked.within(0, last), node.asked.within(0, at if status in ("ok", "diverged") else -1)
    return {
        "lineage": node.lineage,
        "start": node.start,
        "end": last,
        "observed": observed(asked, node.config.measure),
        "reached": at,
        "status": status,
        "evaluated": list(known.evaluate),
        "measured": list(known.measure),
        "checked": list(known.check),
        "generation": node.generation,
    }


def spans(built: Tree) -> list[tuple[int, int]]:
    return [(node.start, node.end) for node in built.nodes]


SWITCHES = [trial(switch=step / 16) for step in range(1, 16)]


def test_a_grid_of_switch_points_trains_one_trunk() -> None:
    built = tree([*SWITCHES, trial("single")])
    trunk = [node for node in built.nodes if node.lineage == SWITCHES[0].links[0].lineage]
    assert [node.start for node in trunk] == [0, *(node.end for node in trunk[:-1])]
    assert trunk[-1].end == 1000  # where single ends; every switch is a cut
    assert len(trunk) == 16
    assert len(built.nodes) == 16 + 15
    steps = sum(node.end - node.start for node in built.nodes)
    assert steps == 1000 + sum(1000 - each.links[1].start for each in SWITCHES)


def test_trials_of_one_past_in_any_number_are_one_node() -> None:
    assert tree([trial("single")] * 5).nodes == tree([trial("single")]).nodes
    assert spans(tree([trial("single", steps=1000), trial("single", steps=1500)])) == [(0, 1000), (1000, 1500)]


def test_parents_precede_children_and_children_wait_for_them() -> None:
    built = tree([*SWITCHES, trial("looped")])
    for index, node in enumerate(built.nodes):
        assert (node.parent is None) == (node.start == 0)
        if node.parent is not None:
            assert node.parent < index
            assert built.nodes[node.parent].end == node.start
            assert node.after == node.parent
    assert built.path(0) == [0, built.ends[0]]
    assert all(status is None for status in built.statuses)


def test_a_denser_grid_does_not_fork_and_is_observed_where_its_trials_pass() -> None:
    sparse, dense = trial("single", evaluate_every=500), trial(switch=0.4, evaluate_every=100)
    first, second, *_ = tree([sparse, dense]).nodes
    assert first.asked.evaluate == (0, 100, 200, 300, 400)
    assert (second.start, second.asked.evaluate) == (400, (500, 1000))  # the dense one has left


def test_observation_of_any_density_is_no_node_more() -> None:
    plain = trial(switch=0.4)
    others = [trial(switch=0.4, evaluate_every=every) for every in (1, 7, 1000)]
    others += [trial(switch=0.4, measure=MeasureConfig(quantities=("lambda_max",), every=every)) for every in (3, 500)]
    built = tree([plain, *others])
    assert spans(built) == spans(tree([plain]))
    assert built.nodes[0].asked.evaluate == tuple(range(401))
    assert built.nodes[0].asked.measure == tuple(range(0, 401, 3))


def test_what_is_recorded_is_not_run_and_a_grown_study_runs_only_what_is_new() -> None:
    before = tree(SWITCHES[::2])
    rows = [segment(node) for node in before.nodes]
    kept = [(node.lineage, node.end) for node in before.nodes]
    again = tree(SWITCHES[::2], rows, kept)
    assert again.todo() == []
    assert set(again.statuses) == {"ok"}
    grown = tree(SWITCHES, rows, kept)
    new = [grown.nodes[index] for index in grown.todo()]
    # Trunk rows at the new cuts were never evaluated, so those stretches are replayed from the checkpoint before.
    branches = [node for node in new if node.where.stage == 1]
    assert len(branches) == 7
    assert all(node.begin == node.start for node in new)


def test_a_lost_checkpoint_is_replayed_as_far_back_as_needed() -> None:
    early, late = trial(switch=0.2), trial(switch=0.6)
    before = tree([early, late])
    rows = [segment(node) for node in before.nodes if node.where.stage == 0]  # the trunk 0–200–600 alone
    trunk = early.links[0].lineage
    lost = tree([early, late], rows)
    assert [(n.start, n.end, n.record) for n in (lost.nodes[i] for i in lost.todo())] == [
        (0, 200, False),
        (200, 600, False),
        (200, 1000, True),
        (600, 1000, True),
    ]
    some = tree([early, late], rows, [(trunk, 200)])
    run = [some.nodes[index] for index in some.todo()]
    assert [(n.start, n.end, n.record, n.after is None) for n in run] == [
        (200, 600, False, True),
        (200, 1000, True, True),
        (600, 1000, True, False),
    ]
    all_there = tree([early, late], rows, [(trunk, 200), (trunk, 600)])
    assert all(all_there.nodes[index].record for index in all_there.todo())


def test_a_stretch_that_was_stopped_goes_on_from_its_checkpoint_or_begins_again() -> None:
    one = trial("single")
    (node,) = tree([one]).nodes
    rows = [segment(node, end=330)]
    assert tree([one], rows, [(node.lineage, 330)]).nodes[0].begin == 330
    assert tree([one], rows).nodes[0].begin == 0


def test_children_of_a_trunk_that_diverged_inherit_it_and_are_not_run() -> None:
    early, late = trial(switch=0.2), trial(switch=0.6)
    first, second, *_ = tree([early, late]).nodes
    rows = [segment(first), segment(second, status="diverged", reached=430)]
    built = tree([early, late], rows, [(first.lineage, 200)])
    assert built.statuses == (None, "diverged")
    assert [built.nodes[index].start for index in built.todo()] == [200]
    assert built.nodes[built.todo()[0]].where.stage == 1


@pytest.mark.parametrize("status", ["failed", "timeout", "oom", "diverged"])
def test_only_the_statuses_named_are_retried_with_the_next_generation(status: str) -> None:
    first, second = trial("single"), trial("single", seed=1)
    a, b = tree([first, second]).nodes
    rows = [segment(a, status=status, reached=0), segment(b)]
    assert tree([first, second], rows).statuses == (status, "ok")
    assert tree([first, second], rows).todo() == []
    others = {"failed", "timeout", "oom", "diverged"} - {status}
    assert tree([first, second], rows, retry=others).todo() == []
    retried = tree([first, second], rows, retry=[status])
    assert retried.todo() == [0]
    assert (retried.nodes[0].generation, retried.nodes[0].begin) == (1, 0)


def test_a_new_quantity_runs_what_was_recorded_without_it_and_another_probe_is_refused() -> None:
    plain = trial("single")
    (node,) = tree([plain]).nodes
    wants = trial("single", measure=MeasureConfig(quantities=("lambda_max",), every=500))
    built = tree([plain, wants], [segment(node)])
    assert built.nodes[0].run
    assert built.nodes[0].asked.measure == (0, 500, 1000)
    assert built.nodes[0].config.measure.quantities == ("lambda_max",)
    assert tree([plain, wants], [segment(node), segment(built.nodes[0])]).todo() == []
    other = trial("single", measure=MeasureConfig(quantities=("entropy",), every=500, probe=64))
    with pytest.raises(InputError, match=r"measure\.probe: .* in one way, got 32 and 64"):
        tree([wants, other])


def test_a_replay_for_a_measurement_goes_no_further_unless_its_end_is_needed() -> None:
    plain = trial()
    before = tree([plain])
    rows = [segment(node) for node in before.nodes]
    kept = [(before.nodes[1].lineage, 1000)]
    wants = trial(measure=MeasureConfig(quantities=("lambda_max",), at=(200, 700)))

    def spans(*there: tuple[str, int], **terms: Any) -> list[tuple[int, int, bool]]:
        return [(n.begin, n.until, n.checkpoint) for n in tree([wants], rows, there, **terms).nodes if n.run]

    assert spans(*kept) == [(0, 500, True), (500, 700, False)]  # the second begins from the end of the first
    assert spans(*kept, (before.nodes[0].lineage, 500)) == [(0, 200, False), (500, 700, False)]
    assert spans() == [(0, 500, True), (500, 1000, True)]  # the last state is to be kept, and is gone


def test_keep_decides_which_ends_are_saved() -> None:
    def saved(*trials: Trial) -> list[tuple[bool, bool]]:
        return [(node.checkpoint, node.keep) for node in tree(trials).nodes]

    # Somebody begins from the first, whatever is kept; only `all` keeps it.
    assert saved(trial(switch=0.4)) == [(True, False), (True, True)]
    assert saved(trial(switch=0.4, keep="none")) == [(True, False), (False, False)]
    assert saved(trial(switch=0.4, keep="all")) == [(True, True), (True, True)]
    # Two trials on one trunk: what either keeps is kept, also where the other passes through its end.
    assert saved(trial(switch=0.4, keep="none"), trial("single")) == [(True, False), (True, True), (False, False)]
    assert saved(trial("single", steps=500), trial("single", keep="none")) == [(True, True), (False, False)]


# --- trunks on which trials wait for a criterion ---------------------------------------------------------------------


def scp(seed: int = 0, *, every: int = 10, latest: float | int = 500, train: Any = None, **criterion: Any) -> Trial:
    config = TrialConfig(
        train=TrainConfig(**{"steps": 1000, "evaluate_every": 100, **(train or {})}),
        schedule=ScheduleConfig(kind="shift-scp", check_every=every, latest=latest, **criterion),
        seed=seed,
    )
    return of_config(config, "scp", {})


def trunk(built: Tree) -> list[Node]:
    return [node for node in built.nodes if node.watches]


def test_a_watched_trunk_goes_to_the_latest_step_and_is_cut_at_fixed_checks() -> None:
    built = tree([scp(delta1=delta) for delta in (0.1, 0.2, 0.3)])
    stride = 10 * WATCH_CHECKS
    assert [node.end for node in built.nodes] == [*range(stride, 500, stride), 500]
    first = built.nodes[0]
    assert len(first.watches) == 3
    assert first.asked.check == tuple(range(10, stride + 1, 10))
    assert not any(node.needed for node in built.nodes)
    assert set(built.statuses) == {None}
    assert all(node.checkpoint for node in built.nodes)  # the next begins from it, or what follows its latest step


def test_equal_settings_are_one_watch_and_denser_checks_no_other_trunk() -> None:
    built = tree([scp(), scp(), scp(delta2=0.5), scp(every=4)])
    assert len({node.lineage for node in built.nodes}) == 1
    assert len(built.nodes[0].watches) == 3
    assert built.nodes[0].asked.check[:5] == (4, 8, 10, 12, 16)


def test_watches_end_at_their_latest_steps_and_a_trial_that_passes_through_needs_the_trunk() -> None:
    built = tree([scp(latest=200), scp(latest=400), trial("single", steps=300)])
    watched = {node.end: (len(node.watches), node.needed) for node in built.nodes}
    assert watched[80] == (2, True)
    assert watched[200] == (2, True)
    assert watched[240] == (1, True)
    assert watched[300] == (1, True)
    assert watched[320] == watched[400] == (1, False)
    # One that has left by a criterion needs it up to there.
    gone = ended_at(scp(latest=400), 100)
    assert [(node.end, node.needed) for node in trunk(tree([gone, scp(latest=200)]))] == [
        (80, True),
        (100, True),
        (160, False),
        (200, False),
    ]


def test_a_watch_ends_where_its_trials_leave_the_lineage_though_others_go_on() -> None:
    """Under WSD the decay of the shorter one is a lineage of its own, on which its stage goes on."""
    short = scp(latest=80, train={"steps": 100, "lr_schedule": "wsd", "decay": 40})
    fixed = trial(steps=400, kind="single")
    assert [link.stage for link in short.links[:2]] == [0, 0]
    nodes = [node for node in tree([short, fixed]).nodes if node.lineage == short.links[0].lineage]
    assert [bool(node.watches) for node in nodes] == [node.start < 60 for node in nodes]
    assert max(node.end for node in nodes) == 400


def test_nothing_of_a_trunk_is_trained_ahead_of_checks_that_are_missing() -> None:
    """A state on the way is no reason to: what criteria see before it may end the stage."""
    waiting = scp()
    first, second = tree([waiting]).nodes[:2]
    nodes = tree([waiting], kept=[(first.lineage, first.end), (second.lineage, second.end)]).nodes
    assert [node.after for node in nodes] == [None, *range(len(nodes) - 1)]


def test_what_criteria_decided_is_one_branch_for_all_that_ended_there() -> None:
    ended = [ended_at(scp(delta1=delta), step) for delta, step in ((0.1, 120), (0.2, 120), (0.3, 160))]
    built = tree([*ended, trial(switch=120)])
    assert [(node.start, node.end) for node in built.nodes] == [(0, 120), (120, 160), (120, 1000), (160, 1000)]
    assert len(set(built.ends)) == 2
    assert built.ends[0] == built.ends[1] == built.ends[3]


def test_a_trial_that_waits_is_missing_though_its_trunk_is_recorded_and_inherits_how_it_ended() -> None:
    one = scp(latest=160)
    first, second = tree([one]).nodes
    assert tree([one], [segment(first), segment(second)]).statuses == (None,)
    for status in ("diverged", "failed"):
        rows = [segment(first), segment(second, status=status, reached=110)]
        assert tree([one, scp(latest=160, delta1=0.5)], rows).statuses == (status, status)


def test_a_trunk_recorded_without_checks_is_run_once_more_for_them() -> None:
    plain = trial("single")
    rows = [segment(node) for node in tree([plain]).nodes]
    built = tree([plain, scp(latest=160)], rows)
    assert [(node.end, node.run, node.record) for node in built.nodes if node.run] == [
        (80, True, True),
        (160, True, True),
    ]


def test_a_trunk_goes_on_from_the_nearest_state_on_the_way() -> None:
    one = scp(latest=160)
    lineage = one.links[0].lineage
    first, _second = tree([one]).nodes
    stopped = [segment(first, end=33)]  # the check at 30 is recorded
    assert tree([one], stopped).nodes[0].begin == 0
    assert tree([one], stopped, [(lineage, 20), (lineage, 33), (lineage, 80)]).nodes[0].begin == 33
    built = tree([one], [segment(first)], [(lineage, 50)])
    assert [(node.begin, node.end, node.record) for node in (built.nodes[i] for i in built.todo())] == [
        (50, 80, False),
        (80, 160, True),
    ]


def test_the_last_state_of_a_trial_that_may_never_switch_is_kept_and_what_goes_on_is_not() -> None:
    def last(*trials: Trial) -> tuple[bool, bool]:
        node = tree(trials).nodes[-1]
        return node.checkpoint, node.keep

    assert last(scp(latest=1.0)) == (True, True)
    assert last(scp(latest=1.0, train={"keep": "none"})) == (False, False)
    assert last(scp(latest=160)) == (True, False)  # a branch begins there, or has begun before
    assert last(scp(latest=160, train={"keep": "all"})) == (True, True)


def test_states_of_all_cuts_stay_where_one_of_many_keeps_all() -> None:
    long, keeper = scp(latest=400), scp(latest=160, train={"keep": "all"})
    for trials in ([long, keeper], [keeper, long]):
        built = tree(trials)
        assert {node.config.train.keep for node in built.nodes} == {"all"}
        assert all(node.keep for node in built.nodes)


def test_a_retry_would_go_on_from_the_nearest_states() -> None:
    early, late = trial(switch=0.2), trial(switch=0.6)
    first, second, branch, _last = tree([early, late]).nodes
    rows = [segment(first), segment(second, status="failed", reached=200), segment(branch, status="oom", reached=200)]
    built = tree([early, late], rows)
    assert built.todo() == []
    assert built.resumed() == {(first.lineage, 200)}
    rows[2] = segment(branch, end=430)
    rows.append(segment(branch, status="oom", reached=430) | {"start": 430, "observed": "rest"})
    assert tree([early, late], rows, [(branch.lineage, 430)]).resumed() == {(first.lineage, 200), (branch.lineage, 430)}
    retried = tree([early, late], rows, [(branch.lineage, 430), (first.lineage, 200)], retry=["oom", "failed"])
    assert {retried.nodes[i].begin for i in retried.todo()} == {200, 430, 600}
    assert retried.resumed() == set()


def test_budgets_share_a_trunk_but_not_under_cosine_and_seeds_share_nothing() -> None:
    def lineages(**train: Any) -> int:
        trials = [scp(train=train | {"steps": steps}) for steps in (600, 800, 1000)]
        return len({node.lineage for node in tree(trials).nodes})

    assert lineages() == 1
    assert lineages(lr_schedule="wsd", decay=50) == 1
    assert lineages(lr_schedule="cosine") == 3
    assert len({node.lineage for node in tree([scp(seed) for seed in range(4)]).nodes}) == 4


def test_a_budget_of_wsd_leaves_the_trunk_at_its_decay() -> None:
    built = tree([trial("single", steps=steps, lr_schedule="wsd", decay=100) for steps in (400, 700, 1000)])
    assert spans(built) == [(0, 300), (300, 600), (600, 900), (300, 400), (600, 700), (900, 1000)]


def test_equal_shapes_have_one_key_whatever_seed_and_learning_rate() -> None:
    base, other, deeper = trial("looped"), trial("looped", seed=4, lr=0.1), trial("single")
    assert shape_key(base.config, base.links[0]) == shape_key(other.config, other.links[0])
    assert shape_key(base.config, base.links[0]) != shape_key(deeper.config, deeper.links[0])


def test_a_hundred_thousand_trials_take_seconds() -> None:
    configs = [TrialConfig(train=TrainConfig(lr=lr), seed=seed) for lr in (1e-3, 1e-2) for seed in range(10_000)]
    trials = [
        Trial(study="t", arm="a", role="compare", config=c, trial_id=trial_id(c), links=links(c), varied={})
        for c in configs
    ] * 5
    begun = time.process_time()
    built = tree(trials)
    assert time.process_time() - begun < 4.0  # under 2 s on a quiet machine
    assert len(built.nodes) == 20_000
    assert len(built.ends) == 100_000
