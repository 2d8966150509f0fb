"""The trials that a study wants now: its expansion, as far as recorded rows decide it.

The winners of nuisance axes are known once their tuning trials are recorded, a search's trials once they are proposed,
the stages of a schedule with a criterion once its checks are, trials of confirmation once they are asked for; all are
functions of what the store holds, so every command and every driver sees the same trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studies.confirm import confirmed
from studies.expand import Trial, expand
from studies.promotions import promoted
from studies.proposals import read_proposals
from studies.store import Store
from studies.study import Study
from studies.tuning import winners
from studies.watchers import resolved


def wanted(study: Study, store: Store) -> list[Trial]:
    """The trials of a study, in canonical order.

    Args:
        study: a checked study.
        store: whose rows decide winners and proposals; may not exist yet.

    Raises:
        InputError: where settings break rules between terms.
        StoreError: where the store cannot be read.
    """
    trials = _chosen(study, store)
    return [*trials, *resolved(confirmed(study, trials, store), store)]


def _chosen(study: Study, store: Store) -> list[Trial]:
    """Those that the study itself asks for."""
    if study.search is not None:
        proposals = read_proposals(study, store)
        metrics = study.search.metrics
        known = promoted(
            study, proposals, store, lambda trials: recorded_values(resolved(trials, store), store, metrics)
        )
        return resolved(expand(study, proposals=proposals, promoted=known), store)
    trials = resolved(expand(study), store)
    if study.nuisance is None:
        return trials
    tuned = [trial for trial in trials if trial.role == "tune"]
    found = winners(study, recorded_values(tuned, store, [study.nuisance.metric]))
    return resolved(expand(study, winners=found), store) if found else trials


def recorded_values(trials: Sequence[Trial], store: Store, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Of the trials that have ended: trial_id, status and these objectives."""
    from studies.objectives import recorded_objectives
    from studies.trial_rows import OF_OBJECTIVES
    from studies.views import open_views

    with open_views(trials, store, only={*OF_OBJECTIVES, *metrics}) as views:
        return [row for row in recorded_objectives(views, metrics) if row["status"] is not None]
