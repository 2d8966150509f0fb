"""The stage tree: what is shared, what is missing, what must be replayed, what waits for what."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from core.config import MarkovTask, MeasureConfig, ModelConfig, ScheduleConfig, TrainConfig, TrialConfig
from core.errors import InputError
from core.lineage import links, trial_id
from studies.coverage import Coverage
from studies.expand import Trial
from studies.schemas import SEGMENTS
from studies.states import States
from studies.tree import Node, Tree, observed, shape_key, stage_tree

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
    with pytest.raises(InputError, match="one probe, got 32 and 64"):
        tree([wants, other])


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
