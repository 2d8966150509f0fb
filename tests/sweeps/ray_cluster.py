"""A Ray cluster on this machine as a process of its own: ``python -m tests.sweeps.ray_cluster``, obeying its stdin.

    add NAME CPUS    a node joins          lose NAME    its processes are killed at once
    blind NAME CPUS PATH    a node joins that sees an empty folder at PATH (needs the right to mount)
    version RAY      the cluster says that it runs this Ray

Each answer is one line; the first is the address. The cluster ends with its stdin. `ray.cluster_utils` turns no token
on, so the environment of the process does: see `token`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.2"
PATIENCE_S = 240.0
"""Of a busy machine."""


def token(folder: Path) -> dict[str, str]:
    """An environment of Ray with a fresh token, in a file that its owner alone may read."""
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_worker_niceness": "0",
        # A node that is lost refuses five checks in a row, which come every 3 s; one that is slow has 10 s for each.
        "RAY_health_check_period_ms": "500",
    }


class Cluster:
    """The other end of such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def tell(self, *words: object) -> str:
        assert self._process.stdin is not None
        print(shlex.join(map(str, words)), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the cluster's process has died"
        return line.rstrip("\n")


@contextlib.contextmanager
def cluster(environ: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster whose head has no CPUs: all that works are the nodes that are added."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sweeps.ray_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    ) as process:
        try:
            yield Cluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)


# --- in the process --------------------------------------------------------------------------------------------------


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is no answer

    def answer(text: str) -> None:
        print(text, file=out, flush=True)

    from ray._private import ray_constants
    from ray._raylet import GcsClient
    from ray.cluster_utils import Cluster as RayCluster

    class Patient(RayCluster):
        def _wait_for_node(self, node: Any, timeout: float = PATIENCE_S) -> None:
            super()._wait_for_node(node, timeout)  # it gives up after 30 s

    options = {"node_ip_address": LOOPBACK, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    made = Patient(initialize_head=True, head_node_args={**options, "num_cpus": 0})
    nodes: dict[str, Any] = {}

    def join(name: str, cpus: str) -> None:
        own = {"include_dashboard": None, "runtime_env_dir_name": f"code-of-{name}"}  # as on a machine of its own
        nodes[name] = made.add_node(num_cpus=int(cpus), **{**options, **own})

    answer(made.address)
    for line in sys.stdin:
        match shlex.split(line):
            case ["add", name, cpus]:
                join(name, cpus)
            case ["blind", name, cpus, path]:
                with _blind(path):
                    join(name, cpus)
            case ["lose", name]:
                made.remove_node(nodes.pop(name), allow_graceful=False)
            case ["version", ray_version]:
                client = GcsClient(address=made.address)
                space = ray_constants.KV_NAMESPACE_CLUSTER
                said = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", space))
                said["ray_version"] = ray_version
                client.internal_kv_put(b"CLUSTER_METADATA", json.dumps(said).encode(), True, space)
        answer("done")
    made.shutdown()


@contextlib.contextmanager
def _blind(path: str) -> Iterator[None]:
    """Processes of a node start in a mount namespace of their own, where another folder covers `path`."""
    from ray._private import services

    start = services.start_ray_process
    cover = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {shlex.quote(path)} && exec "$@"', "sh"]
    services.start_ray_process = lambda command, *rest, **more: start([*cover, *command], *rest, **more)
    try:
        yield
    finally:
        services.start_ray_process = start


if __name__ == "__main__":
    main()
