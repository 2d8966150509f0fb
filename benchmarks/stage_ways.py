"""Two ways through a grid on warm workers, with the stage tree and without, and whether they find the same.

The local pool belongs to one store, at one path; here the stores take turns at that path, so that workers stay warm
from one to the next. Used by stage_tree.py.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stage_grids import Size, settings_of, study_of
from core.flops import flops_alone, link_flops
from studies.expand import Trial, expand
from studies.store import Store
from studies.study import Study
from studies.views import open_views
from studies.wanted import wanted
from studies.watchers import resolved
from sweeps.local_executor import LocalExecutor
from sweeps.observer import Silent
from sweeps.plan import Plan, plan
from sweeps.run import run

WORKERS = 2
EXECUTION = {
    *("flops_spent", "alone_s", "spent_s", "attempts", "numerics_class", "pack_size", "error"),
    *("started_at", "finished_at", "provenance"),
}
"""Columns of the view `trials` that say how a trial was run."""


# --- workers and stores --------------------------------------------------------------------------------------------


class Said(Silent):
    """Passes on what the driver has to say, such as that it measures step times after all."""

    def said(self, message: str) -> None:
        """A line on stderr."""
        print(f"  {message}", file=sys.stderr)


class _Measured(Exception):  # noqa: N818 - not an error
    """The step times are measured, and nothing has begun."""


class _Measuring(Said):
    def planned(self, *_given: Any, **_named: Any) -> None:
        """The end of it."""
        raise _Measured


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Workers that stay warm, and the place where they look for their store: one after the other is put there."""

    place: Path
    executor: LocalExecutor

    @contextmanager
    def at(self, folder: Path) -> Iterator[Store]:
        """The store in a folder, in the workers' place meanwhile."""
        folder.rename(self.place)
        try:
            yield Store.open(self.place)
        finally:
            self.place.rename(folder)


def fresh(folder: Path, calibrations: Any) -> Path:
    """A store that knows the step times and nothing else."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    store = Store.open(folder, create=True)
    if calibrations is not None:
        store.commit({"calibrations": calibrations})
    return folder


def opened(stack: ExitStack, place: Path, workers: int) -> Pool:
    """A pool whose workers have trained already."""
    executor = stack.enter_context(LocalExecutor(place, workers=workers))
    pool = Pool(place=place, executor=executor)
    trials = [t for t in expand(study_of("switch", Size(seeds=1, steps=40, plain_seeds=1))) if t.config.model.loops < 4]
    with pool.at(fresh(place.with_name(f"{place.name}-warm"), None)) as store:
        result = run(lambda: trials, store, executor, observer=Said())
    if result.counts != {"ok": len(trials)} or len(executor.pids) != workers:
        raise RuntimeError(f"{workers} workers should be warm, got {len(executor.pids)} and trials {result.counts}")
    return pool


def measured(study: Study, pool: Pool, folder: Path) -> Any:
    """The step times of all shapes of a study, as rows to commit."""
    trials = expand(study)
    with pool.at(fresh(folder, None)) as store:
        try:
            run(lambda: trials, store, pool.executor, observer=_Measuring())
        except _Measured:
            return store.read("calibrations")
    raise RuntimeError("the driver trained nothing")


# --- with the tree and without -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Way:
    """What one way took and found."""

    seconds: float
    busy: float
    """Share of the workers' time in which they trained."""
    pack: float
    """Lanes of a pack, the mean over updates of packs."""
    rows: dict[str, list[str]]
    """Result columns of the views `trials` and `metrics`, a text per row that tells doubles apart to the last bit."""
    losses: dict[str, float]
    """Final validation loss by trial."""
    flops: int
    """Of the updates that are recorded, as often as they were made."""


def with_tree(study: Study, pool: Pool, folder: Path) -> tuple[Way, Plan, list[Trial]]:
    """One run over all trials; also its plan, and the trials with all criteria decided."""
    with pool.at(folder) as store:
        begun = time.perf_counter()
        result = run(lambda: wanted(study, store), store, pool.executor, observer=Said())
        seconds = time.perf_counter() - begun
        trials = wanted(study, store)
        if result.counts != {"ok": len(trials)}:
            raise RuntimeError(f"trials are missing: {result.counts}")
        return found(seconds, [(trials, store)]), plan(trials, store, workers=WORKERS), trials


def without_tree(study: Study, pools: Sequence[Pool], folder: Path, calibrations: Any) -> Way:
    """One run per setting, in stores of their own."""
    settings = sorted(settings_of(expand(study)), key=lambda group: -sum(flops_alone(t.config) for t in group))
    folders = [fresh(folder / str(number), calibrations) for number in range(len(settings))]
    left = deque(zip(settings, folders, strict=True))

    def drive(pool: Pool) -> None:
        while True:
            try:
                trials, at = left.popleft()
            except IndexError:
                return
            with pool.at(at) as store:
                run(_asking(trials, store), store, pool.executor, observer=Said())

    begun = time.perf_counter()
    with ThreadPoolExecutor(len(pools)) as threads:
        driving = [threads.submit(drive, pool) for pool in pools]
        try:
            for one in driving:
                one.result()
        finally:
            left.clear()
    seconds = time.perf_counter() - begun
    stores = [Store.open(at) for at in folders]
    return found(seconds, [(resolved(t, store), store) for t, store in zip(settings, stores, strict=True)])


def _asking(trials: Sequence[Trial], store: Store) -> Callable[[], list[Trial]]:
    return lambda: resolved(trials, store)


def found(seconds: float, parts: Sequence[tuple[Sequence[Trial], Store]]) -> Way:
    """What some trials gave, wherever their rows lie."""
    rows: dict[str, list[str]] = {"trials": [], "metrics": []}
    losses: dict[str, float] = {}
    trained, lane_steps, pack_steps, flops = 0.0, 0, 0.0, 0
    for trials, store in parts:
        places = {link.lineage: (trial.config, link) for trial in trials for link in trial.links}
        for row in store.read("segments").to_pylist():
            trained += row["spent_s"]
            flops += link_flops(*places[row["lineage"]], row["start"], row["reached"])
            lane_steps += row["reached"] - row["start"]
            pack_steps += (row["reached"] - row["start"]) / row["pack_size"]
        with open_views(trials, store) as views:
            for name, texts in rows.items():
                for row in views.arrow(name).to_pylist():
                    kept = {k: v for k, v in sorted(row.items()) if v is not None and k not in EXECUTION}
                    texts.append(repr(kept))  # Python writes a double so that it reads back the same
                    if name == "trials":
                        losses[row["trial_id"]] = row["final_val_loss"]
    for texts in rows.values():
        texts.sort()
    busy, pack = trained / WORKERS / seconds, lane_steps / pack_steps
    return Way(seconds=seconds, busy=busy, pack=pack, rows=rows, losses=losses, flops=flops)


def check_equal(ours: Way, alone: Way) -> str:
    """What was compared.

    Raises:
        RuntimeError: where the two ways' results differ.
    """
    for name, rows in ours.rows.items():
        for mine, other in zip(rows, alone.rows[name], strict=False):
            if mine != other:
                raise RuntimeError(f"{name} differ:\n  {mine}\n  {other}")
        if len(rows) != len(alone.rows[name]):
            raise RuntimeError(f"{name}: {len(rows)} rows with the tree, {len(alone.rows[name])} without")
    return f"{len(ours.rows['trials'])} trials, {len(ours.rows['metrics'])} rows of metrics equal to the last bit"
