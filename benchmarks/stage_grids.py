"""The grids that the stage tree is timed on, as studies of the Markov toy; used by stage_tree.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from studies.expand import Trial
from studies.spec import parse_study
from studies.study import Study

GRIDS = ("switch", "scp", "budgets")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of each grid."""

    seeds: int
    steps: int
    """Of a trial; of the longest budget, four times as many."""
    plain_seeds: int


SIZES = {
    "small": Size(seeds=2, steps=80, plain_seeds=1),
    "full": Size(seeds=8, steps=2000, plain_seeds=1),
}


def study_of(grid: str, size: Size) -> Study:
    """A grid as a study."""
    steps = size.steps
    train: dict[str, Any] = {"steps": steps, "batch": 8, "lr": 2e-3, "evaluate_every": steps // 20}
    arms: dict[str, Any]
    axes: dict[str, Any] = {}
    match grid:
        case "switch":
            question = "How early may a trial switch to its loops?"
            arms = {"shift": {"schedule": {"kind": "shift"}}}
            axes = {"schedule.switch": [round(0.05 * n, 2) for n in range(1, 20)], "model.loops": [2, 4, 6]}
        case "scp":
            question = "When does each setting of SCP switch, and does it matter?"
            train |= {"evaluate_every": steps // 40}
            arms = {"scp": {"schedule": {"kind": "shift-scp"}}}
            axes = {
                "schedule.delta1": [0.002, 0.004, 0.008, 0.016],
                "schedule.delta2": [0.03, 0.06, 0.12, 0.24],
                "schedule.patience": [1, 2, 3, 4],
            }
        case _:
            question = "How much does a longer budget give?"
            budgets = [steps // 2 * n for n in range(1, 9)]
            train |= {"steps": budgets[-1], "lr_schedule": "wsd", "decay": steps // 10, "evaluate_every": steps // 10}
            arms = {
                "looped": {"schedule": {"kind": "looped"}, "axes": {"model.loops": [3, 2]}},
                "single": {"schedule": {"kind": "single"}},
            }
            axes = {"train.steps": budgets}
    document = {
        "name": f"stage-tree-{grid}",
        "question": question,
        "seeds": size.seeds,
        "base": {
            "task": {"kind": "markov", "states": 8, "chains": 8, "length": 16, "train_size": 0, "val_size": 64},
            "model": {"width": 16, "loops": 3},
            "train": train,
        },
        "arms": arms,
        "axes": axes,
    }
    return parse_study(document, file="benchmarks/stage_tree.py")


def settings_of(trials: Sequence[Trial]) -> list[list[Trial]]:
    """The trials that differ in their seeds only, together."""
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.arm, replace(trial.config, seed=0)), []).append(trial)
    return list(groups.values())
