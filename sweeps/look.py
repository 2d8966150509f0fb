"""One look at what a store holds of some trials: the stage tree, and the checks that criteria wait for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from studies.coverage import Coverage
from studies.expand import Trial
from studies.store import Store
from studies.tree import Tree, stage_tree


def look(trials: Sequence[Trial], store: Store, retry: Collection[str] = (), coverage: Coverage | None = None) -> Tree:
    """The tree of some trials over what a store holds now.

    Args:
        trials: with their criteria ended as the store's rows decide (`studies.watchers.resolved`).
        store: what is recorded, and which states lie there.
        retry: recorded statuses that are run again.
        coverage: what is recorded, where that has been read already.
    """
    known = Coverage(store.read("segments")) if coverage is None else coverage
    return stage_tree(trials, known, store.states(), retry=retry)
