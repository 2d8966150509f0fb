"""What a study wants to be run now, and what its search should be asked next."""

from __future__ import annotations

from studies.store import Store
from studies.study import Study
from studies.wanted import ended, wanted

__all__ = ["propose", "wanted"]


def propose(study: Study, store: Store) -> bool:
    """Asks a search for what is due and records it; whether there is more to run now.

    Raises:
        StoreError: where the proposals cannot be written.
    """
    if study.search is None:
        return False
    from sweeps.search import advance

    return advance(study, store, ended(wanted(study, store), store, study.search.metric))
