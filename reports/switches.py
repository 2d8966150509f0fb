"""What a study's stages did, for ``report.json``: the tree that trials share, what switches cost, when criteria fired.

All of it follows from configurations and result columns. Of a trial that switches several times the first switch
counts, as in the view `trials`. A trial whose loss has not come back to what it was before the switch has *never
recovered*: it counts as infinitely many steps in a median, which is then a number only where more than half recovered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from core.flops import flops_alone, link_flops
from core.lineage import Link
from reports import means, series
from reports.paired import partnered
from reports.tables import Tables
from studies.branches import outline_dict
from studies.expand import Trial
from studies.outline import outline, stopped_at

_MEANS = {
    "loss_before": "switch_val_loss_before",
    "loss_after": "switch_val_loss_after",
    "drop": "switch_drop",
    "accuracy_before": "switch_val_accuracy_before",
    "accuracy_after": "switch_val_accuracy_after",
}
"""Fields of a row by the column of `trials` that they are the mean of."""


def tree(trials: Iterable[Trial], ended: Mapping[str, int] | None = None) -> dict[str, Any] | None:
    """The outline of the stage tree (`studies.outline`) and the FLOPs that it saves; None without trials.

    ``flops_alone`` counts every trial by itself, ``flops_trained`` each stretch of a lineage once: what a run takes
    that replays nothing. Both go as far as chains are known.

    Args:
        trials: of a study; of those with equal ids one counts.
        ended: by trial_id, the last step of those that have ended (`last_steps`): they wait for no criterion any more.
    """
    stops = ended or {}
    once = [
        stopped_at(trial, stops[key]) if trial.watch is not None and key in stops else trial
        for key, trial in {trial.trial_id: trial for trial in trials}.items()
    ]
    if not once:
        return None
    longest: dict[str, tuple[Trial, Link]] = {}
    for trial in once:
        for link in trial.links:
            known = longest.get(link.lineage)
            if known is None or link.end > known[1].end:
                longest[link.lineage] = trial, link
    return outline_dict(outline(once)) | {
        "flops_alone": sum(flops_alone(trial.config, chain=trial.links) for trial in once),
        "flops_trained": sum(link_flops(t.config, link, link.start, link.end) for t, link in longest.values()),
    }


def last_steps(tables: Tables) -> dict[str, int]:
    """By trial_id, the last step with metrics of the trials that have ended, however."""
    ended = tables.trials.loc[tables.trials["status"].notna(), "trial_id"].unique()
    last = tables.metrics.last_steps()
    return {key: last.get(key, 0) for key in ended}


def switches(tables: Tables, arms: Sequence[str], reference: str) -> list[dict[str, Any]]:
    """What the first switch did, an entry for each arm that switches: over all its settings, and by setting.

    Args:
        tables: of the study.
        arms: in the order of the report.
        reference: the arm that costs are compared with.
    """
    trials = series.finished(tables)
    if "switch_step" not in trials.columns:
        return []
    found = []
    for arm in arms:
        rows = trials[(trials["arm"] == arm) & trials["switch_step"].notna()]
        if rows.empty:
            continue
        ratios = {} if arm == reference else _cost_ratios(tables, rows, trials[trials["arm"] == reference])
        settings = [{"setting": dict(setting)} | _row(own, ratios) for setting, own in series.by_setting(tables, rows)]
        found.append({"arm": arm, "reference": reference} | _row(rows, ratios) | {"settings": settings})
    return found


def _row(rows: pd.DataFrame, ratios: Mapping[str, float]) -> dict[str, Any]:
    """One row: means over seeds, as everywhere (trials of a seed are averaged first)."""
    step = rows["switch_step"].astype(float)
    costs = [math.log(ratios[one]) for one in rows["trial_id"] if one in ratios]
    return {
        "n": int(rows["seed"].nunique()),
        "trials": len(rows),
        "switches": int(rows["switches"].max()),
        "step": {
            "mean": means.of_column(rows, "switch_step")["mean"],
            "min": int(step.min()),
            "median": _plain_median(step.tolist()),
            "max": int(step.max()),
        },
        **{name: means.of_column(rows, column) for name, column in _MEANS.items()},
        "recovery": _recovery(rows),
        "cost": math.exp(math.fsum(costs) / len(costs)) if costs and len(costs) == len(rows) else None,
    }


def _recovery(rows: pd.DataFrame) -> dict[str, Any]:
    """Steps from the switch until the loss is as before it: the median, and how many trials never came so far."""
    known = rows.loc[rows["switch_drop"].notna(), "switch_recovery_steps"].astype(float)
    steps = [math.inf if math.isnan(value) else value for value in known]
    return {"trials": len(steps), "never": sum(map(math.isinf, steps)), "median": _plain_median(steps)}


def _plain_median(values: Sequence[float]) -> float | int | None:
    """The median; None without values, or where half of them and more are infinite."""
    if not values:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    found = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    if math.isinf(found):
        return None
    return int(found) if found == int(found) else found


def _cost_ratios(tables: Tables, rows: pd.DataFrame, against: pd.DataFrame) -> dict[str, float]:
    """FLOPs alone over those of the reference, by trial_id: its trials of the same seed at equal shared settings."""
    costs = dict(zip(against["trial_id"], against["flops_alone"].astype(float), strict=True))
    return {
        row["trial_id"]: float(row["flops_alone"]) * len(partners) / math.fsum(costs[one] for one in partners)
        for row, partners in partnered(tables, rows, against)
        if partners
    }


# --- criteria --------------------------------------------------------------------------------------------------------


def criteria(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """When the first criterion of each trial ended its stage, an entry for each arm that has one.

    ``along`` has, for each axis of several values, the mean step over seeds and over the other axes. A criterion that
    never fires ends its stage at its latest step, and counts with it there.
    """
    ended = _ended(tables)
    trials = series.finished(tables)
    trials = trials.assign(ended_step=trials["trial_id"].map({key: step for key, (step, _) in ended.items()}))
    found = []
    for arm in arms:
        own = trials[(trials["arm"] == arm) & trials["ended_step"].notna()]
        if own.empty:
            continue
        details = [ended[trial_id] for trial_id in own["trial_id"]]
        fired = sorted(step for step, detail in details if detail["fired"])
        latest = sorted({int(detail["latest"]) for _, detail in details if not detail["fired"]})
        found.append(
            {
                "arm": arm,
                "trials": len(own),
                "settings": len(series.by_setting(tables, own)),
                "fired": {
                    "trials": len(fired),
                    "min": fired[0] if fired else None,
                    "median": _plain_median(fired),
                    "max": fired[-1] if fired else None,
                },
                "never": len(own) - len(fired),
                "latest": latest,
            }
        )
    return found


def criterion_axes(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The mean step at which criteria ended their stage along each axis of several values, of arms that have any."""
    ended = _ended(tables)
    trials = series.finished(tables)
    trials = trials.assign(ended_step=trials["trial_id"].map({key: float(step) for key, (step, _) in ended.items()}))
    return [entry for entry in series.along(tables, trials, "ended_step", arms) if entry["series"]]


def _ended(tables: Tables) -> dict[str, tuple[int, dict[str, Any]]]:
    """By trial_id, step and detail of the first criterion that ended a stage."""
    rows = tables.events[tables.events["kind"] == "watcher"]
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for trial_id, step, detail in zip(rows["trial_id"], rows["step"], rows["detail"], strict=True):
        if trial_id not in found:  # in the order of steps
            found[str(trial_id)] = int(step), json.loads(detail)
    return found
