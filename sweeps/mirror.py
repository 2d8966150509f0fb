"""The mirror of a search in an Optuna storage, which optuna-dashboard shows while it runs.

It is written from the tables and never read to decide anything: with it or without it a search proposes the same. A
setting is a trial of the storage: running once it is proposed, complete or failed once its trials have ended; each arm
is an Optuna study, as it is searched alone over a space of its own. Lost, it is written again; damaged, it is put aside
first. Several drivers may write to one storage: each waits for its turn, and reads the tables when it has it.

A storage that cannot be written while a search runs is said once and stops nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InputError, LoopsweepError, Problem
from studies.expand import Proposal
from studies.metrics import metric
from studies.proposals import read_proposals, search_digest
from studies.store import Store
from studies.study import Search, Study
from studies.wanted import recorded_values, wanted
from sweeps.observer import Observer
from sweeps.optuna_bridge import Entry, Shown, opened, write
from sweeps.outcomes import outcome
from sweeps.storage_url import StorageUrl, exclusive, refuse_foreign, set_aside

LEAST_SECONDS = 10.0
"""Between two looks at the tables while a round runs; more where a look takes long."""
SHARE = 20.0
"""A look may take so small a part of the driver's time."""


class Mirror:
    """Keeps an Optuna storage up to a search."""

    def __init__(
        self, study: Study, store: Store, url: StorageUrl, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes a search.

        Args:
            study: with a search.
            store: with its tables.
            url: of the storage.
            clock: seconds.
        """
        self._study, self._store, self._url, self._clock = study, store, url, clock
        self._next = 0.0
        self._failed = ""

    def begin(self, said: Callable[[str], None]) -> None:
        """Writes what is recorded already.

        Raises:
            InputError: where the storage cannot be written, which is said before anything runs.
        """
        try:
            self._write(said)
        except Exception as error:  # of Optuna, of the database, of the file
            message = f"{self._url.shown} cannot be written: {reason(self._url, error)}"
            raise InputError([Problem("--optuna-storage", message)]) from None

    def sync(self, said: Callable[[str], None]) -> None:
        """Brings the storage up to the tables; what goes wrong is said once and stops nothing."""
        began = self._clock()
        try:
            self._write(said)
            self._failed = ""
        except Exception as error:
            message = f"{self._url.shown} cannot be written: {reason(self._url, error)}; the search goes on without it"
            if message != self._failed:
                said(message)
            self._failed = message
        now = self._clock()
        self._next = now + max(LEAST_SECONDS, SHARE * (now - began))

    def sync_if_due(self, said: Callable[[str], None]) -> None:
        """As `sync`, now and then."""
        if self._clock() >= self._next:
            self.sync(said)

    def after(self, propose: Callable[[], bool] | None, said: Callable[[str], None]) -> Callable[[], bool] | None:
        """A proposer after which the storage shows what was proposed."""
        if propose is None:
            return None

        def proposed() -> bool:
            more = propose()
            self.sync(said)
            return more

        return proposed

    def watching(self, observer: Observer) -> Observer:
        """The observer, which also keeps the storage up while a round runs."""
        return _Watching(observer, self)

    def _write(self, said: Callable[[str], None]) -> None:
        for line in write_storage(self._url, self._shown).said:
            said(line)

    def _shown(self) -> list[Shown]:
        study, store = self._study, self._store
        metrics = study.search.metrics if study.search else ()
        return mirrored(study, read_proposals(study, store), recorded_values(wanted(study, store), store, metrics))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What writing a storage has changed."""

    said: list[str]
    """Lines about what was out of the ordinary."""
    counts: list[dict[str, Any]]
    """By Optuna study: name, trials, and how many of them were added and have ended."""


def write_storage(url: StorageUrl, shown: Callable[[], Sequence[Shown]]) -> Result:
    """Brings a storage up to what is shown, in this writer's turn.

    Args:
        url: of the storage.
        shown: is asked when it is this writer's turn, so that it knows all that an earlier one knew.

    Raises:
        InputError: where the URL names a file that is no storage.
        Exception: of Optuna or of the database, where it cannot be written.
    """
    said, counts = [], []
    refuse_foreign(url)
    with exclusive(url):
        if (aside := set_aside(url)) is not None:
            said.append(f"{url.shown} was damaged: kept as {aside.name}, written anew from the tables")
        with opened(url) as storage:
            for one in shown():
                done = write(storage, one)
                if done.anew:
                    said.append(f"{one.name} in {url.shown} was not what is recorded: written anew")
                counts.append({"name": one.name, "trials": len(one.entries), "added": done.added, "ended": done.ended})
    return Result(said=said, counts=counts)


def reason(url: StorageUrl, error: Exception) -> str:
    """Why a storage cannot be written, in one line without passwords."""
    if isinstance(error, LoopsweepError):
        return str(error)
    text = str(error).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return url.scrub(lines[0])[:300]


# --- what is shown ---------------------------------------------------------------------------------------------------


def mirrored(study: Study, known: Sequence[Proposal], rows: Iterable[Mapping[str, Any]]) -> list[Shown]:
    """A search as its storage is to show it: an Optuna study for each arm.

    Args:
        study: with a search; one without has nothing to show.
        known: its proposals.
        rows: of the trials that have ended: trial_id, status and the objectives.
    """
    if study.search is None:
        return []
    ended = {row["trial_id"]: row for row in rows}
    return [
        Shown(
            name=f"{study.name}/{arm.name}/{search_digest(study.search, arm)}",
            space=arm.space,
            metrics=study.search.metrics,
            lower=[metric(name).better == "lower" for name in study.search.metrics],
            entries=[_entry(study, study.search, one, ended) for one in known if one[0] == arm.name],
        )
        for arm in study.arms
    ]


def _entry(study: Study, search: Search, proposal: Proposal, ended: Mapping[str, Mapping[str, Any]]) -> Entry:
    arm, number, params = proposal
    found = outcome(study, proposal, ended)
    attributes = {"arm": arm, "trial_ids": list(found.trial_ids), "batch": number // search.batch}
    statuses = [ended[key]["status"] for key in found.trial_ids if key in ended]
    if found.ended:
        attributes["status"] = ",".join(statuses)
    return Entry(key=str(number), params=params, ended=found.ended, values=found.values, attributes=attributes)


# --- while a round runs ----------------------------------------------------------------------------------------------


class _Watching:
    """Passes on what it is told, and looks whether the storage is due whenever a unit has ended."""

    def __init__(self, inner: Observer, mirror: Mirror) -> None:
        self._inner, self._mirror = inner, mirror
        self.planned, self.settled, self.started = inner.planned, inner.settled, inner.started
        self.reached, self.said = inner.reached, inner.said

    def ended(self, unit: str, *, steps: int) -> None:
        """A unit ended: its trials may have."""
        self._inner.ended(unit, steps=steps)
        self._mirror.sync_if_due(self._inner.said)
