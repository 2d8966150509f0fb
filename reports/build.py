"""Builds ``report.json``: one deterministic value from which every form of a report is made.

Everything outside ``provenance`` is computed from result columns alone, so equal results give equal bytes, wherever and
in whatever packs they were run. ``provenance`` holds what belongs to the execution: versions, machines, times, what
was spent and the messages of failures.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.quantities import COLUMNS
from reports import (
    boundary,
    confirmed,
    curvature,
    factors,
    front,
    halved,
    learning,
    lengths,
    loop_counts,
    maps,
    paired,
    series,
    switches,
    words,
)
from reports.claims import judge
from reports.compare import ALPHA
from reports.tables import Results, Tables
from studies.rungs import RUNG_KEY
from studies.study import Study

FORMAT = 1
"""Of ``report.json``; raised when a field changes its meaning."""


def build(studies: Sequence[tuple[Study, Results]], *, command: str) -> dict[str, Any]:
    """The report of one study or of several.

    Args:
        studies: each with its results.
        command: the shell line that makes this report again.

    Returns:
        JSON values: ``claims`` and ``leaderboard`` over all studies, each entry naming its study; ``studies`` with
        question, counts, curves, the stage tree, switches, failures and warnings; ``provenance``.
    """
    read = [(study, Tables.read(results, tuned=tuned_keys(study))) for study, results in studies]
    boards = [row for study, tables in read for row in _board(study, tables)]
    verdicts = {study.name: judge(tables, study.claims) for study, tables in read}
    return {
        "format": FORMAT,
        "claims": [{"study": name} | claim for name, claims in verdicts.items() for claim in claims],
        "leaderboard": sorted(boards, key=series.board_order),
        "studies": [
            _study(study, results, tables, verdicts[study.name])
            for (study, results), (_, tables) in zip(studies, read, strict=True)
        ],
        "provenance": {"command": command, "studies": [_execution(study, tables) for study, tables in read]},
    }


def to_text(report: Mapping[str, Any]) -> str:
    """The bytes of ``report.json`` as text; refuses NaN and infinities."""
    return json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def tuned_keys(study: Study) -> tuple[str, ...]:
    """The keys that are tuned inside each arm: nuisance axes, search parameters and, where these are halved, rungs."""
    nuisance = study.nuisance.axes.keys if study.nuisance is not None else ()
    halved = study.search is not None and study.search.halving is not None
    return (*nuisance, *study.searched, *((RUNG_KEY,) if halved else ()))


def _arms(study: Study) -> list[str]:
    return [arm.name for arm in study.arms]


def _board(study: Study, tables: Tables) -> list[dict[str, Any]]:
    return series.leaderboard(tables, study.name, _arms(study), tuned_keys(study))


# --- what the results say --------------------------------------------------------------------------------------------


def _study(study: Study, results: Results, tables: Tables, claims: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The section of one study: result columns only."""
    arms, ends = _arms(study), boundary.boundaries(study, results, tables)
    rungs = halved.rungs(study, tables)
    reference = paired.reference(study.claims, arms)
    quantities = [
        name
        for name in COLUMNS
        if name in tables.curvature.columns
        and tables.curvature[name].notna().any()
        and not loop_counts.shown_here(name)
    ]
    return {
        "name": study.name,
        "question": study.question,
        "seeds": list(study.seeds),
        "arms": arms,
        "axes": list(tables.axes),
        "tuned": list(tuned_keys(study)),
        "counts": _counts(tables.trials),
        "roles": _tally(tables.trials["role"]),
        "rungs": rungs,
        "curves": learning.curves(tables, arms, study.claims),
        "curvature": [learning.curve(tables, name, arms) for name in quantities],
        "panels": curvature.panels(tables, arms, reference, study.claims),
        "lengths": lengths.panels(tables, arms),
        "loop_counts": loop_counts.panels(tables, arms),
        "maps": maps.maps(tables, arms),
        "costs": front.costs(tables, arms),
        "arm_means": series.arm_means(tables, study.name, arms),
        "switches": switches.switches(tables, arms, reference),
        "criteria": switches.criteria(tables, arms),
        "criterion_axes": switches.criterion_axes(tables, arms),
        "factors": factors.factors(tables, arms),
        "along_axes": learning.along_axes(tables, arms),
        "failures": _failures(tables),
        "notes": _notes(claims),
        "boundaries": ends,
        "warnings": [*halved.sentences(rungs), *_warnings(study, tables), *(entry["sentence"] for entry in ends)],
        "confirmed": confirmed.confirmed(results, tables),
        "tree": switches.tree(results.wanted, switches.last_steps(tables)),
    }


def _counts(trials: pd.DataFrame) -> dict[str, int]:
    """Distinct trials by status; one that stands in several arms counts once."""
    once = trials.drop_duplicates("trial_id")
    return {"trials": len(once)} | _tally(once["status"].fillna("not run"))


def _tally(column: pd.Series) -> dict[str, int]:
    return {str(key): int(count) for key, count in sorted(Counter(column.tolist()).items())}


def _failures(tables: Tables) -> list[dict[str, Any]]:
    """Trials that did not end ok; what a divergence was is a result, what broke a worker is execution."""
    events = tables.events[tables.events["kind"] == "divergence"]
    divergences = {row["trial_id"]: row for row in events.to_dict("records")}
    found = []
    for row in tables.trials.to_dict("records"):
        if row["status"] == "ok" or pd.isna(row["status"]):
            continue
        event = divergences.get(row["trial_id"], {})
        found.append(
            {
                "arm": row["arm"],
                "setting": dict(tables.setting(row)),
                "role": row["role"],
                "seed": int(row["seed"]),
                "trial_id": row["trial_id"],
                "status": row["status"],
                "step": int(event["step"]) if event else None,
                "detail": event.get("detail"),
            }
        )
    return found


def _notes(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """What holds for several claims at once."""
    parts = [part for claim in claims for part in (claim["parts"] or [claim]) if part["verdict"] != "undecided"]
    blind = {part["n"]: part["p_sign_flip_floor"] for part in parts if part["p_sign_flip_floor"] >= ALPHA}
    return [
        f"The sign-flip check is blind at n = {n}: it cannot give less than p = {words.p_value(least)}. "
        f"Verdicts at this n rest on the t test."
        for n, least in sorted(blind.items())
    ]


def _warnings(study: Study, tables: Tables) -> list[str]:
    """What makes a comparison less than it looks, in full sentences."""
    found = []
    compared = tables.compared()
    for arm in _arms(study):
        ended = compared[(compared["arm"] == arm) & compared["status"].notna()]
        missing = sorted(set(study.seeds) - {int(s) for s in ended["seed"]})
        if missing:
            seeds = ", ".join(map(str, missing))
            found.append(
                f"{arm} lacks {len(missing)} of {len(study.seeds)} seeds ({seeds}): the study is not complete."
            )
    waiting = int(compared["status"].isna().sum())
    if waiting:
        found.append(f"{waiting} of {len(compared)} trials have not run yet: the study is not complete.")
    if len(study.seeds) < 5:
        found.append(f"{len(study.seeds)} seeds explore at best; a claim wants 10.")
    ok = series.finished(tables)
    if "tokens" in tables.metrics.columns and len(ok):
        last = tables.metrics.groupby("trial_id")["tokens"].max()
        budgets = ok.assign(tokens=ok["trial_id"].map(last)).groupby("arm")["tokens"].mean()
        if budgets.nunique() > 1:
            shown = ", ".join(f"{arm} {words.number(budgets[arm])}" for arm in _arms(study) if arm in budgets)
            found.append(f"The arms were trained on different numbers of tokens (means: {shown}).")
    return found


# --- how it was run --------------------------------------------------------------------------------------------------


def _execution(study: Study, tables: Tables) -> dict[str, Any]:
    """Where, when and at what cost the trials of one study ran."""
    trials = tables.trials
    once = trials.drop_duplicates("trial_id")
    classes = {arm: _tally(trials.loc[trials["arm"] == arm, "numerics_class"].dropna()) for arm in _arms(study)}
    kinds = {name for counts in classes.values() for name in counts}
    # A trial that has not ended ok did not cost what it costs alone; what was spent on it stands on the other side.
    alone, spent = _total(once.loc[once["status"] == "ok", "flops_alone"]), _total(once["flops_spent"])
    return {
        "study": study.name,
        "file": study.file,
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


def _numerics_warning(classes: Mapping[str, Mapping[str, int]]) -> str:
    shown = "; ".join(f"{arm}: {', '.join(counts) or 'none recorded'}" for arm, counts in classes.items())
    return f"Trials ran in different numerics classes, between which bits differ ({shown})."


def _costs(study: Study, tables: Tables) -> list[dict[str, Any]]:
    """Time of a trial alone, by arm and setting: from calibrations of single steps, so it is execution.

    Arms of many settings have one entry more, without a setting: the mean over all of them.
    """
    compared, found = tables.compared(), []
    for arm in _arms(study):
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
