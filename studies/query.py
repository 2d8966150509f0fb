"""One read-only SELECT over the views of a study, bounded in time and memory; anything else is refused.

Three walls, each enough against most of what could go wrong:

1. The text is parsed by DuckDB's own parser, and its syntax tree must be one SELECT that reads the views and its own
   common table expressions: no other statement (also not inside a WITH), no table function but series and unnesting, no
   function that reads or changes something besides the rows.
2. It runs on a connection that sees the views only: access to files is shut but for the parts that they read,
   replacement by Python variables is off and the configuration is locked.
3. It runs in a process of its own (`studies.query_process`) that can write no byte to any file, with a limit on its
   address space, and is interrupted at the timeout, then killed: string functions heed neither DuckDB's memory limit
   nor its interrupt.
"""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from core.errors import InputError, StoreError
from core.quantities import CURVES, QUANTITIES, point, quantity_of
from core.terms import nearest
from studies.views import VIEWS

if TYPE_CHECKING:
    from studies.expand import Trial
    from studies.store import Store

MEMORY_BYTES = 2 << 30
"""Memory of a query and its result by default."""

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"})
_MISSED = re.compile(r'column (?:named )?"(\w+)"')
"""The column that DuckDB did not find, in its message."""
_OWN_VIEWS = {"spectrum": "spectra", "loss_surface": "surfaces"}
"""Quantities that have a view of their own."""
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
_REFUSED_PREFIXES = ("duckdb_", "pg_", "pragma_", "has_", "inet_", "read_", "current_", "json_serialize_", "parquet_")
_REFUSED_FUNCTIONS = frozenset(
    {
        "getenv",
        "getvariable",
        "in_search_path",
        "json_deserialize_sql",
        "json_execute_serialized_sql",
        "nextval",
        "currval",
        "setval",
        "setseed",
        "sleep_ms",
        "txid_current",
        "write_log",
        "session_user",
        "user",
        "version",
        "stats",
        "vector_type",
        "parse_duckdb_log_message",
        "get_block_size",
    }
)


def check_query(sql: str) -> None:
    """Refuses whatever is not exactly one SELECT over the views.

    Raises:
        InputError: with what is not allowed, and what is.
    """
    if "\0" in sql:
        raise InputError("the query holds a null character")
    try:
        with duckdb.connect(config={"threads": 1}) as parser:
            statements = parser.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
                raise InputError(f"a query is exactly one SELECT (or WITH … SELECT), got {kinds}")
            text = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0]
    except duckdb.Error as error:
        raise InputError(_first_lines(error)) from error
    tree = json.loads(text)
    if tree["error"]:
        raise InputError(f"the query cannot be taken: {tree['error_message']}; write it as one plain SELECT")
    if len(tree["statements"]) != 1:
        raise InputError(f"a query is exactly one SELECT, got {len(tree['statements'])}")
    own = {name for node in _objects(tree) for name in _defined_names(node)}
    for node in _objects(tree):
        _check_node(node, own)


def _check_node(node: Mapping[str, Any], own: set[str]) -> None:
    """Refuses what one node of the syntax tree must not be."""
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
        raise InputError(f"a query only reads: {kind.removesuffix('_QUERY_NODE')} is not allowed in it")
    for place in ("from_table", "left", "right"):
        source = node.get(place)
        if isinstance(source, dict) and "alias" in source and "sample" in source and source["type"] not in _SOURCES:
            raise InputError(f"a query reads views and subqueries, not {source['type']}")
    if kind == "BASE_TABLE":
        path = [str(part) for part in node["qualified_name"]["path"]]
        name = path[-1].lower()
        known = {*VIEWS, *own}
        if name not in known or (
            len(path) > 1 and [p.lower() for p in path[:-1]] not in (["main"], ["memory", "main"])
        ):
            shown = ".".join(path)
            raise InputError(f"there is no view {shown!r}; {nearest(name, known)}")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in _TABLE_FUNCTIONS:
            raise InputError(
                f"the table function {name} is not allowed; allowed are {', '.join(sorted(_TABLE_FUNCTIONS))}"
            )
    elif "function_name" in node:
        name = str(node["function_name"]).lower()
        if name in _REFUSED_FUNCTIONS or (name.startswith(_REFUSED_PREFIXES) and name not in ("current_date",)):
            raise InputError(f"the function {name} is not allowed: a query is a function of the rows alone")


def _defined_names(node: Mapping[str, Any]) -> Iterator[str]:
    """Names of the common table expressions that a node defines."""
    if isinstance(node.get("cte_map"), dict):
        for entry in node["cte_map"]["map"]:
            yield str(entry["key"]).lower()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects in a value, without recursion: trees may be deep."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _first_lines(error: Exception) -> str:
    """DuckDB's message without the drawing of where in the text."""
    return str(error).split("\n\nLINE ")[0].strip()


def _hinted(message: str) -> str:
    """DuckDB's message with, where a column is missed that is no column but a quantity, where its numbers are."""
    missed = _MISSED.search(message)
    name = missed[1].lower() if missed else ""
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
        return message
    return f"{name} is no column; it has {place}"


def run_query(
    trials: Sequence[Trial],
    store: Store,
    sql: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float = 60.0,
    memory_bytes: int = MEMORY_BYTES,
) -> pa.Table:
    """The result of one SELECT over the views.

    Args:
        trials: of the study.
        store: with their results.
        sql: the query.
        parameters: values of its `$name`s.
        timeout_s: seconds it may take, once the views are there.
        memory_bytes: memory that it and its result may take, each.

    Raises:
        InputError: where the query is refused, wrong, too slow or too large.
        StoreError: where the store is damaged.
    """
    check_query(sql)
    task = pickle.dumps((store.name, tuple(trials), sql, dict(parameters or {}), timeout_s, memory_bytes))
    command = [sys.executable, "-P", "-c", "from studies.query_process import main; main()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
    watch: threading.Timer | None = None
    try:
        process.stdin.write(task)  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        answers: IO[bytes] = process.stdout  # type: ignore[assignment]
        head = _answer(answers)
        if head.get("status") == "ready":
            watch = threading.Timer(timeout_s + 2.0, process.kill)
            watch.start()
            head = _answer(answers)
        status, message = head.get("status"), head.get("message", "")
        if status == "ok":
            return pa.ipc.open_stream(answers).read_all()
        if status == "store":
            raise StoreError(message)
        if status == "input":
            raise InputError(_hinted(message))
        late = watch is not None and not watch.is_alive()
        raise InputError(_timeout(timeout_s) if late else f"the query took more memory than {memory_bytes >> 20} MiB")
    except BrokenPipeError as error:
        raise InputError("the process of the query ended before it began") from error
    finally:
        if watch is not None:
            watch.cancel()
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _answer(stream: IO[bytes]) -> dict[str, Any]:
    """One line of the process's answer; empty where it died."""
    line = stream.readline()
    return dict(json.loads(line)) if line.endswith(b"\n") else {}


def _timeout(timeout_s: float) -> str:
    return f"the query took longer than {timeout_s:g} s; narrow it, or allow more with --timeout"
