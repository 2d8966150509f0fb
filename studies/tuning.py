"""Which nuisance setting wins in each slot: a pure function of the recorded rows of the tuning trials.

Per arm and setting of the compared axes, every candidate ran on the tuning seeds. The best mean of `tune_metric` wins;
a candidate with seeds that diverged or failed comes after all that have fewer of them, whatever its mean; ties go to
the candidate that comes first in the study. A slot of which any trial is not recorded yet has no winner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.lineage import trial_id
from studies.expand import Slot, SlotKey, slots
from studies.grid import Assignment
from studies.metrics import metric
from studies.study import Study


def winners(study: Study, rows: Iterable[Mapping[str, Any]]) -> dict[SlotKey, Assignment]:
    """The winners that the rows decide, for `studies.expand.expand`.

    Args:
        study: whose nuisance axes are tuned.
        rows: of the view `trials`, of all finished tuning trials (others do no harm): trial_id, status, and the
            column that `tune_metric` names; null or NaN where there is no value.

    Returns:
        By slot, the nuisance values that won; nothing where a study has no nuisance axes.
    """
    if study.nuisance is None:
        return {}
    recorded = {row["trial_id"]: _value(row, study.nuisance.metric) for row in rows if row["status"] is not None}
    lower = metric(study.nuisance.metric).better == "lower"
    found: dict[SlotKey, Assignment] = {}
    for slot in slots(study):
        if len(slot.candidates) == 1:
            continue
        scores = [_score(slot, index, study.nuisance.seeds, recorded, lower=lower) for index in _indices(slot)]
        known = [score for score in scores if score is not None]
        if len(known) == len(scores):
            found[slot.key] = slot.nuisance(slot.candidates[min(known)[2]])
    return found


def _indices(slot: Slot) -> range:
    return range(len(slot.candidates))


def _value(row: Mapping[str, Any], name: str) -> float | None:
    """The metric of one trial; None where it did not end ok or has no value."""
    value = row[name]
    if row["status"] != "ok" or value is None or not math.isfinite(value):
        return None
    return float(value)


def _score(
    slot: Slot, index: int, seeds: Sequence[int], recorded: Mapping[str, float | None], *, lower: bool
) -> tuple[int, float, int] | None:
    """What a candidate is ranked by, less is better: (seeds without a value, mean, place); None where rows lack."""
    candidate = slot.candidates[index]
    ids = [trial_id(replace(candidate.config, seed=seed)) for seed in seeds if slot.keeps(candidate, seed)]
    if not all(key in recorded for key in ids):
        return None
    if not ids:  # a filter leaves it no tuning seed: after all that were tried
        return len(seeds) + 1, 0.0, index
    values = [value for key in ids if (value := recorded[key]) is not None]
    if not values:
        return len(ids), 0.0, index
    mean = math.fsum(values) / len(values)
    return len(ids) - len(values), mean if lower else -mean, index
