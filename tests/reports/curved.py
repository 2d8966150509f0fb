"""Made-up curvature beside the made-up results of `synthetic`: spectra with a known truth, and all that follows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from core.quantities import MATRICES, THRESHOLDS
from core.streams import stream
from tests.reports.synthetic import CURVES_COLUMNS, SPECTRA_COLUMNS, STEPS, Frames

SIZE, NULL = 120, 12
"""Eigenvalues of a made-up model, and how many of them are zero by symmetry."""
MEASURED = STEPS[::3]
TOP = 5


def curved(
    frames: Frames,
    *,
    kind: str = "exact",
    optimizer: str = "adamw",
    failed: Mapping[str, str] | None = None,
    measured: Sequence[int] = MEASURED,
) -> Frames:
    """The same results with curvature of every finished trial.

    Arms that are looped more than once have smaller eigenvalues in the bulk, larger ones at the top, and an entropy
    that falls, rises and stays; that of the others falls and stays.

    Args:
        frames: of `synthetic.results`.
        kind: of the spectra.
        optimizer: of every trial.
        failed: by arm, the reason for which the exact spectrum of its first seed fails at the last step.
        measured: steps.
    """
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    spectra: list[dict[str, Any]] = []
    loops = frames.metrics_.groupby("trial_id")["loops"].first()
    for trial in frames.trials_[frames.trials_["status"] == "ok"].to_dict("records"):
        key, seed = trial["trial_id"], int(trial["seed"])
        for step in measured:
            values = eigenvalues(seed, trial["arm"], int(loops[key]) > 1, step / STEPS[-1])
            why = (failed or {}).get(trial["arm"]) if (seed, step) == (0, measured[-1]) else None
            row, own_curves = _measured(values, seed, trial["arm"], int(loops[key]) > 1, step)
            if why is not None:
                exact = ("entropy", "effective_rank", "mutual_information", "normalised_entropy")
                row |= dict.fromkeys(exact)
                row["method"] |= dict.fromkeys((*exact, "cumulative_force", "kappa_valley"), f"exact failed: {why}")
                own_curves = [c for c in own_curves if c["quantity"].endswith("_eigenvalue")]
            else:
                shown = values if kind == "exact" else values[::10]
                weights = np.full(len(shown), 1 / len(shown)).tolist()
                spectra.append(
                    {"trial_id": key, "step": step, "kind": kind, "eigenvalues": shown, "weights": np.array(weights)}
                )
            rows.append({"trial_id": key, "step": step} | row)
            curves += [{"trial_id": key, "step": step} | one for one in own_curves]
    config = json.dumps({"train": {"optimizer": optimizer, "momentum": 0.9, "lr": 2e-3}})
    return replace(
        frames.with_trials(config=config),
        curvature_=pd.DataFrame(rows),
        curves_=pd.DataFrame(curves, columns=CURVES_COLUMNS),
        spectra_=pd.DataFrame(spectra, columns=SPECTRA_COLUMNS),
    )


def eigenvalues(seed: int, arm: str, looped: bool, time: float) -> np.ndarray:
    """[SIZE] ascending: a null space, a bulk around zero, and outliers at the top."""
    draws = stream(seed, "spectrum", arm).normal(size=SIZE)
    width = 0.3 if looped else 1.0
    entropy = 1 - 0.8 * np.sin(np.pi * min(1.0, 2 * time)) if looped else 1 - 0.4 * min(1.0, 2 * time)
    bulk = np.exp(1.5 * draws[: SIZE - NULL - TOP]) * 1e-1 * width * entropy * np.sign(draws[NULL + TOP :] + 0.5)
    top = (3 + np.arange(TOP)) * (1 + time * (1 if looped else 0.5)) * (1 + 0.03 * draws[0])
    return np.sort(np.concatenate([np.zeros(NULL), bulk, top]))


def _measured(
    values: np.ndarray, seed: int, arm: str, looped: bool, step: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One row of curvature without its key, and the curves at its step."""
    noise = stream(seed, "measured", arm, str(step)).normal(size=len(MATRICES))
    size = np.abs(values)
    solid = np.sort(size[size > 0])
    shares = solid / solid.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    time = step / STEPS[-1]
    row: dict[str, Any] = {
        "lambda_max": values[-1],
        "lambda_min": values[0],
        "trace": values.sum(),
        "frobenius": np.sqrt((values**2).sum()),
        "entropy": entropy,
        "normalised_entropy": entropy / np.log(SIZE),
        "effective_rank": np.exp(entropy),
        "negative_mass": size[values < 0].sum() / size.sum(),
        "null_count": float(NULL),
        "mutual_information": 0.5 + time + 0.05 * noise[0],
        "sam_sharpness": 0.02 * values[-1],
        "edge": 0.3 + 0.8 * time + 0.03 * noise[1],
        "hill": 0.05 * time + 0.005 * abs(noise[2]),
        "same_loop_trace": values.sum() * 0.7,
        "cross_loop_trace": values.sum() * 0.3,
        "gradient_alignment": 0.5 + 0.3 * time + 0.05 * noise[3],
        "asymmetry": 3e-16,
    }
    row |= {f"gradient_alignment_{k}": 0.9 - 0.1 * i + 0.02 * noise[i] for i, k in enumerate(MATRICES[:6])}
    row |= {f"block_lambda_max_{k}": values[-1] / (i + 2) for i, k in enumerate(MATRICES[:6])}
    names = [name for name in row if name != "asymmetry"]
    row["method"] = {name: "exact" if "entropy" in name else "lanczos" for name in names}
    row["method"] |= dict.fromkeys(("cumulative_force", "kappa_valley", "eigenvalues_below"), "exact")
    row["error"] = {"lambda_max": 1e-7}
    row["products"] = dict.fromkeys(names, 40)
    found = []
    for x in THRESHOLDS:
        below, above = solid[solid <= x], solid[solid > x]
        found.append(("cumulative_force", x, float((1 / below).sum())))
        found.append(("eigenvalues_below", x, float(len(below))))
        if len(above):
            found.append(("kappa_valley", x, float(above[-1] / above[0])))
        found.append(("river_share", x, float((solid <= x).mean())))
    for rank in range(1, TOP + 1):
        found.append(("top_eigenvalue", float(rank), float(values[-rank])))
        found.append(("bottom_eigenvalue", float(rank), float(values[rank - 1])))
        found.append(("valley_hopping", float(rank), 0.9 / rank + 0.02 * abs(noise[rank])))
    return row, [{"quantity": name, "x": x, "y": y} for name, x, y in found]
