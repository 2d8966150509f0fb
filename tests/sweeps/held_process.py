"""One of several drivers of a study: ``python -m tests.sweeps.held_process STORE EXPIRE_S``.

Says ``ready`` and begins when a line comes on stdin; then a line for each unit that begins and for what is said.
"""

from __future__ import annotations

import sys

from studies.expand import Trial
from studies.store import Store
from sweeps.holds import Holds
from sweeps.local_executor import LocalExecutor
from sweeps.observer import Silent
from sweeps.round import Limits
from sweeps.run import run
from sweeps.units import Bundle
from tests.sweeps.work import trial

STEPS = 240


def trials() -> list[Trial]:
    """Trunks of four seeds, each with three branches that begin from passing states, and two loops throughout."""
    terms = {"steps": STEPS, "evaluate_every": 60}
    made = [trial(seed, kind="shift", switch=switch, **terms) for switch in (60, 120, 180) for seed in range(4)]
    return made + [trial(seed, kind="looped", **terms) for seed in range(4)]


class _Lines(Silent):
    def started(self, unit: str, *, start: int, lanes: int) -> None:
        print("started", unit, flush=True)

    def said(self, message: str) -> None:
        print("said", message, flush=True)


def main(root: str, expire_s: str) -> int:
    store = Store.open(root, create=True)
    with LocalExecutor(root, workers=1) as executor:
        executor.submit(Bundle(id="warm", units=()))  # so that drivers which begin at once have their workers at once
        while not executor.poll(1.0):
            pass
        print("ready", flush=True)
        sys.stdin.readline()
        holds = Holds(store, renew_s=float(expire_s) / 4, expire_s=float(expire_s))
        limits = Limits(attempts=1000)
        return run(trials, store, executor, limits=limits, pack=2, observer=_Lines(), holds=holds).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
