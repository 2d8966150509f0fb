"""What an actor does with one bundle: runs it in a thread, and gives away the events of up to a second at a time.

The thread is what `sweeps.worker.run_bundle` takes; around it stand the deadline of a unit, which ends the whole
process (a thread can't be ended in any other way), and the word ``drain``. No ray here.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable

from sweeps.executor import Committed, Event, Finished, Lost, Started
from sweeps.units import Bundle
from sweeps.worker import kind_of, reason_of, run_bundle

STEP_SECONDS = 1.0
"""Longest time between two looks at the deadline, and longest delay of a `Progress`."""


class Running:
    """One bundle, from its first event to its last."""

    def __init__(self, bundle: Bundle, root: str, *, draining: Callable[[], bool]) -> None:
        """Begins.

        Args:
            bundle: what to run.
            root: of the store.
            draining: asked often: let the running unit end at its next block, begin no other?
        """
        self.over = False
        self._bundle = bundle
        self._root = root
        self._draining = draining
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._deadline: float | None = None
        self._late = False
        threading.Thread(target=self._run, name="bundle", daemon=True).start()

    def step(self) -> list[Event]:
        """The events of up to `STEP_SECONDS`; sooner where the driver waits for one of them."""
        if self._late:
            os._exit(1)  # reported in the step before
        events: list[Event] = []
        end = time.monotonic() + STEP_SECONDS
        while (left := self._until(end)) > 0:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=left)
                events.append(event)
                self._heard(event)
                if isinstance(event, (Committed, Finished, Lost)):
                    break
        if self._deadline is not None and time.monotonic() > self._deadline:
            reason = f"a unit took longer than {self._bundle.unit_timeout_s:g} s"
            events.append(Lost(bundle=self._bundle.id, kind="timeout", reason=reason))
            self._late = True
        return events

    def _until(self, end: float) -> float:
        """Seconds until a step ends: at `end`, or at the deadline of the unit."""
        return min(end, end if self._deadline is None else self._deadline) - time.monotonic()

    def _heard(self, event: Event) -> None:
        if isinstance(event, Started) and self._bundle.unit_timeout_s is not None:
            self._deadline = time.monotonic() + self._bundle.unit_timeout_s
        elif isinstance(event, (Finished, Lost)):
            self.over, self._deadline = True, None

    def _run(self) -> None:
        """The body of the working thread."""
        try:
            run_bundle(self._bundle, self._root, self._events.put, drain=self._draining)
        except BaseException as error:  # a thread must not end unheard
            self._events.put(Lost(bundle=self._bundle.id, kind=kind_of(error), reason=reason_of(error)))
