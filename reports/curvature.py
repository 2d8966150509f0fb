"""What the panels of the curvature are drawn from: ranks, spectra over training, fans, curves, phases, tables.

Everything is by line (`series.groups`): an arm's settings, or their mean and the best of them. Trials of one seed are
averaged, then seeds; intervals are 95 % t intervals over seeds, on orders of magnitude of logarithms. A trial that
lacks a measurement leaves the line's n and is counted as lost; why it lacks it stands in `how` (`reports.measured`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from core.quantities import COLUMNS, CURVES
from reports import components, last_curves, loop_counts, measured, methods, paired, phases, series, spectra, surfaces
from reports.functionals import History, UnmeasuredError, entropy_dip, entropy_rise, phases_of
from reports.means import summary
from reports.tables import Tables
from studies.claims import Claim

TAU = 1e-3
"""The threshold at which symlog axes turn linear, where the study's claims name none."""
_FANS = ("top_eigenvalue", "bottom_eigenvalue")
_LOG = frozenset({"kappa_valley", "cumulative_force", "eigenvalues_below"})
"""Curves on orders of magnitude: means are geometric, differences ratios."""
_AT_LAST = ("null_count", "block_lambda_max_", "same_loop_", "cross_loop_")
"""Columns that a table shows at the last step."""


def panels(tables: Tables, arms: Sequence[str], reference: str, claims: Iterable[Claim]) -> dict[str, Any]:
    """The section ``panels`` of a study in ``report.json``.

    Args:
        tables: of the study.
        arms: in the order of the report.
        reference: the arm that others are compared with.
        claims: of the study; thresholds that they name give the τ of the axes.
    """
    known = spectra.read(tables)
    return {
        "tau": threshold(claims),
        "quantiles": list(spectra.QUANTILES),
        "ranks": spectra.ranks(tables, known, arms),
        "over_training": spectra.over_training(tables, known, arms),
        "components": components.comparisons(tables, known, arms, reference),
        "fans": fans(tables, arms),
        "curves": [
            found
            for name in CURVES
            if name not in _FANS and (found := curve(tables, name, arms, reference)) is not None
        ],
        "phases": phase_rows(tables, arms),
        "surfaces": surfaces.panel(tables, arms),
        "at_last": at_last(tables, arms),
        "how": measured.how(tables),
    }


def threshold(claims: Iterable[Claim]) -> float:
    """τ of the axes: the middle one of those that claims name, `TAU` without one."""
    named = sorted(
        part.metric.arguments[0]
        for claim in claims
        for part in claim.parts
        if part.metric.name in ("force_at", "below_at")
    )
    return named[len(named) // 2] if named else TAU


def curve(tables: Tables, name: str, arms: Sequence[str], reference: str) -> dict[str, Any] | None:
    """A quantity of the table curves over x at the last step that all lines have, and its differences; None without.

    What the fans show over training, and what other loops give, is none of these.
    """
    if name in _FANS or loop_counts.shown_here(name):
        return None
    found = last_curves.over_x(tables, name, arms, log=(log := name in _LOG))
    if found is None:
        return None
    step, wide, lines = found
    declared = CURVES[name]
    return {
        "quantity": name,
        "x": declared.x,
        "unit": declared.unit,
        "doc": declared.doc,
        "log": log,
        "step": step,
        "series": [line for _, line in lines],
        "paired": {"reference": reference, "series": paired.paired(tables, wide, arms, reference, x="x", log=log)},
    }


def fans(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The largest and smallest eigenvalues by rank over the steps, a line each, with SGD's limit of stability.

    Heavy-ball SGD with momentum μ and learning rate η is stable along an eigenvalue up to (2 + 2μ)/η (μ = 0: 2/η). A
    limit stands at the steps at which all trials of the line have the same; there is none under AdamW, whose limit
    holds for the preconditioned Hessian (the column ``edge``). Means are geometric where all values have one sign.
    """
    rows = tables.curves[tables.curves["quantity"].isin(_FANS)]
    found = []
    for line in series.groups(tables, arms):
        seeds = line.seeds
        own = rows[rows["trial_id"].isin(seeds.keys())]
        trials = own["trial_id"].nunique()
        if not trials:
            continue
        ranks = []
        for name in _FANS:
            of_end: pd.DataFrame = own.loc[own["quantity"] == name]
            for rank in sorted(of_end["x"].unique().tolist()):
                points = []
                for step, at in of_end.loc[of_end["x"] == rank].groupby("step"):
                    if len(at) == trials:
                        own_seeds, values = at["trial_id"].map(seeds).tolist(), at["y"].tolist()
                        points.append({"step": int(str(step))} | _of_one_sign(own_seeds, values))
                if points:
                    ranks.append({"end": name.partition("_")[0], "rank": round(rank), "points": points})
        steps = sorted({point["step"] for rank in ranks for point in rank["points"]})
        known = own["trial_id"].map(seeds)
        found.append(
            line.head
            | {
                "n": int(known.nunique()),
                "lost": len(seeds) - trials,
                "ranks": ranks,
                **_stability(tables, line.trials, steps),
            }
        )
    return found


def _of_one_sign(seeds: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
    """`summary`, of the logarithms of the sizes where all values are positive or all negative."""
    if max(values) >= 0:
        return summary(seeds, values, log=min(values) > 0)
    found = summary(seeds, [-value for value in values], log=True)
    low, high = (None if found[k] is None else -found[k] for k in ("high", "low"))
    return found | {"mean": -found["mean"], "low": low, "high": high}


def _stability(tables: Tables, trials: pd.DataFrame, steps: Sequence[int]) -> dict[str, Any]:
    """The optimiser of some trials (None where they differ) and the limit of stability at each step."""
    trained = [json.loads(text).get("train", {}) for text in trials["config"]]
    optimizers = {one.get("optimizer") for one in trained}
    optimizer = optimizers.pop() if len(optimizers) == 1 else None
    limit: list[dict[str, Any]] = []
    if optimizer == "sgd" and "lr" in tables.metrics.columns:
        momentum = {str(t): float(one["momentum"]) for t, one in zip(trials["trial_id"], trained, strict=True)}
        wide = tables.metrics.wide("lr")
        rates = wide[wide.index.isin(momentum.keys())]
        for step in (column for column in rates.columns if int(str(column)) in steps):
            values = [(2 + 2 * momentum[str(t)]) / lr for t, lr in rates[step].items() if lr > 0]
            if len(values) == len(momentum) and max(values) <= min(values) * (1 + 1e-9):
                limit.append({"step": int(str(step)), "value": values[0]})
    return {"optimizer": optimizer, "limit": limit}


def phase_rows(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """The phases (`reports.phases`) of each line over the steps that all its trials with an entropy have."""
    if "entropy" not in tables.curvature.columns:
        return []
    histories = {str(trial): History(curvature=rows) for trial, rows in tables.curvature.groupby("trial_id")}
    found = []
    for line in series.groups(tables, arms):
        known, lost = [], 0
        by: set[str] = set()
        for trial, seed in line.seeds.items():
            history = histories.get(trial, History())
            try:
                stretches = phases_of(history)
            except UnmeasuredError:
                lost += 1
                continue
            steps = history.curvature.dropna(subset=["entropy"])["step"].astype(int).tolist()
            dips = entropy_dip(history), entropy_rise(history)
            known.append((seed, steps, stretches, dips))
            by |= methods.of_rows(history.curvature, "entropy")
        if known:
            seeds = [seed for seed, *_ in known]
            ordered = [float(phases.in_order(stretches)) for _, _, stretches, _ in known]
            found.append(
                line.head
                | {
                    "n": len(set(seeds)),
                    "trials": len(known),
                    "lost": lost,
                    "methods": sorted(by),
                    "intervals": _intervals([(steps, stretches) for _, steps, stretches, _ in known]),
                    "in_order": int(sum(ordered)),
                    "dip": summary(seeds, [dips[0] for *_, dips in known]),
                    "rise": summary(seeds, [dips[1] for *_, dips in known]),
                }
            )
    return found


def _intervals(trials: Sequence[tuple[list[int], list[phases.Stretch]]]) -> list[dict[str, Any]]:
    """By interval between steps that all trials have, the share of the trials that are in each phase there."""
    common = sorted(set.intersection(*(set(steps) for steps, _ in trials)))
    found = []
    for low, high in pairwise(common):
        counts: Counter[phases.Phase] = Counter()
        for steps, stretches in trials:
            labels = phases.labels(stretches, len(steps))
            within = {labels[i] for i in range(steps.index(low), steps.index(high))}
            only = within.pop() if len(within) == 1 else None
            if only is not None:
                counts[only] += 1
        shares = {name: counts[name] / len(trials) for name in phases.PHASES}
        most = max(phases.PHASES, key=lambda name: shares[name])
        found.append({"from": low, "to": high, "shares": shares, "phase": most if shares[most] > 0.5 else None})
    return found


def at_last(tables: Tables, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of blocks and of the parts of the looped Hessian at their last common step, for the table."""
    names = [
        name
        for name in COLUMNS
        if name.startswith(_AT_LAST) and name in tables.curvature.columns and tables.curvature[name].notna().any()
    ]
    lines, found = series.groups(tables, arms), []
    for name in names:
        rows = tables.curvature.dropna(subset=[name])
        by_trial = {str(trial): own["step"].astype(int).tolist() for trial, own in rows.groupby("trial_id")}
        present = [line for line in lines if line.trials["trial_id"].isin(by_trial.keys()).any()]
        step = series.last_step(present, by_trial)
        if step is None:
            continue
        cells = []
        at = rows[rows["step"] == step].set_index("trial_id")[name]
        for line in present:
            own = line.trials[line.trials["trial_id"].isin(at.index)]
            cells.append(line.head | summary(own["seed"], at[own["trial_id"]]))
        found.append(
            {"column": name, "doc": COLUMNS[name].doc, "unit": COLUMNS[name].unit, "step": step, "cells": cells}
        )
    return found
