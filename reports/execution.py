"""How the trials of a report were run: versions, machines, times, what was spent, the messages of failures, the study.

It is what ``report.json`` holds in ``provenance``; equal results may differ in it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from core.errors import InputError
from reports import series
from reports.tables import Tables
from studies.spec import study_text
from studies.study import Study


def execution(study: Study, tables: Tables) -> dict[str, Any]:
    """Where, when and at what cost the trials of one study ran."""
    trials, arms = tables.trials, study.arm_names
    once = trials.drop_duplicates("trial_id")
    classes = {arm: tally(trials.loc[trials["arm"] == arm, "numerics_class"].dropna()) for arm in arms}
    kinds = {name for counts in classes.values() for name in counts}
    # A trial that has not ended ok did not cost what it costs alone; what was spent on it stands on the other side.
    alone, spent = _total(once.loc[once["status"] == "ok", "flops_alone"]), _total(once["flops_spent"])
    return {
        "study": study.name,
        "file": study.file,
        "document": _document(study.file),
        "numerics_classes": classes,
        "numerics_warning": _numerics_warning(classes) if len(kinds) > 1 else None,
        "facts": _facts(once["provenance"]),
        "flops_alone": alone,
        "flops_spent": spent,
        "saving": alone / spent if alone and spent else None,
        "spent_s": _total(once["spent_s"]),
        "attempts": int(once["attempts"].dropna().sum()),
        "started_at": _moment(once["started_at"].min()),
        "finished_at": _moment(once["finished_at"].max()),
        "costs": _costs(study, tables),
        "errors": {
            row["trial_id"]: row["error"]
            for row in once.to_dict("records")
            if row["error"] is not None and pd.notna(row["error"])
        },
    }


def _document(file: str) -> dict[str, str] | None:
    """The study's file as it stands now; None where it cannot be read any more."""
    try:
        content, _, _ = study_text(file)
    except (OSError, ValueError, InputError):
        return None
    return {"sha256": hashlib.sha256(content).hexdigest(), "text": content.decode("utf-8-sig", errors="replace")}


def _numerics_warning(classes: Mapping[str, Mapping[str, int]]) -> str:
    shown = "; ".join(f"{arm}: {', '.join(counts) or 'none recorded'}" for arm, counts in classes.items())
    return f"Trials ran in different numerics classes, between which bits differ ({shown})."


def _costs(study: Study, tables: Tables) -> list[dict[str, Any]]:
    """Time of a trial alone, by arm and setting: from calibrations of single steps, so it is execution.

    Arms of many settings have one entry more, without a setting: the mean over all of them.
    """
    compared, found = tables.compared(), []
    for arm in study.arm_names:
        of_arm = compared[compared["arm"] == arm]
        settings = series.by_setting(tables, of_arm)
        found += [{"arm": arm, "setting": dict(setting)} | _cost(rows) for setting, rows in settings]
        if len(settings) > series.MOST_ROWS:
            found.append({"arm": arm, "setting": {}} | _cost(of_arm))
    return found


def _cost(rows: pd.DataFrame) -> dict[str, float | None]:
    return {name: _mean(rows[name]) for name in ("alone_s", "spent_s", "flops_spent")}


def _facts(column: pd.Series) -> dict[str, dict[str, int]]:
    """The provenance of all trials: by dotted fact, its values and how many trials have each."""
    found: dict[str, Counter[str]] = {}
    for text in column.dropna():
        for key, value in _flat(json.loads(text)):
            found.setdefault(key, Counter())[str(value)] += 1
    return {key: dict(sorted(found[key].items())) for key in sorted(found)}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]


def _total(column: pd.Series) -> float | None:
    known = column.dropna()
    return math.fsum(known) if len(known) else None


def _mean(column: pd.Series) -> float | None:
    known = column.dropna()
    return math.fsum(known) / len(known) if len(known) else None


def _moment(value: Any) -> str | None:
    return None if pd.isna(value) else str(value.isoformat())


def tally(column: pd.Series) -> dict[str, int]:
    """How often a column has each of its values, in their order as texts."""
    return {str(key): int(count) for key, count in sorted(Counter(column.tolist()).items())}
