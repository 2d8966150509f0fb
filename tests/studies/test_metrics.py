"""Claims about the registry of metrics."""

from __future__ import annotations

import pytest

from core.errors import InputError
from studies.metrics import METRICS, metric


@pytest.mark.parametrize(
    ("name", "better", "scale"),
    [
        ("val_loss", "lower", "linear"),
        ("final_val_loss_high_ic", "lower", "linear"),
        ("best_val_accuracy_len_9", "higher", "linear"),
        ("excess_loss_low_ic", "lower", "log"),
        ("final_excess_loss", "lower", "log"),
        ("lambda_max", "lower", "log"),
        ("flops_spent", "lower", "log"),
        ("lambda_min", "higher", "linear"),
    ],
)
def test_the_registry_knows_direction_and_scale_whatever_the_prefix_and_stratum(name, better, scale):
    found = metric(name)
    assert (found.name, found.better, found.scale) == (name, better, scale)


def test_log_scales_are_only_where_the_design_allows_them():
    log = {name for name, m in METRICS.items() if m.scale == "log"}
    costs = {"flops_alone", "flops_spent", "alone_s", "spent_s"}
    assert log <= {"lambda_max", "trace", "frobenius", "sam_sharpness", "excess_loss"} | costs


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="'val_loss'"):
        metric("final_val_lss")
