"""Named streams: pure functions of (seed, name, position), apart from one another."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.streams import derived_seed, stream

names = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 10**9)), min_size=1, max_size=3)


@given(st.integers(0, 2**63 - 1), names)
def test_a_stream_is_a_function_of_its_seed_and_name(seed: int, name: list[str | int]) -> None:
    assert stream(seed, *name).random(8).tolist() == stream(seed, *name).random(8).tolist()


@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(1, 40))
def test_a_position_skips_blocks_of_four_doubles(seed: int, position: int, count: int) -> None:
    whole = stream(seed, "x").random(4 * position + count)
    np.testing.assert_array_equal(stream(seed, "x", position=position).random(count), whole[4 * position :])


def test_far_positions_cost_nothing_and_differ() -> None:
    far = [stream(0, "x", position=p).random(4).tolist() for p in (0, 1, 2**40, 2**62)]
    assert all(a != b for a, b in itertools.combinations(far, 2))


def test_seeds_and_names_give_streams_of_their_own() -> None:
    keys = [(0, "a"), (1, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, "a", 1), (0, "a1"), (10, "a"), (1, "0", "a")]
    first = [stream(seed, *name).random() for seed, *name in keys]
    assert len(set(first)) == len(keys)


def test_streams_are_not_correlated() -> None:
    """64 neighbouring seeds: no pair correlates more than chance allows (5 standard deviations, 2,016 pairs)."""
    drawn = np.array([stream(seed, "init").standard_normal(4096) for seed in range(64)])
    off_diagonal = np.corrcoef(drawn)[np.triu_indices(64, 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(4096)


@given(st.integers(0, 2**63 - 1), names)
def test_derived_seeds_are_seeds(seed: int, name: list[str | int]) -> None:
    derived = derived_seed(seed, *name)
    assert 0 <= derived < 2**62
    assert derived == derived_seed(seed, *name)


def test_derived_seeds_do_not_collide() -> None:
    assert len({derived_seed(seed, "tune", index) for seed in range(100) for index in range(100)}) == 10_000


def test_the_first_numbers_are_pinned() -> None:
    """Golden values: other numbers mean other data and weights, and a raised NUMERICS_VERSION."""
    assert stream(0, "markov", "train").random(2).tolist() == [0.6389942469886934, 0.5976991371671236]
    assert derived_seed(0, "tune", 1) == 2005944218206399627
