"""What `loopsweep confirm` found: of each setting that was run again, the estimate that chose it and the fresh one.

The fresh seeds alone give the confirmed mean and its interval; those that chose the setting stand beside it, with what
luck alone would have made of the best of as many equal settings (`reports.selection`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports import selection, words
from reports.means import summary
from reports.tables import Results, Tables
from studies.confirm import Ranked, ranking, settings, task_of
from studies.expand import Trial
from studies.metrics import metric


def confirmed(results: Results, tables: Tables) -> list[dict[str, Any]]:
    """The confirmed settings, by metric that chose them and in the order of their places, with their numbers.

    ``chosen`` and ``fresh`` are means over seeds with 95 % t intervals; ``change`` is fresh − chosen with Welch's
    interval (on a log scale of natural logarithms). ``luck``: by how much the setting of this place looks better than
    it is where all are equally good, in standard deviations of one seed (``luck_sd``) and in those of the change.
    """
    found = []
    fresh = settings(results.wanted, "confirm")
    compared = settings(results.wanted)
    for name, asked in results.confirmations.items():
        if name not in tables.trials.columns:
            continue
        rows: list[dict[Any, Any]] = tables.trials[["trial_id", "status", name]].to_dict("records")
        ok = {row["trial_id"]: row[name] for row in rows if row["status"] == "ok"}
        ranked = ranking(results.wanted, rows, name)
        spread = _spreads(ranked, compared, ok, log=metric(name).scale == "log")
        for one in ranked:
            seeds = set(asked.get(one.key, ()))
            again = [trial for trial in fresh.get(one.key, ()) if trial.config.seed in seeds]
            if again:
                chosen, values = _values(compared[one.key], ok), _values(again, ok)
                entry = _entry(one, name, chosen=chosen, fresh=values, spread=spread[task_of(one.trial.config)])
                entry["asked"] = len(again)
                found.append(entry | {"sentence": words.confirmed(entry)})
    return found


def _entry(
    one: Ranked, name: str, *, chosen: Mapping[int, float], fresh: Mapping[int, float], spread: float | None
) -> dict[str, Any]:
    """One setting, from the metric by seed on those that chose it and on fresh ones."""
    what = metric(name)
    log = what.scale == "log"
    enough = bool(chosen and fresh) and not (log and min(*chosen.values(), *fresh.values()) <= 0)
    scale = math.log if log else float
    change = (
        selection.unpaired_interval([scale(v) for v in fresh.values()], [scale(v) for v in chosen.values()])
        if enough
        else None
    )
    luck_sd = selection.expected_order(one.place, one.of) / math.sqrt(len(chosen)) if chosen and one.of > 1 else None
    return {
        "metric": name,
        "unit": what.unit,
        "better": what.better,
        "scale": what.scale,
        "arm": one.key[0],
        "setting": dict(one.trial.varied),
        "place": one.place,
        "of": one.of,
        "chosen": summary(chosen.keys(), chosen.values(), log=log and enough),
        "fresh": summary(fresh.keys(), fresh.values(), log=log and enough),
        "seeds": sorted(fresh),
        "change": change.mean if change else None,
        "low": change.low if change else None,
        "high": change.high if change else None,
        "luck_sd": luck_sd,
        "luck": luck_sd * spread if luck_sd is not None and spread is not None else None,
    }


def _values(trials: Sequence[Trial], ok: Mapping[str, float]) -> dict[int, float]:
    """By seed, the metric of the trials that have it."""
    values = {trial.config.seed: ok.get(trial.trial_id, math.nan) for trial in trials}
    return {seed: float(value) for seed, value in values.items() if math.isfinite(value)}


def _spreads(
    ranked: Sequence[Ranked],
    compared: Mapping[tuple[str, str], Sequence[Trial]],
    ok: Mapping[str, float],
    *,
    log: bool,
) -> dict[Any, float | None]:
    """By task, the deviation of one seed that had a part in the choice, of most settings that have every seed."""
    tables: dict[Any, list[dict[int, float]]] = {}
    for one in ranked:
        values = _values(compared[one.key], ok)
        tables.setdefault(task_of(one.trial.config), []).append(values if one.without == 0 else {})
    found = {}
    for task, rows in tables.items():
        seeds = max((tuple(sorted(row)) for row in rows), key=len)
        whole = [[row[seed] for seed in seeds] for row in rows if tuple(sorted(row)) == seeds]
        if log:
            whole = [[math.log(value) for value in row] for row in whole if min(row) > 0]
        found[task] = selection.typical_sd(whole) if whole and seeds else None
    return found
