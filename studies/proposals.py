"""The recorded proposals of a search: what `sweeps.search` asked for, read without Optuna by whoever plans."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from core.lineage import canonical_json, digest16
from studies.expand import Proposal
from studies.space import Range
from studies.store import Store
from studies.study import Arm, Search, Study


def read_proposals(study: Study, store: Store) -> list[Proposal]:
    """The recorded proposals of a study, as `studies.expand.expand` takes them: by arm in file order, by number."""
    if study.search is None:
        return []
    order = {arm.name: place for place, arm in enumerate(study.arms)}
    ours = {(arm.name, search_digest(study.search, arm)): study.search.count(arm) for arm in study.arms}
    found = [
        (row["arm"], row["number"], json.loads(row["params"]))
        for row in store.read("proposals").to_pylist()
        if row["study"] == study.name and row["number"] < ours.get((row["arm"], row["search"]), 0)
    ]
    return sorted(found, key=lambda proposal: (order[proposal[0]], proposal[1]))


def search_digest(search: Search, arm: Arm) -> str:
    """Names a search in one arm: what its proposals depend on, but neither `trials` nor seeds, since studies grow."""
    parts: dict[str, Any] = {
        "kind": search.kind,
        "space": [[key, _written(dimension)] for key, dimension in arm.space.items()],
        "arm": {section: dict(values) for section, values in arm.values.items()},
    }
    if search.kind != "grid":  # whose points follow from the space alone
        parts |= {"metric": search.metrics[0]} if len(search.metrics) == 1 else {"metrics": list(search.metrics)}
        parts |= {"batch": search.batch, "seed": search.seed}
    if search.halving is not None:  # what is told of a setting is what it has come to at the first rung
        parts["halving"] = asdict(search.halving)
    return digest16(canonical_json(parts))


def _written(dimension: Range | tuple[Any, ...]) -> Any:
    if isinstance(dimension, Range):
        points = {} if dimension.points is None else {"points": dimension.points}
        return {"low": dimension.low, "high": dimension.high, "log": dimension.log} | points
    return list(dimension)
