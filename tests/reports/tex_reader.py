r"""A strict reader of the LaTeX that reports write, where no TeX is: what it takes, pdfLaTeX with booktabs sets.

It knows a fixed list of commands and nothing else; braces must balance, mathematics must end in its cell, no character
that TeX treats specially may stand by itself, and every row must have as many cells as there are columns.
"""

from __future__ import annotations

import re

COMMANDS = {
    *("multicolumn", "makebox", "parbox", "raggedright", "strut", "allowbreak", "textit", "texttt", "linewidth"),
    *("textbackslash", "textasciitilde", "textasciicircum", "textasciigrave", "textless", "textgreater", "textbar"),
    *("textendash", "textemdash", "ldots", "char34", "char39", "mathrm", "times", "leq", "geq", "omega", "eta"),
    *("neq", "approx", "pm", "cdot", "to", "lambda", "tau", "varepsilon"),
}
RULE = re.compile(r"\\(toprule|midrule|bottomrule|addlinespace|cmidrule\(lr\)\{\d+-\d+\})")
TOKEN = re.compile(r"\\\\|\\char3[49]|\\[A-Za-z]+|\\.|[{}$&%#_^~\[\]]|.", re.DOTALL)


def read(text: str) -> list[list[str]]:
    """The rows of a table, cells as they are written.

    Raises:
        ValueError: for what TeX might read as more than text.
    """
    lines = text.split("\n")
    if not lines[0].startswith("% ") or lines[-1] != "":
        raise ValueError("a comment of ours comes first, a line break last")
    found = re.fullmatch(
        r"\\begin\{tabular\*\}\{\\linewidth\}\{@\{\\extracolsep\{\\fill\}\}(\S+)@\{\}\}\n(.*)\\end\{tabular\*\}%\n",
        "\n".join(lines[1:]),
        re.DOTALL,
    )
    columns = found[1].split(r"@{\hspace{4pt}}") if found else []
    if found is None or not all(re.fullmatch(r"[lr]|p\{[\d.]+\\linewidth\}", column) for column in columns):
        raise ValueError("one tabular* and nothing else")
    rows = []
    for line in found[2].splitlines():
        if RULE.fullmatch(line):
            continue
        if not line.endswith(r" \\"):
            raise ValueError(f"a row ends in one line: {line!r}")
        cells = _cells(line.removesuffix(r" \\"))
        wide = [re.match(r"\s*\\multicolumn\{(\d+)\}", cell) for cell in cells]
        if sum(int(span[1]) if span else 1 for span in wide) != len(columns):
            raise ValueError(f"{len(cells)} cells in {len(columns)} columns: {line!r}")
        rows.append(cells)
    return rows


def _cells(row: str) -> list[str]:
    cells, depth, math = [""], 0, False
    for token in TOKEN.findall(row):
        if token[0] == "\\" and token[1:] not in COMMANDS and not re.fullmatch(r"\\[{}&%$#_,]", token):
            raise ValueError(f"the command {token!r} in {row!r}")
        if not token.isascii() and not token.isalpha():
            raise ValueError(f"{token!r} has no glyph in {row!r}")
        if token in "%#~" or (token in "^_" and not math) or not (token.isprintable() or token == "~"):
            raise ValueError(f"{token!r} stands by itself in {row!r}")
        if token in "[]" and depth == 0:
            raise ValueError(f"{token!r} may be read as an argument in {row!r}")
        depth += {"{": 1, "}": -1}.get(token, 0)
        math ^= token == "$"
        if depth < 0 or (token == "&" and (depth or math)):
            raise ValueError(f"braces or mathematics reach over cells in {row!r}")
        if token == "&":
            cells.append("")
        else:
            cells[-1] += token
    if depth or math:
        raise ValueError(f"open braces or mathematics in {row!r}")
    return cells
