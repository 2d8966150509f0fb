"""The command `loopsweep launch`: its options, of which each scheduler takes some, and its help."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import typer

from sweeps.cli_app import command
from sweeps.options import (
    MAX_TRIALS,
    RESULTS,
    DeviceOption,
    FileOption,
    JsonOption,
    MaxTrialsOption,
    StoreOption,
    StudyArgument,
    count,
)
from sweeps.slurm_time import seconds_of

LEAST_SECONDS = 300
"""Of a time limit: Slurm warns two minutes before it, and a start takes its time."""


def limit(text: str) -> int:
    """A time limit in Slurm's form, in seconds."""
    seconds = seconds_of(text)
    if seconds is None or seconds < LEAST_SECONDS:
        raise typer.BadParameter(f"must be HH:MM:SS or D-HH:MM:SS, at least 00:05:00, got {text!r}")
    return seconds


def word(text: str) -> str:
    """A name of a scheduler's: nothing that a shell, Slurm or YAML would read as more."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._,:/@+-]*", text):
        raise typer.BadParameter(f"must be of letters, digits and . _ , : / @ + -, got {text!r}")
    return text


def label(text: str) -> str:
    """A name of Kubernetes'."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", text):
        raise typer.BadParameter(f"must be of lower-case letters, digits, - and ., at most 63, got {text!r}")
    return text


def volume(text: str) -> tuple[str, str]:
    """A claim, and where it is mounted: ``CLAIM`` or ``CLAIM:/PATH``."""
    claim, _, path = text.partition(":")
    path = path or "/loopsweep"
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path) or ".." in path.split("/"):
        raise typer.BadParameter(f"must be CLAIM or CLAIM:/PATH, a path of letters, digits, . _ -, got {text!r}")
    return label(claim), path


def _named(help_text: str, metavar: str, name: str, parser: Any = word) -> Any:
    return typer.Option(name, parser=parser, metavar=metavar, help=help_text)


@command(
    "launch slurm my-study.toml --partition short --out job.sh",
    "launch slurm my-study.toml@paper --nodes 4 --workers 128 --time 12:00:00",
    "launch kuberay my-study.toml --nodes 4 --image registry.example/loopsweep:0.1.0 --out job.yaml",
    "launch ray-job my-study.toml --address http://head:8265 --workers 64 --store s3://bucket/results",
)
def launch(
    target: Annotated[
        Literal["slurm", "kuberay", "ray-job"],
        typer.Argument(metavar="TARGET", help="slurm: a batch script; kuberay: a RayJob; ray-job: a job command."),
    ],
    study: StudyArgument,
    *,
    store: StoreOption = RESULTS,
    nodes: Annotated[
        Any, typer.Option("--nodes", parser=count, metavar="N", help="slurm, kuberay: nodes; silent = 1.")
    ] = None,
    workers: Annotated[
        Any,
        typer.Option("--workers", parser=count, metavar="N", help="Workers on all nodes; silent = by the plan."),
    ] = None,
    device: DeviceOption = "cpu",
    gpus: Annotated[
        Any, typer.Option("--gpus", parser=count, metavar="N", help="GPUs of each node with --device cuda; silent = 1.")
    ] = None,
    time: Annotated[
        Any,
        _named("slurm, kuberay: time limit; silent = the plan's time with a margin.", "[D-]HH:MM:SS", "--time", limit),
    ] = None,
    partition: Annotated[Any, _named("slurm: partition; silent = the cluster's.", "NAME", "--partition")] = None,
    account: Annotated[Any, _named("slurm: account that pays; silent = yours.", "NAME", "--account")] = None,
    image: Annotated[
        Any, _named("kuberay: image that holds loopsweep; silent = loopsweep:VERSION.", "IMAGE", "--image")
    ] = None,
    namespace: Annotated[Any, _named("kuberay: namespace; silent = kubectl's.", "NAME", "--namespace", label)] = None,
    volume_: Annotated[
        Any,
        _named("kuberay: claim of the store; silent = loopsweep:/loopsweep.", "CLAIM[:PATH]", "--volume", volume),
    ] = None,
    secret: Annotated[
        Any,
        _named("kuberay: Secret with credentials for s3://; silent = loopsweep-s3.", "NAME", "--secret", label),
    ] = None,
    address: Annotated[
        Any, _named("ray-job: the cluster's dashboard; silent = http://127.0.0.1:8265.", "URL", "--address")
    ] = None,
    out: FileOption = None,
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Print the batch script, manifest or job command for a cluster.

    Workers, cores, memory, GPUs, disk and time come from the plan; nothing is submitted. See docs/cluster.md.
    """
    from sweeps import commands_launch

    given = {
        "nodes": nodes,
        "workers": workers,
        "gpus": gpus,
        "time": time,
        "partition": partition,
        "account": account,
        "image": image,
        "namespace": namespace,
        "volume": volume_,
        "secret": secret,
        "address": address,
    }
    options = {name: value for name, value in given.items() if value is not None}
    return commands_launch.launch(
        target, study, store, options, device=device, out=out, max_trials=max_trials, as_json=as_json
    )
