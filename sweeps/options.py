"""The options of the command line: each with its name, its help and the parser that refuses what makes no sense.

Options that several commands share are declared once here, so that they mean and say the same everywhere.
"""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from core.terms import nearest
from studies.place import place_of
from sweeps.output import clean

RETRIED = ("failed", "timeout", "oom", "diverged")
"""Statuses that may be run again."""


def share(text: str) -> float:
    """A share in (0, 1]: ``1%`` or ``0.01``."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise typer.BadParameter(f"must be a share such as 1% or 0.01, more than 0 and at most 1, got {text!r}")
    return share


def pack(text: str) -> str | int:
    """``auto``, or how many trials train in one pack."""
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) >= 1):
        raise typer.BadParameter(f"must be auto or an integer of at least 1, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if number < 1:
        raise typer.BadParameter(f"must be an integer of at least 1, got {text!r}")
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise typer.BadParameter(f"must be a finite number above 0, got {text!r}")
    return number


def statuses(text: str) -> tuple[str, ...]:
    """Statuses of trials to run again, separated by commas."""
    wanted = tuple(dict.fromkeys(word for word in text.split(",") if word))
    for word in wanted:
        if word not in RETRIED:
            raise typer.BadParameter(f"unknown status {word!r}; {nearest(word, RETRIED)}")
    return wanted


def new_file(text: str) -> Path:
    """A file to write, in a folder that is there."""
    path = Path(text)
    if not text or path.is_dir():
        raise typer.BadParameter(f"must be a file, got {'nothing' if not text else f'the folder {text}'}; name a file")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}; make it first")
    return path


def new_folder(text: str) -> Path:
    """A folder to write to, which is there or can be made."""
    path = Path(text)
    there = next((one for one in (path, *path.parents) if one.exists()), path)
    if not text or not there.is_dir():
        raise typer.BadParameter(f"must be a folder, got {f'the file {there}' if text else 'nothing'}; name a folder")
    return path


RESULTS = "results"
MAX_TRIALS = str(10**6)


def store_name(text: str) -> str:
    """A directory, or ``s3://BUCKET/PREFIX``, always written in the same way."""
    return place_of(text).name


def as_typed(name: str, store: str) -> str:
    """The study and the store as another command would name them."""
    usual = store_name(os.environ.get("LOOPSWEEP_STORE") or RESULTS)
    words = [name] if store == usual else [name, "--store", store]
    return clean(shlex.join(words))


StudyArgument = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A name in the catalogue, or a TOML file; @SIZE behind it: in that size."),
]
PlannedArgument = Annotated[
    str | None,
    typer.Argument(metavar="STUDY", help="A name in the catalogue, or a TOML file; --explain may go without."),
]
ExplainOption = Annotated[
    str | None,
    typer.Option("--explain", metavar="ID", help="Explain this trial (its id, or a beginning that only it has)."),
]
StoreOption = Annotated[
    Any,
    typer.Option(
        "--store",
        parser=store_name,
        metavar="DIR|s3://…",
        envvar="LOOPSWEEP_STORE",
        help="Where the results lie: a folder, or s3://BUCKET/PREFIX.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
MaxTrialsOption = Annotated[
    Any,
    typer.Option("--max-trials", parser=count, metavar="N", help="Refuse a study with more trials, before expansion."),
]
StudyFileOption = Annotated[
    list[str] | None,
    typer.Option("--study", metavar="STUDY", help="A study to search that was not run in this store; may be repeated."),
]
TrialArgument = Annotated[str, typer.Argument(metavar="ID", help="A trial id, or a beginning that only it has.")]
OnOption = Annotated[Literal["local", "ray"], typer.Option("--on", help="Worker processes here, or Ray Tune.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="A", help="Ray: the cluster; silent = one started here.")
]
DashboardOption = Annotated[bool, typer.Option("--dashboard", help="Ray: show its dashboard, on this machine alone.")]
WorkersOption = Annotated[
    Any, typer.Option("--workers", parser=count, metavar="N", help="Workers in all; silent = one per core.")
]
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where trials train.")]
EngineOption = Annotated[
    Literal["eager", "compiled"],
    typer.Option("--engine", help="Gradients by torch.compile, or operation by operation: other bits, see the docs."),
]
PackOption = Annotated[
    Any, typer.Option("--pack", parser=pack, metavar="auto|K", help="Trials that train in one step; auto measures.")
]
CheckpointOption = Annotated[
    Any,
    typer.Option(
        "--checkpoint-minutes", parser=positive, metavar="M", help="A unit of work ends at the latest after so long."
    ),
]
TimeoutOption = Annotated[
    Any,
    typer.Option("--unit-timeout", parser=positive, metavar="S", help="Seconds after which a unit has timed out."),
]
RetryOption = Annotated[
    Any,
    typer.Option("--retry", parser=statuses, metavar="STATUS,…", help="Run again: failed, timeout, oom, diverged."),
]
AuditOption = Annotated[
    Any,
    typer.Option("--audit", parser=share, metavar="SHARE", help="Re-run a share of what is recorded, compare bits."),
]
OPTUNA_STORAGE = "LOOPSWEEP_OPTUNA_STORAGE"
"""The variable that may hold a storage's URL, so that its password shows in no list of processes."""
OptunaStorageOption = Annotated[
    str | None,
    typer.Option(
        "--optuna-storage",
        metavar="URL",
        envvar=OPTUNA_STORAGE,
        help="Show a search in this Optuna storage: journal:///path, sqlite:///path, postgresql://….",
    ),
]
TopOption = Annotated[
    Any, typer.Option("--top", parser=count, metavar="K", help="The best so many settings of each task.")
]
FreshSeedsOption = Annotated[
    Any, typer.Option("--seeds", parser=count, metavar="N", help="Fresh seeds of each of them.")
]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="METRIC", help="What decides; silent = what is tuned or searched for, else the loss."),
]
ArmOption = Annotated[
    list[str] | None, typer.Option("--arm", metavar="NAME", help="Only settings of this arm; may be repeated.")
]
FileOption = Annotated[
    Any, typer.Option("--out", parser=new_file, metavar="FILE", help="Write to this file, not to stdout.")
]
FormatOption = Annotated[
    Literal["table", "csv", "json", "parquet"] | None,
    typer.Option("--format", help="Silent: by the ending of --out, else a table."),
]
