"""Searches: which settings to try next, batch by batch.

A batch is a pure function of the study and of the rows of the batches before it: `sweeps.optuna_bridge` is told every
earlier setting in the order of proposal, with a seed from (search seed, arm, batch), and asked for the settings of the
batch. What is proposed is recorded in the table ``proposals`` before it runs; of two drivers that propose at once, the
first record of a proposal counts. So nothing of Optuna's is ever needed to go on.

Each arm is searched alone, over the keys that act on it. Grid, random and Sobol searches need no results: all of their
batches are due at once, and a grid is ours: all of its points in canonical order. A setting of which a seed diverged or
failed is told as failed: it has no value, and none is made up. A setting that comes up again is the same trial and
costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.lineage import canonical_json
from core.streams import derived_seed
from studies.expand import Proposal
from studies.metrics import metric
from studies.proposals import read_proposals, search_digest
from studies.space import grid_points
from studies.store import Store
from studies.study import Arm, Search, Study
from studies.wanted import recorded_values, wanted
from sweeps.importance import due_importances
from sweeps.outcomes import outcome
from sweeps.promote import promote

Rows = Iterable[Mapping[str, Any]]
"""trial_id, status and the columns that `search.metrics` names: `studies.wanted.recorded_values`."""


def proceed(study: Study, store: Store) -> bool:
    """Promotes, proposes and records whatever the store's rows make due; whether there is more to run now.

    Raises:
        StoreError: where it cannot be written.
    """
    if study.search is None:
        return False
    rows = recorded_values(wanted(study, store), store, study.search.metrics)
    promoted = promote(study, store, rows)
    return advance(study, store, rows) or promoted


def advance(study: Study, store: Store, rows: Rows) -> bool:
    """Proposes and records whatever is due; for a driver that finds nothing missing.

    Args:
        study: with a ``[search]``; one without has no proposals.
        store: where proposals are recorded.
        rows: of all trials that have ended (others do no harm).

    Returns:
        Whether there are proposals whose trials have not ended: of this call, or of another driver.

    Raises:
        StoreError: where the proposals cannot be written.
    """
    known, ended = read_proposals(study, store), _by_trial(rows)
    due, beside = _due(study, known, ended), due_importances(study, store, known, ended)
    tables = {name: rows for name, rows in (("proposals", due), ("importances", beside)) if rows}
    if tables:
        store.commit(tables)
    return bool(due) or _told(study, known, ended) is None


def propose(study: Study, known: Sequence[Proposal], rows: Rows) -> list[dict[str, Any]]:
    """The rows of table proposals that are due: per arm, the next batch once all trials before it have ended.

    Args:
        study: the study.
        known: what was proposed before, from `read_proposals`.
        rows: of the trials that have ended.
    """
    return _due(study, known, _by_trial(rows))


def _by_trial(rows: Rows) -> dict[str, Mapping[str, Any]]:
    return {row["trial_id"]: row for row in rows if row["status"] is not None}


def _due(study: Study, known: Sequence[Proposal], ended: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    search = study.search
    if search is None:
        return []
    due: list[dict[str, Any]] = []
    for arm in study.arms:
        before = [proposal for proposal in known if proposal[0] == arm.name]
        first, last = len(before), search.count(arm)
        if first >= last:
            continue
        if search.blind:
            due += _recorded(study, search, arm, _blind(search, arm, first, last))
            continue
        told = _told(study, before, ended)
        if told is not None:
            due += _recorded(study, search, arm, _batch(search, arm, first, told))
    return due


def _recorded(study: Study, search: Search, arm: Arm, batch: Sequence[Proposal]) -> list[dict[str, Any]]:
    digest = search_digest(search, arm)
    return [
        {
            "study": study.name,
            "search": digest,
            "arm": arm.name,
            "number": number,
            "params": canonical_json(params),
            "batch": number // search.batch,
        }
        for _, number, params in batch
    ]


# --- settings --------------------------------------------------------------------------------------------------------


def _blind(search: Search, arm: Arm, first: int, last: int) -> list[Proposal]:
    """The proposals from number `first` to the end of a search that looks at no results."""
    if search.kind == "random":  # a batch has a seed of its own
        found: list[Proposal] = []
        while first + len(found) < last:
            found += _batch(search, arm, first + len(found), [])
        return found
    if search.kind == "grid" or not arm.space:
        settings = grid_points(arm.space, range(first, last))
    else:
        settings = _asked(search, arm, [], first=first, last=last, seed=("search", arm.name))
    return [(arm.name, first + place, params) for place, params in enumerate(settings)]


def _batch(
    search: Search, arm: Arm, first: int, told: Sequence[tuple[Mapping[str, Any], tuple[float, ...] | None]]
) -> list[Proposal]:
    """The proposals from number `first` to the end of its batch."""
    batch = first // search.batch
    last = min(search.count(arm), (batch + 1) * search.batch)
    settings = _asked(search, arm, told, first=first, last=last, seed=("search", arm.name, batch, first))
    return [(arm.name, first + place, params) for place, params in enumerate(settings)]


def _asked(
    search: Search,
    arm: Arm,
    told: Sequence[tuple[Mapping[str, Any], tuple[float, ...] | None]],
    *,
    first: int,
    last: int,
    seed: tuple[str | int, ...],
) -> list[dict[str, Any]]:
    from sweeps.optuna_bridge import ask  # quick to plan a grid without it

    return ask(
        search.kind,
        arm.space,
        told,
        count=last - first,
        first=first,
        seed=derived_seed(search.seed, *seed) % 2**32,
        batch=search.batch,
        lower=[metric(name).better == "lower" for name in search.metrics],
    )


# --- results ---------------------------------------------------------------------------------------------------------


def _told(
    study: Study, before: Sequence[Proposal], ended: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], tuple[float, ...] | None]] | None:
    """Settings with their objectives, in the order of proposal; None while any of their trials has not ended."""
    told = []
    for proposal in before:
        found = outcome(study, proposal, ended)
        if not found.ended:
            return None
        told.append((proposal[2], found.values))
    return told
