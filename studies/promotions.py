"""Which settings of a search go on to which rung: the rules of `studies.rungs` on what a store holds.

Synchronous: a rung is decided when every setting that comes to it has ended there, so that who goes on is a pure
function of rows, worked out anew by whoever asks and never kept. Asynchronous: a setting goes on as soon as it is among
the best of those that have ended at its rung; the order in which results came decides that, so each promotion is
recorded in the table ``promotions`` before it runs, and from then on the record holds. Of two drivers that promote at
once both are followed.

Either way an asynchronous search has, once all has ended, promoted whoever is among the best of its rung then, and
perhaps others that were earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studies.expand import Promoted, Proposal, Trial, expand, proposed
from studies.metrics import metric
from studies.proposals import search_digest
from studies.rungs import RUNG_KEY, Score, promotable, score, value_of
from studies.store import Store
from studies.study import Search, Study

Rows = Iterable[Mapping[str, Any]]
"""Of the view ``trials``, of those that have ended: trial_id, status and the column that the search's metric names."""

Promotion = tuple[str, int, int]
"""Arm, number of the proposal, the rung that it goes on to."""


def promoted(
    study: Study, proposals: Sequence[Proposal], store: Store, values: Callable[[list[Trial]], Rows]
) -> Promoted:
    """The highest rung to which each setting has come, by arm and number; without a halving, nothing.

    Args:
        study: the study.
        proposals: of its search, as recorded.
        store: with the recorded promotions; may not exist yet.
        values: gives the rows of some trials, of those that have ended.
    """
    if study.search is None or study.search.halving is None:
        return {}
    if study.search.halving.asynchronous:
        return read_promotions(study, store)
    return decided(study, proposals, values)


def decided(study: Study, proposals: Sequence[Proposal], values: Callable[[list[Trial]], Rows]) -> Promoted:
    """As `promoted`, of a synchronous halving."""
    found: dict[tuple[str, int], int] = {}
    while True:
        deciding = [t for t in expand(study, proposals=proposals, promoted=found) if t.role == "tune"]
        going = due(study, proposals, found, values(deciding)) if deciding else []
        if not going:
            return found
        found |= {(arm, number): rung for arm, number, rung in going}


def due(study: Study, proposals: Sequence[Proposal], known: Promoted, rows: Rows) -> list[Promotion]:
    """The promotions that the rows decide, beside those that are known.

    Args:
        study: with a halving; one without has none.
        proposals: of its search, as recorded.
        known: what was promoted before.
        rows: of all trials that have ended at rungs (others do no harm).
    """
    if study.search is None or study.search.halving is None:
        return []
    halving = study.search.halving
    places = _places(study, study.search, proposals, known, rows)
    found: list[Promotion] = []
    for arm in study.arms:
        last = sum(name == arm.name for name, _, _ in proposals) >= study.search.count(arm)  # no other setting comes
        for rung in range(halving.count - 1):
            here = places.get((arm.name, rung), _Place())
            complete = last and len(here.scores) == here.settings
            if not complete and not halving.asynchronous:
                break
            best = promotable(here.scores, halving.factor, complete=complete)
            going = [number for number in best if known.get((arm.name, number), 0) <= rung]
            found += [(arm.name, number, rung + 1) for number in going]
            last = complete and not going
            if not last and not halving.asynchronous:
                break
    return found


@dataclass(slots=True)
class _Place:
    """The settings of an arm at a rung."""

    settings: int = 0
    """Those that have come there."""
    scores: dict[int, Score] = field(default_factory=dict)
    """Of those that have ended there."""


def _places(
    study: Study, search: Search, proposals: Sequence[Proposal], known: Promoted, rows: Rows
) -> dict[tuple[str, int], _Place]:
    """By arm and rung. A setting that was proposed again is the setting of its first proposal."""
    ended = {row["trial_id"]: row for row in rows if row["status"] is not None}
    lower = metric(search.metric).better == "lower"
    trials: dict[Promotion, list[Trial]] = {}
    for (arm, number), rung, trial in proposed(study, proposals, known):
        trials.setdefault((arm, number, rung), []).append(trial)
    first: dict[tuple[Any, ...], int] = {}
    places: dict[tuple[str, int], _Place] = {}
    for (arm, number, rung), own in trials.items():
        values = tuple((key, value) for key, value in own[0].varied.items() if key != RUNG_KEY)
        if first.setdefault((arm, *values), number) != number:
            continue
        place = places.setdefault((arm, rung), _Place())
        place.settings += 1
        found = [ended[trial.trial_id] for trial in own if trial.trial_id in ended]
        if len(found) == len(own):
            place.scores[number] = score([value_of(row, search.metric) for row in found], lower=lower)
    return places


# --- records ---------------------------------------------------------------------------------------------------------


def read_promotions(study: Study, store: Store) -> Promoted:
    """The recorded promotions of a study's search, the highest rung of each setting."""
    if study.search is None:
        return {}
    ours = {(arm.name, search_digest(study.search, arm)) for arm in study.arms}
    found: dict[tuple[str, int], int] = {}
    for row in store.read("promotions").to_pylist():
        if row["study"] == study.name and (row["arm"], row["search"]) in ours:
            place = row["arm"], row["number"]
            found[place] = max(row["rung"], found.get(place, 0))
    return found


def promotion_rows(study: Study, promotions: Iterable[Promotion]) -> list[dict[str, Any]]:
    """Promotions as rows of the table."""
    if study.search is None:
        return []
    digests = {arm.name: search_digest(study.search, arm) for arm in study.arms}
    return [
        {"study": study.name, "search": digests[arm], "arm": arm, "number": number, "rung": rung}
        for arm, number, rung in promotions
    ]
