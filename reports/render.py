"""Renders a report: HTML and Markdown by Jinja2, from ``report.json`` and the figures drawn from it, and nothing else.

Autoescape is on for every template: what comes from a study (questions, claims) or a machine (errors, host facts) is
text, whatever it holds. In Markdown the same texts lose their meaning as markup. The HTML stands alone: styles and
figures are inside it and it requests nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import jinja2
from markupsafe import Markup

from reports import across_words, board, cite, colours, explorer, lengths, loop_counts, series, verdict_words, words
from reports.captions import how_found
from reports.figures import arm_colours
from reports.labels import slug
from reports.map_figures import MOST as MOST_MAPS
from reports.panels import Drawing, Kind, full_label, label
from reports.svg import dark_rules

MOST_SENTENCES = 4
"""Arms whose switches are said one by one; of more the table says it."""
MOST_FAILURES = 30
"""Trials that the table of failures shows."""
_SHARES = 3
"""Decimals of the shares of a range of lengths, whose sequences tell no more."""

_VERDICTS = ("supported", "contradicted", "undecided")
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="[^"]*">\n')
_MARKDOWN = re.compile(r"([\\`*_\[\]#!|~<>$&])")


def markdown_text(value: Any) -> Markup:
    """A value as Markdown that shows it and does nothing: one line, every mark escaped."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).splitlines())
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return Markup(_MARKDOWN.sub(lambda m: entities.get(m[1], f"\\{m[1]}"), text))  # noqa: S704 - escaped here


def one_line(value: Any) -> Markup:
    """A value for a fenced block, where nothing is markup but a line that closes the fence."""
    return Markup(" ".join(str(value).splitlines()))  # noqa: S704 - a fenced block holds no markup


def html_report(report: Mapping[str, Any], drawings: Sequence[Drawing], *, refresh: float | None = None) -> str:
    """``report.html``, self-contained; with `refresh` it loads itself again after so many seconds."""
    environment = _environment()
    figures = {d.name: Markup(d.svg) for d in drawings}  # noqa: S704 - made by `reports.svg`, text in it escaped
    style = Markup(environment.get_template("report.css.j2").render())  # noqa: S704 - our own file
    scripts = explorer.scripts(
        report["explorer"], [colours.PALETTE.index(colour) for colour in arm_colours(report).values()]
    )
    return environment.get_template("report.html.j2").render(
        **_context(report, drawings), figures=figures, style=style, refresh=refresh,
        dark=Markup(dark_rules() + colours.page_rules()),  # noqa: S704 - our own rules
        scripts=[Markup(text) for text in scripts],  # noqa: S704 - `explorer.scripts` makes them safe in a script element
        policy=Markup(explorer.policy(scripts)),  # noqa: S704 - quotes inside a double-quoted attribute
    )  # fmt: skip


def still(page: str) -> str:
    """``report.html`` without what makes it load itself again."""
    return _REFRESH.sub("", page, count=1)


def markdown_report(report: Mapping[str, Any], drawings: Sequence[Drawing]) -> str:
    """``report.md``, with the figures beside it in ``figures/``."""
    environment = _environment()
    environment.finalize = markdown_text
    environment.filters["one_line"] = one_line
    return environment.get_template("report.md.j2").render(**_context(report, drawings))


def _environment() -> jinja2.Environment:
    # Jinja2's own choice by file name would skip `*.html.j2`; so it is on for all.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "count": words.count,
        "p_value": words.p_value,
        "plural": words.plural,
        "setting": words.setting,
        "terms": _terms,
        "duration": _duration,
        "slug": slug,
        "headings": headings,
        "relation": verdict_words.relation,
        "steps": verdict_words.steps,
        "standings": verdict_words.standings,
        "parted": lambda sentence: sentence.split(": ", 1),
    }
    return environment


def _terms(values: Mapping[str, Any]) -> Markup:
    """Axis values as `words.setting` has them, none broken in itself at the end of a line."""
    each = (words.setting({key: value}) for key, value in values.items())
    return Markup(", ").join(Markup('<span class="term">{}</span>').format(one) for one in each)


def _context(report: Mapping[str, Any], drawings: Sequence[Drawing]) -> dict[str, Any]:
    """What both templates see."""
    names = [study["name"] for study in report["studies"]]
    metrics = board.columns(report["leaderboard"])
    decimals = {name: board.decimals(report["leaderboard"], name) for name in metrics}
    means = [row for study in report["studies"] for row in study["arm_means"]]
    return {
        "report": report,
        "title": ", ".join(names),
        "sections": [
            _section(report, study, execution, drawings)
            for study, execution in zip(report["studies"], report["provenance"]["studies"], strict=True)
        ],
        "board_of_all": board.short(report["leaderboard"], means),
        "metrics": metrics,
        "heads": {name: board.head(name) for name in metrics},
        "cells": lambda row, name: board.cell(row["metrics"].get(name), decimals[name]),
        "roles": {"tune": "while tuning", "confirm": "on a fresh seed"},
        "tally": {v: sum(c["verdict"] == v for c in report["claims"]) for v in _VERDICTS},
        "partly": sum(
            bool(c["along"]) and c["along"]["supported_to"] is not None and c["verdict"] != "supported"
            for c in report["claims"]
        ),
        "colours": {arm: colours.PALETTE.index(colour) for arm, colour in arm_colours(report).items()},
        "version": report["provenance"]["version"],
        "commits": _commits(report),
        "bibtex": cite.bibtex(report["provenance"]["version"]),
        "key": _key,
        "at_last_lines": _lines,
        "at_last_cell": lambda row, line: next((c for c in row["cells"] if label(c) == line["label"]), None),
        "methods": _methods,
        "how_found": how_found,
        "estimate": lambda summary: words.estimate(*(summary[name] for name in ("mean", "low", "high"))),
        "share": lambda summary: board.cell(summary, _SHARES),
        "full_label": full_label,
        "heads_of": board.head,
        "most_maps": MOST_MAPS,
        "length_columns": _length_columns,
        "across": [d for d in drawings if d.kind == "across"],
        "difference": across_words.difference,
    }


def _section(
    report: Mapping[str, Any], study: Mapping[str, Any], execution: Mapping[str, Any], drawings: Sequence[Drawing]
) -> dict[str, Any]:
    """What both templates see of one study."""
    mine = [d for d in drawings if d.study == study["name"]]
    return {
        "study": study,
        "colours": colours.places(study["arms"]),
        "execution": execution,
        "costs": {_key(cost): cost for cost in execution["costs"]},
        "claims": [c for c in report["claims"] if c["study"] == study["name"]],
        "board": board.short([r for r in report["leaderboard"] if r["study"] == study["name"]], study["arm_means"]),
        "tree": words.tree(study["tree"]) if study["tree"] is not None else None,
        "switches": [(arm, words.switch(arm), _switch_rows(arm)) for arm in study["switches"]],
        "switching": words.switches(study["switches"]) if len(study["switches"]) > MOST_SENTENCES else None,
        "how": [row for row in study["panels"]["how"] if not loop_counts.shown_here(row["quantity"])],
        "loops_failed": _loops_failed(study),
        "failures": study["failures"][:MOST_FAILURES],
        "drawings": {kind: [d for d in mine if d.kind == kind] for kind in get_args(Kind)},
    }


def _switch_rows(arm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of the table of switches: the arm, and its settings where they are several and not too many."""
    several = 1 < len(arm["settings"]) <= series.MOST_ROWS
    whole = arm["settings"][0] if len(arm["settings"]) == 1 else {**arm, "setting": {}}
    return [whole, *(arm["settings"] if several else ())]


def headings(body: str) -> list[tuple[str, Markup]]:
    """The headings of a rendered page that can be linked: id and text, which is escaped already."""
    return [(found[1], Markup(found[2])) for found in re.finditer(r'<h[23] id="([^"]+)">(.*?)</h[23]>', body)]  # noqa: S704


def _commits(report: Mapping[str, Any]) -> list[str]:
    """The commits of loopsweep that trained the trials, shortened."""
    found = (commit for study in report["provenance"]["studies"] for commit in study["facts"].get("commit", ()))
    return sorted({str(commit)[:12] for commit in found})


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['arm']} {words.setting(row['setting'])}"


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The columns of a table by arm and setting: each line that some row has a cell of."""
    cells = {label(cell): cell["arm"] for row in rows for cell in row["cells"]}
    return [{"label": text, "arm": arm} for text, arm in cells.items()]


def _methods(row: Mapping[str, Any]) -> str:
    """The methods of a quantity, the commonest first; three at most, with their arms where these differ in them."""
    counts, arms = row["methods"], row["arms"]
    differ = len({tuple(of) for of in arms.values()}) > 1
    shown = []
    for name, count in list(counts.items())[:3]:
        each = ", ".join(f"{arm} {words.count(n)}" for arm, n in arms[name].items()) if differ else words.count(count)
        shown.append(f"{name} ({each})" if len(counts) > 1 else name)
    return ", ".join(shown) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


def _loops_failed(study: Mapping[str, Any]) -> list[str]:
    """What other loops than those of training gave no number for, a sentence a reason."""
    names: dict[str, list[str]] = {}
    for row in study["panels"]["how"]:
        for one in row["failures"] if loop_counts.shown_here(row["quantity"]) else ():
            count = sum(one["arms"].values())
            names.setdefault(one["reason"], []).append(f"{row['quantity']} in {count} of {row['measurements']}")
    return [f"No number for {', '.join(failed)} measurements: {reason}." for reason, failed in names.items()]


def _length_columns(study: Mapping[str, Any]) -> list[str]:
    """Columns of the table of accuracy over ranges of lengths: those of which some line has a value."""
    names = [f"{metric}_{span}" for metric in lengths.METRICS for span in lengths.RANGES]
    rows = [row["means"] for entry in study["lengths"] for row in entry["rows"]]
    return [name for name in names if any(means.get(name, {}).get("mean") is not None for means in rows)]


def _duration(seconds: float | None) -> str:
    """Seconds as a reader says them."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{words.number(seconds)} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
