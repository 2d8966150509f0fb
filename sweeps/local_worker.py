"""A process of the local pool: imports torch once, then runs one bundle after the other until its driver is gone.

It speaks through one socket: bundles and the word ``drain`` come in, ``ready`` and events go out. It ignores SIGINT and
SIGTERM, since the driver answers them by draining; it ends when the socket closes or, on Linux, when the driver dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing.connection import Connection

READY = "ready"
DRAIN = "drain"

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> None:
    """Serves until the driver is gone.

    Args:
        argv: file descriptor of the socket, process id of the driver, root of the store.
    """
    descriptor, driver, root = int(argv[0]), int(argv[1]), argv[2]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with(driver)
    connection = Connection(descriptor)
    try:
        _serve(connection, root)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The driver closed the socket or died. What was committed stays; there is nobody left to report to.
        os._exit(0)


def _serve(connection: Connection, root: str) -> None:
    from core.numerics import pin_threads

    pin_threads()  # before numpy and torch, which the next import may bring, read the number of threads
    from sweeps.worker import prepare_process, run_bundle

    prepare_process()
    draining = False

    def drain() -> bool:
        nonlocal draining
        while connection.poll():  # true at the end of the stream too, where recv raises EOFError
            if connection.recv() == DRAIN:
                draining = True
        return draining

    connection.send(READY)
    while True:
        message = connection.recv()
        if message == DRAIN:
            draining = True
        else:
            run_bundle(message, root, connection.send, drain=drain)


def _die_with(driver: int) -> None:
    """Asks the kernel to kill this process when the driver dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != driver:  # it died before the request was made
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
