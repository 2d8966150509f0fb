"""A small sweep as a process of its own, to be killed: ``python -m tests.sweeps.sweep_process STORE PACK``.

Prints the process ids of its workers, a line each, whenever they change.
"""

from __future__ import annotations

import sys

from studies.expand import Trial
from studies.store import Store
from sweeps.local_executor import LocalExecutor
from sweeps.round import Limits, Silent
from sweeps.run import run
from tests.sweeps.work import trial


def trials() -> list[Trial]:
    """Two arms that share trunks, several cuts, one trial that diverges."""
    terms = {"steps": 180, "evaluate_every": 30}
    made = [trial(seed, kind="shift", switch=switch, **terms) for switch in (60, 120) for seed in range(3)]
    made += [trial(seed, kind="looped", **terms) for seed in range(3)]
    made.append(trial(7, kind="looped", optimizer="sgd", lr=100.0, **terms))
    return made


class _Pids(Silent):
    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        print(*self._executor.pids, flush=True)


def main(root: str, pack: str) -> int:
    store = Store.open(root, create=True)
    with LocalExecutor(root, workers=2) as executor:
        # Workers are killed on purpose here, more often than a trial may be lost.
        limits = Limits(attempts=1000, checkpoint_seconds=0.3)
        return run(trials, store, executor, limits=limits, pack=int(pack), observer=_Pids(executor)).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
