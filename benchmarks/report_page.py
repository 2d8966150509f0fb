"""How large is the page of a sweep, and what does it take to write it? Made-up rows of three arms on grids.

Numbers in the log are of this file's defaults.

    python benchmarks/report_page.py             # 2,142 trials of 306 settings, 31 evaluations each
    python benchmarks/report_page.py --seeds 1   # 306 trials
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from reports.write import write
from tests.reports.synthetic import Arm, results, study

ARMS = (
    Arm(name="single", low=0.32, loops=1, flops=1_100_000),
    Arm(name="looped", axes={"model.loops": [2, 3, 4, 6], "train.lr": [1e-4, 1e-3, 2e-3, 4e-3, 8e-3]}),
    Arm(
        name="shift",
        axes={
            "model.loops": [2, 3, 4, 6, 8],
            "schedule.switch": [i / 20 for i in range(1, 20)],
            "train.lr": [1e-3, 2e-3, 4e-3],
        },
        flops=2_050_000,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=7)
    seeds = tuple(range(parser.parse_args().seeds))
    frames = results(ARMS, seeds=seeds)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        page = write([(study(arms=ARMS, seeds=seeds), frames)], store="results", out=Path(folder))
        took = time.process_time() - began
        explorer = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))["explorer"]
        data = len(json.dumps(explorer, separators=(",", ":")))
        print(f"{len(frames.trials_)} trials: {page.stat().st_size:,} bytes, of which data of the explorer {data:,}")
        print(f"{took:.0f} s of CPU")


if __name__ == "__main__":
    main()
