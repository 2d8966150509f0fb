"""The flat tables of a report: what is in ``report.json`` and people plot, a line a number, as CSV.

A sheet has the same columns in each of its rows; one without rows is left out. Settings have a column for each axis,
under its dotted key. A mean stands with ``low`` and ``high`` of its 95 % interval and with ``n``, the seeds behind it.

Numbers have the digits that bring back the same bits. A spreadsheet takes a text that begins with ``=``, ``+``, ``-``
or ``@`` for a formula, whoever wrote it; such a text gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]
Row = dict[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_OF_CLAIM = (
    *("verdict", "metric", "arm", "against", "value", "expect", "margin", "where", "scale", "unit", "n", "effect"),
    *("low", "high", "p", "p_holm", "p_sign_flip", "d_z", "p_better", "smallest_detectable", "seeds_needed", "reason"),
)
_SUMMARY = ("mean", "low", "high", "n")


def sheets(report: Report) -> dict[str, list[Row]]:
    """By name, the sheets that have rows; their rows in the order of the report, values as ``report.json`` has them."""
    found = {name: _even(list(make(report))) for name, make in SHEETS.items()}
    return {name: rows for name, rows in found.items() if rows}


def to_csv(rows: list[Row]) -> bytes:
    """A sheet as CSV in UTF-8: a line of names, then a line a row; what is missing is empty."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(name) for name in rows[0]])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _even(rows: list[Row]) -> list[Row]:
    """The same columns in every row, in the order in which they first come."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


# --- the sheets ------------------------------------------------------------------------------------------------------


def _claims(report: Report) -> Iterator[Row]:
    """A row a claim, and one for each part of a joint claim."""
    for head, claim in _numbered(report):
        yield head | {"part": None, "text": claim["text"]} | {name: claim[name] for name in _OF_CLAIM}
        for part, one in enumerate(claim["parts"], 1):
            yield head | {"part": part, "text": claim["text"]} | {name: one[name] for name in _OF_CLAIM}


def _differences(report: Report) -> Iterator[Row]:
    """What the claims are decided by: a row a seed."""
    for head, claim in _numbered(report):
        for part, one in enumerate(claim["parts"] or [claim], 1):
            place = head | {"part": part if claim["parts"] else None}
            for seed, difference in zip(one["seeds"] or (), one["differences"] or (), strict=True):
                yield place | {"metric": one["metric"], "scale": one["scale"], "seed": seed, "difference": difference}


def _leaderboard(report: Report) -> Iterator[Row]:
    """A row an arm and setting; the rank is that among all settings of a task."""
    ranks: Counter[str] = Counter()
    for row in report["leaderboard"]:
        ranks[row["task"]] += 1
        head = {"rank": ranks[row["task"]], "study": row["study"], "task": row["task"], "arm": row["arm"]}
        yield (
            {**head, **row["setting"]}
            | {f"tuned {key}": values[0] if len(values) == 1 else values for key, values in row["tuned"].items()}
            | {"seeds": row["seeds"], "parameters": row["parameters"], "flops_alone": row["flops_alone"]}
            | {f"{name}_{part}": of[part] for name, of in row["metrics"].items() for part in _SUMMARY}
        )


def _curves(report: Report) -> Iterator[Row]:
    """Over the steps: losses, and what was measured of the curvature."""
    for study in report["studies"]:
        for curve in (*study["curves"], *study["curvature"]):
            head = {"study": study["name"], "task": curve.get("task", ""), "metric": curve["metric"]}
            yield from _series(head | {"unit": curve["unit"]}, curve["series"])


def _paired(report: Report) -> Iterator[Row]:
    """Over the steps: losses less those of the reference arm, seed by seed."""
    for study in report["studies"]:
        for curve in study["curves"]:
            head = {"study": study["name"], "task": curve["task"], "metric": curve["metric"], "unit": curve["unit"]}
            yield from _series(head | {"reference": curve["paired"]["reference"]}, curve["paired"]["series"])


def _axes(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["along_axes"]:
            head = {"study": study["name"]} | {name: entry[name] for name in ("task", "metric", "unit", "axis")}
            for series in entry["series"]:
                yield from (head | {"arm": series["arm"]} | point for point in series["points"])
            yield from (head | {"x": None} | reference for reference in entry["references"])


def _maps(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["maps"]:
            head = {"study": study["name"]} | {name: entry[name] for name in ("task", "arm", "metric", "unit")}
            head |= {"x_axis": entry["x"]["axis"], "y_axis": entry["y"]["axis"]}
            yield from (head | {name: cell[name] for name in ("x", "y", *_SUMMARY)} for cell in entry["cells"])


def _lengths(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["lengths"]:
            for one in entry["metrics"]:
                head = {"study": study["name"], "task": entry["task"], "metric": one["metric"], "unit": one["unit"]}
                yield from _series(head, one["series"])


def _loops(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["loop_counts"]:
            head = {"study": study["name"]} | {name: entry[name] for name in ("task", "metric", "unit", "step")}
            yield from _series(head, entry["series"])


def _costs(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["costs"]:
            head = {"study": study["name"], "task": entry["task"], "unit": entry["unit"]}
            for point in entry["points"]:
                yield (
                    head
                    | {"arm": point["arm"], **point["setting"]}
                    | {name: point[name] for name in ("flops_alone", "parameters")}
                    | {name: point["loss"][name] for name in _SUMMARY}
                    | {"front": point["front"] if entry["fronted"] else None}
                )


def _factors(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["factors"]:
            head = {"study": study["name"], "task": entry["task"], "arms": ", ".join(entry["arms"])}
            for term in entry["terms"]:
                yield head | {"metric": entry["metric"]} | {k: v for k, v in term.items() if k != "factors"}


def _levels(report: Report) -> Iterator[Row]:
    for study in report["studies"]:
        for entry in study["factors"]:
            head = {"study": study["name"], "task": entry["task"], "arms": ", ".join(entry["arms"])}
            head |= {name: entry[name] for name in ("metric", "unit", "scale")}
            yield from (head | level for level in entry["levels"])


def _importances(report: Report) -> Iterator[Row]:
    for study in report["provenance"]["studies"]:
        for entry in study["importances"]:
            head = {"study": study["study"]} | {name: entry[name] for name in ("arm", "metric", "settings")}
            yield from (head | row for row in entry["keys"])


def _switches(report: Report) -> Iterator[Row]:
    means = ("loss_before", "loss_after", "drop", "accuracy_before", "accuracy_after")
    for study in report["studies"]:
        for arm in study["switches"]:
            for one in arm["settings"]:
                yield (
                    {"study": study["name"], "arm": arm["arm"], **one["setting"], "n": one["n"]}
                    | {"trials": one["trials"], "step": one["step"]["mean"]}
                    | {f"{name}_{part}": one[name][part] for name in means for part in _SUMMARY[:3]}
                    | {f"recovery_{name}": value for name, value in one["recovery"].items()}
                    | {"reference": arm["reference"], "cost": one["cost"]}
                )


def _failures(report: Report) -> Iterator[Row]:
    for study, execution in zip(report["studies"], report["provenance"]["studies"], strict=True):
        for one in study["failures"]:
            row = {"study": study["name"]} | {name: value for name, value in one.items() if name != "setting"}
            yield row | {"detail": one["detail"] or execution["errors"].get(one["trial_id"])} | one["setting"]


def _across(report: Report) -> Iterator[Row]:
    """A row a metric of each comparison of two studies."""
    for one in report["across"]["comparisons"] if report["across"] else ():
        head = {name: one[name] for name in ("arm", "study", "against", "ran_twice")}
        yield from (head | line for line in one["metrics"])


def _configurations(report: Report) -> Iterator[Row]:
    """A row a term in which arms differ; a column an arm."""
    found = report["differences"] or {"columns": (), "rows": ()}
    several = len(report["studies"]) > 1
    arms = [f"{of['study']}: {of['arm']}" if several else of["arm"] for of in found["columns"]]
    for row in found["rows"]:
        yield {"term": row["key"]} | dict(zip(arms, row["values"], strict=True))


SHEETS: Mapping[str, Callable[[Report], Iterator[Row]]] = {
    "leaderboard": _leaderboard,
    "claims": _claims,
    "differences": _differences,
    "curves": _curves,
    "paired": _paired,
    "axes": _axes,
    "maps": _maps,
    "factors": _factors,
    "levels": _levels,
    "importances": _importances,
    "switches": _switches,
    "lengths": _lengths,
    "loops": _loops,
    "costs": _costs,
    "failures": _failures,
    "across": _across,
    "configurations": _configurations,
}
"""By name, what makes the rows of a sheet."""


def _numbered(report: Report) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """The claims with their numbers, which begin anew in each study."""
    for study in report["studies"]:
        own = [claim for claim in report["claims"] if claim["study"] == study["name"]]
        yield from (({"study": study["name"], "claim": number}, claim) for number, claim in enumerate(own, 1))


def _series(head: Row, series: list[Mapping[str, Any]]) -> Iterator[Row]:
    """The points of lines; a line is a setting of an arm, or the mean over several or the best of them."""
    for one in series:
        line = {"arm": one["arm"], "settings": one["settings"], "best": one["best"], **one["setting"]}
        for point in one["points"]:
            yield head | line | {name: value for name, value in point.items() if not isinstance(value, (dict, list))}
