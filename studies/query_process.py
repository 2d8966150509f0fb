"""The process that runs one query: reads its task from stdin, answers on stdout, and is limited in memory.

The answer is a line of JSON (``ready`` once the views are there, then ``ok``, ``input`` or ``store`` with a message)
and, after ``ok``, the result as an Arrow stream.
"""

from __future__ import annotations

import json
import pickle
import resource
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa

from core.errors import InputError, StoreError
from studies.query_errors import said
from studies.store import Store
from studies.views import Views

_BATCH_ROWS = 1 << 16


def main() -> None:
    """Runs the query that stdin holds; its sender is `studies.query.run_query`."""
    store, trials, sql, parameters, timeout_s, memory_bytes = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by our parent
    out = sys.stdout.buffer
    settings = {
        "memory_limit": f"{memory_bytes >> 20}MiB",
        "threads": 2,
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    try:
        views = Views(trials, Store.open(store), config=settings)
    except StoreError as error:
        _say(out, "store", str(error))
        return
    connection = views.connection
    close_off(connection, views.files)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # and no file takes a byte from here on
    _limit_memory(2 * memory_bytes)
    _say(out, "ready")
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        connection.interrupt()

    watch = threading.Timer(timeout_s, interrupt)
    watch.daemon = True
    watch.start()
    try:
        result = _collected(connection, sql, parameters, memory_bytes)
    except (MemoryError, duckdb.OutOfMemoryException, pa.ArrowMemoryError):
        _say(out, "input", f"the query took more memory than {memory_bytes >> 20} MiB; narrow it")
        return
    except InputError as error:
        _say(out, "input", str(error))
        return
    except (duckdb.Error, pa.ArrowException) as error:
        slow = f"the query took longer than {timeout_s:g} s; narrow it, or allow more with --timeout"
        _say(out, "input", slow if late.is_set() else said(str(error)))
        return
    finally:
        watch.cancel()
    _say(out, "ok")
    with pa.ipc.new_stream(out, result.schema) as writer:
        writer.write_table(result)
    out.flush()


def close_off(connection: Any, files: Sequence[str]) -> None:
    """Shuts access to the network and to all files but some, and locks the configuration."""
    connection.execute("SET allowed_paths = $1", [list(files)])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _collected(connection: Any, sql: str, parameters: Mapping[str, Any], limit: int) -> pa.Table:
    """The rows of a query, fetched in batches.

    Raises:
        InputError: where they take more than `limit` bytes, or two columns have one name.
    """
    reader = connection.sql(sql, params=dict(parameters) or None).to_arrow_reader(_BATCH_ROWS)
    names = reader.schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two columns of the result are called {twice[0]}; name them with AS")
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > limit:
            raise InputError(f"the result is larger than {limit >> 20} MiB; narrow the query")
    return pa.Table.from_batches(batches, schema=reader.schema)


def _limit_memory(more: int) -> None:
    """Limits the address space to what is in use and `more` bytes; where it is not Linux, DuckDB's limit is alone."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _say(out: IO[bytes], status: str, message: str = "") -> None:
    out.write(json.dumps({"status": status, "message": message}).encode() + b"\n")
    out.flush()
