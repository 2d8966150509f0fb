"""A report that keeps up with a sweep: written again whenever the store has new records, until nothing is missing.

The question whether anything is new is asked of the names of the records alone; rows are read where there is. Drivers
are neither asked nor waited for: a study is complete when its trials have ended and no search has more to propose,
whoever ran them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from studies.promotions import due, read_promotions
from studies.proposals import read_proposals
from studies.store import Store
from studies.study import Study
from studies.wanted import recorded_values, wanted
from sweeps.promote import follows


def refreshed(
    stores: Sequence[Store], write: Callable[[], bool], *, every_s: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Calls `write` now and whenever there are new records, until it says that nothing is missing.

    Args:
        stores: of the studies; may not exist yet.
        write: reports on what is recorded; whether that is all.
        every_s: seconds between two looks.
        sleep: waits so long.
    """
    seen: frozenset[tuple[str, str]] | None = None
    while True:
        names = frozenset((store.name, name) for store in stores for name in _records(store))
        # Names are taken before rows are read: what comes meanwhile is new at the next look.
        if (seen is None or names - seen) and write():
            return
        seen = names
        sleep(every_s)


def more_to_come(study: Study, store: Store) -> bool:
    """Whether a search has settings to propose or to promote that no driver has recorded yet."""
    if study.search is None:
        return False
    proposals = read_proposals(study, store)
    if len(proposals) < sum(study.search.count(arm) for arm in study.arms):
        return True
    if not follows(study):
        return False
    rows = recorded_values(wanted(study, store), store, study.search.metrics)
    return bool(due(study, proposals, read_promotions(study, store), rows))


def _records(store: Store) -> frozenset[str]:
    """The names of all records, those that compaction has folded too."""
    snapshot = store.snapshot()
    return frozenset(record.name for record in snapshot.records) | snapshot.manifest.folded
