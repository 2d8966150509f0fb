"""What the panels of the curvature are drawn from: ranks, spectra over training, fans, curves, phases, tables.

Everything is by line (`series.groups`): an arm's settings, or their mean and the best of them. Trials of one seed are
averaged, then seeds; intervals are 95 % t intervals over seeds, on orders of magnitude of logarithms. A trial that
lacks a measurement leaves the line's n and is counted as lost; why it lacks it stands in `how` (`reports.measured`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from core.quantities import COLUMNS, CURVES
from reports import (
    components,
    fans,
    last_curves,
    loop_counts,
    measured,
    paired,
    phase_rows,
    series,
    spectra,
    surfaces,
)
from reports.means import summary
from reports.tables import Tables
from studies.claims import Claim

TAU = 1e-3
"""The threshold at which symlog axes turn linear, where the study's claims name none."""
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
        "fans": fans.fans(tables, arms),
        "curves": [
            found
            for name in CURVES
            if name not in fans.ENDS and (found := curve(tables, name, arms, reference)) is not None
        ],
        "phases": phase_rows.phase_rows(tables, arms),
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
    if name in fans.ENDS or loop_counts.shown_here(name):
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
