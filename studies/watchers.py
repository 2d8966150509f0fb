"""Where the criteria of trials have ended their stages: recomputed from the recorded checks, never kept.

A trial whose schedule has a criterion is expanded with a watch: its chain is known to the criterion's latest step. The
rows of the table checks on the lineages of that stage decide when it ended (`core.watch.ending`); from then on the
trial's chain is that of a fixed switch there, and trials that ended at the same step with the same future are one
computation. A further criterion waits for the rows of its own stage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from core.lineage import Link, links, watch
from core.schedule import Criterion, Watch
from core.watch import Check, ending

if TYPE_CHECKING:
    from studies.expand import Trial
    from studies.store import Store

Checks = Mapping[str, Mapping[int, Check]]
"""By lineage and step, what criteria see."""


def resolved(trials: Sequence[Trial], store: Store) -> list[Trial]:
    """The trials with as many criteria ended as the recorded rows decide.

    Args:
        trials: of any studies.
        store: with their rows; may not exist yet.

    Raises:
        StoreError: where the store cannot be read.
    """
    return with_checks(trials, lambda lineages: read_checks(store, lineages))


def with_checks(trials: Sequence[Trial], read: Callable[[Collection[str]], Checks]) -> list[Trial]:
    """`resolved` with the rows from anywhere: `read` gives those of some lineages."""
    found = list(trials)
    waiting = [index for index, trial in enumerate(found) if trial.watch is not None]
    known: dict[str, Mapping[int, Check]] = {}
    ends: dict[tuple[Criterion, int, tuple[Link, ...]], int | None] = {}
    while waiting:
        lineages = {link.lineage for index in waiting for link in watched_links(found[index])}
        known |= read(lineages - known.keys())
        advanced = []
        for index in waiting:
            trial = found[index]
            if trial.watch is None:
                continue
            criterion, start = trial.watch.criterion, trial.watch.start
            key = (criterion, start, tuple(watched_links(trial)))
            if key not in ends:
                ends[key] = ending(criterion, start, own_checks(key[2], known))
            step = ends[key]
            if step is not None:
                found[index] = ended_at(trial, step)
                advanced.append(index)
        waiting = advanced
    return found


def assumed(trials: Iterable[Trial], choose: Callable[[Trial, Watch], int]) -> list[Trial]:
    """The trials as if each criterion that they wait for had ended its stage where `choose` says.

    Args:
        trials: of any studies.
        choose: (trial, watch) → a step after the stage's start, at most the criterion's latest.
    """
    found = []
    for trial in trials:
        while trial.watch is not None:
            trial = ended_at(trial, choose(trial, trial.watch))  # noqa: PLW2901 - advanced until it waits no more
        found.append(trial)
    return found


def ended_at(trial: Trial, step: int) -> Trial:
    """A trial whose watch has ended its stage at a step."""
    ended = (*trial.ended, step)
    return replace(trial, ended=ended, links=links(trial.config, ended), watch=watch(trial.config, ended))


def watched_links(trial: Trial) -> list[Link]:
    """The links of the stage whose end a trial waits for; a decay of the learning rate may have cut it."""
    return [] if trial.watch is None else [link for link in trial.links if link.stage == trial.watch.stage]


def read_checks(store: Store, lineages: Collection[str]) -> dict[str, dict[int, Check]]:
    """The recorded checks of some lineages, those without any included."""
    found: dict[str, dict[int, Check]] = {lineage: {} for lineage in lineages}
    if not lineages:
        return found
    columns = ["lineage", "step", "val_loss", "train_loss", "grad_norm"]
    mine = pc.field("lineage").isin(list(lineages))
    table = store.dataset("checks").to_table(columns=columns, filter=mine)
    for row in table.to_pylist():
        lineage, step = row.pop("lineage"), row.pop("step")
        found[lineage][step] = Check(**row)
    return found


def own_checks(chain: Sequence[Link], known: Checks) -> Mapping[int, Check]:
    """The checks by step on some links of a trial: others may have gone on with a lineage where it left it."""
    if len(chain) == 1:
        return known.get(chain[0].lineage, {})
    return {
        step: check
        for link in chain
        for step, check in known.get(link.lineage, {}).items()
        if link.start < step <= link.end
    }
