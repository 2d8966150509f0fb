r"""Tables of a report as LaTeX with booktabs: verdicts, leaderboard, factor effects; each a ``tabular`` to be \input.

A file holds the tabular alone, so float, caption and size are the paper's own. Rows and digits are those of the page.
Every text goes through `reports.tex_text`, so nothing that a study holds is a command.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports import board, words
from reports.tex_text import Tex, tex

Report = Mapping[str, Any]
Group = tuple[str, Sequence[Sequence[Any]]]
"""A heading over all columns, empty for none, and rows."""

_HEAD = "% Needs \\usepackage{booktabs}; \\input it inside a table.\n"


def tables(report: Report) -> dict[str, str]:
    """By name, the LaTeX of the tables that have rows."""
    found = {"claims": _claims(report), "leaderboard": _leaderboard(report), "factors": _factors(report)}
    return {name: text for name, text in found.items() if text is not None}


def tabular(columns: str, head: Sequence[Any], groups: Sequence[Group]) -> str | None:
    """A table in groups of rows, a rule between them; None without rows. Cells are escaped unless they are `Tex`."""
    if not any(rows for _, rows in groups):
        return None
    blocks = []
    for heading, rows in groups:
        over = [rf"\multicolumn{{{len(head)}}}{{l}}{{\textit{{{tex(heading)}}}}} \\"] if heading else []
        blocks.append("\n".join([*over, *(_row(row) for row in rows)]))
    inner = "\n\\midrule\n".join([_row(head), *blocks])
    return f"{_HEAD}\\begin{{tabular}}{{{columns}}}\n\\toprule\n{inner}\n\\bottomrule\n\\end{{tabular}}\n"


def _row(cells: Sequence[Any]) -> str:
    return " & ".join(tex(cell) for cell in cells) + r" \\"


# --- the tables ------------------------------------------------------------------------------------------------------


def _claims(report: Report) -> str | None:
    head = ("", "claim", "verdict", "difference", Tex(r"95\,\% CI"), Tex("$n$"), Tex(r"$p_{\mathrm{Holm}}$"))
    groups = []
    for name, study in _named(report):
        own = [claim for claim in report["claims"] if claim["study"] == study["name"]]
        rows = [row for number, claim in enumerate(own, 1) for row in _claim_rows(number, claim)]
        if rows:
            groups.append((name, rows))
    return tabular(r"lp{0.34\linewidth}lllrr", head, groups)


def _claim_rows(number: int, claim: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The row of a claim, and one of each part of a joint one."""
    yield [number, claim["text"], *_finding(claim)]
    for part, one in enumerate(claim["parts"], 1):
        where = f", where {one['where']}" if one["where"] else ""
        yield [f"{number}.{part}", f"{words.place(one['quantity'], one['at'])}{where}", *_finding(one)]


def _finding(one: Mapping[str, Any]) -> list[Any]:
    p = _p(one["p_holm"])
    if one["effect"] is None:
        return [one["verdict"], "–", "–", one["n"] if one["n"] is not None else "–", p]
    shown = math.exp if one["scale"] == "log" else float
    three = [None if one[key] is None else shown(one[key]) for key in ("effect", "low", "high")]
    _, low, high = words.estimate(*three)
    interval = f"[{low}, {high}]" if one["low"] is not None else "–"
    return [one["verdict"], _scientific(words.difference(one)), _scientific(interval), one["n"], p]


def _leaderboard(report: Report) -> str | None:
    names = board.columns(report["leaderboard"])
    decimals = {name: board.decimals(report["leaderboard"], name) for name in names}

    def cells(row: Mapping[str, Any]) -> list[Any]:
        of = f"mean of {row['settings']} settings" if row["rank"] is None else words.setting(row["setting"])
        means = [" ".join(filter(None, board.cell(row["metrics"].get(name), decimals[name]))) for name in names]
        cost = (words.count(row["parameters"]), _scientific(words.number(row["flops_alone"])))
        return [row["rank"] or "", row["arm"], of, *means, row["seeds"], *cost]

    groups = []
    for name, study in _named(report):
        own = [row for row in report["leaderboard"] if row["study"] == study["name"]]
        for shown in board.short(own, study["arm_means"])["tasks"]:
            heading = ", ".join(filter(None, (name, shown["task"])))
            groups.append((heading, [cells(row) for row in shown["rows"]]))
    heads = [" ".join(filter(None, board.head(name))) for name in names]
    head = ("", "arm", "setting", *heads, "seeds", "parameters", "FLOPs")
    return tabular("rll" + "r" * (len(names) + 3), head, groups)


def _factors(report: Report) -> str | None:
    head = ("factor", "df", Tex(r"$\eta^2$"), Tex(r"$\omega^2$"), Tex(r"95\,\% CI"), Tex("$F$"), Tex("$p$"))
    groups = []
    for name, study in _named(report):
        for entry in study["factors"]:
            rows = []
            for term in entry["terms"]:
                share, low, high = words.estimate(term["omega2"], term["low"], term["high"])
                interval = f"[{low}, {high}]" if term["low"] is not None else "–"
                numbers = (_scientific(words.number(term["eta2"])), _scientific(share), _scientific(interval))
                rows.append([term["name"], term["df"], *numbers, _scientific(words.number(term["f"])), _p(term["p"])])
            if rows:
                where = [part for part in (name, entry["task"], ", ".join(entry["arms"]), entry["metric"]) if part]
                groups.append((", ".join(where), rows))
    return tabular("lrrrlrr", head, groups)


def _named(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    """The studies, with their names where there are several."""
    several = len(report["studies"]) > 1
    return [(study["name"] if several else "", study) for study in report["studies"]]


def _scientific(text: str) -> Tex:
    """A text in whose numbers ``3e−7`` is set as a power of ten."""
    parts = re.split(r"(?<=\d)e(−?\d+)(?![\w.])", text)
    powers = [rf"$\,\times 10^{{{power.replace('−', '-')}}}$" for power in parts[1::2]]
    return Tex("".join(a + b for a, b in zip(map(tex, parts[::2]), [*powers, ""], strict=True)))


def _p(value: float | None) -> Tex:
    """A p value; one below the least that is shown as an inequality."""
    text = words.p_value(value)
    return Tex(f"$<${tex(text[1:])}") if text.startswith("<") else _scientific(text)
