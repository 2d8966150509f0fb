"""Which states lie on disk: kept ones, and passing ones that only units to come begin from.

A *kept* state is what ``train.keep`` asks for and stays. A *passing* one has a name of its own: whoever runs a study
removes it when nothing of that study is to begin from it any more, also after a run that was killed. Both are cache: a
state that is missing is replayed.
"""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from core.errors import StoreError
from studies.place import Place

if TYPE_CHECKING:
    from core.checkpoint import TrialState

FOLDER = "checkpoints"
_NAME = re.compile(r"([0-9a-f]{2})/([0-9a-f]{16})-(\d+)(\.passing)?\.safetensors")
_TORN = re.compile(r"[0-9a-f]{2}/\.([0-9a-f]{16})-\d+(?:\.passing)?\.safetensors\..+")
TORN_SECONDS = 600.0
"""A file that was begun so long ago and never published belongs to a writer that is gone."""


class States:
    """One look at the states of a store."""

    def __init__(self, found: Iterable[tuple[str, int]] = ()) -> None:
        """Of the addresses (lineage, step) that are there."""
        self._steps: dict[str, list[int]] = {}
        for lineage, step in found:
            steps = self._steps.setdefault(lineage, [])
            if step not in steps:
                insort(steps, step)

    def has(self, lineage: str, step: int) -> bool:
        """Whether a state is there."""
        return step in self._steps.get(lineage, ())

    def nearest(self, lineage: str, after: int, last: int) -> int | None:
        """The latest step in (after, last] of which the lineage has a state."""
        steps = self._steps.get(lineage)
        if steps is None:
            return None
        index = bisect_right(steps, last)
        return steps[index - 1] if index and steps[index - 1] > after else None


def state_name(lineage: str, step: int, *, passing: bool) -> str:
    """The file of a state, relative to the store, whether or not it is there."""
    return f"{FOLDER}/{lineage[:2]}/{lineage}-{step}{'.passing' if passing else ''}.safetensors"


def listed(place: Place) -> Iterator[tuple[str, int, bool]]:
    """All states of a store, in no telling order: (lineage, step, passing)."""
    for name in place.names(FOLDER):
        if match := _NAME.fullmatch(name):
            yield match[2], int(match[3]), match[4] is not None


def remove_torn(place: Place, lineages: Collection[str], *, before: float) -> None:
    """Removes files of states that were never published: a writer was killed.

    Args:
        place: of the store.
        lineages: of the states.
        before: seconds since the epoch; younger ones may still be written.
    """
    found = [(name, match[1]) for name in place.abandoned(FOLDER, before) if (match := _TORN.fullmatch(name))]
    place.remove(*(f"{FOLDER}/{name}" for name, lineage in found if lineage in lineages))


def remove_passing(place: Place, lineages: Collection[str], *, needed: Collection[tuple[str, int]] = ()) -> int:
    """Removes the passing states of some lineages but those at the addresses `needed`; returns how many."""
    gone = [
        state_name(lineage, step, passing=True)
        for lineage, step, passing in listed(place)
        if passing and lineage in lineages and (lineage, step) not in needed
    ]
    place.remove(*gone)
    return len(gone)


def save_state(place: Place, state: TrialState, *, passing: bool) -> None:
    """Writes a state, replacing what is there.

    Raises:
        StoreError: where it cannot be written.
    """
    from core.checkpoint import save

    with place.replaced(state_name(state.lineage, state.step, passing=passing)) as path:
        save(state, path)


def load_state(place: Place, lineage: str, step: int) -> TrialState | None:
    """The state at (lineage, step), kept or passing; None where there is none.

    One that is damaged, or is another, counts as none and is removed.

    Raises:
        StoreError: where the place cannot be read.
    """
    from core.checkpoint import load

    for passing in (False, True):
        name = state_name(lineage, step, passing=passing)
        with suppress(FileNotFoundError), place.opened(name) as path:
            try:
                state = load(path)
            except StoreError:
                state = None
            if state is None or (state.lineage, state.step) != (lineage, step):
                place.remove(name)
                return None
            return state
    return None
