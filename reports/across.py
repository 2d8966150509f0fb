"""Comparisons across the studies of one report, wherever their rows lie: arms of one name, against that of the first.

A pair is a seed, and a setting of the axes that act in either study: where an axis of one is a fixed term of the other,
the other is paired by that term. Trials without a counterpart are counted and left out of everything. Arms that were
trained or tested on other data are not compared, and the terms that differ are named; unequal tokens or FLOPs are
compared, and flagged. Nobody claimed these differences beforehand: they explore, so p is adjusted by Holm over all of
them, and no verdict is given.

A trial that ran in both has the same result columns within a numerics class: how many are equal to the last bit is
counted. Rows that are merely in both (two studies of one store, a copied store) say nothing of that and are told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from reports import across_words, stats
from reports.board import is_metric
from reports.differences import Side, Terms, cell, values
from reports.divergence import divergence
from reports.pairs import LogScaleError, pair
from reports.tables import Setting, Tables
from studies.metrics import metric

_Row = Mapping[Any, Any]

UNEQUAL = 1e-3
"""Budgets that differ by more than this share are flagged."""
_FIRST = ("val_loss", "val_exact", "val_accuracy", "val_bits_per_byte", "excess_loss")
"""The order of metrics: whole before strata in each."""


def section(sides: Sequence[Side]) -> dict[str, Any] | None:
    """The section ``across`` of ``report.json``; None with a single study.

    Args:
        sides: in the order of the report; the first is what the others are compared with.
    """
    if len(sides) < 2:
        return None
    first = sides[0]
    found = [_comparison(other, first, arm) for other in sides[1:] for arm in first.arms if arm in other.arms]
    tested = [line for one in found for line in one["metrics"] if line["p"] is not None]
    for line, p in zip(tested, stats.holm([line["p"] for line in tested]), strict=True):
        line["p_holm"] = p
    for one in found:
        one["sentence"] = across_words.sentence(one)
    lonely = [
        {"study": other.name, "arms": arms}
        for other in sides[1:]
        if (arms := [arm for arm in other.arms if arm not in first.arms])
    ]
    return {"against": first.name, "comparisons": found, "not_in_first": lonely}


def _comparison(other: Side, first: Side, arm: str) -> dict[str, Any]:
    """The final metrics of an arm of one study against those of the same arm of another."""
    sides = other, first
    found: dict[str, Any] = {"arm": arm, "study": other.name, "against": first.name, "refused": None, "flags": []}
    found |= {"paired_by": [], "unpaired": {}, "ran_twice": 0, "recorded_once": 0, "metrics": []}
    refused = _refused(sides, arm)
    if refused is not None:
        return found | {"refused": refused}
    joint = _joint(sides, arm)
    shared = joint.shared(*(joint.compared(side.name) for side in sides))
    common = _with_counterparts(joint, shared)
    if common.trials.empty:
        by = f"setting of {', '.join(shared)}" if shared else "seed"
        return found | {"refused": f"no {by} of a common seed is in both"}
    twice, once = _in_both(common, sides)
    return found | {
        "paired_by": ["seed", *shared],
        "unpaired": {
            side.name: missing
            for side in sides
            if (missing := len(joint.compared(side.name)) - len(common.compared(side.name)))
        },
        "ran_twice": len(twice),
        "recorded_once": once,
        "flags": [
            *across_words.averaged(sorted(set(joint.axes) - set(shared))),
            *_budgets(common, sides, shared),
            *_run(common, sides),
        ],
        "metrics": [_line(common, sides, name, twice) for name in _metrics(common, sides)],
    }


# --- whether, and of what --------------------------------------------------------------------------------------------


def _refused(sides: Sequence[Side], arm: str) -> str | None:
    """Why two sides are not compared: they lack trials or common seeds, or their data differ."""
    rows = [side.tables.compared(arm) for side in sides]
    for side, own in zip(sides, rows, strict=True):
        if not (own["status"] == "ok").any():
            return f"no trial of {arm} of {side.name} has ended ok"
    if not set(rows[0]["seed"]) & set(rows[1]["seed"]):
        return "they have no seed in common, and pairs are made by seed"
    data = [values(_data(side, own)) for side, own in zip(sides, rows, strict=True)]
    axes = {axis for side, own in zip(sides, rows, strict=True) for axis in side.tables.acting(own)}
    differ = [
        key
        for key in sorted(data[0].keys() | data[1].keys())
        # An axis pairs what has its value on both sides; where it does not act on one side at all, the data differ.
        if data[0].get(key) != data[1].get(key) and not (key in axes and key in data[0] and key in data[1])
    ]
    if not differ:
        return None
    shown = [(key, *("not a term" if key not in own else cell(own[key]) for own in data)) for key in differ]
    return f"their data differ: {'; '.join(f'{key} is {a} against {b}' for key, a, b in shown)}"


def _data(side: Side, rows: pd.DataFrame) -> list[Terms]:
    """The terms of the data of some trials."""
    known = [side.terms[key] for key in rows["trial_id"] if key in side.terms]
    return [{key: value for key, value in terms.items() if key.startswith("task.")} for terms in known]


def _joint(sides: Sequence[Side], arm: str) -> Tables:
    """Both sides as arms of one study, named by their studies; a side's fixed terms stand where the other has axes.

    A trial_id begins with its study, since a trial may be in both; the plain one is in ``original``.
    """
    acting = [side.tables.acting(side.tables.compared(arm)) for side in sides]
    axes = sorted(acting[0] | acting[1])
    rows, matched = [], {}
    for side, own in zip(sides, acting, strict=True):
        fixed = [axis for axis in axes if axis not in own]
        for row in side.tables.compared(arm).to_dict("records"):
            terms, key = side.terms.get(row["trial_id"], {}), f"{side.name}:{row['trial_id']}"
            named = {"arm": side.name, "trial_id": key, "original": row["trial_id"]}
            rows.append(row | {axis: terms.get(axis) for axis in fixed} | named)
            settings = side.tables.matched.get((arm, row["trial_id"]))
            if settings is not None:
                matched[side.name, key] = settings
    return replace(sides[0].tables, trials=pd.DataFrame(rows), axes=tuple(axes), matched=matched)


def _with_counterparts(joint: Tables, shared: Sequence[str]) -> Tables:
    """The trials whose seed and shared setting are on both sides, whatever became of them."""
    held: dict[tuple[int, Setting], set[str]] = defaultdict(set)
    places = [
        [(int(row["seed"]), setting) for setting in joint.pairings(row, shared)]
        for row in joint.trials[["arm", "seed", "trial_id", *joint.axes]].to_dict("records")
    ]
    for name, own in zip(joint.trials["arm"], places, strict=True):
        for place in own:
            held[place].add(name)
    kept = [any(len(held[place]) == 2 for place in own) for own in places]
    return replace(joint, trials=joint.trials[kept].reset_index(drop=True))


def _in_both(common: Tables, sides: Sequence[Side]) -> tuple[list[tuple[_Row, _Row]], int]:
    """Trials that ended ok on both sides: the rows of those that ran twice, and how many ran once, at equal times."""
    ok = common.trials[common.trials["status"] == "ok"]
    rows = [{row["original"]: row for row in ok[ok["arm"] == side.name].to_dict("records")} for side in sides]
    both: list[tuple[_Row, _Row]] = [(rows[0][key], rows[1][key]) for key in rows[0] if key in rows[1]]
    twice = [(a, b) for a, b in both if any(a[when] != b[when] for when in ("started_at", "finished_at"))]
    return twice, len(both) - len(twice)


# --- metrics ---------------------------------------------------------------------------------------------------------


def _metrics(common: Tables, sides: Sequence[Side]) -> list[str]:
    """The final metrics that both sides have, in the order of `_FIRST`."""
    rows = [common.compared(side.name) for side in sides]
    names = [c for c in common.trials.columns if c.startswith("final_") and is_metric(c)]
    both = [name for name in names if all(own[name].notna().any() for own in rows)]
    return sorted(both, key=_place)


def _place(name: str) -> tuple[int, int, str]:
    bare = name.removeprefix("final_")
    base = next(place for place, start in enumerate(_FIRST) if bare.startswith(start))
    return base, len(bare.removeprefix(_FIRST[base])), name


def _line(common: Tables, sides: Sequence[Side], name: str, twice: Sequence[tuple[_Row, _Row]]) -> dict[str, Any]:
    """One metric: the difference of the two sides within a seed, and how many repeated trials have its very bits."""
    what, ok = metric(name), common.trials[common.trials["status"] == "ok"]
    known = {key: float(v) for key, v in zip(ok["trial_id"], ok[name], strict=True) if pd.notna(v)}
    found: dict[str, Any] = {"metric": name, "unit": what.unit, "scale": what.scale, "better": what.better}
    found |= dict.fromkeys(("effect", "low", "high", "p", "p_holm", "why"))
    found |= {"n": 0, "settings": 0, "incomplete": 0}
    found["equal_bits"] = sum(float(a[name]).hex() == float(b[name]).hex() for a, b in twice)
    try:
        pairs = pair(common, known, arm=sides[0].name, against=sides[1].name, scale=what.scale)
    except LogScaleError as error:
        return found | {"why": str(error)}
    found |= {"n": len(pairs.seeds), "settings": pairs.settings, "incomplete": pairs.incomplete}
    if not pairs.seeds:
        return found | {"why": "no seed has all of its pairs complete"}
    interval = stats.t_interval(pairs.differences)
    found |= {"effect": interval.mean, "low": interval.low, "high": interval.high}
    if interval.n > 1 and any(pairs.differences):
        found["p"] = stats.t_test(pairs.differences)
    return found


# --- what makes it less than it looks --------------------------------------------------------------------------------


def _budgets(common: Tables, sides: Sequence[Side], shared: Sequence[str]) -> list[str]:
    """Unequal tokens or FLOPs within pairs, in words."""
    last = [side.tables.metrics.wide("tokens").max(axis=1) for side in sides]
    tokens = {f"{s.name}:{key}": v for s, own in zip(sides, last, strict=True) for key, v in own.items()}
    flops = dict(zip(common.trials["trial_id"], common.trials["flops_alone"], strict=True))
    found = []
    for what, budgets in (("tokens", tokens), ("FLOPs", flops)):
        ratios = _ratios(common, sides, shared, budgets)
        if any(abs(ratio - 1) > UNEQUAL for ratio in ratios):
            found.append(across_words.unequal(what, sides[0].name, sides[1].name, min(ratios), max(ratios)))
    return found


def _ratios(common: Tables, sides: Sequence[Side], shared: Sequence[str], budgets: Mapping[str, Any]) -> list[float]:
    """Of each pair with trials that ended ok on both sides, the mean budget of the one over that of the other."""
    found: dict[tuple[int, Setting], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    ok = common.trials.loc[common.trials["status"] == "ok", ["arm", "seed", "trial_id", *common.axes]]
    for row in ok.to_dict("records"):
        budget = budgets.get(row["trial_id"])
        if budget is not None and pd.notna(budget):
            for setting in common.pairings(row, shared):
                found[int(row["seed"]), setting][row["arm"]].append(float(budget))
    means = [{name: sum(own) / len(own) for name, own in by.items()} for by in found.values() if len(by) == 2]
    return [own[sides[0].name] / own[sides[1].name] for own in means if own[sides[1].name]]


def _run(common: Tables, sides: Sequence[Side]) -> list[str]:
    """Divergence at different rates, and other numerics classes."""
    found = []
    diverged = divergence(common, [side.name for side in sides])
    if diverged.differ:
        found.append(f"Divergence rates differ ({diverged.said}): what is left describes survivors.")
    classes = [sorted(set(common.compared(side.name)["numerics_class"].dropna())) for side in sides]
    if classes[0] != classes[1]:
        shown = " against ".join(" and ".join(own) or "none recorded" for own in classes)
        found.append(f"They ran in different numerics classes, between which bits differ: {shown}.")
    return found
