"""Loops drawn per update: their distribution, and that they are a function of (seed, step) alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.draws import BLOCK, CHUNK, drawn_total, loop_draws
from core.streams import stream

DRAWS = 200_000
"""Large enough that 5 standard errors of the mean are below 2 % of it in every case below."""


@pytest.mark.parametrize(("mean", "sigma"), [(2, 0.5), (4, 0.0), (4, 0.5), (4, 1.0), (32, 0.5)])
def test_mean_and_variance_are_those_of_the_formula(mean: int, sigma: float) -> None:
    """Within 5 standard errors; that of the variance is taken from the fourth moment of the draws themselves."""
    drawn = loop_draws(0, mean=mean, sigma=sigma, start=0, count=DRAWS).astype(np.float64)
    m = mean - 1
    variance = m + m**2 * math.expm1(sigma**2)
    assert abs(drawn.mean() - mean) < 5 * math.sqrt(variance / DRAWS)
    squares = (drawn - mean) ** 2
    assert abs(squares.mean() - variance) < 5 * squares.std() / math.sqrt(DRAWS)


def test_without_spread_the_rate_is_constant_and_counts_are_poisson() -> None:
    drawn = loop_draws(1, mean=4, sigma=0.0, start=0, count=DRAWS)
    counts = np.bincount(drawn - 1, minlength=12)[:12]
    expected = DRAWS * np.array([math.exp(-3) * 3**k / math.factorial(k) for k in range(12)])
    # χ² of 12 cells (the rest is negligible): 99.99 % of a χ² with 11 degrees of freedom lie below 37.4.
    assert ((counts - expected) ** 2 / expected).sum() < 37.4


def test_the_rate_of_an_update_is_lognormal() -> None:
    """Given τ, a draw is 1 + Poisson(e^τ): what is left after the rate is taken out has mean 0 and is as wide as it."""
    normals = np.concatenate([stream(0, "loops", block).standard_normal(BLOCK) for block in range(DRAWS // BLOCK)])
    rates = np.exp(math.log(7) - 0.25 / 2 + 0.5 * normals)
    drawn = loop_draws(0, mean=8, sigma=0.5, start=0, count=len(rates))
    standard = (drawn - 1 - rates) / np.sqrt(rates)
    assert abs(standard.mean()) < 5 / math.sqrt(len(rates))
    assert standard.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0])
def test_a_mean_of_one_is_always_one_loop(sigma: float) -> None:
    assert (loop_draws(5, mean=1, sigma=sigma, start=3, count=1000) == 1).all()
    assert drawn_total(5, mean=1, sigma=sigma, start=3, end=10**12) == 10**12 - 3


@given(
    st.integers(0, 2**62), st.integers(1, 40), st.floats(0, 1.5), st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK)
)
def test_any_window_has_the_numbers_of_the_whole(seed: int, mean: int, sigma: float, start: int, count: int) -> None:
    whole = loop_draws(seed, mean=mean, sigma=sigma, start=0, count=6 * BLOCK)
    window = loop_draws(seed, mean=mean, sigma=sigma, start=start, count=count)
    assert window.dtype == np.int64
    assert window.min(initial=1) >= 1
    np.testing.assert_array_equal(window, whole[start : start + count])


def test_a_block_is_drawn_from_its_own_stream_alone() -> None:
    """So what one block rejects, and how large its numbers are, cannot move the next one."""
    for block in (0, 1, 7, 10**6):
        generator = stream(9, "loops", block)
        rates = np.exp(math.log(3) - 0.125 + 0.5 * generator.standard_normal(BLOCK))
        drawn = loop_draws(9, mean=4, sigma=0.5, start=block * BLOCK, count=BLOCK)
        np.testing.assert_array_equal(drawn, 1 + generator.poisson(rates))


def test_what_a_caller_does_to_its_draws_is_its_own_affair() -> None:
    first = loop_draws(0, mean=4, sigma=0.5, start=0, count=BLOCK)
    first[:] = 0
    assert loop_draws(0, mean=4, sigma=0.5, start=0, count=BLOCK).min() >= 1
    assert drawn_total(0, mean=4, sigma=0.5, start=0, end=BLOCK) >= BLOCK


def test_seeds_and_blocks_are_not_correlated() -> None:
    """32 seeds and 32 blocks of one seed: no pair correlates more than chance allows (5 standard deviations)."""
    seeds = np.array([loop_draws(seed, mean=8, sigma=0.5, start=0, count=4096) for seed in range(32)])
    blocks = loop_draws(0, mean=8, sigma=0.5, start=0, count=32 * BLOCK).reshape(32, BLOCK)
    for drawn in (seeds, blocks):
        off_diagonal = np.corrcoef(drawn)[np.triu_indices(len(drawn), 1)]
        assert np.abs(off_diagonal).max() < 5 / math.sqrt(drawn.shape[1])


@given(st.integers(0, 3), st.sampled_from([(4, 0.5), (2, 0.0)]), st.integers(0, 3 * CHUNK), st.integers(0, 3 * CHUNK))
def test_a_total_is_the_sum_of_the_draws(seed: int, terms: tuple[int, float], start: int, length: int) -> None:
    mean, sigma = terms
    drawn = loop_draws(seed, mean=mean, sigma=sigma, start=start, count=length)
    assert drawn_total(seed, mean=mean, sigma=sigma, start=start, end=start + length) == drawn.sum()


@pytest.mark.parametrize("end", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_totals_add_up_where_chunks_meet(end: int) -> None:
    terms = {"mean": 4, "sigma": 0.5}
    whole = drawn_total(2, **terms, start=0, end=3 * CHUNK)
    assert drawn_total(2, **terms, start=0, end=end) + drawn_total(2, **terms, start=end, end=3 * CHUNK) == whole
    assert drawn_total(2, **terms, start=end, end=end) == 0


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"mean": 0}, "mean of drawn loops must be at least 1, got 0"),
        ({"sigma": -0.1}, "sigma of drawn loops must be finite and at least 0, got -0.1"),
        ({"sigma": math.nan}, "sigma of drawn loops must be finite and at least 0, got nan"),
        ({"sigma": math.inf}, "sigma of drawn loops must be finite and at least 0, got inf"),
        ({"start": -1}, "got -1 to"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given_: dict[str, float], message: str) -> None:
    terms = {"mean": 4, "sigma": 0.5, "start": 0} | given_
    with pytest.raises(ValueError, match=message):
        loop_draws(0, **terms, count=8)
    with pytest.raises(ValueError, match=message):
        drawn_total(0, **terms, end=8)


def test_windows_do_not_end_before_they_begin() -> None:
    with pytest.raises(ValueError, match="got 4 to 3"):
        drawn_total(0, mean=4, sigma=0.5, start=4, end=3)
    with pytest.raises(ValueError, match="got 4 to 3"):
        loop_draws(0, mean=4, sigma=0.5, start=4, count=-1)


def test_the_first_draws_are_pinned() -> None:
    """Golden values: other numbers mean other trainings, and a raised NUMERICS_VERSION."""
    assert loop_draws(0, mean=4, sigma=0.5, start=0, count=12).tolist() == [3, 5, 4, 5, 3, 7, 3, 1, 2, 3, 3, 1]
    assert drawn_total(0, mean=4, sigma=0.5, start=0, end=100_000) == 397890
