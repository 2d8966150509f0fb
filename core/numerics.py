"""On what a row's numbers were made: threads, numerics class, provenance. Nothing here is part of what a trial is.

Bits are promised within a *numerics class*: instruction set or device, torch build and engine. The thread count changes
bits too, so every process pins itself to one thread before torch is imported. No torch at import, for that reason.

MKL gives a matrix of a batch bits that depend on where its result lies in memory, and so on its place in the batch, on
processors that are not Intel's (seen on AMD EPYC: results whose size is no multiple of 16 bytes). Its mode of
conditional numerical reproducibility takes the same steps wherever, at the same speed; there it is asked for.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

Engine = Literal["eager", "compiled"]
"""What computes the gradients of updates; see `core.engines`."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CODE_VARIABLE = "LOOPSWEEP_CODE"
"""Where code runs from a copy that was sent to a node: what `code_facts` gave where it was sent from, as JSON."""
MKL_MODE = "MKL_CBWR"
"""MKL's variable for conditional numerical reproducibility; the fastest branch that it knows is AUTO."""


def pin_environment() -> None:
    """What has to stand in the environment before torch is imported: one thread, and the mode of MKL."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    if _of_cpu("vendor_id") not in ("GenuineIntel", None):
        os.environ.setdefault(MKL_MODE, "AUTO")


def pin_threads() -> None:
    """One thread for this process, and what else `pin_environment` says; to be called before torch is imported."""
    pin_environment()
    import torch

    torch.set_num_threads(1)


def numerics_class(device: str = "cpu", engine: Engine = "eager") -> str:
    """The class within which bits are promised, e.g. ``cpu-avx512/torch-2.13.0+cpu/eager``.

    On a CPU with MKL in its reproducible mode the first part says so: ``cpu-avx512-mkl_auto``.
    """
    import torch

    if torch.device(device).type == "cuda":
        kind = "cuda-" + torch.cuda.get_device_name(device).lower().replace(" ", "-")
    else:
        kind = "cpu-" + torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
        if mode := os.environ.get(MKL_MODE):
            kind += "-mkl_" + mode.lower().replace(",", "_")
    return f"{kind}/torch-{torch.__version__}/{engine}"


def device_and_engine(numerics_class: str) -> tuple[str, Engine]:
    """The kind of device and the engine that a numerics class names, e.g. ``("cpu", "eager")``."""
    kind = numerics_class.partition("/")[0].partition("-")[0]
    return kind, "compiled" if numerics_class.endswith("/compiled") else "eager"


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Versions, commit and host facts that belong beside a result; values JSON can write down."""
    import torch

    facts: dict[str, Any] = {
        **code_facts(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return facts


def code_facts() -> dict[str, str | None]:
    """Version and commit of the code that runs; of a copy, those of what it was copied from."""
    if sent := os.environ.get(CODE_VARIABLE):
        return dict(json.loads(sent))
    return {"loopsweep": _version("loopsweep"), "commit": _commit()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout this file lies in, with ``+changes`` where tracked files differ; None without one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    # S603: fixed words and our own path, no shell.
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    return done.stdout.strip()


def _cpu_model() -> str:
    return _of_cpu("model name") or platform.processor()


def _of_cpu(fact: str) -> str | None:
    """What Linux says of the first processor; None elsewhere, and where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == fact), None)
