"""Lengths by step: exact shares, the same for every seed, and counted without listing them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lengths import batch_lengths, length_counts, spread_lengths, validation_lengths
from core.task_terms import AlgorithmicTask


def task(low: int, high: int, curriculum: int = 0) -> AlgorithmicTask:
    return AlgorithmicTask(kind="copy", train_length=(low, high), test_length=(low, high), curriculum=curriculum)


spans = st.tuples(st.integers(1, 60), st.integers(0, 60)).map(lambda pair: (pair[0], sum(pair)))


@given(spans, st.integers(1, 70), st.integers(0, 10**9), st.sampled_from([0, 1, 7, 1000]))
@settings(max_examples=200)
def test_slots_have_the_quantiles_of_the_lengths_allowed_then(
    span: tuple[int, int], batch: int, step: int, curriculum: int
) -> None:
    """By rational arithmetic: slot j from the end has the length at (j + u)/B, u the step's golden offset."""
    low, high = span
    asked = task(low, high, curriculum)
    count = high - low + 1
    allowed = count if not curriculum else min(count, 1 + step * count // curriculum)
    golden = Fraction(0x9E3779B97F4A7C15, 2**64)
    offset = Fraction(int(step * golden % 1 * 2**24), 2**24)
    expected = [low + int((j + offset) / batch * allowed) for j in range(batch)]
    found = batch_lengths(asked, batch, step)
    assert found.tolist() == expected[::-1]
    assert found.dtype == np.int64
    assert (np.diff(found) <= 0).all()


@given(spans, st.integers(1, 70), st.integers(0, 10**6), st.sampled_from([0, 1, 7, 40, 10**6]))
@settings(max_examples=100)
def test_counts_are_those_of_the_lengths(span: tuple[int, int], batch: int, start: int, curriculum: int) -> None:
    asked = task(*span, curriculum)
    steps = np.arange(start, start + 9)
    counts = length_counts(asked, batch, steps)
    for row, step in zip(counts, steps.tolist(), strict=True):
        listed = np.bincount(batch_lengths(asked, batch, step) - span[0], minlength=span[1] - span[0] + 1)
        np.testing.assert_array_equal(row, listed)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_over_updates_every_length_has_its_share(batch: int) -> None:
    counts = length_counts(task(3, 22), batch, np.arange(10_000)).sum(axis=0)
    assert counts.sum() == 10_000 * batch
    assert np.abs(counts - 500 * batch).max() <= 5  # independent draws would miss by 70 · √batch and more


def test_a_curriculum_begins_with_the_shortest_and_ends_with_all() -> None:
    asked = task(2, 11, curriculum=1000)
    longest = [int(batch_lengths(asked, 64, step)[0]) for step in range(1100)]
    assert longest[0] == 2
    assert longest == sorted(longest)
    assert [longest.index(length) for length in range(2, 12)] == list(range(0, 1000, 100))
    assert set(batch_lengths(asked, 64, 99).tolist()) == {2}
    assert set(batch_lengths(asked, 64, 900).tolist()) == set(range(2, 12))


@given(st.integers(1, 40), st.integers(0, 30), st.integers(1, 300))
@settings(max_examples=100)
def test_validation_lengths_are_in_equal_shares(low: int, more: int, size: int) -> None:
    lengths = spread_lengths((low, low + more), size)
    counts = np.bincount(lengths - low, minlength=more + 1)
    assert len(counts) == more + 1
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("first", [8, 16, 32, 64, 100])
def test_the_first_validation_problems_cover_the_range(first: int) -> None:
    """A probe of the first few has every part of the range in its share."""
    lengths = validation_lengths(task(1, 40))[:first]
    quarters = np.bincount((lengths - 1) // 10, minlength=4)
    assert quarters.max() - quarters.min() <= 3
    assert np.diff(np.sort(lengths)).max() <= 3 * 40 // first + 1


def test_the_largest_numbers_do_not_overflow() -> None:
    asked = task(1, 1024)
    found = batch_lengths(asked, 10**6, 10**9)
    assert (found[0], found[-1]) == (1024, 1)
    counts = length_counts(asked, 10**6, np.array([10**9]))[0]
    np.testing.assert_array_equal(counts, np.bincount(found - 1, minlength=1024))
