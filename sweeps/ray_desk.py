"""Between the driver's thread and Ray Tune's: the bundles that wait and run, and the events that were heard.

The driver puts bundles and takes events; Tune's searcher asks for the next bundle, its callbacks say what actors report
and which of them are gone. Whatever happens, a bundle ends exactly once. A bundle that came to a node which cannot work
goes back to those that wait; its trial stays there as long as the run, so that nothing else comes to that place. No ray
here.
"""

from __future__ import annotations

import threading
from collections import deque

from sweeps.executor import Event, Finished, Lost, LostKind, Started
from sweeps.units import Bundle


class Parcel:
    """A bundle on its way through Tune, which copies configurations deeply, several times, and keeps them for ever."""

    def __init__(self, bundle: Bundle) -> None:
        """Holds the bundle; emptied when its trial has ended."""
        self.bundle: Bundle | None = bundle

    def __deepcopy__(self, _memo: object) -> Parcel:
        """Itself: a bundle is a frozen value."""
        return self


class Desk:
    """What waits, what runs and what was heard; shared by the driver's thread and Tune's."""

    def __init__(self) -> None:
        """Empty."""
        self.limit: int | None = None
        """Bundles that Tune may have at once. None: also some that cannot run yet, so that actors never wait; the
        cluster's CPUs then bound those that do."""
        self.closed = False
        self.failed_starts = 0
        self.last_death = ""
        self.refusals: list[str] = []
        """Why nodes cannot work, in the order in which that was heard; each once."""
        self._parked: set[str] = set()  # Tune's trials that hold places where no bundle can run
        self._changed = threading.Condition()
        self._waiting: deque[Bundle] = deque()
        self._running: dict[str, Bundle] = {}  # by Tune's trial
        self._ended: set[str] = set()  # bundles that run no more, of trials that Tune still has
        self._begun: set[str] = set()
        self._events: list[Event] = []

    def put(self, bundle: Bundle) -> None:
        """A bundle that waits; ends at once where the desk is closed."""
        with self._changed:
            if self.closed:
                self._events.append(Finished(bundle=bundle.id))
            else:
                self._waiting.append(bundle)
            self._changed.notify_all()

    def hand_out(self, trial: str) -> Bundle | None:
        """The bundle of the next Tune trial; None while there is none, and at the end.

        Waits while nothing runs: Tune would sleep a whole second instead.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or self.closed)
            if self._waiting and (self.limit is None or len(self._running) < self.limit):
                self._running[trial] = self._waiting.popleft()
                return self._running[trial]
            return None

    def refuse(self, trial: str, reason: str) -> None:
        """The bundle of a trial came to a node that cannot work: it waits again, before all others."""
        with self._changed:
            bundle = self._running.pop(trial)
            self._parked.add(trial)
            if reason not in self.refusals:
                self.refusals.append(reason)
            if self.closed:
                self._events.append(Finished(bundle=bundle.id))
            else:
                self._waiting.appendleft(bundle)
            self._changed.notify_all()

    def hear(self, bundle: str, events: list[Event]) -> None:
        """Events of a bundle, from its actor."""
        with self._changed:
            for event in events:
                if isinstance(event, Started):
                    self._begun.add(bundle)
                    self.failed_starts = 0
                elif isinstance(event, (Finished, Lost)):
                    self._ended.add(bundle)
                self._events.append(event)
            self._changed.notify_all()

    def gone(self, trial: str, error: str) -> None:
        """Tune has no more of this trial; where its bundle had not ended, its actor is dead."""
        with self._changed:
            if trial in self._parked:
                self._parked.discard(trial)
                return
            bundle = self._running.pop(trial).id
            if bundle not in self._ended:
                kind, self.last_death = death(error)
                self.failed_starts += bundle not in self._begun
                self._events.append(Lost(bundle=bundle, kind=kind, reason=self.last_death))
            self._ended.discard(bundle)
            self._begun.discard(bundle)
            self._changed.notify_all()

    def take(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to `timeout` seconds for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._events, timeout)
            events, self._events = self._events, []
            return events

    def close(self) -> None:
        """No more bundles: what waits ends without having begun."""
        with self._changed:
            self.closed = True
            self._events += [Finished(bundle=bundle.id) for bundle in self._waiting]
            self._waiting.clear()
            self._changed.notify_all()


def death(error: str) -> tuple[LostKind, str]:
    """Kind and reason, in one line, of an actor's end, from what Tune wrote down about it."""
    kind: LostKind = "oom" if "low on memory" in error or "out of memory" in error.lower() else "failed"
    # Tune's first line says when; in Ray's text, lines with a tab name the actor, and what befell it stands between
    # them and advice.
    told = error.partition(" Some common causes")[0]
    lines = [line.strip() for line in told.splitlines()[1:] if line.strip() and not line.startswith("\t")]
    if lines and lines[0].startswith("The actor died") and len(lines) > 1:
        lines = lines[1:]
    elif lines and "ray::" in lines[0]:  # the traceback of a method of the actor: its last line says what was raised
        lines = lines[-1:]
    return kind, " ".join(f"the actor died: {' '.join(lines) or 'Ray Tune does not say why'}".split())[:300]
