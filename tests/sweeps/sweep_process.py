"""A small sweep as a process of its own, to be killed: ``python -m tests.sweeps.sweep_process STORE PACK [WORKERS]``.

Prints the process ids of its workers, a line each, whenever they change.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from core.schedule_terms import ScheduleConfig
from studies.expand import Trial
from studies.store import Store
from studies.watchers import resolved
from sweeps.local_executor import LocalExecutor
from sweeps.observer import Silent
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.work import config, of_config, trial

STEPS = 180


def trials() -> list[Trial]:
    """Arms that share trunks, some watched: several cuts, ends at several steps, one trial that diverges."""
    terms = {"steps": STEPS, "evaluate_every": 30}
    made = [trial(seed, kind="shift", switch=60, **terms) for seed in range(2)]
    for delta in (0.003, 0.01, 0.05):
        for base in (config(seed, lr=1e-2, **terms) for seed in range(2)):
            criterion = ScheduleConfig(kind="shift-scp", check_every=3, delta1=delta, delta2=10.0, patience=2)
            made.append(of_config(replace(base, schedule=criterion)))
    made += [trial(seed, kind="looped", **terms) for seed in range(2)]
    made.append(trial(7, kind="looped", optimizer="sgd", lr=100.0, **terms))
    return made


class _Pids(Silent):
    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        print(*self._executor.pids, flush=True)


def main(root: str, pack: str, workers: str = "2") -> int:
    store = Store.open(root, create=True)
    with LocalExecutor(root, workers=int(workers)) as executor:
        # Workers are killed on purpose here, more often than a trial may be lost.
        limits = Limits(attempts=1000, checkpoint_seconds=0.3)
        return run(
            lambda: resolved(trials(), store), store, executor, limits=limits, pack=int(pack), observer=_Pids(executor)
        ).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
