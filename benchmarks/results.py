"""How long do queries and reports of many rows take, and in how much memory?

A study of 10,000 trials (loops x learning rates x seeds) with 1,001 evaluations each is written into a store by
`Store.commit`, compacted, and asked: opening the views, then queries by configuration, each three times; then its
report. Losses follow a made-up power law, so figures mean nothing but their size.

    python benchmarks/results.py [--trials 10000] [--evaluations 1000] [--store DIR] [--no-report]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from studies.coverage import asked_of
from studies.expand import Trial
from studies.keys import observed
from studies.spec import load_study
from studies.store import Store
from studies.views import open_views
from studies.wanted import wanted

STUDY = """
name = "many"
question = "How long does it take to ask many rows?"
seeds = {seeds}
[base.train]
steps = {steps}
evaluate_every = 10
[arms.looped]
[arms.shift]
schedule.kind = "shift"
schedule.switch = 0.5
[axes]
"model.loops" = [2, 3, 4, 6, 8]
"train.lr" = {rates}
[[claims]]
text = "SHIFT is not worse"
metric = "final_val_loss"
arm = "shift"
against = "looped"
expect = "not worse"
margin = 0.05
"""
QUERIES = {
    "mean final loss by configuration": 'SELECT arm, "model.loops", "train.lr", avg(final_val_loss) AS loss '
    "FROM trials GROUP BY ALL ORDER BY loss",
    "curve of each configuration": 'SELECT arm, "model.loops", "train.lr", step, avg(val_loss) AS loss '
    "FROM metrics JOIN trials USING (trial_id) GROUP BY ALL",
    "one step of each configuration": 'SELECT arm, "model.loops", "train.lr", avg(val_loss) AS loss '
    "FROM metrics JOIN trials USING (trial_id) WHERE step = 1000 GROUP BY ALL",
    "all rows of one configuration": "SELECT seed, step, val_loss FROM metrics JOIN trials USING (trial_id) "
    """WHERE arm = 'looped' AND "model.loops" = 3 AND "train.lr" = 0.001 ORDER BY ALL""",
    "count of all rows": "SELECT count(*) FROM metrics",
}


def study_file(folder: Path, trials: int, evaluations: int) -> Path:
    """A study with about so many trials and evaluations."""
    settings = 2 * 5 * 10
    path = folder / "many.toml"
    rates = [round(1e-4 * 2**i, 6) for i in range(9)] + [0.001]
    path.write_text(STUDY.format(seeds=max(2, trials // settings), steps=10 * evaluations, rates=sorted(rates)))
    return path


def fill(trials: Sequence[Trial], store: Store) -> int:
    """Records every trial; how many rows of metrics."""
    rows, seen = 0, set()
    for first in range(0, len(trials), 200):
        segments, pieces = [], []
        for trial in trials[first : first + 200]:
            for link, asked in zip(trial.links, asked_of(trial), strict=True):
                if (link.lineage, link.end) in seen:
                    continue
                seen.add((link.lineage, link.end))
                steps = np.asarray(asked.evaluate, np.int64)
                rng = np.random.default_rng(int(link.lineage, 16))
                loss = 1 + 2 / np.sqrt(1 + steps / 100) + rng.normal(0, 0.01, len(steps))
                columns = {"step": steps, "val_loss": loss, "train_loss": loss, "val_accuracy": 1 / loss}
                columns |= {
                    "val_loss_low_ic": loss / 2,
                    "val_loss_high_ic": 1.5 * loss,
                    "lr": np.full(len(steps), 1e-3),
                }
                piece = pa.table(columns).append_column("lineage", pa.array([link.lineage] * len(steps)))
                pieces.append(piece)
                segments.append(
                    {
                        "lineage": link.lineage,
                        "start": link.start,
                        "end": link.end,
                        "observed": observed(asked, trial.config.measure),
                        "reached": link.end,
                        "status": "ok",
                        "evaluated": list(asked.evaluate),
                        "measured": [],
                        "checked": [],
                        "spent_s": 1.0,
                        "numerics_class": "made up",
                        "provenance": "{}",
                    }
                )
        if segments:
            table = pa.concat_tables(pieces)
            rows += table.num_rows
            store.commit({"segments": segments, "metrics": table})
    return rows


def peak_gib() -> float:
    """Most memory that this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--store", type=Path, default=None, help="kept, and used again where it is there")
    parser.add_argument("--no-report", action="store_true")
    parser.add_argument("--only", choices=("write", "ask"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        (write if options.only == "write" else ask)(options.store)
        return
    folder = options.store or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    path = study_file(folder, options.trials, options.evaluations)
    # Linux passes the peak of a process on to those that it starts: so the rows are written by one that starts none.
    for step in ("write", "ask"):
        if step == "ask" or not (folder / "store").exists():
            subprocess.run([sys.executable, __file__, "--only", step, "--store", str(folder)], check=True)
    if not options.no_report:
        command = "from sweeps.cli import main; main()"
        words = ["report", str(path), "--store", str(folder / "store"), "--out", str(folder / "report")]
        begun = time.monotonic()
        process = subprocess.Popen([sys.executable, "-c", command, *words])
        _, _, used = os.wait4(process.pid, 0)
        size = sum(p.stat().st_size for p in (folder / "report").rglob("*.html"))
        cpu = used.ru_utime + used.ru_stime
        print(f"report: {time.monotonic() - begun:.1f} s wall, {cpu:.1f} s CPU, {size / 1e6:.1f} MB of HTML,")
        print(f"    peak of any of its processes {used.ru_maxrss / 2**20:.2f} GiB (target: 30 s, 2 GiB)")


def write(folder: Path) -> None:
    """Fills and compacts the store."""
    store = Store.open(folder / "store", create=True)
    begun = time.monotonic()
    trials = wanted(load_study(str(folder / "many.toml")), store)
    rows = fill(trials, store)
    store.compact(grace_s=0)
    store.compact(grace_s=0)
    print(f"written: {len(trials):,} trials, {rows:,} rows in {time.monotonic() - begun:.1f} s")


def ask(folder: Path) -> None:
    """Opens the views and asks."""
    store = Store.open(folder / "store")
    begun = time.monotonic()
    trials = wanted(load_study(str(folder / "many.toml")), store)
    print(f"trials planned in {time.monotonic() - begun:.1f} s")
    begun = time.monotonic()
    with open_views(trials, store) as views:
        print(f"views opened in {time.monotonic() - begun:.1f} s, {peak_gib():.2f} GiB")
        for name, sql in QUERIES.items():
            times = []
            for _ in range(3):
                begun = time.monotonic()
                answer = views.connection.sql(sql).to_arrow_table()
                times.append(time.monotonic() - begun)
            median, rows = statistics.median(times), answer.num_rows
            print(f"{name:34} {median:6.2f} s (first {times[0]:.2f}), {rows:,} rows, peak {peak_gib():.2f} GiB")


if __name__ == "__main__":
    main()
