"""Importances of searched keys, as recorded beside the search: of its last batch, both evaluators side by side.

They are another library's numbers, so no results: another version of it may give others. PED-ANOVA asks what the best
settings have in common, fANOVA what the values of all settings depend on, so they may disagree, and then it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from studies.proposals import search_digest
from studies.study import Study

EVALUATORS = ("ped-anova", "fanova")
WORDS = {"ped-anova": "PED-ANOVA", "fanova": "fANOVA"}
"""What they are called."""


def importances(study: Study, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """By arm and objective, each key's share by each evaluator, the most important first; with a ``sentence``.

    Args:
        study: what its search is now; rows of what it was before are left out.
        frame: the view ``importances``.
    """
    if study.search is None or frame.empty:
        return []
    found = []
    for arm in study.arms:
        digest = search_digest(study.search, arm)
        own = frame[(frame["arm"] == arm.name) & (frame["search"] == digest)]
        for metric, rows in own.groupby("metric", sort=True):
            last = rows[rows["batch"] == rows["batch"].max()]
            shares = {
                str(key): {str(row["evaluator"]): float(row["value"]) for row in of_key.to_dict("records")}
                for key, of_key in last.groupby("key", sort=True)
            }
            keys = [
                {"key": key} | {name: of_key.get(name) for name in EVALUATORS}
                for key, of_key in sorted(shares.items(), key=lambda item: -sum(item[1].values()))
            ]
            entry = {"arm": arm.name, "metric": str(metric), "settings": int(last["n"].max()), "keys": keys}
            found.append(entry | {"sentence": sentence(entry)})
    return found


def sentence(entry: Mapping[str, Any]) -> str:
    """Which key matters most, and whether both evaluators say so."""
    tops = {
        name: max((row for row in entry["keys"] if row[name] is not None), key=lambda row: row[name], default=None)
        for name in EVALUATORS
    }
    known = {name: row for name, row in tops.items() if row is not None}
    by = [f"by {WORDS[name]} ({row[name]:.2f})" for name, row in known.items()]
    keys = [f"on {row['key']}" for row in known.values()]
    if len(set(keys)) == 1:
        shown, open_ = f"{keys[0]}, {' and '.join(by)}", ""
    else:
        shown = " and ".join(f"{key} {how}" for key, how in zip(keys, by, strict=True))
        open_ = ": the two ask different things"
    of = f"{entry['metric']} of {entry['arm']} ({entry['settings']} settings)"
    return f"{of} depends most {shown}{open_}."
