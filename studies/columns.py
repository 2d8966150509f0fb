"""How a table of the store is declared: columns with type, unit, meaning and class, key, and where its rows lie.

A column is of class *result* (the same numbers whenever, wherever and in whatever packs the trial ran) or *execution*
(how it was run: time, attempts, host). "Equal tables" means equal result columns. Families of columns may be open, such
as the values of a stratum (``val_loss_low_ic``); they are typed by the family's declaration, whatever a file may say,
so a reader never infers a type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from core.errors import InputError, Problem
from core.terms import nearest

ColumnClass = Literal["result", "execution"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A declared column."""

    name: str
    type: Any
    """A pyarrow data type."""
    doc: str
    unit: str = ""
    kind: ColumnClass = "result"

    @property
    def field(self) -> Any:
        """The pyarrow field, with unit, class and meaning in its metadata."""
        metadata = {"class": self.kind, "doc": self.doc, "unit": self.unit}
        return pa.field(self.name, self.type, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A declared table."""

    name: str
    doc: str
    key: tuple[str, ...]
    """Columns that name a row; at most one row of a key is visible."""
    columns: tuple[Column, ...]
    prefixes: tuple[Column, ...] = ()
    """Open families: a column ``<name>_<stratum>`` is typed by the family's declaration."""
    extent: tuple[str, str] | None = None
    """Columns that say on which steps of a lineage a row lies (first excluded, last included); None: on no lineage."""

    def column(self, name: str) -> Column:
        """The declaration of a column.

        Raises:
            InputError: for a name that the table does not have.
        """
        for column in self.columns:
            if column.name == name:
                return column
        for family in self.prefixes:
            if name.startswith(f"{family.name}_"):
                stratum = name[len(family.name) + 1 :]
                return replace(family, name=name, doc=f"{family.doc}, on the stratum {stratum}")
        message = f"the table {self.name} has no such column; {nearest(name, [c.name for c in self.columns])}"
        raise InputError([Problem(name, message)])

    def schema(self, names: Iterable[str] | None = None) -> Any:
        """The pyarrow schema of these columns (default: all that are always there), in declared order."""
        wanted = {c.name for c in self.columns} if names is None else set(names)
        fixed = [c.field for c in self.columns if c.name in wanted]
        open_ = sorted(wanted - {c.name for c in self.columns})
        return pa.schema([*fixed, *(self.column(name).field for name in open_)])


def text(name: str, doc: str, *, kind: ColumnClass = "result") -> Column:
    """A column of texts."""
    return Column(name=name, type=pa.string(), doc=doc, kind=kind)


def whole(name: str, doc: str, unit: str = "", *, kind: ColumnClass = "result", bits: Literal[32, 64] = 64) -> Column:
    """A column of whole numbers."""
    return Column(name=name, type=pa.int64() if bits == 64 else pa.int32(), doc=doc, unit=unit, kind=kind)


def number(name: str, doc: str, unit: str = "", *, kind: ColumnClass = "result") -> Column:
    """A column of numbers."""
    return Column(name=name, type=pa.float64(), doc=doc, unit=unit, kind=kind)


def numbers(name: str, doc: str, unit: str) -> Column:
    """A column of lists of numbers."""
    return Column(name=name, type=pa.list_(pa.float64()), doc=doc, unit=unit)


def steps(name: str, doc: str) -> Column:
    """A column of lists of steps."""
    return Column(name=name, type=pa.list_(pa.int64()), doc=doc, unit="updates")


def moment(name: str, doc: str) -> Column:
    """A column of moments, which are always execution."""
    return Column(name=name, type=pa.timestamp("us", tz="UTC"), doc=doc, kind="execution")


def by_name(name: str, of: Any, doc: str) -> Column:
    """A column of maps from names to values of a type."""
    return Column(name=name, type=pa.map_(pa.string(), of), doc=doc)
