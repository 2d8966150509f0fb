"""What the commands that ask do: query (a SELECT, or a saved one) and tables (what may be asked for)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from core.errors import InputError, Problem
from sweeps import output
from sweeps.commands_results import recorded
from sweeps.tables import table


def query(
    name: str, sql: str, root: str, *, given: Sequence[str], form: str | None, out: Path | None, timeout: float
) -> int:
    """The answer to one SELECT or saved query, on stdout or in a file."""
    from studies.formats import formatted, publish
    from studies.query import run_query
    from studies.saved_queries import NAME, assignments, bound, saved_query
    from studies.spec import load_study
    from studies.wanted import wanted

    ending = out.suffix.removeprefix(".") if out is not None else ""
    form = form or (ending if ending in ("csv", "json", "parquet") else "table")
    if out is None and form == "parquet" and sys.stdout.isatty():
        raise InputError([Problem("--format", "parquet is no text for a terminal; name a file with --out F")])
    parameters = assignments(given)
    if NAME.fullmatch(sql.strip()):
        known = saved_query(sql.strip())
        sql, parameters = known.sql, bound(known, parameters)
    study, store = load_study(name), recorded(root)
    width = shutil.get_terminal_size().columns if out is None and sys.stdout.isatty() else None
    result = run_query(wanted(study, store), store, sql, parameters=parameters, timeout_s=timeout)
    content = formatted(result, form, width=width)
    if out is None:
        output.emit_bytes(content)
        return 0
    publish(out, content)
    return 0


def saved(name: str, form: str | None) -> int:
    """The saved queries: name, question and parameters; the study that they are to be asked of must be there."""
    from studies.saved_queries import saved_queries
    from studies.spec import study_path

    study_path(name)
    found = saved_queries()
    if form == "json":
        output.emit_json([asdict(one) for one in found])
        return 0
    rows = [
        (one.name, one.question, "; ".join(f"{p.name} = {p.default}: {p.doc}" for p in one.parameters)) for one in found
    ]
    output.emit(table(["saved query", "what it answers", "parameters, with --set"], rows))
    return 0


def tables(name: str | None, root: str, *, view: str | None, as_json: bool) -> int:
    """The views with their columns: those of every study, or those of one with its axes and strata."""
    from studies.dictionary import VIEW_DOCS
    from studies.spec import load_study
    from studies.store import Store
    from studies.views import VIEWS, open_views
    from studies.wanted import wanted

    store = Store.open(root)
    trials = [] if name is None else wanted(load_study(name), store)
    with open_views(trials, store) as views:
        found = {one: views.dictionary(one) for one in ([view] if view is not None else VIEWS)}
    if as_json:
        output.emit_json([asdict(entry) for entries in found.values() for entry in entries])
        return 0
    for one, entries in found.items():
        rows = [(entry.column, entry.type, entry.unit, entry.meaning) for entry in entries]
        output.emit(table(["column", "type", "unit", "meaning"], rows, title=f"{one}: {VIEW_DOCS[one]}") + "\n")
    if name is None:
        output.note("with a STUDY: also the columns of its axes and strata")
    return 0
