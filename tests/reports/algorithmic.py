"""Made-up results on tasks with lengths, on those of `synthetic`: the columns of the strata, a known truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from core.streams import stream
from tests.reports.synthetic import CURVES_COLUMNS, STEPS, Frames

REACH = {"single": 12.0, "looped": 34.0, "shift": 31.0, "depth-matched": 21.0}
"""Length at which half of the sequences of an arm are all right."""
EASE = {"parity": 0.0, "copy": 6.0, "p_hop": -5.0}
"""What a kind of task adds to it."""


def on_lengths(
    frames: Frames,
    *,
    kind: str = "parity",
    train: tuple[int, int] | Mapping[str, tuple[int, int]] = (1, 20),
    test: tuple[int, int] = (1, 40),
    **terms: Any,
) -> Frames:
    """The same results with accuracy by length instead of chains.

    Args:
        frames: of `synthetic.results`; an axis ``task.kind`` is followed.
        kind: of the task, without that axis.
        train: lengths of training, or those of each arm.
        test: lengths of the validation set.
        terms: further terms of the task.
    """
    trials, columns = [], {}
    for trial in frames.trials_.to_dict("records"):
        span = train[trial["arm"]] if isinstance(train, Mapping) else train
        axes = {key.removeprefix("task."): value for key, value in trial.items() if key.startswith("task.")}
        axes = {key: json.loads(value) if "length" in key else value for key, value in axes.items()}  # lists are texts
        task = {"kind": kind, "train_length": list(span), "test_length": list(test)} | terms | axes
        model = {key.removeprefix("model."): value for key, value in trial.items() if key.startswith("model.")}
        trial["config"] = json.dumps({"model": model, "seed": trial["seed"], "task": task})
        columns[trial["trial_id"]] = _columns(trial, task)
        if trial["status"] == "ok":
            trial |= {f"final_{name}": value for name, value in columns[trial["trial_id"]].items()}
        trials.append({key: value for key, value in trial.items() if not key.endswith("_ic")})
    metrics = []
    for row in frames.metrics_.to_dict("records"):
        done = min(1.0, 0.2 + row["step"] / STEPS[-1])
        # Shares rise to their last value, losses fall to it.
        values = {
            name: value * done if "loss" not in name else value + 1 - done
            for name, value in columns[row["trial_id"]].items()
        }
        metrics.append({key: value for key, value in row.items() if not key.endswith("_ic")} | values)
    return replace(
        frames,
        trials_=pd.DataFrame(trials),
        metrics_=pd.DataFrame(metrics),
        curvature_=frames.curvature_.iloc[:0],
    )


def _columns(trial: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, float]:
    """The strata of the last evaluation: every length has as many sequences."""
    noise = stream(trial["seed"], "lengths", trial["arm"], str(task["kind"])).normal(0, 1.2)
    reach = REACH.get(trial["arm"], 20.0) + EASE.get(task["kind"], 0.0) + noise
    lengths = np.arange(task["test_length"][0], task["test_length"][1] + 1)
    exact = 1 / (1 + np.exp((lengths - reach) / 2.5))
    tokens = 0.5 + 0.5 / (1 + np.exp((lengths - reach - 3) / 4))
    loss = 2.0 * (1 - tokens)
    found: dict[str, float] = {"val_exact": float(exact.mean())}
    spans = {"trained": lengths <= task["train_length"][1], "longer": lengths > task["train_length"][1]}
    spans |= {f"len_{n}": lengths == n for n in lengths}
    for name, members in spans.items():
        if members.any():
            values = {"val_exact": exact, "val_accuracy": tokens, "val_loss": loss, "excess_loss": loss}
            found |= {f"{base}_{name}": float(of[members].mean()) for base, of in values.items()}
    return found


def over_loops(
    frames: Frames, *, loops: Sequence[int] = (1, 2, 4, 8), step: int = STEPS[-1], confident: bool = False
) -> Frames:
    """The same results with the quantity ``test_loops``: arms are best at about the loops that they were trained with.

    Args:
        frames: of `synthetic.results`.
        loops: of the measurement.
        step: at which it was measured.
        confident: whether halting by confidence was measured too.
    """
    trained = frames.metrics_.groupby("trial_id")["loops"].last()
    curves, columns = [], []
    for trial in frames.trials_[frames.trials_["status"] == "ok"].to_dict("records"):
        noise = stream(trial["seed"], "loops", trial["arm"]).normal(0, 0.01)
        at = {n: 0.9 - 0.12 * abs(np.log2(n / trained[trial["trial_id"]])) + noise for n in loops}
        for n, exact in at.items():
            values = {"val_exact_loops": exact, "val_accuracy_loops": (1 + exact) / 2, "val_loss_loops": 1 - exact}
            row = {"trial_id": trial["trial_id"], "step": step, "x": float(n)}
            curves += [row | {"quantity": name, "y": float(value)} for name, value in values.items()]
        best = max(at, key=lambda n: at[n])
        row = {"val_exact_confident": at[best] + 0.02, "val_accuracy_confident": 0.97, "confident_loops": float(best)}
        columns.append({"trial_id": trial["trial_id"], "step": step} | (row if confident else {}))
    return replace(
        frames,
        curves_=pd.DataFrame(curves, columns=CURVES_COLUMNS),
        curvature_=pd.DataFrame(columns) if confident else frames.curvature_,
    )
