"""The outline: what looks alike is one branch however many have it, nothing is lost unsaid, and it stays short."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import ModelConfig, TrainConfig, TrialConfig
from core.lineage import under_seeds, watch
from core.schedule_terms import ScheduleConfig
from studies.branches import MOST_STEPS, Branch, outline_dict
from studies.expand import Trial
from studies.outline import MOST_LINES, outline
from studies.stage_words import loops_text, steps_text
from studies.watchers import ended_at


def made(
    seeds: int = 1, *, loops: int = 3, steps: int = 3000, train: dict[str, Any] | None = None, **terms: Any
) -> list[Trial]:
    """The trials of one setting."""
    config = TrialConfig(
        model=ModelConfig(width=8, loops=loops),
        train=TrainConfig(**{"steps": steps, "evaluate_every": 100} | (train or {})),
        schedule=ScheduleConfig(**terms),
    )
    first = watch(config)
    return [
        Trial(study="s", arm="a", role="compare", config=each, trial_id=key, links=chain, varied={}, watch=first)
        for each, key, chain in under_seeds(config, range(seeds))
    ]


def joined(*settings: list[Trial]) -> list[Trial]:
    return [trial for setting in settings for trial in setting]


def branches(found: tuple[Branch, ...]) -> list[Branch]:
    return [each for branch in found for each in (branch, *branches(branch.children))]


SWITCHES = joined(
    *(made(10, kind="shift", switch=150 * k, loops=loops) for k in range(1, 20) for loops in (2, 3, 4, 6, 8))
)


def test_switch_points_and_loops_are_one_trunk_and_a_branch_for_each_number_of_loops():
    found = outline(SWITCHES)
    (trunk,) = found.branches
    assert (trunk.label, trunk.starts, trunk.ends, trunk.seeds, trunk.lineages) == ("1 loop", (0,), (2850,), 10, 10)
    assert [child.loops for child in trunk.children] == [2, 3, 4, 6, 8]
    for child in trunk.children:
        assert child.starts == tuple(range(150, 2851, 150))
        assert (child.ends, child.each, child.lineages, child.trials) == ((3000,), 19, 190, 190)
        assert child.complete == ((3000, 190),)
    assert (found.trials, found.seeds, found.waiting, trunk.trials) == (950, 10, 0, 950)


def test_updates_are_those_of_the_chains_and_of_the_lineages():
    found = outline(SWITCHES)
    assert found.steps_alone == 950 * 3000
    assert found.steps_trained == 10 * (2850 + 5 * sum(3000 - 150 * k for k in range(1, 20)))


def test_arms_that_share_nothing_are_branches_of_their_own():
    found = outline(joined(made(5, kind="single"), made(5, kind="looped")))
    assert [branch.label for branch in found.branches] == ["1 loop", "3 loops"]
    assert found.steps_alone == found.steps_trained == 10 * 3000


def test_criteria_watch_their_trunk_and_say_what_follows():
    deltas, patiences = (1e-3, 2e-3, 4e-3, 8e-3), (1, 2, 4, 8)
    grid = joined(
        *(made(10, kind="shift-scp", delta1=a, delta2=b, patience=w) for a in deltas for b in deltas for w in patiences)
    )
    (trunk,) = outline(grid).branches
    assert trunk.criteria is not None
    assert (trunk.criteria.number, trunk.criteria.trials) == (64, 640)
    assert (trunk.criteria.earliest, trunk.criteria.latest) == (200, trunk.ends[-1])
    assert trunk.criteria.then == ("3 loops",)
    assert trunk.children == ()
    assert outline(grid).waiting == 640


def test_where_criteria_ended_their_stages_branches_leave_the_trunk():
    trials = made(2, kind="shift-scp")
    ended = [ended_at(trials[0], 500), ended_at(trials[1], 700), *made(2, kind="single")]
    (trunk,) = outline(ended).branches
    assert trunk.ended == ((500, 1), (700, 1))
    assert trunk.criteria is None
    assert trunk.complete == ((3000, 2),)
    assert [(child.loops, child.starts, child.spans) for child in trunk.children] == [
        (3, (500, 700), ((500, 3000), (700, 3000)))
    ]


def test_budgets_under_wsd_are_one_stable_phase_and_its_decays():
    grid = joined(
        *(made(10, kind="looped", steps=n, train={"lr_schedule": "wsd", "decay": 0.1}) for n in (1000, 2000, 4000))
    )
    (trunk,) = outline(grid).branches
    assert (trunk.ends, trunk.lineages) == ((3600,), 10)
    (decays,) = trunk.children
    assert decays.label == "3 loops, learning rate decays"
    assert decays.spans == ((900, 1000), (1800, 2000), (3600, 4000))
    assert decays.complete == ((1000, 10), (2000, 10), (4000, 10))


def test_budgets_under_a_constant_rate_are_one_branch_complete_at_each():
    (trunk,) = outline(joined(*(made(2, kind="looped", steps=n) for n in (1000, 2000)))).branches
    assert (trunk.complete, trunk.ends) == (((1000, 2), (2000, 2)), (2000,))


def test_what_else_acts_makes_branches_look_different_and_is_said():
    kinds = joined(
        made(kind="shift"),
        made(kind="shift", lr_factor=0.5),
        made(kind="shift", rewarm=20),
        made(kind="shift", optimizer="reset"),
        made(kind="shift", draw="poisson-lognormal", sigma=0.25),
    )
    (trunk,) = outline(kinds).branches
    assert {child.label for child in trunk.children} == {
        "3 loops",
        "3 loops, learning rate × 0.5",
        "3 loops, warm-up of 20 updates",
        "3 loops, optimiser reset",
        "3 loops on average (drawn, σ 0.25)",
    }


def test_how_inputs_are_injected_is_said_only_where_it_differs():
    plain, other = made(kind="looped"), made(kind="looped")
    config = TrialConfig(
        model=ModelConfig(width=8, loops=3, injection="add"),
        train=plain[0].config.train,
        schedule=plain[0].config.schedule,
    )
    ((_, _, chain),) = under_seeds(config, [0])
    other = [Trial(study="s", arm="b", role="compare", config=config, trial_id="0" * 16, links=chain, varied={})]
    assert [branch.label for branch in outline(plain).branches] == ["3 loops"]
    assert sorted(branch.label for branch in outline(plain + other).branches) == [
        "3 loops, injection add",
        "3 loops, injection none",
    ]


def test_it_is_bounded_and_says_how_much_was_left_out():
    grid = joined(*(made(2, kind="shift", loops=loops, switch=k) for loops in range(2, 102) for k in range(1, 71)))
    found = outline(grid)
    (trunk,) = found.branches
    assert sum(branch.lines for branch in branches(found.branches)) <= MOST_LINES
    assert trunk.left_out is not None
    kept = len(trunk.children)
    assert (trunk.left_out.kinds, trunk.left_out.trials) == (100 - kept, (100 - kept) * 140)
    child = trunk.children[0]
    assert (len(child.starts), child.start_count, child.starts[0], child.starts[-1]) == (MOST_STEPS, 70, 1, 70)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["single", "looped", "shift", "grow", "reverse"]), st.integers(2, 9), st.integers(1, 3)
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(3, 12),
)
def test_no_trial_is_lost_whatever_is_left_out(kinds: list[tuple[str, int, int]], most: int):
    distinct = {trial.trial_id: trial for kind, loops, n in kinds for trial in made(n, kind=kind, loops=loops)}
    trials = list(distinct.values())
    found = outline(trials, most_lines=most)
    shown = branches(found.branches)
    assert sum(branch.lines for branch in shown) + (found.left_out is not None) <= most
    assert sum(b.trials for b in found.branches) + (found.left_out.trials if found.left_out else 0) == len(trials)
    for branch in shown:
        left_out = branch.left_out.trials if branch.left_out else 0
        below = sum(child.trials for child in branch.children) + left_out
        assert branch.trials == below + sum(number for _, number in branch.complete)


def test_plain_values_survive_json():
    plain = outline_dict(outline(SWITCHES))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["branches"][0]["children"][0]["label"] == "2 loops"


@pytest.mark.parametrize(
    ("steps", "count", "shown"),
    [
        ((100,), 1, "100"),
        ((100, 250, 900), 3, "100, 250, 900"),
        (tuple(range(150, 2851, 150)), 19, "150, 300 … 2850"),
        ((1, 2, 4, 8, 16), 5, "1 … 16"),
        ((1, 3), 9, "1 … 3"),
    ],
)
def test_steps_in_words(steps, count, shown):
    assert steps_text(steps, count) == shown


def test_loops_in_words():
    assert [loops_text(1), loops_text(2), loops_text(4, 0.5)] == [
        "1 loop",
        "2 loops",
        "4 loops on average (drawn, σ 0.5)",
    ]


def test_100_000_trials_take_less_than_a_second():
    grid = joined(*(made(200, kind="shift", switch=29 * k, loops=2 + k % 5) for k in range(1, 101)))
    begin = time.process_time()
    gc.disable()
    try:
        found = outline(grid * 5)  # each passes its links once more, as its equals in other arms do
    finally:
        gc.enable()
    assert time.process_time() - begin < 1
    assert found.trials == 100_000
