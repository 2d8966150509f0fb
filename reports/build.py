"""Builds ``report.json``: one deterministic value from which every form of a report is made.

Everything outside ``provenance`` and ``across`` is computed from result columns alone, so equal results give equal
bytes, wherever and in whatever packs they were run. ``provenance`` holds what belongs to the execution: versions,
machines, times, what was spent and the messages of failures; ``across`` asks whether two studies ran in one numerics
class, and which trials ran twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import pandas as pd

from core.quantities import COLUMNS
from reports import (
    across,
    board,
    boundary,
    confirmed,
    curvature,
    explorer,
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
from reports.differences import Side, acting_terms, differences
from reports.execution import execution, tally
from reports.importances import importances
from reports.labels import labels
from reports.searched import Bests, bests
from reports.tables import Results, Tables
from studies.rungs import RUNG_KEY
from studies.study import Study

FORMAT = 1
"""Of ``report.json``; raised when a field changes its meaning."""


def build(
    studies: Sequence[tuple[Study, Results]], *, command: str, stores: Sequence[str] | None = None
) -> dict[str, Any]:
    """The report of one study or of several.

    Args:
        studies: each with its results.
        command: the shell line that makes this report again.
        stores: where the rows of each study lie; None: nobody says.

    Returns:
        JSON values: ``claims`` and ``leaderboard`` over all studies, each entry naming its study; ``studies`` with
        question, counts, curves, the stage tree, switches, failures and warnings; ``across`` and ``differences``;
        ``explorer``; ``provenance``. Studies are called by their `labels`.
    """
    places = list(stores) if stores is not None else [""] * len(studies)
    names = labels([study for study, _ in studies], places)
    studies = [(replace(study, name=name), results) for name, (study, results) in zip(names, studies, strict=True)]
    read = [_read(study, results) for study, results in studies]
    boards = [row for one in read for row in _board(one)]
    verdicts = {one.study.name: judge(one.tables, one.study.claims, bests=one.bests) for one in read}
    sides = [_side(one) for one in read]
    return {
        "format": FORMAT,
        "claims": [{"study": name} | claim for name, claims in verdicts.items() for claim in claims],
        "leaderboard": sorted(boards, key=board.board_order),
        "studies": [_study(one, verdicts[one.study.name]) for one in read],
        "across": across.section(sides),
        "differences": differences(sides),
        "explorer": explorer.section(
            [explorer.Source(name=one.study.name, arms=one.study.arm_names, tables=one.whole) for one in read]
        ),
        "provenance": {
            "command": command,
            "version": version("loopsweep"),
            "studies": [
                execution(one.study, one.whole)
                | {"store": place or None, "importances": importances(one.study, one.results.importances())}
                for place, one in zip(places, read, strict=True)
            ],
        },
    }


def to_text(report: Mapping[str, Any]) -> str:
    """The bytes of ``report.json`` as text; refuses NaN and infinities."""
    return json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A study with its rows."""

    study: Study
    results: Results
    whole: Tables
    """Of all settings, searched ones too."""
    tables: Tables
    """Of what is compared: under a search, of the best setting of each arm."""
    bests: Bests | None


def _read(study: Study, results: Results) -> _Read:
    whole = Tables.read(results, tuned=tuned_keys(study))
    best = bests(study, results, whole)
    return _Read(study=study, results=results, whole=whole, tables=best.tables if best else whole, bests=best)


def tuned_keys(study: Study) -> tuple[str, ...]:
    """The keys that tell no settings apart: nuisance axes, and the rungs of a halved search."""
    nuisance = study.nuisance.axes.keys if study.nuisance is not None else ()
    halved = study.search is not None and study.search.halving is not None
    return (*nuisance, *((RUNG_KEY,) if halved else ()))


def _side(read: _Read) -> Side:
    wanted = (trial for trial in read.results.wanted if trial.role == "compare")
    terms = {trial.trial_id: acting_terms(trial.config) for trial in wanted}
    return Side(name=read.study.name, arms=read.study.arm_names, tables=read.tables, terms=terms)


def _board(read: _Read) -> list[dict[str, Any]]:
    nuisance = read.study.nuisance.axes.keys if read.study.nuisance is not None else ()
    return board.leaderboard(read.whole, read.study.name, read.study.arm_names, nuisance)


# --- what the results say --------------------------------------------------------------------------------------------


def _study(read: _Read, claims: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The section of one study: result columns only."""
    study, results, whole, tables = read.study, read.results, read.whole, read.tables
    arms, ends = study.arm_names, boundary.boundaries(study, results, whole)
    rungs = halved.rungs(study, whole)
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
        "tuned": [*tuned_keys(study), *study.searched],
        "searched": read.bests.to_json() if read.bests else [],
        "counts": _counts(whole.trials),
        "roles": tally(whole.trials["role"]),
        "rungs": rungs,
        "curves": learning.curves(tables, arms, study.claims),
        "curvature": [learning.curve(tables, name, arms) for name in quantities],
        "panels": curvature.panels(tables, arms, reference, study.claims),
        "lengths": lengths.panels(tables, arms),
        "loop_counts": loop_counts.panels(tables, arms),
        "maps": maps.maps(tables, arms),
        "costs": front.costs(whole, arms),
        "arm_means": board.arm_means(whole, study.name, arms),
        "switches": switches.switches(tables, arms, reference),
        "criteria": switches.criteria(tables, arms),
        "criterion_axes": switches.criterion_axes(tables, arms),
        "factors": factors.factors(tables, arms),
        "along_axes": learning.along_axes(tables, arms),
        "failures": _failures(whole),
        "notes": _notes(claims),
        "boundaries": ends,
        "warnings": [*halved.sentences(rungs), *_warnings(study, whole), *boundary.sentences(ends)],
        "confirmed": confirmed.confirmed(results, whole),
        "tree": switches.tree(results.wanted, switches.last_steps(whole)),
    }


def _counts(trials: pd.DataFrame) -> dict[str, int]:
    """Distinct trials by status; one that stands in several arms counts once."""
    once = trials.drop_duplicates("trial_id")
    return {"trials": len(once)} | tally(once["status"].fillna("not run"))


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
    for arm in study.arm_names:
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
        last = tables.metrics.wide("tokens").max(axis=1)
        budgets = ok.assign(tokens=ok["trial_id"].map(last)).groupby("arm")["tokens"].mean()
        if budgets.nunique() > 1:
            shown = ", ".join(f"{arm} {words.number(budgets[arm])}" for arm in study.arm_names if arm in budgets)
            found.append(f"The arms were trained on different numbers of tokens (means: {shown}).")
    return found
