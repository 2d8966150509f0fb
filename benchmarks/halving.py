"""Does successive halving find the best of a grid of learning rates and widths, and at which share of its FLOPs?

The same search over the same grid is run three times, each in a store of its own, by `loopsweep run` as a user would:
to the end of every setting, halved synchronously, halved asynchronously (ASHA). FLOPs are those that were trained, a
shared past once. The best is that of the whole grid; a halved search has found the setting that it ranks first among
those that came to its last rung, and its rank in the whole grid and its distance from the best are told. A setting that
came to the end must have the whole grid's loss, to the last bit.

    python benchmarks/halving.py [--size small|full|close] [--workers 2] [--seeds 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import studies

FLOPS_TARGET = 0.30
"""Of the whole grid's."""
WAYS = {
    "whole grid": "",
    "synchronous": "[search.halving]\nrungs = {rungs}\nfactor = {factor}\n",
    "asynchronous": "[search.halving]\nrungs = {rungs}\nfactor = {factor}\nasynchronous = true\n",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """A grid and how it is halved."""

    rates: int
    """Learning rates, even in the logarithm from 1e-4 to 1."""
    widths: tuple[int, ...]
    steps: int
    rungs: tuple[int, ...]
    factor: int


SIZES = {
    "small": Size(rates=5, widths=(4, 8, 16), steps=160, rungs=(10, 40), factor=4),
    "full": Size(rates=20, widths=(4, 6, 8, 10, 12, 16, 20, 24, 32, 40), steps=320, rungs=(20, 80), factor=4),
    "close": Size(  # the best widths lie close together, and rank otherwise at the first rungs
        rates=20, widths=(4, 6, 8, 10, 12, 14, 16, 18, 20, 24), steps=320, rungs=(20, 60, 160), factor=3
    ),
}


def study(size: Size, way: str, *, seeds: int) -> str:
    """The study as TOML."""
    rates = [float(f"{10 ** (-4 + 4 * place / (size.rates - 1)):.3g}") for place in range(size.rates)]
    return f"""
name = "halving"
question = "Which learning rate and width?"
seeds = {seeds}
[base.task]
kind = "markov"
states = 8
chains = 16
length = 16
train_size = 0
val_size = 256
[base.model]
loops = 2
[base.train]
steps = {size.steps}
batch = 16
evaluate_every = {size.steps}
[arms.looped]
[search]
kind = "grid"
[search.space]
"train.lr" = {rates}
"model.width" = {list(size.widths)}
{WAYS[way].format(rungs=list(size.rungs), factor=size.factor)}"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a way gave."""

    seconds: float
    flops: float
    trials: Mapping[int, int]
    """By last step."""
    losses: Mapping[str, Mapping[str, float]]
    """Of the settings that came to the end: by setting and trial, the final validation loss; NaN where it diverged."""

    def ranking(self) -> list[str]:
        """The settings that came to the end, best mean first."""
        means = {setting: sum(own.values()) / len(own) for setting, own in self.losses.items()}
        return sorted((name for name in means if math.isfinite(means[name])), key=lambda name: means[name])


def run(folder: Path, text: str, *, workers: int) -> Found:
    """Runs a study in a fresh store.

    Raises:
        SystemExit: where it does not end well.
    """
    folder.mkdir(parents=True)
    file, store = folder / "halving.toml", folder / "results"
    file.write_text(text)
    begun = time.perf_counter()
    command = [sys.executable, "-c", "import sys; from sweeps.cli import main; sys.exit(main())"]
    line = ["run", str(file), "--store", str(store), "--workers", str(workers), "--json"]
    done = subprocess.run([*command, *line], stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"loopsweep run ended with {done.returncode}")
    trials = studies.load(str(file), store=store).trials()
    last = trials["steps"].max()
    losses: dict[str, dict[str, float]] = {}
    for row in trials[trials["steps"] == last].to_dict("records"):
        setting = f"lr = {row['train.lr']:g}, width = {row['model.width']:g}"
        value = row["final_val_loss"] if row["status"] == "ok" else math.nan
        losses.setdefault(setting, {})[row["trial_id"]] = float(value)
    flops = float(trials["flops_spent"].sum())
    return Found(seconds=seconds, flops=flops, trials=Counter(trials["steps"].tolist()), losses=losses)


def compare(whole: Found, halved: Found) -> dict[str, Any]:
    """What a halved search found, beside the whole grid.

    Raises:
        SystemExit: where the same trial has another loss.
    """
    for setting, own in halved.losses.items():
        theirs = whole.losses[setting]
        if any(theirs[key] != value and not math.isnan(value) for key, value in own.items()):
            raise SystemExit(f"{setting} has another loss in the whole grid: {own} and {theirs}")
    order, found = whole.ranking(), halved.ranking()[0]
    mean = {setting: sum(own.values()) / len(own) for setting, own in whole.losses.items()}
    return {
        "found": found,
        "rank": order.index(found) + 1,
        "of": len(whole.losses),
        "behind": mean[found] - mean[order[0]],
        "spread": mean[order[len(order) // 10]] - mean[order[0]],
        "share": halved.flops / whole.flops,
        "seconds": halved.seconds,
        "faster": whole.seconds / halved.seconds,
        "trials": dict(sorted(halved.trials.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args()
    size = SIZES[given.size]
    with tempfile.TemporaryDirectory() as root:
        ways = {}
        for way in WAYS:
            print(f"{way} …", file=sys.stderr)
            text = study(size, way, seeds=given.seeds)
            ways[way] = run(Path(root) / way.replace(" ", "-"), text, workers=given.workers)
    whole = ways.pop("whole grid")
    results = {way: compare(whole, found) for way, found in ways.items()}
    if given.json:
        print(json.dumps(results, indent=1))
        return
    best = whole.ranking()[0]
    print(f"whole grid: {len(whole.losses)} settings, {whole.flops:.3g} FLOPs, {whole.seconds:.0f} s; best: {best}")
    for way, told in results.items():
        print(f"{way}: {told['found']}, rank {told['rank']} of {told['of']}")
        print(f"  behind the best {told['behind']:11.4f} nats  (the best tenth spreads over {told['spread']:.4f})")
        print(f"  share of FLOPs  {100 * told['share']:11.1f} %     (target {100 * FLOPS_TARGET:.0f} %)")
        rungs = ", ".join(f"{count} at {step}" for step, count in told["trials"].items())
        print(f"  wall time       {told['faster']:11.2f} x     ({told['seconds']:.0f} s); trials: {rungs}")


if __name__ == "__main__":
    main()
