"""Writes a report to disk: ``report.json`` first, then everything that is made of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from reports.build import build, to_text
from reports.figures import draw
from reports.render import html_report, markdown_report
from reports.tables import Results
from studies.study import Study


def write(studies: Sequence[tuple[Study, Results]], *, store: str, out: Path) -> Path:
    """The report of one study or several, in a folder of its own.

    Writes ``report.json``, ``report.html``, ``report.md`` and ``figures/*.svg``; a report that lies there is
    replaced, with its figures.

    Args:
        studies: each with its results.
        store: named in the command that makes the report again.
        out: the folder; made where it is missing.

    Returns:
        The path of ``report.html``.
    """
    text = to_text(build(studies, command=_command([study for study, _ in studies], store)))
    report = json.loads(text)  # every form is made of what the file says
    drawings = draw(report)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for stale in figures.glob("*.svg"):
        stale.unlink()
    (out / "report.json").write_text(text, encoding="utf-8")
    for drawing in drawings:
        (figures / f"{drawing.name}.svg").write_text(drawing.svg, encoding="utf-8")
    (out / "report.md").write_text(markdown_report(report, drawings), encoding="utf-8")
    page = out / "report.html"
    page.write_text(html_report(report, drawings), encoding="utf-8")
    return page


def _command(studies: Sequence[Study], store: str) -> str:
    """The shell line that runs what is missing and reports again."""
    files, place = [shlex.quote(study.file) for study in studies], shlex.quote(store)
    runs = [f"loopsweep run {file} --store {place}" for file in files]
    return " && ".join([*runs, f"loopsweep report {' '.join(files)} --store {place}"])
