"""The sampler's tables hold exactly the distributions they were built from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.alias import AliasTables, alias_tables


def probabilities(tables: AliasTables, count: int, size: int) -> np.ndarray:
    """The distribution `[R, S]` that drawing from the tables gives."""
    share = tables.cut.reshape(count, size) - np.arange(size)
    alias = tables.alias.reshape(count, size)
    held = share.copy()
    for row in range(count):
        np.add.at(held[row], alias[row], 1.0 - share[row])
    return held / size


@pytest.mark.parametrize("concentration", [1e-4, 0.05, 1.0, 100.0])
@pytest.mark.parametrize("size", [2, 3, 16, 65])
def test_tables_hold_dirichlet_rows(concentration: float, size: int) -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(size, concentration), size=50)
    held = probabilities(alias_tables(rows), 50, size)
    np.testing.assert_allclose(held, rows, atol=1e-15)
    assert (held[rows == 0] == 0).all()  # what cannot happen is never drawn


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(0, 10**6), min_size=5, max_size=5).filter(any), min_size=1, max_size=4))
def test_tables_hold_any_rows(weights: list[list[int]]) -> None:
    rows = np.array(weights, dtype=np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    held = probabilities(alias_tables(rows), len(rows), 5)
    np.testing.assert_allclose(held, rows, atol=1e-14)
    assert (held[rows == 0] == 0).all()


def test_certain_and_uniform_rows_are_exact() -> None:
    rows = np.array([[0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_array_equal(probabilities(alias_tables(rows), 2, 4), rows)
