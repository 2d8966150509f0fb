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
    ours = {(arm.name, search_digest(study.search, arm)) for arm in study.arms}
    found = [
        (row["arm"], row["number"], json.loads(row["params"]))
        for row in store.read("proposals").to_pylist()
        if row["study"] == study.name and (row["arm"], row["search"]) in ours and row["number"] < study.search.trials
    ]
    return sorted(found, key=lambda proposal: (order[proposal[0]], proposal[1]))


def search_digest(search: Search, arm: Arm) -> str:
    """Names a search in one arm: what its proposals depend on, but neither `trials` nor seeds, since studies grow."""
    parts = {
        "kind": search.kind,
        "metric": search.metric,
        "batch": search.batch,
        "seed": search.seed,
        "space": [[key, _written(dimension)] for key, dimension in search.space.items()],
        "arm": {section: dict(values) for section, values in arm.values.items()},
    }
    if search.halving is not None:  # what is told of a setting is what it has come to at the first rung
        parts["halving"] = asdict(search.halving)
    return digest16(canonical_json(parts))


def _written(dimension: Range | tuple[Any, ...]) -> Any:
    if isinstance(dimension, Range):
        return {"low": dimension.low, "high": dimension.high, "log": dimension.log}
    return list(dimension)
