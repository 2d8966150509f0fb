"""What does orchestration cost? Milliseconds, files and driver memory per trial that does nothing, side by side.

Ours: 1,000 no-op trials through the real driver and the local pool, or Ray, every row durable (fsync) before it counts,
at packs of one and of 16; one worker per core, started and warm; and each trial alone in a Tune trial of its own, as
long units are. Against Ray Tune's grid search of a no-op Trainable (by
default, and with actors that are used again; timed from its first result to its last) and Optuna's random and grid
samplers on SQLite, with fewer trials, as they are slow. Each contestant runs in a process of its own, one after the
other, for several rounds; the figures are medians. Time is of the trials alone, without imports and start-up.

    python benchmarks/orchestration.py [--json] [--rounds 3] [--only NAME ...] [--profile]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.units import Unit
    from sweeps.worker import Context, Done

TRIALS = 1000
FEWER = 300
"""Trials of Optuna: a grid's trials grow dearer with their number."""
FEW = 100
"""Trials of Ray Tune with actors used again."""
FEWEST = 10
"""Trials of Ray Tune by default: seconds each."""
TARGETS = {"packs of 1": 3.0, "packs of 16": 0.3}
"""Milliseconds per trial."""
MOST_FILES = 100
"""After compaction."""


# --- loopsweep -----------------------------------------------------------------------------------------------------


def noop(unit: Unit, _context: Context) -> Done:
    """The work function: rows of a trial that was evaluated twice, without training it."""
    from sweeps.executor import LaneOutcome
    from sweeps.unit_rows import segment_row
    from sweeps.worker import Done

    now = datetime.now(UTC)
    segments, metrics = [], []
    for lane in unit.lanes:
        facts = {"attempts": 1, "pack_size": len(unit.lanes), "started_at": now, "finished_at": now}
        segments.append(
            segment_row(
                lane, status="ok", end=lane.end, reached=lane.end, evaluated=[0, lane.end], measured=[], **facts
            )
        )
        metrics += [
            {"lineage": lane.lineage, "step": step, "stage": 0, "loops": 1, "val_loss": 1.0} for step in (0, lane.end)
        ]
    lanes = tuple(LaneOutcome(status="ok", reached=lane.end) for lane in unit.lanes)
    return Done(lanes=lanes, rows={"segments": segments, "metrics": metrics})


def ours(pack: int, root: Path, *, on: str = "local", trials: int = TRIALS, profile: bool = False) -> dict[str, Any]:
    """Our driver, on local workers or on Ray."""
    from core.config import TrainConfig, TrialConfig
    from core.lineage import links, trial_id
    from studies.expand import Trial
    from studies.store import Store
    from sweeps.round import Limits
    from sweeps.run import run

    def trial(seed: int) -> Trial:
        config = TrialConfig(train=TrainConfig(steps=100), seed=seed)
        return Trial(
            study="noop",
            arm="looped",
            role="compare",
            config=config,
            trial_id=trial_id(config),
            links=links(config),
            varied={},
        )

    store = Store.open(root / "store", create=True)
    limits = Limits(work="benchmarks.orchestration:noop")
    with _executor(on, store) as executor:
        run(lambda: [trial(10**6 + n) for n in range(2 * executor.slots)], store, executor, limits=limits, pack=1)
        memory = peak()
        asked = [trial(seed) for seed in range(trials)]
        with_trials = peak()
        begun, spent = time.perf_counter(), time.process_time()
        with _profile(profile):
            result = run(lambda: asked, store, executor, limits=limits, pack=pack)
        seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    if result.counts != {"ok": trials}:
        raise RuntimeError(f"trials are missing: {result.counts}")
    before, grown = files(store.root / "parts") + files(store.root / "records"), peak()
    store.compact(grace_s=0.0)
    return {
        "trials": trials,
        "ms": seconds / trials * 1000,
        "driver_ms": spent / trials * 1000,
        "bundles": before / 3,  # a commit of the no-op: two parts and a record
        "files": files(store.root),
        "files_before": before,
        "mib": grown - memory,
        "mib_asked": with_trials - memory,
    }


def _executor(on: str, store: Any) -> Any:
    from sweeps.local_executor import LocalExecutor

    if on == "local":
        return LocalExecutor(store.root)
    from sweeps.ray_executor import RayExecutor

    return RayExecutor(store.root)


def bundles(root: Path) -> dict[str, Any]:
    """Units of one trial, each a bundle and so a Tune trial of its own, through the executor alone."""
    from core.config import TrainConfig, TrialConfig
    from core.lineage import links
    from core.observation import Asked
    from studies.store import Store
    from sweeps.executor import Finished
    from sweeps.units import Bundle, Lane, unit

    def bundle(seed: int) -> Bundle:
        config = TrialConfig(train=TrainConfig(steps=100), seed=seed)
        lane = Lane(config=config, chain=links(config), start=0, end=100, asked=Asked((0, 100)))
        return Bundle(id=f"b{seed}", units=(unit([lane]),), work="benchmarks.orchestration:noop")

    store = Store.open(root / "store", create=True)
    with _executor("ray", store) as executor:

        def drive(low: int, high: int) -> None:
            left, flying = iter(range(low, high)), 0
            while True:
                while flying < 2 * executor.slots and (seed := next(left, None)) is not None:
                    executor.submit(bundle(seed))
                    flying += 1
                if not flying:
                    return
                flying -= sum(isinstance(event, Finished) for event in executor.poll(1.0))

        drive(0, 4 * executor.slots)
        memory, begun = peak(), time.perf_counter()
        drive(1000, 1000 + FEW)
        seconds = time.perf_counter() - begun
    return {"trials": FEW, "ms": seconds / FEW * 1000, "files": files(store.root), "mib": peak() - memory}


def _profile(on: bool) -> Any:
    import contextlib
    import cProfile

    if not on:
        return contextlib.nullcontext()

    class Printed(cProfile.Profile):
        def __exit__(self, *error: object) -> None:
            super().__exit__(*error)
            self.print_stats("cumulative")

    return Printed()


# --- the others ----------------------------------------------------------------------------------------------------


def ray_tune(trials: int, root: Path, *, reuse: bool) -> dict[str, Any]:
    """A grid search of a Trainable that does nothing, with Tune's own records."""
    import logging

    from sweeps.ray_executor import start

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables on stdout

    start()
    import ray
    from ray import tune

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    at: list[float] = []

    class Nothing(tune.Trainable):  # type: ignore[misc]  # Ray publishes no types
        def step(self) -> dict[str, Any]:
            return {"val_loss": 1.0, "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return bool(new_config)

    class Clock(tune.Callback):  # type: ignore[misc]  # Ray publishes no types
        def on_trial_complete(self, **_more: Any) -> None:
            at.append(time.perf_counter())

        def __reduce__(self) -> tuple[Any, ...]:
            return object, ()

    memory = peak()
    tune.Tuner(
        Nothing,
        param_space={"n": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(
            name="noop",
            storage_path=str(root),
            verbose=0,
            callbacks=[Clock()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # there is nothing to keep
        ),
    ).fit()
    found = {
        "trials": trials,
        "ms": (at[-1] - at[0]) / (trials - 1) * 1000,
        "files": files(root),
        "mib": peak() - memory,
    }
    ray.shutdown()
    return found


def optuna_sqlite(root: Path, *, grid: bool) -> dict[str, Any]:
    """Optuna with its SQLite storage, in one process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values = list(range(FEWER))
    sampler = optuna.samplers.GridSampler({"n": values}) if grid else optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=f"sqlite:///{root / 'optuna.db'}", sampler=sampler)
    memory = peak()

    def objective(trial: optuna.Trial) -> float:
        return float(trial.suggest_int("n", 0, FEWER - 1))

    begun = time.perf_counter()
    study.optimize(objective, n_trials=FEWER)
    seconds = time.perf_counter() - begun
    return {"trials": FEWER, "ms": seconds / FEWER * 1000, "files": files(root), "mib": peak() - memory}


# --- side by side --------------------------------------------------------------------------------------------------

CONTESTANTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "packs of 1": lambda root: ours(1, root, profile=bool(os.environ.get("ORCHESTRATION_PROFILE"))),
    "packs of 16": lambda root: ours(16, root, profile=bool(os.environ.get("ORCHESTRATION_PROFILE"))),
    "ours on Ray, packs of 1": lambda root: ours(1, root, on="ray"),
    "ours on Ray, packs of 16": lambda root: ours(16, root, on="ray"),
    "ours on Ray, a Tune trial each": bundles,
    "Ray Tune, actors used again": lambda root: ray_tune(FEW, root, reuse=True),
    "Ray Tune, default": lambda root: ray_tune(FEWEST, root, reuse=False),
    "Optuna random, SQLite": lambda root: optuna_sqlite(root, grid=False),
    "Optuna grid, SQLite": lambda root: optuna_sqlite(root, grid=True),
}


def files(root: Path) -> int:
    """Regular files under a directory."""
    return sum(path.is_file() for path in root.rglob("*"))


def peak() -> float:
    """Largest resident memory of this process so far, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(name: str, *, profile: bool) -> dict[str, Any]:
    """One contestant in a fresh process."""
    environment = os.environ | ({"ORCHESTRATION_PROFILE": "1"} if profile else {})
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.orchestration", "--child", name, root],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
    *said, last = done.stdout.splitlines()
    print("\n".join(said), file=sys.stderr, end="\n" if said else "")
    found: dict[str, Any] = json.loads(last)
    return found


def measure(names: Sequence[str], rounds: int, *, profile: bool) -> dict[str, dict[str, Any]]:
    """Medians over rounds, in which the contestants take turns."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            seen[name].append(alone(name, profile=profile))
    return {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS))
    parser.add_argument("--profile", action="store_true", help="of our driver, on stderr")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, root = options.child
        print(json.dumps(CONTESTANTS[name](Path(root))))
        return
    found = measure(options.only or list(CONTESTANTS), options.rounds, profile=options.profile)
    if options.json:
        print(json.dumps({"contestants": found, "targets": TARGETS, "cores": os.cpu_count()}, indent=2))
        return
    base = found.get("packs of 1", {}).get("ms")
    print(f"{'':30}{'trials':>8}{'ms/trial':>10}{'× packs of 1':>14}{'files':>8}{'MiB':>7}")
    for name, run in found.items():
        ratio = f"{run['ms'] / base:.1f}" if base else ""
        print(f"{name:30}{run['trials']:8.0f}{run['ms']:10.2f}{ratio:>14}{run['files']:8.0f}{run['mib']:7.0f}")
    for name, target in TARGETS.items():
        if name in found:
            kept = found[name]["ms"] <= target and found[name]["files"] <= MOST_FILES
            print(f"{name}: target {target} ms, {MOST_FILES} files: {'kept' if kept else 'MISSED'}")


if __name__ == "__main__":
    main()
