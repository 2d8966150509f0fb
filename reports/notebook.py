"""Parts of a report in Python: the frames and figures of what `studies.load` gives, as the report has them.

Each call makes what it needs of the report of one study, so the numbers are those of the page, and nothing is kept
between calls.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, Protocol

import pandas as pd

from core.errors import InputError, Problem
from core.terms import nearest
from reports.build import build, to_text
from reports.figures import drawn
from reports.labels import prefixes
from reports.panels import Drawing
from reports.sheets import SHEETS, sheets
from reports.tables import Results
from studies.study import Study


class Loaded(Results, Protocol):
    """The results of a study that they know."""

    @property
    def study(self) -> Study:
        """The study."""
        ...


def sheet(results: Loaded, name: str) -> pd.DataFrame:
    """A table of the report, as ``tables/NAME.csv`` has it; empty where the study has nothing of the kind.

    Args:
        results: of `studies.load`.
        name: leaderboard, claims, differences, curves, paired, …: a key of `reports.sheets.SHEETS`.

    Raises:
        InputError: for another name.
    """
    if name not in SHEETS:
        raise InputError([Problem("reports.sheet", f"no table {name!r}; {nearest(name, tuple(SHEETS))}")])
    return pd.DataFrame(sheets(_report(results)).get(name, []))


def leaderboard(results: Loaded) -> pd.DataFrame:
    """A row an arm and setting: rank, size, cost, and of each final metric mean, 95 % interval and n seeds."""
    return sheet(results, "leaderboard")


def verdicts(results: Loaded) -> pd.DataFrame:
    """A row a claim, and one for each part of a joint claim: verdict, effect, interval, p."""
    return sheet(results, "claims")


def figure_names(results: Loaded) -> list[str]:
    """The figures of the report, in the order of reading, as `figure` takes them."""
    report = _report(results)
    return [_bare(drawing) for drawing in drawn(report)]


def figure(results: Loaded, name: str) -> Drawing:
    """A figure of the report: a notebook shows it; ``.figure`` is matplotlib's, ``.alt`` says what it shows.

    Args:
        results: of `studies.load`.
        name: one of `figure_names`, ``claims`` or ``curve-val-loss``: that of its file without the study's.

    Raises:
        InputError: for another name.
    """
    seen = []
    with closing(drawn(_report(results))) as drawings:
        for drawing in drawings:
            seen.append(_bare(drawing))
            if seen[-1] == name:
                return drawing
    raise InputError([Problem("reports.figure", f"no figure {name!r}; {nearest(name, tuple(seen))}")])


def _bare(drawing: Drawing) -> str:
    """The name of a figure without that of its study."""
    return drawing.name.removeprefix(f"{prefixes([drawing.study])[0]}-")


def _report(results: Loaded) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(to_text(build([(results.study, results)], command="")))
    return report
