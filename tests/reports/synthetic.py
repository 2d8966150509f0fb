"""Results as `studies.load` would give them, made up: the contract's columns, a known truth, deterministic noise."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from core.config import MeasureConfig
from core.streams import stream
from studies.claims import Claim, parse_claims
from studies.drops import SWITCH_COLUMNS
from studies.expand import Trial
from studies.grid import Grid, parse_grid
from studies.study import Arm as StudyArm
from studies.study import Study

FLOOR = {"low_ic": 0.45, "high_ic": 1.35}
STEPS = tuple(range(0, 3001, 100))
LATEST = 2700
"""Step at which a criterion gives up."""
CURVES_COLUMNS = ["trial_id", "step", "quantity", "x", "y"]
SPECTRA_COLUMNS = ["trial_id", "step", "kind", "eigenvalues", "weights"]
IMPORTANCES_COLUMNS = ["study", "arm", "search", "metric", "evaluator", "batch", "key", "value", "n"]
SURFACES_COLUMNS = ["trial_id", "step", "kind", "x", "y", "z"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The truth of an arm: what its curves tend to and when."""

    name: str
    low: float = 0.1
    """Excess loss at the end on low-IC sequences."""
    high: float = 0.1
    late: float = 300.0
    """Time constant of the high-IC stratum, steps."""
    loops: int = 3
    switch: int | None = None
    criterion: bool = False
    """It switches where a criterion fires: the later, the smaller `schedule.delta1`; never below 0.003."""
    drop: float = 0.5
    """Rise of the loss at a switch half way; it grows with the step. From an axis `schedule.switch` comes the step."""
    lags: Mapping[float, float] | None = None
    """Excess loss by `schedule.switch`; None: the further from a half, the more."""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    flops: int = 3_000_000


ARMS = (
    Arm(name="single", low=0.32, high=0.2, late=150, loops=1, flops=1_100_000),
    Arm(name="looped", low=0.06, high=0.05, late=700),
    Arm(name="shift", low=0.07, high=0.055, late=800, switch=1500, flops=2_050_000),
    Arm(name="depth-matched", low=0.05, high=0.045, late=600, loops=1, flops=3_100_000),
)


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Fixed frames behind the methods of `studies.load`."""

    trials_: pd.DataFrame
    metrics_: pd.DataFrame
    curvature_: pd.DataFrame
    events_: pd.DataFrame
    curves_: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CURVES_COLUMNS))
    spectra_: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SPECTRA_COLUMNS))
    surfaces_: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SURFACES_COLUMNS))

    importances_: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=IMPORTANCES_COLUMNS))

    wanted: tuple[Trial, ...] = ()
    confirmations: Mapping[str, Mapping[tuple[str, str], Sequence[int]]] = field(default_factory=dict)

    def trials(self) -> pd.DataFrame:
        return self.trials_.copy()

    def metrics(self) -> pd.DataFrame:
        return self.metrics_.copy()

    def evaluated(self) -> list[str]:
        return [c for c in self.metrics_ if c not in ("trial_id", "step") and self.metrics_[c].notna().any()]

    def wide(self, metric: str) -> pd.DataFrame:
        return self.metrics_.pivot(index="trial_id", columns="step", values=metric).astype(float)

    def curvature(self) -> pd.DataFrame:
        return self.curvature_.copy()

    def events(self) -> pd.DataFrame:
        return self.events_.copy()

    def importances(self) -> pd.DataFrame:
        return self.importances_.copy()

    def curves(self) -> pd.DataFrame:
        return self.curves_.copy()

    def spectra(self) -> pd.DataFrame:
        return self.spectra_.copy()

    def surfaces(self) -> pd.DataFrame:
        return self.surfaces_.copy()

    def with_trials(self, **columns: Any) -> Frames:
        return replace(self, trials_=self.trials_.assign(**columns))

    def without(self, keep: Any) -> Frames:
        """Only the trials for which the mask holds, and their rows."""
        trials = self.trials_[keep]
        ids = set(trials["trial_id"])
        cut = {
            n: f[f["trial_id"].isin(ids)]
            for n, f in vars(self).items()
            if n not in ("trials_", "wanted", "confirmations", "importances_")
        }
        return Frames(trials_=trials, wanted=self.wanted, **cut)


def results(
    arms: Iterable[Arm] = ARMS,
    seeds: Sequence[int] = range(5),
    *,
    study: str = "quickstart",
    ended: Mapping[tuple[str, int], str] | None = None,
    curvature: bool = True,
    noise: float = 0.01,
) -> Frames:
    """Rows of every arm × setting × seed; `ended` gives (arm, seed) another status than ok."""
    trials: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    curved: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for arm in arms:
        for seed in seeds:
            for values in itertools.product(*arm.axes.values()):
                setting = dict(zip(arm.axes, values, strict=True))
                status = (ended or {}).get((arm.name, seed), "ok")
                trial = _trial(arm, seed, setting, study, status)
                rows = _history(arm, seed, setting, noise, trial["trial_id"])
                rows = rows if status == "ok" else rows[: 8 if status == "diverged" else 0]
                if status == "ok":
                    last = rows[-1]
                    for name in [n for n in last if n.startswith(("val_", "excess_", "bayes_"))]:
                        trial[f"final_{name}"] = last[name]
                        best = max if "accuracy" in name else min
                        trial[f"best_{name}"] = best(row[name] for row in rows)
                if status == "diverged":
                    detail = "loss is not finite"
                    events.append({"trial_id": trial["trial_id"], "step": 742, "kind": "divergence", "detail": detail})
                if status == "ok" and trial["switch_step"] is not None:
                    events += _switched(arm, trial, rows)
                trials.append(trial)
                metrics += rows
                if curvature:
                    curved += [
                        {
                            "trial_id": row["trial_id"],
                            "step": row["step"],
                            "lambda_max": 5 + 10 * row["val_loss_low_ic"],
                        }
                        for row in rows[::5]
                    ]
    return Frames(
        trials_=pd.DataFrame(trials),
        metrics_=pd.DataFrame(metrics),
        curvature_=pd.DataFrame(curved, columns=["trial_id", "step", "lambda_max"]),
        events_=pd.DataFrame(events, columns=["trial_id", "step", "kind", "detail"]),
    )


def claims(*tables: dict[str, Any], arms: Iterable[Arm] = ARMS) -> tuple[Claim, ...]:
    """Claims as a study's TOML would give them."""
    problems: list[Any] = []
    axes = {arm.name: parse_grid(arm.axes, "axes", lambda _, value: (value, []), problems) for arm in arms}
    made = [{"text": f"claim {i}"} | table for i, table in enumerate(tables, 1)]
    found = parse_claims(made, axes=axes, strata=("low_ic", "high_ic"), problems=problems)
    assert not problems, problems
    return found


def _trial(arm: Arm, seed: int, setting: dict[str, Any], study: str, status: str) -> dict[str, Any]:
    name = f"{arm.name}/{seed}/{sorted(setting.items())}"
    return {
        "trial_id": f"{stream(seed, name).integers(2**62):016x}",
        "study": study,
        "arm": arm.name,
        "role": "compare",
        "seed": seed,
        "status": status,
        **setting,
        "config": json.dumps({"seed": seed}),
        "steps": STEPS[-1],
        "switch_step": _switch(arm, setting),
        "switches": int(_switch(arm, setting) is not None),
        **dict.fromkeys(SWITCH_COLUMNS),
        "parameters": 5120,
        "flops_alone": arm.flops * STEPS[-1],
        "flops_spent": int(arm.flops * STEPS[-1] * (0.6 if arm.switch else 1.0)),
        "alone_s": arm.flops / 1e6 * 2.1,
        "spent_s": arm.flops / 1e6 * 0.7,
        "attempts": 1,
        "numerics_class": "cpu AVX2 torch 2.13.0 eager",
        "pack_size": 5,
        "error": "worker died: killed by signal 9" if status == "failed" else None,
        "started_at": pd.Timestamp("2026-11-23T18:00:00Z"),
        "finished_at": pd.Timestamp("2026-11-23T18:01:00Z"),
        "provenance": json.dumps(
            {
                "versions": {"torch": "2.13.0", "python": "3.11.9"},
                "commit": "abc1234",
                "host": {"cpu": "Xeon", "cores": 2},
            }
        ),
    }


def _switch(arm: Arm, setting: Mapping[str, Any]) -> int | None:
    """The step of the switch, a step that is evaluated."""
    if arm.criterion:
        return int(min(LATEST, max(100, round(8 / setting.get("schedule.delta1", 0.01) / 100) * 100)))
    if "schedule.switch" in setting:
        return int(round(float(setting["schedule.switch"]) * STEPS[-1] / 100) * 100)
    return arm.switch


def _switched(arm: Arm, trial: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fills in what the switch of a trial did, and gives its events: after step 2400 the loss does not come back."""
    step = trial["switch_step"]
    before = next(row for row in rows if row["step"] == step)
    drop = arm.drop * step / 1500 * (1 + 0.01 * trial["seed"])
    after = {"val_loss": before["val_loss"] + drop, "val_accuracy": before["val_accuracy"] * 0.8}
    trial |= {f"switch_{name}_before": before[name] for name in after}
    trial |= {f"switch_{name}_after": value for name, value in after.items()}
    trial |= {"switch_drop": drop, "switch_recovery_steps": 200 if step <= 2400 else None}
    events = [{"step": step, "kind": "switch", "detail": json.dumps(after)}]
    if arm.criterion:
        detail = {"stage": 0, "fired": step < LATEST, "latest": LATEST, "delta1": 0.01}
        events.append({"step": step, "kind": "watcher", "detail": json.dumps(detail)})
    return [{"trial_id": trial["trial_id"], **event} for event in events]


def _history(arm: Arm, seed: int, setting: dict[str, Any], noise: float, trial_id: str) -> list[dict[str, Any]]:
    shared = stream(seed, "chains").normal(0, 5 * noise, 2)  # what the seed does to every arm: pairing removes it
    own = stream(seed, arm.name, str(sorted(setting.items())))
    end = own.normal(0, noise, 2)
    shift = 0.0
    if (switch := setting.get("schedule.switch")) is not None:
        shift = 0.05 * abs(float(switch) - 0.5) if arm.lags is None else arm.lags[switch]
    rows = []
    for step in STEPS:
        excess = {
            "low_ic": arm.low + shift + end[0] + 2.0 * np.exp(-step / 150),
            "high_ic": arm.high + shift + end[1] + 1.2 * np.exp(-step / arm.late),
        }
        row: dict[str, Any] = {"trial_id": trial_id, "step": step, "stage": 0, "loops": arm.loops, "lr": 2e-3}
        floors = {name: FLOOR[name] + shared[i] for i, name in enumerate(FLOOR)}
        floors |= {"": sum(floors.values()) / 2}
        excess |= {"": sum(excess.values()) / 2}
        for name in ("", *FLOOR):
            suffix = f"_{name}" if name else ""
            row |= {
                f"val_loss{suffix}": floors[name] + excess[name],
                f"val_accuracy{suffix}": float(np.exp(-floors[name] - excess[name])),
                f"excess_loss{suffix}": excess[name],
                f"bayes_loss{suffix}": floors[name],
                f"bayes_accuracy{suffix}": float(np.exp(-floors[name])),
            }
        row |= {"train_loss": row["val_loss"] if step else None, "grad_norm": 0.5 if step else None}
        rows.append(row | {"tokens": step * 2048, "flops_alone": step * arm.flops})
    return rows


def study(made: Iterable[Claim] = (), *, arms: Iterable[Arm] = ARMS, name: str = "quickstart", **changed: Any) -> Study:
    """A checked study around these arms."""
    asked = [StudyArm(name=arm.name, values={}, axes=Grid()) for arm in arms]
    values: dict[str, Any] = {
        "name": name,
        "question": "Does looping one attention layer beat using it once?",
        "file": name,
        "seeds": tuple(range(5)),
        "arms": tuple(asked),
        "axes": Grid(),
        "where": (),
        "nuisance": None,
        "measure": MeasureConfig(),
        "search": None,
        "claims": tuple(made),
    }
    return Study(**(values | changed))


CLAIMS = (
    {"metric": "final_val_loss_low_ic", "arm": "looped", "against": "single", "expect": "lower"},
    {
        "metric": "final_val_loss_high_ic",
        "arm": "shift",
        "against": "looped",
        "expect": "not worse",
        "margin": 0.02,
    },
    {"metric": "final_excess_loss", "arm": "single", "against": "looped", "expect": "lower"},
    {
        "arm": "looped",
        "against": "single",
        "expect": "lower",
        "all": [{"metric": "final_val_loss_low_ic"}, {"metric": "final_lambda_max"}],
    },
)
GRID = (
    Arm(name="single", low=0.3, loops=1),
    Arm(name="looped", axes={"model.loops": [2, 3, 4]}),
    Arm(name="shift", switch=1500, axes={"model.loops": [2, 3, 4], "schedule.switch": [0.1, 0.5, 0.9]}),
)
