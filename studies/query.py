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
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from core.errors import InputError, StoreError
from core.terms import nearest
from studies.query_errors import said
from studies.views import VIEWS

if TYPE_CHECKING:
    from studies.expand import Trial
    from studies.store import Store

MEMORY_BYTES = 2 << 30
"""Memory of a query and its result by default."""

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"})
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
    if "\0" in sql or not _is_text(sql):
        raise InputError("a query is text in UTF-8 without a null character")
    try:
        with duckdb.connect(config={"threads": 1}) as parser:
            statements = parser.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
                raise InputError(f"a query is exactly one SELECT (or WITH … SELECT), got {kinds}")
            text = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0]
    except duckdb.Error as error:
        raise InputError(said(str(error))) from error
    tree = json.loads(text)
    if tree["error"]:
        raise InputError(f"the query cannot be taken: {tree['error_message']}; write it as one plain SELECT")
    if len(tree["statements"]) != 1:
        raise InputError(f"a query is exactly one SELECT, got {len(tree['statements'])}")
    own = {name for node in _objects(tree) for name in _defined_names(node)}
    for node in _objects(tree):
        _check_node(node, own)


def _is_text(sql: str) -> bool:
    """Whether it can be written as UTF-8: bytes of a command line that are none can't."""
    try:
        sql.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_node(node: Mapping[str, Any], own: set[str]) -> None:
    """Refuses what one node of the syntax tree must not be."""
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
        raise InputError(f"a query only reads: {kind.removesuffix('_QUERY_NODE')} is not allowed in it")
    for place in ("from_table", "left", "right"):
        source = node.get(place)
        if isinstance(source, dict) and "alias" in source and "sample" in source and source["type"] not in _SOURCES:
            way = "; `loopsweep tables STUDY` describes the views" if source["type"] == "SHOW_REF" else ""
            raise InputError(f"a query reads views and subqueries, not {source['type']}{way}")
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
            raise InputError(message)
        late = watch is not None and not watch.is_alive()
        large = f"the query took more memory than {memory_bytes >> 20} MiB; narrow it"
        raise InputError(_timeout(timeout_s) if late else large)
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
