"""One look at what a store holds of some trials: the stage tree, and the checks that criteria wait for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from studies.coverage import Coverage
from studies.expand import Trial
from studies.store import Store
from studies.tree import Tree, stage_tree
from studies.watchers import Checks, read_checks, watched_links


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a round is planned from: one look at the store."""

    trials: Sequence[Trial]
    tree: Tree
    coverage: Coverage
    checks: Checks
    """Of the lineages on which trials wait for a criterion."""


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


def outlook_of(trials: Sequence[Trial], store: Store, retry: Collection[str] = ()) -> Outlook:
    """The tree of some trials with all that a round needs besides; arguments as of `look`."""
    coverage = Coverage(store.read("segments"))
    tree = look(trials, store, retry, coverage)
    lineages = {link.lineage for trial in trials for link in watched_links(trial)}
    return Outlook(trials=trials, tree=tree, coverage=coverage, checks=read_checks(store, lineages))
