"""Claims about the keys that rows are found by."""

from __future__ import annotations

from core.config import MeasureConfig
from studies.keys import probe_observed


def test_observed_does_not_depend_on_the_order_or_the_steps():
    one = MeasureConfig(quantities=("lambda_min", "lambda_max"), every=5)
    other = MeasureConfig(quantities=("lambda_max", "lambda_min"), at=(3,))
    assert probe_observed(one) == probe_observed(other)
    assert probe_observed(one) != probe_observed(MeasureConfig(quantities=("lambda_max",), probe=64))
