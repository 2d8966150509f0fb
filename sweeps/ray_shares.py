"""How many bundles a Ray cluster runs at once, and what share of a GPU each of them has: of all its nodes together.

On CPUs a worker takes one CPU, so a node holds as many as it has whole CPUs. On GPUs a worker takes one CPU and an
equal share of one GPU; nodes without a GPU hold none. The share is settled when a run begins, since actors are used
again only for equal requests; how many workers there are follows the nodes, which come and go. No ray here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core.errors import InputError, Problem

RESOLUTION = 10_000
"""Ray counts resources in steps of one so-manieth."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one node has, used or not."""

    cpus: float
    gpus: float = 0.0


def workers_per_gpu(nodes: Iterable[Resources], workers: int | None) -> int:
    """Workers that share one GPU, where `workers` (None: one per CPU of the nodes with GPUs) are spread evenly.

    Raises:
        InputError: where no node has a whole GPU.
    """
    holders = [node for node in nodes if node.gpus >= 1]
    if not holders:
        raise InputError([Problem("--device", "cuda: the Ray cluster has no GPU; take --device cpu")])
    wanted = workers or sum(int(node.cpus) for node in holders)
    return max(1, math.ceil(wanted / sum(int(node.gpus) for node in holders)))


def gpu_share(per_gpu: int) -> float:
    """The share of a GPU that a worker asks of Ray, rounded down so that all of them fit."""
    return int(RESOLUTION / per_gpu) / RESOLUTION


def capacity(nodes: Iterable[Resources], *, per_gpu: int | None = None) -> int:
    """Workers that fit on some nodes; at least 1, since a cluster may grow on demand.

    Args:
        nodes: that are alive.
        per_gpu: workers that share one GPU; None: they work on CPUs.
    """
    if per_gpu is None:
        return max(1, sum(int(node.cpus) for node in nodes))
    return max(1, sum(min(int(node.cpus), int(node.gpus) * per_gpu) for node in nodes))
