"""The walk through a fixed training set: every epoch takes each element once, and any stretch is had by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.epochs import Epochs, epoch_order


def test_epochs_differ_in_their_order() -> None:
    orders = {tuple(epoch_order(0, "markov", 50, epoch)) for epoch in range(5)}
    assert len(orders) == 5
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_seeds_and_tasks_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(seed, task, 50, 0)) for seed in (0, 1) for task in ("markov", "text")}
    assert len(orders) == 4


@settings(max_examples=40)
@given(size=st.integers(1, 20), first=st.integers(0, 200), count=st.integers(1, 60))
def test_a_stretch_of_the_walk_does_not_depend_on_what_was_asked_before(size: int, first: int, count: int) -> None:
    walk = [element for epoch in range(300) for element in epoch_order(3, "text", size, epoch)][: first + count]
    np.testing.assert_array_equal(Epochs(3, "text", size).entries(first, count), walk[first:])
