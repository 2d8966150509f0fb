"""How far the settings of a halved search came: only what came to the last rung is compared, and the report says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.tables import Tables
from studies.rungs import RUNG_KEY
from studies.study import Study


def rungs(study: Study, tables: Tables) -> list[dict[str, Any]]:
    """By arm, how many settings came to the step of each rung; empty where nothing is halved.

    Settings that are the same trial at a rung, since what differs acts later, count once there.
    """
    if study.search is None or study.search.halving is None or RUNG_KEY not in tables.trials:
        return []
    rows = tables.trials[tables.trials["role"].isin(["tune", "compare"])]
    found = []
    for arm in study.arms:
        own = rows[rows["arm"] == arm.name]
        one_seed = own[own["seed"] == own["seed"].min()]
        counts = one_seed.groupby(RUNG_KEY)["trial_id"].nunique()
        came = [{"step": int(str(step)), "settings": int(count)} for step, count in counts.items()]
        found += [{"arm": arm.name, "rungs": came}] if came else []
    return found


def sentences(arms: Sequence[dict[str, Any]]) -> list[str]:
    """The same in sentences."""
    found = []
    for entry in arms:
        first, *later = entry["rungs"]
        if not later:
            found.append(f"{entry['arm']} is halved, and no setting has gone on from step {first['step']:,} yet.")
            continue
        steps = ", ".join(f"{rung['settings']:,} to step {rung['step']:,}" for rung in later)
        found.append(
            f"{entry['arm']} is halved: of {first['settings']:,} settings at step {first['step']:,} the best went on, "
            f"{steps}. Claims, leaderboard and curves are of those that came to the last step alone."
        )
    return found
