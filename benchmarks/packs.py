"""Do packs pay? Trial-steps per second of packs of K against a plain PyTorch loop, side by side in one run.

The plain loop is what one would write without loopsweep: an ordinary nn.Module (tests/core/reference.py, with torch's
fused attention) and torch.optim.AdamW with its default settings, one trial after the other. The packs go through
`core.train.train_segments`. Both draw the same batches from the same task and run on one core; all contestants take
turns in every round, so that a noisy machine hits them alike, and the ratio is the median over rounds.

The share of the peak is model FLOPs (`core.flops`, full products whatever a kernel saves) per second over those of a
square matrix product, measured in the same rounds. With ``--compiled`` each pack also trains by the compiled engine.

    python benchmarks/packs.py [--json] [--rounds 5] [--packs 1,2,4,8,16,32] [--compiled]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from core.numerics import Engine, numerics_class, pin_threads, provenance

pin_threads()

import torch  # noqa: E402 - after the threads are pinned

from core.config import TrialConfig, trial_config  # noqa: E402
from core.flops import step_flops  # noqa: E402
from core.lineage import links  # noqa: E402
from core.pack import initial_state  # noqa: E402
from core.segments import Segment  # noqa: E402
from core.task_data import task_data  # noqa: E402
from core.train import train_segments  # noqa: E402
from tests.core.reference import PlainModel, plain_loss  # noqa: E402

CASES: dict[str, tuple[float, dict[str, Any]]] = {
    "toy, batch 8, width 16, length 16": (
        8.0,
        {"task": {"length": 16}, "model": {"width": 16}, "train": {"batch": 8}},
    ),
    "toy, batch 32, width 32, length 16": (
        3.0,
        {"task": {"length": 16}, "model": {"width": 32}, "train": {"batch": 32}},
    ),
    "GPT-2-like, batch 8, width 128, length 64": (
        1.0,
        {
            "task": {"length": 64},
            "model": {"width": 128, "heads": 4, "norm": "layer", "mlp_ratio": 4.0},
            "train": {"batch": 8},
        },
    ),
}
"""Target ratio of the best K, and the configuration: 3 loops of one block, 16 tokens, float32, AdamW."""
BLOCK = 64
PEAK_SIZE = 768


def plain_steps(config: TrialConfig, steps: int) -> Callable[[], None]:
    """So many updates of one trial in the ordinary way."""
    link = links(config)[0]
    model = PlainModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr)
    data = task_data(config)

    def run() -> None:
        for start in range(0, steps, BLOCK):
            inputs, targets = map(torch.from_numpy, data.batches(start, min(BLOCK, steps - start)))
            for tokens, truth in zip(inputs, targets, strict=True):
                loss = plain_loss(
                    model, tokens, truth, loops=link.loops, injection=link.injection, loss_on=link.loss_on
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return run


def pack_steps(
    config: TrialConfig, lanes: int, steps: int, *, engine: Engine = "eager", device: str = "cpu"
) -> Callable[[], None]:
    """So many updates of a pack of trials that differ in their seeds."""
    configs = [replace(config, seed=seed) for seed in range(lanes)]
    states = [initial_state(c) for c in configs]
    segments = [Segment(config=c, chain=links(c)[:1], start=0, end=steps, evaluate=()) for c in configs]

    def run() -> None:
        train_segments(segments, states, engine=engine, device=device)

    return run


def matrix_product(repeats: int) -> Callable[[], None]:
    square = torch.randn(PEAK_SIZE, PEAK_SIZE)

    def run() -> None:
        for _ in range(repeats):
            square @ square

    return run


def seconds(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def calibrated(make: Callable[[int], Callable[[], None]], slice_s: float) -> tuple[Callable[[], None], int]:
    """A contestant that runs for about `slice_s`, and its steps; warmed up."""
    trial = make(2)
    trial()
    steps = max(2, min(2000, round(2 * slice_s / max(1e-6, seconds(trial)))))
    run = make(steps)
    run()
    return run, steps


def measure(
    config: TrialConfig, packs: list[int], *, engines: tuple[Engine, ...], rounds: int, slice_s: float
) -> dict[str, Any]:
    """Seconds per trial-step of the plain loop and of every K, and of one square product, over the rounds."""
    contestants: dict[str, tuple[Callable[[], None], float]] = {}
    run, steps = calibrated(lambda n: plain_steps(config, n), slice_s)
    contestants["plain"] = run, steps
    for engine, lanes in product(engines, packs):
        make = partial(pack_steps, config, lanes, engine=engine)
        run, steps = calibrated(make, slice_s)
        contestants[f"{lanes} {engine}"] = run, steps * lanes
    contestants["peak"] = matrix_product(20), 20
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (run, units) in contestants.items():
            times[name].append(seconds(run) / units)

    peak = 2 * PEAK_SIZE**3 / statistics.median(times["peak"])
    flops = step_flops(config, loops=links(config)[0].loops)
    rows = []
    for name in [name for name in contestants if name != "peak"]:
        each = times[name]
        middle = statistics.median(each)
        rows.append(
            {
                "pack": name,
                "ms_per_trial_step": 1e3 * middle,
                "trial_steps_per_s": 1 / middle,
                "ratio": statistics.median(p / t for p, t in zip(times["plain"], each, strict=True)),
                "share_of_peak": flops / middle / peak,
            }
        )
    return {"peak_gflops": peak / 1e9, "rows": rows, "best_ratio": max(row["ratio"] for row in rows[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which all contestants take turns")
    parser.add_argument("--slice", type=float, default=0.25, help="seconds of one turn")
    parser.add_argument("--packs", default="1,2,4,8,16,32", help="values of K")
    parser.add_argument("--compiled", action="store_true", help="also by the compiled engine")
    given = parser.parse_args()
    engines: tuple[Engine, ...] = ("eager", "compiled") if given.compiled else ("eager",)
    packs = [int(lanes) for lanes in given.packs.split(",")]

    results: dict[str, Any] = {"numerics_class": numerics_class("cpu"), "provenance": provenance("cpu"), "cases": {}}
    for name, (target, terms) in CASES.items():
        config = trial_config({**terms, "task": {**terms["task"], "states": 16, "train_size": 0, "val_size": 16}})
        done = measure(config, packs, engines=engines, rounds=given.rounds, slice_s=given.slice)
        results["cases"][name] = {"target": target, **done}
        if given.json:
            continue
        print(f"{name}: best {done['best_ratio']:.2f}x (target {target:g}x), peak {done['peak_gflops']:.0f} GFLOP/s")
        for row in done["rows"]:
            print(
                f"  {row['pack']:>11} {row['ms_per_trial_step']:9.3f} ms per trial-step "
                f"{row['ratio']:6.2f}x {100 * row['share_of_peak']:5.1f} % of peak"
            )
    if given.json:
        print(json.dumps(results, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
