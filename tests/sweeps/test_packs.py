"""Packs: equal lanes train together, in sizes that pay, and every worker gets its share."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import MeasureConfig
from core.lineage import links
from core.observation import Asked, with_measure
from sweeps.packs import BUNDLE_UNITS, Pace, Ready, even, pack_key
from sweeps.units import Lane, Unit, unit
from tests.sweeps.work import config, lane


def ready(size: int = 4, slots: int = 2, seconds: float = 0.0) -> Ready:
    return Ready(slots=slots, size=lambda lane: size, seconds=lambda lane, lanes: seconds)


def drained(pool: Ready, slots: int = 1) -> list[tuple[Unit, ...]]:
    """The bundles that so many free slots take, and then one after the other as they end."""
    bundles: list[tuple[Unit, ...]] = []
    while units := pool.take(max(1, slots - len(bundles))):
        bundles.append(units)
    assert len(pool) == 0
    return bundles


def test_lanes_pack_across_seeds_and_learning_rates_but_not_across_shapes_ends_or_grids() -> None:
    base = lane(1)
    assert pack_key(base) == pack_key(lane(2, lr=0.1, weight_decay=0.5))
    others = [
        lane(1, batch=8),
        lane(1, optimizer="sgd"),
        lane(1, kind="looped"),
        lane(1, start=10),
        lane(1, end=10),
        dataclasses.replace(base, asked=Asked((0, 20))),
        dataclasses.replace(base, asked=dataclasses.replace(base.asked, measure=(20,))),
    ]
    assert all(pack_key(base) != pack_key(other) for other in others)
    probe = with_measure(base.config, MeasureConfig(quantities=("entropy",), probe=8))
    assert pack_key(dataclasses.replace(base, config=probe)) == pack_key(base)  # nothing of it is measured here


@given(total=st.integers(1, 500), largest=st.integers(1, 64))
def test_even_packs_differ_by_one_at_most_and_are_as_few_as_possible(total: int, largest: int) -> None:
    sizes, left = [], total
    while left:
        sizes.append(even(left, largest))
        left -= sizes[-1]
    assert sum(sizes) == total
    assert max(sizes) <= largest
    assert len(sizes) == math.ceil(total / largest)
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4), size=st.integers(1, 64), slots=st.integers(1, 8))
def test_every_lane_is_in_one_unit_and_units_hold_equal_lanes(counts: list[int], size: int, slots: int) -> None:
    pool = ready(size, slots)
    lanes = [lane(seed, steps=10 * (group + 1)) for group, count in enumerate(counts) for seed in range(count)]
    for each in lanes:
        pool.add(each, priority=0.0)
    units = [unit for bundle in drained(pool, slots) for unit in bundle]
    assert Counter(each.lineage + str(each.end) for unit in units for each in unit.lanes) == Counter(
        each.lineage + str(each.end) for each in lanes
    )
    assert all(len({pack_key(each) for each in unit.lanes}) == 1 for unit in units)
    assert all(len(unit.lanes) <= size for unit in units)


def test_no_worker_is_left_without_work_and_the_last_one_gets_no_less() -> None:
    pool = ready(size=64, slots=4)
    for seed in range(32):
        pool.add(lane(seed), priority=0.0)
    assert [[len(unit.lanes) for unit in bundle] for bundle in drained(pool, 4)] == [[8]] * 4


def test_packs_are_not_divided_where_every_worker_has_one() -> None:
    pool = ready(size=8, slots=2, seconds=1.0)
    for steps in (10, 20, 30):
        for seed in range(8):
            pool.add(lane(seed, steps=steps), priority=0.0)
    assert [[len(unit.lanes) for unit in bundle] for bundle in drained(pool, 2)] == [[8]] * 3


def test_a_bundle_waits_beside_those_that_run_only_where_there_is_plenty() -> None:
    pool = ready(size=4, slots=2)
    for seed in range(9):
        pool.add(lane(seed), priority=0.0)
    assert pool.plenty
    pool.take(1)
    assert not pool.plenty


def test_bundles_hold_half_a_second_or_64_units() -> None:
    for seconds, units in ((0.0, BUNDLE_UNITS), (0.1, 5), (0.3, 1), (math.inf, 1)):
        pool = ready(size=1, slots=1, seconds=seconds)
        for seed in range(200):
            pool.add(lane(seed), priority=0.0)
        assert len(pool.take()) == units


def test_the_longest_chain_goes_first_and_units_put_back_before_all() -> None:
    pool = ready(size=8, slots=1, seconds=1.0)
    pool.add(lane(1, steps=30), priority=1.0)
    pool.add(lane(2, steps=40), priority=9.0)
    lost = unit([lane(3), lane(4)], attempt=2)
    pool.put_back([lost])
    pool.put_back([])
    assert [bundle[0].lanes[0].config.seed for bundle in drained(pool)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("step_s", "best"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 1.1, 4: 1.4, 8: 3.0}, 4),
        ({1: 1.0, 2: 2.5, 4: 6.0}, 1),
        ({1: 1.0, 2: 1.99}, 1),  # a gain too small to wait for
        ({1: 1.0, 2: 2.1, 4: 2.0}, 4),
    ],
)
def test_the_best_size_is_the_cheapest_per_trial(step_s: dict[int, float], best: int) -> None:
    assert Pace(step_s).best() == best


def test_seconds_of_sizes_between_and_beyond_the_measured_ones() -> None:
    pace = Pace({1: 1.0, 4: 2.0})
    assert [pace.seconds(size) for size in (1, 3, 4, 8)] == [1.0, 2.0, 2.0, 4.0]


def test_units_split_in_halves_down_to_one_lane_and_pickle() -> None:
    whole = unit([lane(seed) for seed in range(5)], attempt=2)
    halves = whole.split()
    assert [len(half.lanes) for half in halves] == [2, 3]
    assert [each for half in halves for each in half.lanes] == list(whole.lanes)
    assert {half.attempt for half in halves} == {2}
    alone = unit([lane(0)])
    assert alone.split() == [alone]
    assert pickle.loads(pickle.dumps(whole)) == whole
    assert len({whole.id, *(half.id for half in halves)}) == 3


def test_a_lane_begins_from_the_state_of_the_link_it_continues() -> None:
    made = config(0, kind="shift", steps=40, evaluate_every=10)
    trunk, whole = links(made)[:1], links(made)

    first, later, branch, on = (
        Lane(config=made, chain=trunk, start=0, end=20),
        Lane(config=made, chain=trunk, start=10, end=20),
        Lane(config=made, chain=whole, start=20, end=40),
        Lane(config=made, chain=whole, start=30, end=40),
    )
    assert first.origin is None
    assert later.origin == (first.lineage, 10)
    assert branch.origin == (first.lineage, 20)
    assert on.origin == (branch.lineage, 30)
