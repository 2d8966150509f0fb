"""Importances of searched keys, computed beside the search and recorded in the table ``importances``.

Per arm and objective, by two evaluators that ask different things and may disagree: both are kept, named. They are told
the settings of a batch and of all before it, so the numbers follow from rows; nothing that runs depends on them. As a
forest of 200 settings takes seconds, and one of more settings longer, they are computed at the end of a batch by which
there are a quarter more settings than last time, and at the end of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from studies.expand import Proposal
from studies.metrics import metric
from studies.proposals import search_digest
from studies.store import Store
from studies.study import Arm, Search, Study
from sweeps.outcomes import Outcome, outcome

LEAST = 20
"""Settings with a value, below which there are no importances: the best tenth of them would be one setting."""
GROWTH = 1.25
"""How many times as many settings there must be as last time."""


def due_importances(
    study: Study, store: Store, known: Sequence[Proposal], ended: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of table importances that are due: of each arm, of its last batch that has ended with all before it.

    Args:
        study: with a search; one without has none.
        store: with those that are recorded.
        known: its proposals.
        ended: rows by trial_id, of trials that have ended.
    """
    if study.search is None:
        return []
    recorded: dict[tuple[str, str], int] = {}  # settings that were looked at last
    for row in store.read("importances", ["study", "search", "arm", "n"]).to_pylist():
        if row["study"] == study.name:
            place = row["search"], row["arm"]
            recorded[place] = max(row["n"], recorded.get(place, 0))
    rows: list[dict[str, Any]] = []
    for arm in study.arms:
        before = [proposal for proposal in known if proposal[0] == arm.name]
        if len(arm.space) < 2 or len(before) < LEAST:
            continue
        found = [outcome(study, proposal, ended) for proposal in before]
        last = _last_batch(study.search, arm, found)
        if last is None:
            continue
        told = [(params, one.values) for (_, _, params), one in zip(before, found, strict=True)]
        told = told[: (last + 1) * study.search.batch]
        valued, digest = sum(values is not None for _, values in told), search_digest(study.search, arm)
        before_that = recorded.get((digest, arm.name), 0)
        complete = len(told) == study.search.count(arm) and valued > before_that
        if valued >= LEAST and (complete or valued >= GROWTH * before_that):
            named = {"study": study.name, "search": digest, "arm": arm.name, "batch": last}
            rows += [{**named, **row} for row in _of_settings(study.search, arm, told)]
    return rows


def _last_batch(search: Search, arm: Arm, found: Sequence[Outcome]) -> int | None:
    """The last batch that is whole and has ended, as have all before it."""
    running = next((number for number, one in enumerate(found) if not one.ended), len(found))
    whole = running // search.batch + (1 if running == search.count(arm) and running % search.batch else 0)
    return whole - 1 if whole else None


def _of_settings(
    search: Search, arm: Arm, told: Sequence[tuple[Mapping[str, Any], tuple[float, ...] | None]]
) -> Iterator[dict[str, Any]]:
    """Of each objective that is not always the same."""
    from sweeps.optuna_bridge import importances

    valued = [values for _, values in told if values is not None]
    for place, name in enumerate(search.metrics):
        if len({values[place] for values in valued}) == 1:
            continue
        by_evaluator = importances(arm.space, told, objective=place, lower=metric(name).better == "lower")
        for evaluator, shares in by_evaluator.items():
            for key, value in shares.items():
                yield {"metric": name, "evaluator": evaluator, "key": key, "value": value, "n": len(valued)}
