"""What it says: statistics, figures, claims, rendering.

`write_report` is the door; what it needs (pandas, seaborn, scipy) is imported when it is called, so that planning and
``loopsweep --help`` pay nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.store import Store
    from studies.study import Study

__all__ = ["write_report"]


def write_report(studies: Sequence[Study], store: Store, out: Path) -> Path:
    """Writes the report of one study or of several.

    Args:
        studies: as `studies.spec.load_study` gives them; several are compared in one report.
        store: open, with what has been recorded so far; an incomplete study is reported as such.
        out: the folder for ``report.html``, ``report.md``, ``report.json`` and ``figures/``.

    Returns:
        The path of ``report.html``.
    """
    import studies as studies_package
    from reports.write import write

    read = [(study, studies_package.load(study, store=store)) for study in studies]
    return write(read, store=store.name, out=out)
