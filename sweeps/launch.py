"""What a study asks of a cluster: workers, cores, GPUs, memory, disk and time, from its plan.

Plain numbers, each with where it came from, which `launch_slurm`, `launch_kuberay` and `launch_ray_job` write down in
the words of their schedulers. Workers: given, or as many as have a quarter of an hour of work each; on GPUs one for
each, since packs fill it. Memory: the peak that calibrations recorded, or a stated estimate. Time: the plan's, with a
margin. Nothing is written, and neither torch nor ray is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from core.config import TrialConfig
from core.errors import InputError, Problem
from core.flops import parameters
from core.lineage import Link
from core.numerics import device_and_engine
from studies.expand import Trial
from studies.keys import shape_key
from studies.store import Store
from sweeps.plan import DEFAULT_PACK, Plan, plan
from sweeps.tables import duration, plural, size

GIB = 2**30
WORKER_SECONDS = 900.0
"""Work that a worker should have at least, where the number of workers is not given: starting one takes seconds."""
MOST_WORKERS = 32
"""Workers of a node, where their number is not given: nodes of that many cores are common."""
MARGIN = 1.5
GUESS_MARGIN = 3.0
"""Time limit over estimate, where step times were measured and where they were not."""
START_SECONDS = 600.0
"""For what begins before the first update: the environment, Ray, calibration."""
LEAST_SECONDS = 1800
MOST_SECONDS = 86_400
"""Bounds of a time limit that is not given; the upper one where the job is requeued: a longer one would wait longer."""
MEMORY_MARGIN = 1.25
WORKER_BYTES = 450 * 2**20
"""A worker process that has imported torch, before it trains: 383 MiB with torch 2.13 for CPUs (`run quickstart`, the
first row of its table calibrations)."""
DRIVER_BYTES = GIB
TRIAL_BYTES = 8 * 2**10
"""The driver: an allowance for itself and for each trial."""
RAY_BYTES = 2 * GIB
"""Ray's own processes and shared memory on a node: an allowance."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks; None where it is silent."""

    nodes: int | None = None
    workers: int | None = None
    """On all nodes together."""
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: int | None = None
    """Of each node."""
    time_s: int | None = None
    requeued: bool = True
    """Whether a job that meets its time limit goes on later, so that the limit need not hold the whole study."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What is asked of a cluster."""

    nodes: int
    workers: int
    """On all nodes together: bundles that run at once."""
    device: Literal["cpu", "cuda"]
    cpus: int
    """Cores of each node: one a worker."""
    gpus: int
    """Of each node."""
    worker_bytes: int
    """Memory of one worker process."""
    driver_bytes: int
    """Memory of the driver."""
    disk_bytes: int
    """What the store takes at most."""
    estimate_s: float
    """Wall time by the plan."""
    time_s: int
    """Time limit."""
    facts: tuple[str, ...]
    """The study and these numbers in words, for people: a line each."""

    @property
    def with_ray(self) -> bool:
        """Whether Ray spreads the work: over several nodes, or over the GPUs of one."""
        return self.nodes > 1 or self.gpus > 1

    @property
    def node_gib(self) -> int:
        """Memory of a node that holds its workers, the driver and, where it is used, Ray; GiB."""
        ray = RAY_BYTES if self.with_ray else 0
        return math.ceil((self.cpus * self.worker_bytes + self.driver_bytes + ray) / GIB)


def resources(trials: Sequence[Trial], store: Store, asked: Asked) -> Resources:
    """What running what is missing asks of a cluster.

    Args:
        trials: of the study, as far as they are known.
        store: what is recorded, with step times and memory; may not exist yet.
        asked: what the command line asks.

    Raises:
        InputError: for what cannot be.
    """
    nodes = asked.nodes or 1
    gpus = (asked.gpus or 1) if asked.device == "cuda" else 0
    _check(asked, nodes, gpus)
    alone = plan(trials, store, workers=1)
    workers = asked.workers or (nodes * gpus if gpus else _workers(alone, nodes))
    planned = alone if workers == 1 else plan(trials, store, workers=workers)
    each = math.ceil(workers / nodes)
    worker_bytes, measured = _worker_bytes(trials, store, planned)
    limit = asked.time_s or _time_limit(planned, requeued=asked.requeued)
    disk = planned.disk_bytes + planned.disk_passing_bytes
    facts = _facts(planned, worker_bytes, measured, disk)
    if gpus and planned.estimate_from != "nothing to run":
        facts.append("times of GPUs are in no plan: those of the processors where it was made count")
    if planned.missing and workers > planned.missing:
        facts.append(f"of {workers} workers at most {planned.missing:,} find work at once: lower --workers")
    if limit < planned.estimate_s:
        then = "the job is requeued until the study is complete" if asked.requeued else "raise --time"
        facts.append(f"the time limit, {duration(limit)}, is shorter than the study: {then}")
    return Resources(
        nodes=nodes,
        workers=workers,
        device=asked.device,
        cpus=each,
        gpus=gpus,
        worker_bytes=worker_bytes,
        driver_bytes=DRIVER_BYTES + TRIAL_BYTES * len(trials),
        disk_bytes=disk,
        estimate_s=planned.estimate_s,
        time_s=limit,
        facts=tuple(facts),
    )


def _facts(planned: Plan, worker_bytes: int, measured: str, disk: int) -> list[str]:
    """What the numbers rest on, for people."""
    return [
        f"{plural(planned.trials, 'trial')}, of which {planned.done:,} are recorded here; about "
        f"{duration(planned.estimate_s)} on {plural(planned.workers, 'worker')} ({_SOURCES[planned.estimate_from]})",
        f"memory of a worker: {size(worker_bytes)} ({measured}); disk of the store: at most {size(disk)}",
    ]


_SOURCES = {
    "calibrations": "measured step times",
    "default rate": "no step times measured yet: a rough guess",
    "both": "some step times are not measured yet",
    "nothing to run": "nothing is left to run",
}


def _check(asked: Asked, nodes: int, gpus: int) -> None:
    """Refuses numbers that contradict each other."""
    problems = []
    if asked.gpus is not None and asked.device != "cuda":
        problems.append(
            Problem("--gpus", f"asks for {plural(asked.gpus, 'GPU')}, but trials train on CPUs; add --device cuda")
        )
    if asked.workers is not None and asked.workers < nodes:
        message = f"must be at least one a node, got {asked.workers} on {nodes} nodes; raise it, or lower --nodes"
        problems.append(Problem("--workers", message))
    elif asked.workers is not None and asked.workers < nodes * gpus:
        message = f"must be at least one a GPU, got {asked.workers} for {nodes * gpus} GPUs; raise it, or lower --gpus"
        problems.append(Problem("--workers", message))
    if problems:
        raise InputError(problems)


def _workers(alone: Plan, nodes: int) -> int:
    """Workers that have enough to do, from the plan of one: at least one a node, at most `MOST_WORKERS`."""
    busy = min(math.ceil(alone.estimate_s / WORKER_SECONDS), max(alone.missing, 1))
    return nodes * min(max(1, math.ceil(busy / nodes)), MOST_WORKERS)


def _time_limit(planned: Plan, *, requeued: bool) -> int:
    """Seconds, whole quarters of an hour."""
    margin = MARGIN if planned.estimate_from == "calibrations" else GUESS_MARGIN
    wanted = margin * planned.estimate_s + START_SECONDS
    limit = max(math.ceil(wanted / 900) * 900, LEAST_SECONDS)
    return min(limit, MOST_SECONDS) if requeued else limit


def _worker_bytes(trials: Iterable[Trial], store: Store, planned: Plan) -> tuple[int, str]:
    """Memory of one worker process, and how it is known.

    Calibrations hold the peak of the process that took them, so the most of any shape is a bound for all of them.
    """
    shapes: dict[str, tuple[TrialConfig, Link]] = {}
    for trial in trials:
        for link in trial.links:
            shapes.setdefault(shape_key(trial.config, link), (trial.config, link))
    peaks: dict[str, int] = {}
    table = store.read("calibrations", ["shape", "numerics_class", "pack", "memory_bytes"])
    for row in table.to_pylist():
        if device_and_engine(row["numerics_class"])[0] == "cpu":
            peaks[row["shape"]] = max(peaks.get(row["shape"], 0), row["memory_bytes"])
    known = [peaks[shape] for shape in shapes if shape in peaks]
    stated = [_stated_bytes(*shapes[shape]) for shape in shapes if shape not in peaks]
    most = int(MEMORY_MARGIN * max([*known, *stated, WORKER_BYTES]))
    if planned.measuring is not None and planned.measuring.exact:
        most += planned.measuring.memory_bytes
    how = "an estimate, no shape was run yet" if not known else "measured" if not stated else "partly an estimate"
    return most, how


def _stated_bytes(config: TrialConfig, link: Link) -> int:
    """Bytes of a worker that trains a pack of a shape that was never run.

    Weights, their gradient and what the optimiser keeps, of each lane; and the activations that back-propagation needs:
    about 16 rows of the model's width and two of attention weights for each token and layer that is applied, three of
    the vocabulary at the end.
    """
    model, task, train = config.model, config.task, config.train
    layers = model.prelude + model.coda + model.depth * max(1, link.loops)
    token = layers * (16 * model.width + 2 * model.heads * task.context) + 3 * task.vocabulary
    width = 8 if train.precision == "float64" else 4
    return WORKER_BYTES + DEFAULT_PACK * width * (4 * parameters(config) + train.batch * task.context * token)
