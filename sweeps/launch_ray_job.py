"""A job for a Ray cluster that runs already: a shell script around ``ray job submit``.

The driver runs in the cluster, so the machine that submits may go away. A study's file travels as the working directory
of the job, under a name of ours; loopsweep itself and the store must be there, on every node. No secret is written: Ray
reads its token from the environment of who submits, and nodes have the credentials of a bucket of their own.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from sweeps.launch import Resources
from sweeps.launch_slurm import job_name
from sweeps.output import clean

ADDRESS = "http://127.0.0.1:8265"
"""Where a cluster's dashboard listens on its head, or at the near end of a port forward."""
STUDY_FILE = "study.toml"
OVERRIDE = "RAY_OVERRIDE_JOB_RUNTIME_ENV=1"
"""Lets the driver send its own working directory, loopsweep's code, to its workers: Ray takes two for a conflict."""


@dataclass(frozen=True, kw_only=True)
class RayJob:
    """What the job is told beside the resources."""

    name: str
    """Of the study."""
    study: str
    """As the command line names it in the cluster."""
    file: Path | None
    """The study's file, which travels as `STUDY_FILE`; None where the cluster has it already."""
    options: tuple[str, ...]
    """Of `loopsweep run`, but for workers, device and the cluster."""
    address: str | None = None


def ray_job_script(job: RayJob, need: Resources) -> str:
    """The script, as text for ``sh``."""
    lines = [
        "#!/bin/sh",
        f"# The study {clean(job.name)}, written by `loopsweep launch ray-job`. What is recorded is not run again.",
        *(f"# {fact}" for fact in need.facts),
        "set -eu",
    ]
    parts = [
        f"ray job submit --address {shlex.quote(job.address or ADDRESS)}",
        f"--entrypoint-num-cpus 1 --entrypoint-memory {need.driver_bytes}",
        f'--submission-id "{job_name(job.name)}-$(date -u +%Y%m%dT%H%M%S)"',
    ]
    run = ["env", OVERRIDE, "loopsweep", "run", "--on", "ray", "--address", "auto", "--workers", str(need.workers)]
    run += ["--device", need.device, *job.options, "--", job.study]
    if job.file is not None:
        lines += [
            "folder=$(mktemp -d)",
            "trap 'rm -rf \"$folder\"' EXIT",
            f'cp -- {shlex.quote(str(job.file))} "$folder/{STUDY_FILE}"',
        ]
        parts.append('--working-dir "$folder"')
    lines.append(" \\\n  ".join([*parts, f"-- {shlex.join(run)}"]))
    return "\n".join(lines) + "\n"
