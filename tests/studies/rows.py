"""Rows for tests of the store: segments, metrics and trials, by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from core.config import TrainConfig, TrialConfig
from core.lineage import links, trial_id, watch
from core.schedule_terms import ScheduleConfig
from studies.coverage import asked_of
from studies.expand import Trial
from studies.keys import observed, probe_observed

A, B, C = ("a" * 16, "b" * 16, "c" * 16)


def segment(lineage: str = A, start: int = 0, end: int = 100, **values: Any) -> dict[str, Any]:
    """A row of segments, recorded ok unless `values` say otherwise."""
    row = {
        "lineage": lineage,
        "start": start,
        "end": end,
        "reached": end,
        "status": "ok",
        "observed": "{}",
        "evaluated": [start, end] if start == 0 else [end],
        "measured": [],
        "checked": [],
        "generation": 0,
        "attempts": 1,
        "spent_s": 1.0,
    }
    return row | values


def metrics(lineage: str, steps: Iterable[int], loss: float = 1.0, **values: Any) -> list[dict[str, Any]]:
    """Rows of metrics."""
    return [{"lineage": lineage, "step": step, "val_loss": loss, **values} for step in steps]


def trial(arm: str = "looped", *, seed: int = 0, switch: float | int | None = None, **train: Any) -> Trial:
    """A trial of 100 steps evaluated every 25, looped or with a switch."""
    schedule = ScheduleConfig(kind="looped") if switch is None else ScheduleConfig(kind="shift", switch=switch)
    config = TrialConfig(
        train=TrainConfig(**{"steps": 100, "evaluate_every": 25} | train), schedule=schedule, seed=seed
    )
    return of_config(config, arm, {} if switch is None else {"schedule.switch": switch})


def of_config(config: TrialConfig, arm: str, varied: dict[str, Any]) -> Trial:
    """The trial of a configuration."""
    return Trial(
        study="study",
        arm=arm,
        role="compare",
        config=config,
        trial_id=trial_id(config),
        links=links(config),
        varied=varied,
        watch=watch(config),
    )


def recorded(trials: Sequence[Trial], **values: Any) -> dict[str, list[dict[str, Any]]]:
    """All rows of some trials, each lineage once, as long as the longest of them needs it."""
    longest: dict[str, tuple[Trial, int]] = {}
    for one in trials:
        for index, link in enumerate(one.links):
            known = longest.get(link.lineage)
            if known is None or known[0].links[known[1]].end < link.end:
                longest[link.lineage] = one, index
    rows: dict[str, list[dict[str, Any]]] = {"segments": [], "metrics": [], "curvature": []}
    for one, index in longest.values():
        link, asked = one.links[index], asked_of(one)[index]
        stops = {e.end for t in trials for e in t.links if e.lineage == link.lineage}
        evaluate, measure = tuple(sorted({*asked.evaluate, *stops})), asked.measure
        rows["segments"].append(
            segment(
                link.lineage,
                link.start,
                link.end,
                observed=observed(replace(asked, evaluate=evaluate), one.config.measure),
                evaluated=list(evaluate),
                measured=list(measure),
                numerics_class="cpu",
                pack_size=4,
                provenance='{"torch":"2"}',
            )
            | values
        )
        for step in evaluate:
            rows["metrics"] += metrics(
                link.lineage,
                [step],
                3 - step / 100,
                val_accuracy=step / 100,
                val_loss_low_ic=1 - step / 200,
                stage=link.stage,
                loops=link.loops,
            )
        for step in measure:
            probe = probe_observed(one.config.measure)
            rows["curvature"].append(
                {
                    "lineage": link.lineage,
                    "step": step,
                    "observed": probe,
                    "lambda_max": 10.0 + step,
                    "method": {"lambda_max": "lanczos"},
                    "error": {"lambda_max": 1e-6},
                    "products": {"lambda_max": 40},
                }
            )
    return rows
