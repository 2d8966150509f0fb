"""Records the promotions of an asynchronous halving while its settings run; see `studies.promotions` for the rules."""

from __future__ import annotations

from studies.promotions import Rows, due, promotion_rows, read_promotions
from studies.proposals import read_proposals
from studies.store import Store
from studies.study import Study


def follows(study: Study) -> bool:
    """Whether trials that end decide which are to run, while others run."""
    return study.search is not None and study.search.halving is not None and study.search.halving.asynchronous


def promote(study: Study, store: Store, rows: Rows) -> bool:
    """Records the promotions that are due; of a study that `follows`, whenever trials have ended.

    Args:
        study: the study.
        store: where promotions are recorded.
        rows: of the view `trials`, of all trials that have ended.

    Returns:
        Whether there were any.

    Raises:
        StoreError: where they cannot be written.
    """
    if not follows(study):
        return False
    found = due(study, read_proposals(study, store), read_promotions(study, store), rows)
    if found:
        store.commit({"promotions": promotion_rows(study, found)})
    return bool(found)
