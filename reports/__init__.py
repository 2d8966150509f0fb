"""What it says: statistics, figures, claims, rendering.

`write_report` writes a report, the others give parts of it in Python. What they need (pandas, seaborn, scipy) is
imported when they are called, so that planning and ``loopsweep --help`` pay nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from reports.notebook import Loaded
    from reports.panels import Drawing
    from studies.store import Store
    from studies.study import Study

__all__ = ["figure", "figure_names", "hold_still", "leaderboard", "sheet", "verdicts", "write_report"]


def write_report(
    studies: Sequence[Study], store: Store | Sequence[Store], out: Path, *, refresh: float | None = None
) -> Path:
    """Writes the report of one study or of several.

    Args:
        studies: as `studies.spec.load_study` gives them; several are compared in one report.
        store: open, with what has been recorded so far; an incomplete study is reported as such. Or one for each study:
            the same study in two stores is compared with itself.
        out: the folder for ``report.html``, ``report.md``, ``report.json``, ``figures/`` and ``tables/``.
        refresh: seconds after which the page loads itself again (see `hold_still`); None: never.

    Returns:
        The path of ``report.html``.
    """
    import studies as studies_package
    from reports.write import write
    from studies.store import Store

    stores = [store] * len(studies) if isinstance(store, Store) else list(store)
    read = [(study, studies_package.load(study, store=own)) for study, own in zip(studies, stores, strict=True)]
    return write(read, store=[own.name for own in stores], out=out, refresh=refresh)


def hold_still(page: Path) -> None:
    """``report.html``, if it loads itself again, does so no more."""
    from reports import write

    write.hold_still(page)


def sheet(results: Loaded, name: str) -> pd.DataFrame:
    """A table of the report; see `reports.notebook.sheet`."""
    from reports import notebook

    return notebook.sheet(results, name)


def leaderboard(results: Loaded) -> pd.DataFrame:
    """The leaderboard of the report; see `reports.notebook.leaderboard`."""
    from reports import notebook

    return notebook.leaderboard(results)


def verdicts(results: Loaded) -> pd.DataFrame:
    """What became of the claims; see `reports.notebook.verdicts`."""
    from reports import notebook

    return notebook.verdicts(results)


def figure_names(results: Loaded) -> list[str]:
    """The figures of the report; see `reports.notebook.figure_names`."""
    from reports import notebook

    return notebook.figure_names(results)


def figure(results: Loaded, name: str) -> Drawing:
    """A figure of the report; see `reports.notebook.figure`."""
    from reports import notebook

    return notebook.figure(results, name)
