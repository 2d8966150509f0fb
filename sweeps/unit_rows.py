"""What work functions have in common: the states that lanes begin from, and the rows that they leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from core.numerics import Engine
from studies.keys import observed, probe_observed
from studies.store import Store
from sweeps.units import Lane

if TYPE_CHECKING:
    from core.checkpoint import TrialState


def state_of(lane: Lane, store: Store) -> TrialState | None:
    """The state a lane begins from; None where the store has none, or only a damaged one."""
    from core.pack import initial_state

    return initial_state(lane.config) if lane.origin is None else store.load_state(*lane.origin)


def segment_row(
    lane: Lane,
    *,
    status: str,
    end: int,
    reached: int,
    evaluated: Sequence[int] = (),
    measured: Sequence[int] = (),
    checked: Sequence[int] = (),
    **facts: Any,
) -> dict[str, Any]:
    """The row of table segments for a lane that ended at `end` with `status`; `facts` are its execution columns."""
    return {
        "lineage": lane.lineage,
        "start": lane.start,
        "end": end,
        "observed": observed(lane.asked.within(0, end), lane.config.measure),
        "reached": reached,
        "status": status,
        "evaluated": list(evaluated),
        "measured": list(measured),
        "checked": list(checked),
        "generation": lane.generation,
        **facts,
    }


def measured_rows(lane: Lane, **tables: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What was measured on a lane, by table, as rows of its lineage that say what was observed."""
    key = {"lineage": lane.lineage, "observed": probe_observed(lane.config.measure)}
    return {table: [{**key, **row} for row in rows] for table, rows in tables.items()}


def unsound(curvature: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One line for each measurement that gave no number at all, as where Hessian products are wrong."""
    return tuple(
        f"curvature of {row['lineage']} at step {row['step']} has no numbers: {next(iter(row['method'].values()))}"
        for row in curvature
        if row["method"] and all(" failed: " in method for method in row["method"].values())
    )


@cache
def host(device: str, engine: Engine = "eager") -> dict[str, Any]:
    """What is the same for all rows of this process."""
    from core.numerics import numerics_class, provenance

    return {
        "numerics_class": numerics_class(device, engine),
        "provenance": json.dumps(provenance(device), sort_keys=True),
    }
