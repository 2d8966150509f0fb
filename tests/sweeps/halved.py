"""A study whose settings are halved, and ways to drive it; also a process of its own, to be killed.

``python -m tests.sweeps.halved STORE FILE`` prints the process ids of its workers whenever a unit begins.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.expand import Trial
from studies.promotions import Promotion
from studies.spec import load_study
from studies.store import Store
from studies.study import Study
from studies.wanted import recorded_values, wanted
from sweeps.executor import Executor
from sweeps.local_executor import LocalExecutor
from sweeps.observer import Silent
from sweeps.promote import follows, promote
from sweeps.round import Limits
from sweeps.run import RunResult, run
from sweeps.search import advance

STEPS = 36
STUDY = """
name = "halved"
question = "Which learning rate?"
seeds = 1
[base.task]
kind = "markov"
states = 8
chains = 4
length = 16
train_size = 0
val_size = 32
[base.model]
width = 8
loops = 2
[base.train]
steps = 36
batch = 4
evaluate_every = 18
keep = "none"
[arms.looped]
[arms.shift]
schedule.kind = "shift"
schedule.switch = 0.5
[[claims]]
text = "SHIFT is as good"
metric = "final_val_loss"
arm = "shift"
against = "looped"
expect = "differs"
[search]
kind = "random"
trials = 9
[search.space]
"train.lr" = { low = 1e-4, high = 1.0, log = true }
[search.halving]
"""


def written(folder: Path, halving: str = "", *, text: str = STUDY) -> Path:
    """The study's file, with further keys of its last table."""
    path = folder / "halved.toml"
    path.write_text(text + halving)
    return path


def drive(study: Study, store: Store, executor: Executor, **terms: Any) -> RunResult:
    """One run, as `loopsweep run` does it."""

    def propose() -> bool:
        assert study.search is not None
        rows = recorded_values(wanted(study, store), store, study.search.metrics)
        promoted = promote(study, store, rows)
        return advance(study, store, rows) or promoted

    return run(lambda: wanted(study, store), store, executor, propose=propose, follows=follows(study), **terms)


def came_to(trials: Sequence[Trial]) -> dict[str, list[int]]:
    """By arm, how many trials there are at each rung."""
    found: dict[str, dict[int, int]] = {}
    for trial in trials:
        of_arm = found.setdefault(trial.arm, {})
        of_arm[trial.config.train.steps] = of_arm.get(trial.config.train.steps, 0) + 1
    return {arm: [counts[steps] for steps in sorted(counts)] for arm, counts in found.items()}


def recorded(store: Store) -> list[Promotion]:
    """The recorded promotions."""
    return [(row["arm"], row["number"], row["rung"]) for row in store.read("promotions").to_pylist()]


class _Pids(Silent):
    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor

    def started(self, unit: str, *, start: int, lanes: int) -> None:
        print(*self._executor.pids, flush=True)


def main(root: str, file: str) -> int:
    store = Store.open(root, create=True)
    with LocalExecutor(root, workers=1) as executor:
        limits = Limits(attempts=1000)  # workers are killed on purpose
        return drive(load_study(file), store, executor, limits=limits, pack=2, observer=_Pids(executor)).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
