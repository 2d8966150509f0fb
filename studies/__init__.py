"""What is asked and what is known: specification, stage tree, schemas, store, queries, catalogue.

`load` is the door to results in Python; what it needs (DuckDB, pandas) is imported when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.frames import Results
    from studies.store import Store
    from studies.study import Study

__all__ = ["load"]


def load(study: str | Path | Study, *, store: str | Path | Store | None = None) -> Results:
    """The results of a study; see `studies.frames.load`."""
    from studies.frames import load as load_frames

    return load_frames(study, store=store)
