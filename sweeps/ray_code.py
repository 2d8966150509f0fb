"""The code that travels to the nodes of a Ray cluster: the four packages as the driver runs them, and nothing beside.

They are copied into one folder, which Ray packs, keeps in the cluster's head while the driver lives, and unpacks on
each node that starts a worker. So a node needs Python with the pinned packages, not loopsweep; a checkout's history,
results and environment stay where they are; and a worker that starts late runs the code that the driver began with,
whatever was edited since. What a copy can't tell of itself (version, commit) goes along in the environment, where Ray's
dashboard and logs show it: nothing secret may. No ray here.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

from core.errors import InputError
from core.numerics import CODE_VARIABLE, THREAD_VARIABLES, code_facts

PACKAGES = ("core", "studies", "reports", "sweeps")
MOST_BYTES = 16 * 2**20
"""The packages hold under 2 MiB; more is a file that got among them by mistake, and would go to every node."""
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def stage(folder: Path) -> None:
    """Copies the packages into a folder that exists.

    Raises:
        InputError: where they hold more than `MOST_BYTES`.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise InputError(f"--on ray sends the package {name} to the nodes, but it is not installed as a folder")
        shutil.copytree(Path(spec.origin).parent, folder / name, ignore=_LEFT_OUT)
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if (total := sum(sizes.values())) > MOST_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise InputError(
            f"--on ray sends the packages {', '.join(PACKAGES)} to each node, at most {MOST_BYTES >> 20} MiB, got "
            f"{total / 2**20:.0f} MiB; move {largest.relative_to(folder)} ({sizes[largest] / 2**20:.0f} MiB) elsewhere"
        )


def environment() -> dict[str, str]:
    """What workers find in their environment before anything is imported; public, see above."""
    return dict.fromkeys(THREAD_VARIABLES, "1") | {CODE_VARIABLE: json.dumps(code_facts(), sort_keys=True)}
