"""Is each algorithmic task learned at all, so that a comparison of arms on it means something?

Each in a tiny setting: short problems, one block of width 64 that is looped, the answer predicted at once. Where there
are no positions the block is applied as often as the problem is long, T(n) = n, and a few times more where the answer
is longer than the problem; sums whose highest digit comes first and p-hop need positions. A task is learned where at
least 99 % of the answers to problems of trained lengths are right, token by token, at the end. Settings were chosen on
seed 0.

    python benchmarks/learnability.py [--json] [--kinds parity,copy] [--seeds 0,1,2]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from core.numerics import numerics_class, pin_threads, provenance

pin_threads()

from core.alone import train_alone  # noqa: E402 - after the threads are pinned
from core.config import TrialConfig, trial_config  # noqa: E402

TARGET = 0.99
"""Share of right answers on trained lengths."""

BASE: dict[str, dict[str, Any]] = {
    "task": {"train_length": [1, 8], "test_length": [1, 12], "val_size": 240},
    "model": {
        "width": 64,
        "heads": 4,
        "mlp_ratio": 4,
        "norm": "layer",
        "position": "none",
        "injection": "add",
        "loops": 12,
        "loops_by": "length",
    },
    "train": {
        "steps": 1000,
        "batch": 32,
        "lr": 2e-3,
        "lr_schedule": "cosine",
        "warmup": 100,
        "clip": 1.0,
        "evaluate_every": 250,
    },
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "parity": {},
    "unique_set": {},
    "binary_sum": {"task": {"train_length": [1, 7], "test_length": [1, 10]}, "train": {"steps": 1500}},
    "copy": {"train": {"steps": 2000, "batch": 48}},
    "binary_multiplication": {
        "task": {"train_length": [1, 6], "test_length": [1, 8]},
        "model": {"loops_offset": 2},
        "train": {"steps": 2500},
    },
    "addition": {
        "task": {"train_length": [1, 6], "test_length": [1, 8]},
        "model": {"position": "rotary", "loops_offset": 1},
        "train": {"steps": 3000, "batch": 48},
    },
    "nary_addition": {
        "task": {"train_length": [1, 3], "test_length": [1, 4], "digits": 1},
        "model": {"position": "rotary", "loops_by": "fixed", "loops": 4},
        "train": {"steps": 1500, "batch": 64},
    },
    "p_hop": {
        "task": {"train_length": [4, 12], "test_length": [4, 16]},
        "model": {"position": "rotary", "loops_by": "fixed", "loops": 6},
        "train": {"steps": 1500, "batch": 64},
    },
}
"""By kind of task, what differs from `BASE`."""


def setting(kind: str, seed: int) -> TrialConfig:
    """The trial in which a task is learned."""
    own = SETTINGS[kind]
    sections = {name: terms | own.get(name, {}) for name, terms in BASE.items()}
    return trial_config(sections | {"task": sections["task"] | {"kind": kind}, "seed": seed})


def learned(config: TrialConfig) -> dict[str, Any]:
    """The share of right answers at the end, the step at which it first reached the target, and the time it took."""
    begun = time.process_time()
    done = train_alone(config)
    spent = time.process_time() - begun
    shares = {row["step"]: row["val_exact_trained"] for row in done.metrics}
    return {
        "trained": shares[max(shares)],
        "longer": done.metrics[-1]["val_exact_longer"],
        "reached": next((step for step, share in shares.items() if share is not None and share >= TARGET), None),
        "cpu_s": spent,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--kinds", default=",".join(SETTINGS), help="kinds of task")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of each")
    given = parser.parse_args()
    results: dict[str, Any] = {"numerics_class": numerics_class("cpu"), "provenance": provenance("cpu"), "cases": {}}
    for kind in given.kinds.split(","):
        for seed in map(int, given.seeds.split(",")):
            row = learned(setting(kind, seed))
            results["cases"].setdefault(kind, []).append({"seed": seed, "target": TARGET, **row})
            if not given.json:
                print(
                    f"{kind:22} seed {seed}: {100 * row['trained']:6.2f} % of trained lengths, "
                    f"{100 * row['longer']:6.2f} % of longer ones; {100 * TARGET:g} % at step {row['reached']}; "
                    f"{row['cpu_s']:.0f} s of one core",
                    flush=True,
                )
    if given.json:
        print(json.dumps(results, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
