"""Claims about means over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from reports import means


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("seeds", [[0], [0, 0], [3, 1, 1, 3, 2], list(range(10))])
def test_many_means_and_intervals_are_those_of_each_by_itself(log, seeds):
    values = np.random.default_rng(len(seeds)).lognormal(size=(len(seeds), 17))
    found = means.summaries(values, seeds, log=log)
    for column, one in enumerate(found):
        slow = means.summary(seeds, values[:, column], log=log)
        assert one["n"] == slow["n"] == len(set(seeds))
        assert one["mean"] == pytest.approx(slow["mean"], rel=1e-14)
        assert (one["low"] is None) == (slow["low"] is None) == (len(set(seeds)) == 1)
        if slow["low"] is not None:
            assert one["low"] == pytest.approx(slow["low"], rel=1e-12)
            assert one["high"] == pytest.approx(slow["high"], rel=1e-12)
