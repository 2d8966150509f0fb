"""What DuckDB says of a query that is wrong, in words of this command: what is wrong, and the next step, in one line.

DuckDB's messages are good where they speak of SQL and are kept there, without the name of its exception and without the
drawing of where in the text. Where it can't know what is meant (a column that a study does not have, a quantity that is
no column, a parameter without a value) the message is ours.
"""

from __future__ import annotations

import re

from core.quantities import CURVES, QUANTITIES, point, quantity_of

_KIND = re.compile(r"^(?:[A-Z][A-Za-z-]* )+Error: ")
_COLUMN = re.compile(r'column (?:named )?"([^"]+)"')
"""The column that DuckDB did not find, in its message."""
_TABLE = re.compile(r'Referenced table "([^"]+)" not found')
_UNSET = re.compile(r"Values were not provided for the following parameters: (.+)")
_UNUSED = re.compile(r"identifiers of the excess parameters: (.+)")
_NEAR = re.compile(r"Candidate bindings: :? ?(.+)")
_OWN_VIEWS = {"spectrum": "spectra", "loss_surface": "surfaces"}
"""Quantities that have a view of their own."""


def said(message: str) -> str:
    """DuckDB's message as one that names the rule, the place and the next step."""
    text = _KIND.sub("", " ".join(message.split("\n\nLINE ", maxsplit=1)[0].split()))
    if unset := _UNSET.search(text):
        if unset[1][0].isdigit():
            return "parameters of a query have names; write $name for ? and add --set name=VALUE"
        return f"no value is given for {_parameters(unset[1])}; add --set NAME=VALUE for each"
    if unused := _UNUSED.search(text):
        return f"the query has no {_parameters(unused[1])}; leave its --set out, or write ${unused[1]} where it belongs"
    if table := _TABLE.search(text):
        return f'there is no table {table[1]}; a column whose name has a dot stands in double quotes, as "{table[1]}.…"'
    if text.startswith(("syntax error", "unterminated")):
        return f"{text}; a query is one SELECT of DuckDB's SQL"
    missed = _COLUMN.search(text)
    if missed is None or ("not found" not in text and "does not have" not in text):
        return text
    name = missed[1].lower()
    return _of_quantity(name) or _of_column(missed[1], text)


def _parameters(names: str) -> str:
    return ", ".join(f"${name}" for name in names.split(", "))


def _of_column(name: str, text: str) -> str:
    """Of a column that is none of this study."""
    near = _NEAR.search(text)
    hint = f"near are {near[1].replace(chr(34), '')}; " if near else ""
    section, dot, _ = name.partition(".")
    if dot and section in ("task", "model", "train", "schedule"):
        place = f"json_extract(config, '$.{name}') where it does not"
        return f"there is no column {name} here; the view trials has it where the study varies it, and {place}"
    return f"there is no column {name}; {hint}`loopsweep tables STUDY` lists all"


def _of_quantity(name: str) -> str | None:
    """Where the numbers of a quantity are that is no column."""
    quantity = QUANTITIES.get(name)
    if (of_curve := point(name)) is not None:
        way = f"ask for {quantity_of(name)}, with {of_curve.x} in measure.{CURVES[of_curve.curve].listed}"
        return f"{name} is no column here: no trial of the study measures it; {way}"
    if name in CURVES or (quantity is not None and quantity.curves):
        curves = [name] if name in CURVES or quantity is None else list(quantity.curves)
        place = f"points in the view curves: WHERE quantity = '{curves[0]}'"
        place += "".join(f" or '{other}'" for other in curves[1:])
        listed = next((curve for curve in curves if CURVES[curve].listed), None)
        place += f", and a column for each of measure.{CURVES[listed].listed}, as {listed}_8" if listed else ""
        place += f"; columns {', '.join(quantity.columns)}" if quantity is not None and quantity.columns else ""
    elif name in _OWN_VIEWS:
        place = f"rows in the view {_OWN_VIEWS[name]}"
    elif quantity is not None and name not in quantity.columns:
        place = f"columns {', '.join(quantity.columns)}"
    else:
        return None
    return f"{name} is no column; it has {place}"
