"""Which states lie on disk: kept ones, and passing ones that only units to come begin from.

A *kept* state is what ``train.keep`` asks for and stays. A *passing* one has a name of its own: whoever runs a study
removes it when nothing of that study is to begin from it any more, also after a run that was killed. Both are cache: a
state that is missing is replayed.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"([0-9a-f]{16})-(\d+)(\.passing)?\.safetensors")
_TORN = re.compile(r"\.([0-9a-f]{16})-\d+(?:\.passing)?\.safetensors\..+")
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


def state_path(root: Path, lineage: str, step: int, *, passing: bool) -> Path:
    """Where a state lies, whether or not it is there."""
    return root / "checkpoints" / lineage[:2] / f"{lineage}-{step}{'.passing' if passing else ''}.safetensors"


def _shelves(root: Path) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(root / "checkpoints") if entry.is_dir()]
    except FileNotFoundError:
        return []


def listed(root: Path) -> Iterator[tuple[str, int, bool, Path]]:
    """All states of a store, in no telling order: (lineage, step, passing, file)."""
    for shelf in _shelves(root):
        for entry in os.scandir(shelf):
            if match := _NAME.fullmatch(entry.name):
                yield match[1], int(match[2]), match[3] is not None, Path(entry.path)


def torn(root: Path, lineages: Collection[str], *, before: float) -> Iterator[Path]:
    """Files of states that were never published: a writer was killed.

    Args:
        root: of the store.
        lineages: of the states.
        before: seconds since the epoch; younger ones may still be written.
    """
    for shelf in _shelves(root):
        for entry in os.scandir(shelf):
            match = _TORN.fullmatch(entry.name)
            if match and match[1] in lineages:
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime < before:
                        yield Path(entry.path)


def remove_passing(root: Path, lineages: Collection[str], *, needed: Collection[tuple[str, int]] = ()) -> int:
    """Removes the passing states of some lineages but those at the addresses `needed`; returns how many."""
    gone = 0
    for lineage, step, passing, path in listed(root):
        if passing and lineage in lineages and (lineage, step) not in needed:
            path.unlink(missing_ok=True)
            gone += 1
    return gone
