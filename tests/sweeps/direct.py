"""An executor without processes: `poll` runs one bundle in this one. For tests of what does not depend on workers."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from sweeps.executor import Event, Finished
from sweeps.units import Bundle
from sweeps.worker import run_bundle


class Direct:
    """Keeps the protocol with `slots` slots, one after the other."""

    def __init__(self, root: Path, slots: int = 1) -> None:
        self.slots = slots
        self.bundles: list[Bundle] = []
        """All that were submitted."""
        self._root = root
        self._queue: deque[Bundle] = deque()
        self._stopped = False

    def submit(self, bundle: Bundle) -> None:
        self.bundles.append(bundle)
        self._queue.append(bundle)

    def poll(self, timeout: float) -> list[Event]:
        events: list[Event] = []
        if self._queue:
            bundle = self._queue.popleft()
            if self._stopped:
                events.append(Finished(bundle=bundle.id))
            else:
                run_bundle(bundle, self._root, events.append, drain=lambda: self._stopped)
        return events

    def stop(self, *, drain: bool) -> None:
        self._stopped = True

    def close(self) -> None:
        self._stopped = True

    @property
    def lanes(self) -> int:
        """Lanes that were submitted, attempts counted each."""
        return sum(len(unit.lanes) for bundle in self.bundles for unit in bundle.units)
