"""Do batches limit training? Time of a batch of an algorithmic task against that of the cheapest update it serves.

The update is of one attention layer of width 32, applied once, without MLP: whatever is studied costs more. Both run on
one core and take turns in every round; the ratio is the median over rounds. The batch is drawn online, in blocks of 64
updates as the engine asks for them.

    python benchmarks/batches.py [--json] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from core.numerics import numerics_class, pin_threads, provenance

pin_threads()

from core.algorithmic import KINDS  # noqa: E402 - after the threads are pinned
from core.config import TrialConfig, trial_config  # noqa: E402
from core.lineage import links  # noqa: E402
from core.pack import initial_state  # noqa: E402
from core.segments import Segment  # noqa: E402
from core.task_data import task_data  # noqa: E402
from core.train import train_segments  # noqa: E402

BLOCK = 64
TARGET = 0.1
"""Largest share of an update that its batch may take."""


def case(kind: str) -> TrialConfig:
    """The cheapest trial on a task: lengths 4 … 20, batches of 64."""
    task = {"kind": kind, "train_length": [4, 20], "test_length": [4, 20], "val_size": 17}
    model = {"width": 32, "loops": 1, "mlp_ratio": 0}
    return trial_config({"task": task, "model": model, "train": {"batch": 64, "steps": BLOCK}})


def batches(config: TrialConfig) -> Callable[[], None]:
    """A block of batches."""
    data = task_data(config)

    def run() -> None:
        data.batches(0, BLOCK)

    return run


def updates(config: TrialConfig) -> Callable[[], None]:
    """A block of updates, with their batches."""
    state = initial_state(config)
    segment = Segment(config=config, chain=links(config)[:1], start=0, end=BLOCK, evaluate=())

    def run() -> None:
        train_segments([segment], [state])

    return run


def seconds(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def measure(kind: str, rounds: int) -> dict[str, Any]:
    """Microseconds of a batch and of an update without it, and the median of their ratios over the rounds."""
    config = case(kind)
    draw, train = batches(config), updates(config)
    draw()
    train()
    pairs = [(seconds(draw) / BLOCK, seconds(train) / BLOCK) for _ in range(rounds)]
    shares = [batch / max(update - batch, 1e-9) for batch, update in pairs]
    return {
        "batch_us": 1e6 * statistics.median(batch for batch, _ in pairs),
        "update_us": 1e6 * statistics.median(update - batch for batch, update in pairs),
        "share": statistics.median(shares),
        "target": TARGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which batches and updates take turns")
    given = parser.parse_args()
    cases = {kind: measure(kind, given.rounds) for kind in KINDS}
    if given.json:
        results = {"numerics_class": numerics_class("cpu"), "provenance": provenance("cpu"), "cases": cases}
        print(json.dumps(results, indent=1, sort_keys=True))
        return
    for kind, row in cases.items():
        print(
            f"{kind:22} batch {row['batch_us']:5.0f} µs, update {row['update_us']:5.0f} µs: "
            f"{100 * row['share']:4.1f} % (target at most {100 * TARGET:.0f} %)"
        )


if __name__ == "__main__":
    main()
