"""What `loopsweep report` is asked for: studies, each with the store in which its rows lie.

``STUDY::STORE`` names both, so that one report compares stores: what another machine, device or version recorded.
A study by itself lies in ``--store``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import InputError, Problem

if TYPE_CHECKING:
    from studies.store import Store
    from studies.study import Study

MARK = "::"
"""Between a study and its store."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A study of a report."""

    name: str
    """As further commands take it: a name in the catalogue, or a file."""
    study: Study
    root: str
    """Where its rows lie, as further commands take it."""
    store: Store
    label: str
    """What the report calls it."""

    @property
    def labelled(self) -> Study:
        """The study as the report calls it."""
        return replace(self.study, name=self.label)


def sources(texts: Sequence[str], root: str) -> list[Source]:
    """The studies of a command line, each once for each store.

    Args:
        texts: ``STUDY`` or ``STUDY::STORE``, as typed.
        root: the store of those that name none.

    Raises:
        InputError: for a study that is wrong or a store that is none.
        StoreError: for a store that is damaged.
    """
    from reports.labels import labels
    from studies.spec import load_study
    from studies.store import Store

    asked = list(dict.fromkeys(_parted(text, root) for text in texts))
    stores = {place: Store.open(place) for _, place in asked}
    studies = [load_study(name) for name, _ in asked]
    called = labels(studies, [place for _, place in asked])
    return [
        Source(name=name, study=study, root=place, store=stores[place], label=label)
        for (name, place), study, label in zip(asked, studies, called, strict=True)
    ]


def _parted(text: str, root: str) -> tuple[str, str]:
    """A study, and its store in the one way in which it is written."""
    from sweeps.options import store_name

    name, mark, place = text.partition(MARK)
    if not mark:
        return name, root
    if not name or not place:
        raise InputError([Problem(text, f"write STUDY{MARK}STORE, as quickstart{MARK}other/results")])
    try:
        return name, store_name(place)
    except InputError as error:
        raise InputError([Problem(text, problem.message) for problem in error.problems]) from None
