"""How does a run on Ray grow? Time and driver memory for 10^4, 3·10^4 and 10^5 no-op trials in packs of 16.

The real driver, Ray with one worker per core, every row durable; each size in a process of its own. Memory is the
driver's peak: what the asked trials themselves take, and what the run adds to that. Ray sees bundles, not trials, so
what Tune keeps of each is told apart by a size of which every unit is a Tune trial (`benchmarks.orchestration`).

    python benchmarks/ray_scale.py [--json] [--sizes 10000 30000 100000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.orchestration import ours

SIZES = (10_000, 30_000, 100_000)
PACK = 16


def alone(trials: int) -> dict[str, Any]:
    """One size in a fresh process."""
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.ray_scale", "--child", str(trials), root],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(ours(PACK, Path(options.child[1]), on="ray", trials=int(options.child[0]))))
        return
    found = [alone(size) for size in options.sizes]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{'trials':>8}{'ms/trial':>10}{'driver ms':>11}{'bundles':>9}{'MiB asked':>11}{'MiB run':>9}{'KiB/trial':>11}"
    )
    for run in found:
        added = run["mib"] - run["mib_asked"]
        shown = (
            f"{run['trials']:8}{run['ms']:10.3f}{run['driver_ms']:11.3f}{run['bundles']:9.0f}{run['mib_asked']:11.0f}"
        )
        print(f"{shown}{added:9.0f}{added * 1024 / run['trials']:11.2f}")


if __name__ == "__main__":
    main()
