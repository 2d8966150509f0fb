"""How long does `loopsweep plan` take, and how much memory, on studies of up to 10^6 trials?

    python benchmarks/plan.py [--trials 1000000] [--grid settings|seeds|switch]

Each grid is planned by the command itself, in a process of its own, over an empty store: CPU seconds, peak resident
memory, both also per trial. ``settings``: learning rates on two arms, one seed, so that no two trials share anything
but their shape. ``seeds``: few settings under many seeds. ``switch``: switch points × loops × seeds, a tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GRIDS = ("settings", "seeds", "switch")
HEAD = """
name = "scale"
question = "How far does planning reach?"
seeds = {seeds}

[base.task]
kind = "markov"
states = 8
chains = 8
length = 16
train_size = 0

[base.train]
steps = 2000
batch = 8
evaluate_every = 100
"""


def document(grid: str, trials: int) -> str:
    """A study of so many trials, rounded down to what the grid's axes give."""
    if grid == "settings":
        rates = min(trials // 2, 50_000)
        decays = max(1, trials // (2 * rates))
        axes = f'"train.lr" = {[1e-6 * (n + 1) for n in range(rates)]}\n'
        axes += f'"train.weight_decay" = {[round(0.01 * n, 2) for n in range(decays)]}\n'
        arms = '[arms.single]\nschedule.kind = "single"\n[arms.looped]\nschedule.kind = "looped"\n'
        return HEAD.format(seeds=1) + arms + f"[axes]\n{axes}"
    if grid == "seeds":
        arms = '[arms.single]\nschedule.kind = "single"\n[arms.looped]\nschedule.kind = "looped"\n'
        axes = '"train.lr" = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]\n'
        return HEAD.format(seeds=max(1, trials // 10)) + arms + f"[axes]\n{axes}"
    switches = [round(n / 101, 6) for n in range(1, 101)]
    axes = f'"schedule.switch" = {switches}\n"model.loops" = [2, 3, 4, 5, 6]\n'
    return HEAD.format(seeds=max(1, trials // 500)) + f'[arms.shift]\nschedule.kind = "shift"\n[axes]\n{axes}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--grid", choices=GRIDS, action="append")
    options = parser.parse_args()
    heads = ["trials", "nodes", "wall s", "CPU s", "peak GiB", "µs/trial", "KiB/trial"]
    print(f"{'grid':10}" + "".join(f"{head:>11}" for head in heads))
    for grid in options.grid or GRIDS:
        with tempfile.TemporaryDirectory() as folder:
            study = Path(folder) / "scale.toml"
            study.write_text(document(grid, options.trials), encoding="utf-8")
            command = [sys.executable, "-c", "from sweeps.cli import main; main()", "plan", str(study), "--json"]
            begun = time.monotonic()
            with subprocess.Popen([*command, "--store", f"{folder}/store"], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                text = process.stdout.read()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            wall = time.monotonic() - begun
            if process.returncode:
                sys.exit(f"{grid}: exit code {process.returncode}")
            found = json.loads(text)
            trials, cpu, peak = found["trials"], usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
            whole = f"{trials:11,}{found['nodes']:11,}{wall:11.1f}{cpu:11.1f}{peak:11.2f}"
            print(f"{grid:10}{whole}{1e6 * cpu / trials:11.1f}{2**20 * peak / trials:11.2f}", flush=True)


if __name__ == "__main__":
    main()
