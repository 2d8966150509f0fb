"""Writes a report to disk, each file whole: a reader sees the one before or this one, never half of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from reports.build import build, to_text
from reports.forms import forms
from reports.render import still
from reports.tables import Results
from studies.formats import publish
from studies.study import Study

OWN = ("figures/*.svg", "figures/*.pdf", "tables/*.csv", "tables/*.tex")
"""What a report has in folders of its own; files of an earlier report that this one lacks are removed."""


def write(
    studies: Sequence[tuple[Study, Results]], *, store: str | Sequence[str], out: Path, refresh: float | None = None
) -> Path:
    """The report of one study or several, in a folder of its own; a report that lies there is replaced.

    Args:
        studies: each with its results.
        store: named in the command that makes the report again; one for all, or one for each study.
        out: the folder; made where it is missing.
        refresh: seconds after which the page loads itself again; None: never.

    Returns:
        The path of ``report.html``.
    """
    stores = [store] * len(studies) if isinstance(store, str) else list(store)
    report = build(studies, command=_command([study for study, _ in studies], stores), stores=stores)
    named = set()
    for name, content in forms(to_text(report), refresh=refresh):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        publish(out / name, content)
        named.add(out / name)
    for pattern in OWN:
        for stale in set(out.glob(pattern)) - named:
            stale.unlink()
    return out / "report.html"


def hold_still(page: Path) -> None:
    """A page that loads itself again does so no more."""
    publish(page, still(page.read_text(encoding="utf-8")).encode())


def _command(studies: Sequence[Study], stores: Sequence[str]) -> str:
    """The shell line that runs what is missing and reports again."""
    places = [(study.file, store) for study, store in zip(studies, stores, strict=True)]
    runs = [f"loopsweep run {shlex.quote(file)} --store {shlex.quote(store)}" for file, store in places]
    if len(set(stores)) > 1:
        asked = " ".join(shlex.quote(f"{file}::{store}") for file, store in places)
    else:
        asked = f"{' '.join(shlex.quote(file) for file, _ in places)} --store {shlex.quote(stores[0])}"
    return " && ".join([*runs, f"loopsweep report {asked}"])
