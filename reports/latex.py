r"""Tables of a report as LaTeX with booktabs: verdicts, leaderboards, factor effects; each a ``tabular*`` to be \input.

A file holds the table alone, so float, caption and size are the paper's own. It is as wide as the line: columns are put
apart until they fill it; at ``\footnotesize`` they fit the 345 pt of an ``article``. Therefore a claim's text stands
above its numbers, long names wrap, and a leaderboard has one metric, with its strata, and of its intervals the half
width. Rows and digits are those of the page; CSV has every column in one table.
Every text goes through `reports.tex_text`, so nothing that a study holds is a command.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reports import board, verdict_words, words
from reports.tex_text import Tex, tex

Report = Mapping[str, Any]
Group = tuple[str, Sequence[str]]
"""A heading over all columns, empty for none, and rows."""

_HEAD = (
    "% Needs \\usepackage{booktabs}; \\input it at \\footnotesize in a table, of a paper in two columns in a table*.\n"
)
_NAME = 22
"""Characters of the longest name in a column that does not wrap: what fills 0.28 of the line."""


def tables(report: Report) -> dict[str, str]:
    """By name, the LaTeX of the tables that have rows."""
    boards = {f"leaderboard-{base}": _leaderboard(report, names) for base, names in _metrics(report).items()}
    found = {"claims": _claims(report), **boards, "factors": _factors(report)}
    return {name: text for name, text in found.items() if text is not None}


def tabular(columns: Sequence[str], head: Sequence[str], groups: Sequence[Group]) -> str | None:
    """A table in groups of rows, a rule between them, as wide as the line; None without rows.

    Args:
        columns: as in a preamble of ``tabular``, one each.
        head: rows, and rules between them.
        groups: their rows are LaTeX.
    """
    if not any(rows for _, rows in groups):
        return None
    blocks = ["\n".join([*([_over(len(columns), heading)] if heading else []), *rows]) for heading, rows in groups]
    inner = "\n\\midrule\n".join(["\n".join(head), *blocks])
    preamble = r"@{\extracolsep{\fill}}" + r"@{\hspace{4pt}}".join(columns) + "@{}"
    begin = rf"\begin{{tabular*}}{{\linewidth}}{{{preamble}}}"
    return f"{_HEAD}{begin}\n\\toprule\n{inner}\n\\bottomrule\n\\end{{tabular*}}%\n"


def _row(cells: Sequence[Any]) -> str:
    """A row of the table; cells are escaped unless they are `Tex`."""
    return " & ".join(tex(cell) for cell in cells) + r" \\"


def _over(columns: int, heading: str) -> str:
    """A row of one text over all columns."""
    return _row([_spanning(columns, Tex(rf"\textit{{{_breaking(heading)}}}"), r"\linewidth")])


def _spanning(columns: int, text: Tex, width: str) -> Tex:
    """A cell over several columns, in as many lines as it needs; to TeX it has no width, so it moves no column."""
    box = rf"\makebox[0pt][l]{{\parbox[t]{{{width}}}{{\raggedright\strut {text}\strut}}}}"
    return Tex(rf"\multicolumn{{{columns}}}{{@{{}}l@{{}}}}{{{box}}}")


def _breaking(text: str) -> Tex:
    """A text that may be broken within names of keys too, but not around an equals sign."""
    return Tex(re.sub(r"(\\_|\.(?=[A-Za-z]))", r"\1\\allowbreak{}", tex(text).replace(" = ", r"\,=\,")))


def _names(texts: Sequence[str]) -> tuple[str, list[Tex]]:
    """A column of names: its preamble, and its cells; one with a long name wraps."""
    if max(map(len, texts), default=0) <= _NAME:
        return "l", [tex(text) for text in texts]
    return r"p{0.28\linewidth}", [Tex(rf"\raggedright {_breaking(text)}") for text in texts]


# --- the tables ------------------------------------------------------------------------------------------------------


def _claims(report: Report) -> str | None:
    head = ("", "verdict", "difference", Tex(r"95\,\% CI"), Tex("$n$"), Tex(r"$p_{\mathrm{Holm}}$"))
    groups = []
    for name, study in _named(report):
        own = [claim for claim in report["claims"] if claim["study"] == study["name"]]
        rows = [row for number, claim in enumerate(own, 1) for row in _claim_rows(number, claim)]
        if rows:
            groups.append((name, rows[1:]))  # no space above the first
    return tabular(("l", "l", r"p{0.38\linewidth}", "l", "r", "r"), [_row(head)], groups)


def _claim_rows(number: int, claim: Mapping[str, Any]) -> Iterator[str]:
    """A claim, and each part of a joint one: its text, and below it what was found; along an axis how far it stands."""
    far = "" if claim["along"] is None else f". {verdict_words.standing(claim)}."
    parts = [(str(number), claim["text"] + far, claim)]
    for part, one in enumerate(claim["parts"] if claim["along"] is None else (), 1):
        where = f", where {one['where']}" if one["where"] else ""
        parts.append((f"{number}.{part}", f"{words.place(one['quantity'], one['at'])}{where}", one))
    for label, text, one in parts:
        yield r"\addlinespace"
        yield _row([label, _spanning(5, _breaking(text), r"0.93\linewidth")])
        yield _row(["", *_finding(one)])


def _finding(one: Mapping[str, Any]) -> list[Any]:
    p = _p(one["p_holm"])
    if one["effect"] is None:
        return [one["verdict"], "–", "–", one["n"] if one["n"] is not None else "–", p]
    shown = math.exp if one["scale"] == "log" else float
    three = [None if one[key] is None else shown(one[key]) for key in ("effect", "low", "high")]
    _, low, high = words.estimate(*three)
    interval = f"[{low}, {high}]" if one["low"] is not None else "–"
    difference = Tex(rf"\raggedright {_scientific(verdict_words.difference(one), _breaking)}")
    return [one["verdict"], difference, _scientific(interval), one["n"], p]


def _metrics(report: Report) -> dict[str, list[str]]:
    """By metric, its columns of the leaderboard: the whole first, then strata or lengths."""
    found: dict[str, list[str]] = {}
    for name in board.columns(report["leaderboard"]):
        found.setdefault(board.base(name) or name, []).append(name)
    return found


def _leaderboard(report: Report, names: Sequence[str]) -> str | None:
    """The leaderboard with the columns of one metric."""
    decimals = [board.decimals(report["leaderboard"], name) for name in names]
    shown = []
    for name, study in _named(report):
        own = [row for row in report["leaderboard"] if row["study"] == study["name"]]
        for task in board.short(own, study["arm_means"])["tasks"]:
            shown.append((", ".join(filter(None, (name, task["task"]))), task["rows"]))
    rows = [row for _, own in shown for row in own]
    column, arms = _names([_called(row) for row in rows])
    sizes, flops = (_common_power([row[key] for row in rows]) for key in ("parameters", "flops_alone"))
    called = iter(arms)
    groups = []
    for heading, own in shown:
        lines = []
        for row in own:
            means = [_mean(row["metrics"].get(name), places) for name, places in zip(names, decimals, strict=True)]
            counts = (row["seeds"], _scaled(row["parameters"], sizes), _scaled(row["flops_alone"], flops))
            lines.append(_row([row["rank"] or "", next(called), *means, *counts]))
        groups.append((heading, lines))
    return tabular(("r", column, *"r" * (len(names) + 3)), _board_head(names, sizes, flops), groups)


def _called(row: Mapping[str, Any]) -> str:
    """An arm with its setting."""
    of = f"mean of {row['settings']} settings" if row["rank"] is None else words.setting(row["setting"])
    return f"{row['arm']} ({of})" if of else str(row["arm"])


def _mean(summary: Mapping[str, Any] | None, decimals: int) -> Tex:
    """A mean, and behind it half of its t interval, which is symmetric."""
    mean = tex(board.cell(summary, decimals)[0])
    if summary is None or summary["low"] is None:
        return mean
    return Tex(rf"{mean}$_{{\pm {words.fixed((summary['high'] - summary['low']) / 2, decimals)}}}$")


def _common_power(counts: Sequence[float | None]) -> int:
    """The power of ten that a column of counts is divided by: that of its largest, 0 where all are below a million."""
    most = max((count for count in counts if count is not None), default=0)
    return math.floor(math.log10(most)) if most >= 1e6 else 0


def _scaled(count: float | None, power: int) -> str:
    return words.number(count / 10**power) if count is not None and power else words.count(count)


def _board_head(names: Sequence[str], sizes: int, flops: int) -> list[str]:
    """Two rows: the metric over its columns, and what each is of; below a count the power that it is divided by."""
    first: tuple[Any, ...] = (Tex("$n$"), "params", "FLOPs")
    second = ("", *(Tex(rf"($10^{{{power}}}$)") if power else "" for power in (sizes, flops)))
    heads = [board.head(name) for name in names]
    if len(names) == 1:
        return [_row(["", "arm", *map(tex, heads[0][:1]), *first]), _row(["", "", heads[0][1], *second])]
    over = Tex(rf"\multicolumn{{{len(names)}}}{{c}}{{{tex(board.base(names[0]))}}}")
    rule = rf"\cmidrule(lr){{3-{2 + len(names)}}}"
    return [_row(["", "arm", over, *first]), rule, _row(["", "", *(of or "all" for _, of in heads), *second])]


def _factors(report: Report) -> str | None:
    numbers = ("df", Tex(r"$\eta^2$"), Tex(r"$\omega^2$"), Tex(r"95\,\% CI"), Tex("$F$"), Tex("$p$"))
    entries = [(name, entry) for name, study in _named(report) for entry in study["factors"]]
    column, terms = _names([term["name"] for _, entry in entries for term in entry["terms"]])
    called = iter(terms)
    groups = []
    for name, entry in entries:
        rows = []
        for term in entry["terms"]:
            share, low, high = words.estimate(term["omega2"], term["low"], term["high"])
            interval = f"[{low}, {high}]" if term["low"] is not None else "–"
            shares = (_scientific(words.number(term["eta2"])), _scientific(share), _scientific(interval))
            cells = [next(called), term["df"], *shares, _scientific(words.number(term["f"])), _p(term["p"])]
            rows.append(_row(cells))
        where = [part for part in (name, entry["task"], ", ".join(entry["arms"]), entry["metric"]) if part]
        groups.append((", ".join(where), rows))
    return tabular((column, *"rrrlrr"), [_row(["factor", *numbers])], groups)


def _named(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    """The studies, with their names where there are several."""
    several = len(report["studies"]) > 1
    return [(study["name"] if several else "", study) for study in report["studies"]]


def _scientific(text: str, plain: Callable[[str], Tex] = tex) -> Tex:
    """A text in whose numbers ``3e−7`` is set as a power of ten; the rest by `plain`."""
    parts = re.split(r"(?<=\d)e(−?\d+)(?![\w.])", text)
    powers = [rf"$\,\times 10^{{{power.replace('−', '-')}}}$" for power in parts[1::2]]
    return Tex("".join(a + b for a, b in zip(map(plain, parts[::2]), [*powers, ""], strict=True)))


def _p(value: float | None) -> Tex:
    """A p value; one below the least that is shown as an inequality."""
    text = words.p_value(value)
    return Tex(f"$<${tex(text[1:])}") if text.startswith("<") else _scientific(text)
