"""What the command `launch` does: a plan's resources in the words of a scheduler, on stdout or in a file.

Nothing is submitted and nothing is written but the file of ``--out``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from core.errors import InputError, Problem, StoreError
from core.task_terms import TextTask
from studies.expand import Trial
from studies.place import in_bucket
from studies.spec import CATALOGUE, study_path
from studies.store import Store
from studies.wanted import wanted
from sweeps import output
from sweeps.commands_study import load
from sweeps.launch import Asked, Resources, resources
from sweeps.launch_kuberay import STUDY_FILE, STUDY_FOLDER, KubeRayJob, kuberay_manifest
from sweeps.launch_ray_job import STUDY_FILE as SENT_FILE
from sweeps.launch_ray_job import RayJob, ray_job_script
from sweeps.launch_slurm import SlurmJob, slurm_script

Target = Literal["slurm", "kuberay", "ray-job"]

TAKES: Mapping[str, tuple[str, ...]] = {
    "slurm": ("nodes", "workers", "gpus", "time", "partition", "account"),
    "kuberay": ("nodes", "workers", "gpus", "time", "image", "namespace", "volume", "secret"),
    "ray-job": ("workers", "address"),
}
"""The options of each target, beside those of all."""
NEXT = {"slurm": "sbatch {}", "kuberay": "kubectl apply -f {}", "ray-job": "sh {}"}


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """What each target's text is made from, beside the resources."""

    name: str
    """Of the study, as the command line has it here."""
    called: str
    """Of the study, as it calls itself."""
    store: str
    trials: Sequence[Trial]
    options: Mapping[str, Any]
    more: tuple[str, ...]
    """Options of `loopsweep run` that every target passes on."""


def launch(
    target: Target,
    name: str,
    store: str,
    options: Mapping[str, Any],
    *,
    device: Literal["cpu", "cuda"],
    out: Path | None,
    max_trials: int,
    as_json: bool,
) -> int:
    """Prints the text for a target, and says on stderr what it asks for.

    Args:
        target: who is to run it.
        name: of the study.
        store: where it lies, as the command line names it.
        options: those that were given, by name.
        device: where trials train.
        out: file to write instead of stdout.
        max_trials: as for `load`.
        as_json: the text and its numbers as JSON.
    """
    _check(target, options)
    study = load(name, max_trials=max_trials)
    asked = Asked(
        nodes=options.get("nodes"),
        workers=options.get("workers"),
        device=device,
        gpus=options.get("gpus"),
        time_s=options.get("time"),
        requeued=target == "slurm",
    )
    with _seen(store) as known:
        trials = wanted(study, known)
        need = resources(trials, known, asked)
    more = () if max_trials == 10**6 else ("--max-trials", str(max_trials))
    ask = _Ask(name=name, called=study.name, store=store, trials=trials, options=options, more=more)
    text = _TEXTS[target](ask, need)
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise InputError([Problem(output.clean(name), "paths in scripts must be UTF-8; rename the folder")]) from error
    if out is not None:
        from studies.formats import publish

        publish(out, content)
    if as_json:
        output.emit_json({"target": target, "study": study.name, "resources": asdict(need), "text": text})
    elif out is None:
        output.emit_bytes(content)
    for fact in need.facts:
        output.note(fact)
    if out is not None:
        output.note(f"next: {NEXT[target].format(output.clean(out))}")
    return 0


@contextmanager
def _seen(name: str) -> Iterator[Store]:
    """The store of a name; where that is a bucket which cannot be read from here, an empty one, and it is said."""
    with TemporaryDirectory() as empty:
        try:
            store = Store.open(name)
            store.read("segments", ["lineage"])
        except StoreError as error:
            if not in_bucket(name):
                raise
            output.note(f"{error}\nthe plan is made as if nothing were recorded and no step time measured")
            store = Store.open(empty)
        yield store


def _check(target: Target, options: Mapping[str, Any]) -> None:
    """Refuses options of another target."""
    problems = []
    for name in options:
        if name not in TAKES[target]:
            theirs = " and ".join(other for other, takes in TAKES.items() if name in takes)
            problems.append(Problem(f"--{name}", f"goes with launch {theirs}, not {target}; leave it out"))
    if problems:
        raise InputError(problems)


def _slurm(ask: _Ask, need: Resources) -> str:
    job = SlurmJob(
        name=ask.called,
        study=_here(ask.name),
        options=("--store", _anywhere(ask.store), *ask.more),
        directory=Path.cwd(),
        partition=ask.options.get("partition"),
        account=ask.options.get("account"),
    )
    return slurm_script(job, need)


def _kuberay(ask: _Ask, need: Resources) -> str:
    bucket = in_bucket(ask.store)
    claim = None if bucket else ask.options.get("volume", ("loopsweep", "/loopsweep"))
    for other, meant in (("volume", not bucket), ("secret", bucket)):
        if other in ask.options and not meant:
            what = "a bucket" if bucket else "a volume"
            raise InputError(
                [Problem(f"--{other}", f"the store {ask.store} is {what}; leave it out, or change --store")]
            )
    place = _anywhere(ask.store) if claim is None else _mounted(ask.store, claim[1])
    path, size = study_path(ask.name)
    shown, text = ask.name, None
    if path.parent != CATALOGUE:
        shown = _here(ask.name)
        if claim is None or not PurePosixPath(path.absolute()).is_relative_to(claim[1]):
            if _reads_files(ask.trials):
                message = "reads text files, which do not travel; put both on the volume and name the study there"
                raise InputError([Problem(output.clean(ask.name), message)])
            shown = f"{STUDY_FOLDER}/{STUDY_FILE}" + (f"@{size}" if size else "")
            text = path.read_text(encoding="utf-8-sig")
    job = KubeRayJob(
        name=ask.called,
        study=shown,
        text=text,
        options=("--store", place, *ask.more),
        image=ask.options.get("image"),
        namespace=ask.options.get("namespace"),
        volume=claim,
        secret=ask.options.get("secret", "loopsweep-s3") if bucket else None,
    )
    return kuberay_manifest(job, need)


def _ray_job(ask: _Ask, need: Resources) -> str:
    path, size = study_path(ask.name)
    shown, file = _here(ask.name), None
    if path.parent != CATALOGUE and not _reads_files(ask.trials):
        shown, file = SENT_FILE + (f"@{size}" if size else ""), path.absolute()
    job = RayJob(
        name=ask.called,
        study=shown,
        file=file,
        options=("--store", _anywhere(ask.store), *ask.more),
        address=ask.options.get("address"),
    )
    return ray_job_script(job, need)


_TEXTS = {"slurm": _slurm, "kuberay": _kuberay, "ray-job": _ray_job}


def _here(name: str) -> str:
    """A study as it is called from any directory: by the name in the catalogue, or an absolute path."""
    path, size = study_path(name)
    return name if path.parent == CATALOGUE else f"{path.absolute()}{f'@{size}' if size else ''}"


def _anywhere(store: str) -> str:
    """A store as it is called from any directory."""
    return store if in_bucket(store) else str(Path(store).absolute())


def _mounted(store: str, mount: str) -> str:
    """A store on a volume: relative paths begin where it is mounted."""
    place = PurePosixPath(mount, store)
    if not place.is_relative_to(mount) or ".." in place.parts:
        message = (
            f"{store} is not on the volume, which is mounted at {mount}; give a relative path, or --volume CLAIM:PATH"
        )
        raise InputError([Problem("--store", message)])
    return str(place)


def _reads_files(trials: Sequence[Trial]) -> bool:
    """Whether a study reads texts that do not come with Python."""
    tasks = {id(trial.config.task): trial.config.task for trial in trials}.values()
    return any(
        isinstance(task, TextTask) and any(not pattern.startswith("python:") for pattern in task.files)
        for task in tasks
    )
