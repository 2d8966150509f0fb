"""Workers are counted over all nodes of a cluster, and GPUs are shared so that they fit."""

from __future__ import annotations

import pytest

from core.errors import InputError
from sweeps.ray_shares import Resources, capacity, gpu_share, workers_per_gpu

HEAD, SMALL, LARGE = Resources(0), Resources(2.0), Resources(16.0)
ONE, FOUR = Resources(8.0, 1.0), Resources(8.0, 4.0)


def test_every_whole_cpu_of_every_node_is_a_place() -> None:
    assert capacity([HEAD, SMALL, LARGE, Resources(1.5)]) == 19
    assert capacity([HEAD]) == 1  # it may grow


@pytest.mark.parametrize(
    ("nodes", "workers", "per_gpu", "places"),
    [
        ([ONE], None, 8, 8),
        ([ONE, LARGE], None, 8, 8),  # a node without a GPU holds no worker, however many CPUs it has
        ([ONE, FOUR], None, 4, 4 + 8),  # 16 CPUs over 5 GPUs: 4 on the one GPU, and as many as CPUs beside four
        ([ONE, FOUR], 5, 1, 5),
        ([ONE, FOUR], 3, 1, 5),
        ([FOUR], 6, 2, 8),
    ],
)
def test_workers_share_gpus_evenly(nodes: list[Resources], workers: int | None, per_gpu: int, places: int) -> None:
    assert workers_per_gpu(nodes, workers) == per_gpu
    assert capacity(nodes, per_gpu=per_gpu) == places


@pytest.mark.parametrize("per_gpu", [1, 2, 3, 7, 64])
def test_all_shares_of_a_gpu_fit_into_it(per_gpu: int) -> None:
    assert 0 < per_gpu * gpu_share(per_gpu) <= 1
    assert (per_gpu + 1) * gpu_share(per_gpu) > 1


def test_a_cluster_without_a_gpu_is_bad_input_on_cuda() -> None:
    with pytest.raises(InputError, match="no GPU; take --device cpu"):
        workers_per_gpu([HEAD, LARGE], None)
