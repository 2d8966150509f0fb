"""What Ray would change about the process that it runs in, held back: environment, console, answers to signals.

No ray here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Sets environment variables that are not set, and takes them back."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def quiet(log: Path, printed: Any) -> Iterator[None]:
    """What Ray has to say goes to a file instead of the console.

    Args:
        log: the file.
        printed: Ray's filter of what it prints.
    """
    logger = logging.getLogger("ray")
    before = logger.handlers, logger.propagate
    handler = logging.FileHandler(log, delay=True)
    logger.handlers, logger.propagate = [handler], False
    # Ray prints each dead worker to stdout, where only results belong, and has no switch for it but this filter of its.
    skipped, printed.skip_re = printed.skip_re, re.compile("")
    try:
        yield
    finally:
        printed.skip_re = skipped
        logger.handlers, logger.propagate = before
        handler.close()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """No notes of Ray's while it starts."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Keeps this process's answer to SIGINT and SIGTERM, which ``ray.init`` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signal handlers are the main thread's alone, Ray leaves them too
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
