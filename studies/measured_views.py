"""The views of what was measured: of each trial the numbers that it asks for, with the settings that it asks for.

Mostly one row of the store answers a measurement whole: it was measured with just what the trial asks (`observed` is
the same text), and is taken as it is. Where quantities were added later, or another study asked for others, several
rows answer, each for the quantities whose settings agree; each quantity comes from the first of them.

Curves whose x a study lists (loops at test time) are columns of the view `curvature` too, one for each x that some
trial asks for; a trial that does not has NULL there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.quantities import COLUMNS, CURVES, QUANTITIES, QUANTITY_OF, Point

_NOTES = ("method", "error", "products")


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'c."{name}"' for name in names]


def _same(quantity: str) -> str:
    """SQL: whether a row was measured with the settings that the trial asks for, for one quantity."""
    return f"json_extract(c.observed, '$.{quantity}') = json_extract(asked.observed, '$.{quantity}')"


def _any(quantities: Iterable[str]) -> str:
    return " OR ".join(_same(name) for name in quantities)


_NAMED = {name: name for name in QUANTITIES} | dict(QUANTITY_OF)
_QUANTITY = "MAP {" + ", ".join(f"'{name}': '{quantity}'" for name, quantity in _NAMED.items()) + "}"
"""SQL: the quantity of a column, a curve or itself."""

_AT = "c.lineage = asked.lineage AND c.step = asked.step"


def _view(
    name: str, table: str, columns: Sequence[str], pieces: Sequence[str], where: str, *, by: Sequence[str] = ()
) -> str:
    """SQL of one view.

    Args:
        name: of the view.
        table: the dataset that it reads.
        columns: of the table, where one row answers whole.
        pieces: the same columns, where several rows answer: aggregates.
        where: which rows answer in part.
        by: columns that with trial and step name a row of the view.
    """
    keys = ["asked.trial_id", "asked.step", *_quoted(by)]
    return f"""CREATE VIEW {name} AS
        SELECT {", ".join([*keys, *_quoted(columns)])}
        FROM _probed AS asked JOIN {table} AS c ON {_AT} AND c.observed = asked.observed
        UNION ALL
        SELECT {", ".join([*keys, *(f'{piece} AS "{c}"' for piece, c in zip(pieces, columns, strict=True))])}
        FROM _pieced AS asked JOIN {table} AS c ON {_AT} WHERE {where} GROUP BY {", ".join(keys)}"""  # noqa: S608 - names are ours


def _first(names: Iterable[str]) -> list[str]:
    return [f"arg_min({name}, c.observed)" for name in _quoted(names)]


def _joined(note: str) -> str:
    """SQL: a map by column or quantity, of the entries whose settings agree."""
    quantity = f"'$.' || {_QUANTITY}[entry.key]"
    agree = f"json_extract(c.observed, {quantity}) = json_extract(asked.observed, {quantity})"
    entries = f"map_from_entries(list_filter(map_entries(c.{note}), lambda entry: {agree}))"
    listed = f"list({entries} ORDER BY c.observed DESC) FILTER (c.{note} IS NOT NULL)"
    return f"list_reduce({listed}, lambda a, b: map_concat(a, b))"


def _with_points(points: Mapping[str, Point]) -> str:
    """SQL of the view ``curvature``: what was measured, and points of curves as columns."""
    if not points:
        return "CREATE VIEW curvature AS SELECT * FROM _measured"
    chosen = [
        f"any_value(y) FILTER (quantity = '{point.curve}' AND x = {point.x}) AS \"{name}\""
        for name, point in points.items()
    ]
    curves = ", ".join(f"'{name}'" for name in dict.fromkeys(point.curve for point in points.values()))
    notes = ("asymmetry", *_NOTES)
    columns = [f"m.* EXCLUDE ({', '.join(notes)})", *(f'p."{name}"' for name in points), *(f"m.{n}" for n in notes)]
    return f"""CREATE VIEW curvature AS SELECT {", ".join(columns)} FROM _measured AS m LEFT JOIN (
            SELECT trial_id, step, {", ".join(chosen)} FROM curves WHERE quantity IN ({curves}) GROUP BY trial_id, step
        ) AS p USING (trial_id, step)"""  # noqa: S608 - names are ours


def measured_views(points: Mapping[str, Point]) -> tuple[str, ...]:
    """SQL, in order, over `_probed` (`studies.own_rows`), `_curvature`, `_curves`, `_spectra` and `_surfaces`.

    Args:
        points: of curves that are columns of the view ``curvature``, by name (`core.quantities.points`).
    """
    return (*_OF_TABLES, _with_points(points))


_OF_TABLES = (
    f"""CREATE VIEW _pieced AS SELECT asked.* FROM _probed AS asked
        ANTI JOIN _curvature AS c ON {_AT} AND c.observed = asked.observed""",  # noqa: S608 - names are ours
    _view(
        "_measured",
        "_curvature",
        [*COLUMNS, "asymmetry", *_NOTES],
        [
            *(f'arg_min(c."{name}", c.observed) FILTER ({_same(QUANTITY_OF[name])})' for name in COLUMNS),
            "max(c.asymmetry)",
            *map(_joined, _NOTES),
        ],
        _any(QUANTITIES),
    ),
    _view(
        "curves",
        "_curves",
        ["y"],
        _first(["y"]),
        " OR ".join(f"c.quantity = '{name}' AND {_same(QUANTITY_OF[name])}" for name in CURVES),
        by=["quantity", "x"],
    ),
    _view(
        "spectra",
        "_spectra",
        ["eigenvalues", "weights"],
        _first(["eigenvalues", "weights"]),
        _any(name for name, quantity in QUANTITIES.items() if quantity.means in {"spectrum", "exact"}),
        by=["kind"],
    ),
    _view("surfaces", "_surfaces", ["x", "y", "z"], _first(["x", "y", "z"]), _same("loss_surface"), by=["kind"]),
)
"""All but the view ``curvature``, which lies over what is named `_measured` here."""
