"""SIGINT and SIGTERM while a sweep runs: the first asks for an orderly end, the second for an end at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts the signals that arrive inside its ``with`` block; outside the main thread it hears none."""

    def __init__(self) -> None:
        """Installs nothing yet."""
        self.received: list[int] = []
        """Numbers of the signals, in order of arrival."""
        self._before: dict[int, Any] = {}

    @property
    def draining(self) -> bool:
        """Whether an end was asked for."""
        return bool(self.received)

    @property
    def at_once(self) -> bool:
        """Whether it was asked for twice."""
        return len(self.received) > 1

    @property
    def exit_code(self) -> int:
        """128 + the number of the first signal, as shells have it: 130 or 143."""
        return 128 + self.received[0]

    def __enter__(self) -> Interrupts:
        """Listens."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts back what listened before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
