r"""Texts as LaTeX that shows them and does nothing: no character of a study is a command, a comment or an argument.

What a character of ASCII means to TeX is taken from it; mathematics that loopsweep itself writes (``≤``, ``×``,
``ω²``) becomes mathematics; Latin letters stay as they are, as LaTeX reads UTF-8 since 2018, where the encoding that it
begins with (OT1) has them or can put the accent on. Any other character would stop plain pdfLaTeX, so its number is
shown. The result holds in a cell of a table as well: no
line break, no bracket that a row end before it could take for an argument.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any


class Tex(str):
    """LaTeX, ready to be set: made by this module or by `reports.latex`, never by a study."""

    __slots__ = ()


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "'": r"\char39{}",  # two of them would become one
    "[": "{[}",
    "]": "{]}",
    "\u00a0": "~",
    "\u202f": r"\,",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "’": r"\char39{}",
    "−": "$-$",
}
_MATH = {
    **{"×": r"\times", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx", "±": r"\pm", "·": r"\cdot"},
    **{"→": r"\to", "∞": r"\infty", "√": r"\surd", "Σ": r"\Sigma", "Δ": r"\Delta", "α": r"\alpha", "β": r"\beta"},
    **{"γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "η": r"\eta", "κ": r"\kappa", "λ": r"\lambda"},
    **{"μ": r"\mu", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "ω": r"\omega"},
    **{"¹": "^1", "²": "^2", "³": "^3", "⁴": "^4", "ⁿ": "^n", "₀": "_0", "₁": "_1", "₂": "_2"},
}

_WHOLE = frozenset("ÆæØøßıŁłŒœĲĳ")
"""Latin letters without an accent that OT1 has."""


def tex(value: Any) -> Tex:
    """A value as LaTeX that shows it, in one line; what is `Tex` already stays as it is."""
    if isinstance(value, Tex):
        return value
    text = "".join(map(_character, " ".join(str(value).splitlines())))
    return Tex(re.sub("-(?=-)", "-{}", text))  # two would become a dash


def _character(one: str) -> str:
    if one in _SPECIAL:
        return _SPECIAL[one]
    if one in _MATH:
        return f"${_MATH[one]}$"
    if one == "\t":
        return " "
    if one.isascii() and one.isprintable():
        return one
    if "\u00c0" <= one <= "\u017f" and (one in _WHOLE or _accented(one)):
        return one
    return rf"\texttt{{U+{ord(one):04X}}}"


def _accented(one: str) -> bool:
    """Whether a character is an ASCII letter with accents, none of them an ogonek, which OT1 cannot put on."""
    parts = unicodedata.normalize("NFD", one)
    return len(parts) > 1 and parts[0].isascii() and parts[0].isalpha() and "\u0328" not in parts
