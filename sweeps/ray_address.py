"""The address of a Ray cluster, looked at before Ray itself is: what is wrong with it, in one line and within seconds.

Left alone, Ray tries a wrong token for twenty seconds and a closed port for more than a minute, writes C++ to the
console meanwhile, and ends the process where it wants a token and finds none. So a child process knocks: it asks the
cluster for its versions, with the token that this process would use. No ray here; what the child calls is
`sweeps.ray_executor.answer`.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from core.errors import InputError, Problem

REACH_SECONDS = 5.0
"""Longest wait for a port to take a connection."""
KNOCK_SECONDS = 60.0
"""Longest wait for a cluster's answer; it takes one, most of which is Python's start."""
_KNOCK = "import sys; from sweeps.ray_executor import answer; answer(sys.argv[1])"


def reach(address: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Knocks at a cluster.

    Args:
        address: as for ``--address``: ``auto``, or HOST:PORT of its head.
        environ: where Ray finds its token, or the file of it.

    Returns:
        Whether a token was shown; without one, the cluster lets everybody in who reaches it.

    Raises:
        InputError: where the address is not one, nobody answers, or it is another Ray, Python or token.
    """
    if address != "auto":
        _connect(address)
    if (path := token_file(environ)) is not None and (mode := _open_to_others(path)) is not None:
        raise _refused(f"the token in {path} may be read by others (mode {mode:04o}); chmod 600 {path}")
    with_token = {"RAY_AUTH_MODE": "token"} if path is not None or environ.get("RAY_AUTH_TOKEN") else {}
    try:
        done = subprocess.run(  # noqa: S603 - our own function, one argument
            [sys.executable, "-c", _KNOCK, address],
            env={**with_token, **environ},
            capture_output=True,
            text=True,
            timeout=KNOCK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"{address!r} takes connections, but does not answer as a Ray cluster") from None
    _judge(address, done.stdout, done.stderr)
    return bool(with_token) and environ.get("RAY_AUTH_MODE") != "disabled"


def _connect(address: str) -> None:
    """Whether the port of an address takes a connection."""
    if address.startswith("ray://"):
        raise _refused(
            f"{address!r} is Ray Client's, through which Tune hears no workers; run loopsweep on a node of the cluster "
            "(loopsweep launch ray-job STUDY) and name HOST:PORT of its head, or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise _refused(f'must be "auto" or HOST:PORT of the head, got {address!r}')
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _refused(
            f"no Ray cluster answers at {address!r}: {' '.join(str(error).split())}; start one, or leave --address out"
        ) from None


def token_file(environ: Mapping[str, str]) -> Path | None:
    """The file from which Ray would read its token; None where the environment holds one, or there is none."""
    if environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_MODE") == "disabled":
        return None
    named = environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path(environ.get("HOME") or Path.home()) / ".ray" / "auth_token"
    return path if path.is_file() else None


def _open_to_others(path: Path) -> int | None:
    """The mode of a file of ours that others may read; else None (a secret that is mounted is not ours)."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    return mode if mode & 0o077 and found.st_uid == os.getuid() else None


def _judge(address: str, said: str, errors: str) -> None:
    """Raises for what the child has found out."""
    try:
        found = json.loads(said)
    except ValueError:  # Ray ended it
        found = {"error": errors}
    if (error := found.get("error")) is None:
        theirs, ours = ((each["ray"], each["python"]) for each in (found["cluster"], found["here"]))
        if theirs != ours:
            names = [f"Ray {ray} with Python {python}" for ray, python in (theirs, ours)]
            raise _refused(f"the cluster at {address!r} runs {names[0]}, this is {names[1]}; they must be the same")
        return
    if "oken" in error and "auth" in error.lower():
        raise _refused(
            f"the cluster at {address!r} asks for another token; put its own into RAY_AUTH_TOKEN, or into a file of "
            "mode 0600 that RAY_AUTH_TOKEN_PATH names"
        )
    raise _refused(f"no Ray cluster answers at {address!r}: {' '.join(error.split())[:200]}")


def _refused(message: str) -> InputError:
    return InputError([Problem("--address", message)])
