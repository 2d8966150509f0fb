"""A PostgreSQL server of the tests' own, on a socket in a folder of its own: nothing listens on the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "hunter2-of-the-tests"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [shutil.which("initdb")]
    return Path(found[-1]).parent if found[-1] else None


@contextmanager
def server() -> Iterator[str]:
    """The URL of a running server, with a password in it."""
    folder = programs()
    assert folder is not None
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path is short
    if as_postgres:
        shutil.chown(home, "postgres")

    def call(*command: str) -> None:
        subprocess.run([*as_postgres, *command], check=True, stdout=subprocess.DEVNULL, cwd=home)

    data = home / "data"
    call(
        str(folder / "initdb"), "-D", str(data), "-A", "trust", "-U", "tester", "--no-sync", "--locale=C", "-E", "UTF8"
    )
    settings = f"-k {home} -c listen_addresses='' -c fsync=off -c shared_buffers=16MB"
    try:
        call(str(folder / "pg_ctl"), "-D", str(data), "-w", "-o", settings, "-l", str(home / "log"), "start")
        yield f"postgresql://tester:{PASSWORD}@/postgres?host={home}"
    finally:
        call(str(folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
