"""What the studies of a report are called in it: by their names, and where a name comes twice also by place.

A name is a key in ``report.json`` and part of anchors and of figures' file names, so no two of one report are alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from studies.study import Study


def labels(studies: Sequence[Study], stores: Sequence[str]) -> list[str]:
    """A label for each study, all different: the first of a name has it alone.

    Args:
        studies: in the order of the report.
        stores: where the rows of each lie, as the command line calls them; empty where nobody says.

    Raises:
        ValueError: where two have name, file and store in common, so are one.
    """
    found: list[str] = []
    seen = set()
    for study, store in zip(studies, stores, strict=True):
        what = study.name, study.file, store
        if what in seen:
            raise ValueError(f"{study.name} ({study.file}, {store}) is in this report twice")
        seen.add(what)
        places = (store, study.file, f"{study.file}, {store}")
        choices = (study.name, *(f"{study.name} ({place})" for place in places if place))
        found.append(next(label for label in choices if label not in found))
    return found


def slug(text: str) -> str:
    """A text in plain letters, for file names and anchors: ``Against length`` → ``against-length``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def prefixes(names: Sequence[str]) -> list[str]:
    """What the names of each study's figures begin with: its label in plain letters, numbered where two are alike."""
    found: list[str] = []
    for plain in (slug(name) or "study" for name in names):
        choices = [plain, *(f"{plain}-{number}" for number in range(2, len(names) + 1))]
        found.append(next(prefix for prefix in choices if prefix not in found))
    return found
