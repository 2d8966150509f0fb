"""The recorded importances of a study's search, as they stand now; `sweeps.importance` computes them."""

from __future__ import annotations

from typing import Any

from studies.proposals import search_digest
from studies.store import Store
from studies.study import Study


def latest_importances(study: Study, store: Store) -> list[dict[str, Any]]:
    """Of each arm and objective what was found last, by evaluator: ``shares`` by key, the largest first, and ``n``.

    Args:
        study: whose search they are of; one without has none.
        store: with the table; may not exist yet.
    """
    if study.search is None:
        return []
    digests = {arm.name: search_digest(study.search, arm) for arm in study.arms}
    rows = [
        row
        for row in store.read("importances").to_pylist()
        if row["study"] == study.name and digests.get(row["arm"]) == row["search"]
    ]
    last = {row["arm"]: max(other["batch"] for other in rows if other["arm"] == row["arm"]) for row in rows}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: -row["value"]):
        if row["batch"] == last[row["arm"]]:
            place = row["arm"], row["metric"], row["evaluator"]
            named = {"arm": row["arm"], "metric": row["metric"], "evaluator": row["evaluator"], "n": row["n"]}
            found.setdefault(place, named | {"shares": {}})["shares"][row["key"]] = row["value"]
    order = {name: place for place, name in enumerate(digests)}
    return sorted(found.values(), key=lambda one: (order[one["arm"]], one["metric"], one["evaluator"]))
