"""The local pool: worker processes of one thread each that import torch once and stay.

A worker that dies (killed, crashed, out of memory) loses its bundle, and a fresh one takes its place; a unit that takes
longer than allowed has its worker killed. Workers sit in process groups of their own, so an interrupt typed at the
terminal reaches the driver only; they end with their driver, and every one is waited for, so nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

from core.errors import LoopsweepError
from sweeps.executor import Event, Executor, Finished, Lost, Started
from sweeps.local_worker import DRAIN, READY
from sweeps.units import Bundle

START_FAILURES = 3
"""Workers in a row that may die before they are ready; more means that no worker can start here."""
CLOSE_SECONDS = 2.0
"""Idle workers that have not ended so long after their socket closed are killed."""


@dataclass(slots=True, eq=False)
class _Worker:
    """One process and what it is doing."""

    process: subprocess.Popen[bytes]
    connection: Connection
    errors: IO[bytes]
    ready: bool = False
    bundle: Bundle | None = None
    deadline: float | None = None


def available_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every platform
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class LocalExecutor(Executor):
    """Runs bundles in worker processes on this machine; see `sweeps.executor.Executor`."""

    def __init__(self, store_root: Path | str, *, workers: int | None = None) -> None:
        """Starts nothing yet: workers start when bundles come.

        Args:
            store_root: where workers commit; must exist.
            workers: processes, at least 1; None = one per core.
        """
        self._root = str(store_root)
        self._slots = available_cores() if workers is None else max(1, workers)
        self._queue: deque[Bundle] = deque()
        self._workers: list[_Worker] = []
        self._events: list[Event] = []
        self._failed_starts = 0
        self._stopped = False

    @property
    def slots(self) -> int:
        """Bundles it can run at once."""
        return self._slots

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that live."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, bundle: Bundle) -> None:
        """Takes a bundle; an idle worker gets it at once, else the next that is free."""
        if self._stopped:
            self._events.append(Finished(bundle=bundle.id))
            return
        self._queue.append(bundle)
        self._assign()

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to `timeout` seconds for at least one.

        Raises:
            LoopsweepError: where workers die again and again before they can do anything.
        """
        end = time.monotonic() + timeout
        while True:
            self._assign()
            left = 0.0 if self._events else max(0.0, end - time.monotonic())
            self._receive(min([left, *self._until_deadlines()]))
            self._kill_late()
            if self._events or time.monotonic() >= end:
                events, self._events = self._events, []
                return events

    def stop(self, *, drain: bool) -> None:
        """No new units begin; running ones end at their next block and commit, or are killed at once."""
        self._stopped = True
        self._events += [Finished(bundle=bundle.id) for bundle in self._queue]
        self._queue.clear()
        for worker in list(self._workers):
            if not drain:
                self._end(worker)
            elif worker.bundle is not None:
                with contextlib.suppress(OSError):  # it has just died: `poll` finds that out
                    worker.connection.send(DRAIN)

    def close(self) -> None:
        """Ends the workers: idle ones by closing their socket, busy ones by killing them."""
        self._stopped = True
        for worker in self._workers:
            worker.connection.close()
            if worker.bundle is not None or not worker.ready:
                worker.process.kill()
        for worker in list(self._workers):
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(CLOSE_SECONDS)
            self._end(worker)

    # --- workers ---

    def _assign(self) -> None:
        """Hands waiting bundles to idle workers, and starts workers while there are fewer than wanted."""
        idle = [worker for worker in self._workers if worker.ready and worker.bundle is None]
        while idle and self._queue:
            worker = idle.pop()
            bundle = self._queue.popleft()
            worker.bundle, worker.deadline = bundle, None
            try:
                worker.connection.send(bundle)
            except OSError:  # it died while idle: the bundle has not begun
                worker.bundle = None
                self._queue.appendleft(bundle)
                self._end(worker)
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._workers) < self._slots and starting < len(self._queue):
            self._workers.append(_start(self._root))
            starting += 1

    def _receive(self, timeout: float) -> None:
        connections = {worker.connection: worker for worker in self._workers}
        if not connections:
            time.sleep(min(timeout, 0.05) if self._queue else timeout)
            return
        for connection in wait(list(connections), timeout):
            worker = connections[connection]  # type: ignore[index]  # `wait` returns what it was given
            try:
                while worker.connection.poll():
                    self._heard(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._died(worker)

    def _heard(self, worker: _Worker, message: Any) -> None:
        if message == READY:
            worker.ready, self._failed_starts = True, 0
            return
        self._events.append(message)
        if isinstance(message, Started) and worker.bundle is not None and worker.bundle.unit_timeout_s is not None:
            worker.deadline = time.monotonic() + worker.bundle.unit_timeout_s
        elif isinstance(message, (Finished, Lost)):
            worker.bundle, worker.deadline = None, None

    def _until_deadlines(self) -> list[float]:
        now = time.monotonic()
        return [max(0.0, worker.deadline - now) for worker in self._workers if worker.deadline is not None]

    def _kill_late(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.deadline is None or worker.deadline > now or worker.bundle is None:
                continue
            reason = f"a unit took longer than {worker.bundle.unit_timeout_s:g} s"
            self._events.append(Lost(bundle=worker.bundle.id, kind="timeout", reason=reason))
            self._end(worker)

    def _died(self, worker: _Worker) -> None:
        """A worker ended by itself: its bundle is lost; one that never got ready had none."""
        reason = _death(worker)
        self._end(worker)
        if worker.bundle is not None:
            self._events.append(Lost(bundle=worker.bundle.id, kind="failed", reason=reason))
        elif not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= START_FAILURES:
                raise LoopsweepError(f"workers cannot start on this machine: {reason}")

    def _end(self, worker: _Worker) -> None:
        """Takes a worker out of the pool, killed if it lives, and waits for its process, so no zombie stays."""
        worker.connection.close()
        worker.process.kill()  # does nothing to a process that has been waited for
        worker.process.wait()
        worker.errors.close()
        self._workers.remove(worker)


def _start(root: str) -> _Worker:
    """A fresh worker process, which will say when it is ready."""
    mine, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker, which closes it
    with mine, theirs:
        arguments = [str(theirs.fileno()), str(os.getpid()), root]
        process = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [sys.executable, "-m", "sweeps.local_worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        return _Worker(process=process, connection=Connection(mine.detach()), errors=errors)


def _death(worker: _Worker) -> str:
    """How a process whose socket has closed ended, in one line, with the last line that it wrote."""
    try:
        code = worker.process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        return "the worker closed its socket and hung"
    how = f"exited with code {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (out of memory, or by somebody)"
    worker.errors.seek(0)
    lines = worker.errors.read().decode(errors="replace").strip().splitlines()
    return " ".join(f"the worker {how}{': ' + lines[-1] if lines else ''}".split())[:300]
