"""A batch script for Slurm: the study on one node by the local executor, on several by Ray.

The script is a head with all that varies, each value quoted, and a body without any (`templates/slurm*.sh`): what a
path holds is never read as code, and what a user may want to change stands in the first lines. The job is put back into
the queue when Slurm warns of the time limit or of a preemption, and goes on from the store; it stays out of it when it
is complete, when trials have failed, and when somebody cancels it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.launch import Resources
from sweeps.output import clean
from sweeps.slurm_time import slurm_time

TEMPLATES = Path(__file__).parent / "templates"
WARNING_SECONDS = 120
"""Slurm warns so long before the time limit; running units end at their next block, within seconds."""


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """What Slurm is told beside the resources."""

    name: str
    """Of the study."""
    study: str
    """As the command line names it there: of the catalogue, or an absolute path, and its size."""
    options: tuple[str, ...]
    """Of `loopsweep run`, but for workers and device."""
    directory: Path
    """Where the job runs and its log goes; absolute, on a file system that the nodes share."""
    partition: str | None = None
    account: str | None = None


def slurm_script(job: SlurmJob, need: Resources) -> str:
    """The script, as text for ``sbatch``."""
    bodies = ("slurm.sh", "slurm_ray.sh" if need.with_ray else "slurm_local.sh")
    name = job_name(job.name)
    head = [
        "#!/usr/bin/env bash",
        *_directives(name, job, need),
        "",
        f"# The study {clean(job.name)}, written by `loopsweep launch slurm`; submit it with sbatch.",
        "# What is recorded is not run again. Exit codes: 0 complete, 1 some trials failed, 2 bad input, 3 the store,",
        "# 143 stopped before the end.",
        *(f"# {fact}" for fact in need.facts),
        "",
        *_assigned(job, need),
        "",
    ]
    return "\n".join(head) + "".join((TEMPLATES / body).read_text(encoding="utf-8") for body in bodies)


def job_name(study: str) -> str:
    """The name of a job: a study's, of letters, digits, ``.``, ``_`` and ``-``."""
    return f"loopsweep-{re.sub(r'[^A-Za-z0-9._-]', '-', study)}"


def _directives(name: str, job: SlurmJob, need: Resources) -> Iterable[str]:
    asked: Mapping[str, object] = {
        "job-name": name,
        "nodes": need.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": need.cpus,
        "gpus-per-node": need.gpus or None,
        "mem": f"{need.node_gib}G",
        "time": slurm_time(need.time_s),
        "partition": job.partition,
        "account": job.account,
        "output": f"{name}-%j.out",
        "open-mode": "append",
        "signal": f"B:TERM@{WARNING_SECONDS}",
    }
    yield from (f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None)
    yield "#SBATCH --requeue"
    if need.nodes > 1:
        yield "#SBATCH --no-kill"  # a lost node is not the end: its units are run again on the others


def _assigned(job: SlurmJob, need: Resources) -> Iterable[str]:
    """The variables that the bodies read."""
    options = ["--workers", str(need.workers), "--device", need.device, *job.options]
    here = Path(sys.executable).parent
    yield f"directory={shlex.quote(str(job.directory))} # where it was written; relative paths begin here"
    yield f"study={shlex.quote(job.study)}"
    yield f"loopsweep=({shlex.quote(_program('loopsweep'))}) # of an environment that all nodes see"
    yield f"options=({shlex.join(options)})"
    yield f"cpus={need.cpus} # of a node"
    if need.with_ray:
        yield f"gpus={need.gpus}"
        yield f"nodes={need.nodes}"
        yield f"python={shlex.quote(str(here / Path(sys.executable).name))}"
        yield f"ray={shlex.quote(_program('ray'))}"


def _program(name: str) -> str:
    """The path of a command of this environment."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name
