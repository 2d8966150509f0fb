"""What follows from the stages of trials: where they switch, what ended each stage, up to where a history is a trial's.

A trial that waits for a criterion is known to train up to the first check of its grid that is not recorded, and no
further: rows of the same lineage beyond it (another trial trained on) become its own once the checks between are there
and have not ended the stage.

Everything here is a function of configurations and rows; nothing of it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from core.lineage import Link, canonical_json, watch
from core.schedule import Watch
from core.watch import Check, holds

if TYPE_CHECKING:
    from studies.expand import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A criterion of a trial's schedule, and where it ended its stage."""

    watch: Watch
    ended: int | None
    """Step; None where the trial still waits for it."""
    links: tuple[Link, ...]
    """Of its stage; a decay of the learning rate may have cut it."""

    def places(self, last: int | None = None) -> Iterator[tuple[str, range]]:
        """Where it looks, up to a step (default: as far as it goes): lineage and steps of its grid, link by link.

        A lineage may go on beyond the link, with rows that this trial never sees.
        """
        grid = self.watch.criterion.grid(self.watch.start)
        ends = [end for end in (self.ended, last, self.watch.criterion.latest) if end is not None]
        for link in self.links:
            first = max(grid.start, link.start - link.start % grid.step + grid.step)
            yield link.lineage, range(first, min(link.end, *ends) + 1, grid.step)


def watched(trial: Trial) -> list[Watched]:
    """The criteria of a trial's schedule that have begun to watch, in order."""
    found = []
    for index in range(len(trial.ended) + (trial.watch is not None)):
        one = watch(trial.config, trial.ended[:index])
        if one is not None:
            ended = trial.ended[index] if index < len(trial.ended) else None
            links = tuple([link for link in trial.links if link.stage == one.stage])
            found.append(Watched(watch=one, ended=ended, links=links))
    return found


def switches(chain: Sequence[Link]) -> list[Link]:
    """The links of a chain with which a stage after the first begins."""
    return [link for before, link in pairwise(chain) if before.stage != link.stage]


# --- up to where a history is a trial's ------------------------------------------------------------------------------


def frontiers(trials: Iterable[Trial], checks: Any) -> dict[str, int]:
    """By trial_id of those that wait for a criterion: the last step that is known to be theirs.

    Args:
        trials: any.
        checks: the table checks, as a dataset.
    """
    waiting = {trial.trial_id: watched(trial)[-1] for trial in trials if trial.watch is not None}
    if not waiting:
        return {}
    recorded: dict[str, set[int]] = {}
    mine = pc.field("lineage").isin(sorted({link.lineage for one in waiting.values() for link in one.links}))
    rows = checks.to_table(columns=["lineage", "step"], filter=mine)
    for lineage, step in zip(rows["lineage"].to_pylist(), rows["step"].to_pylist(), strict=True):
        recorded.setdefault(lineage, set()).add(step)
    known: dict[tuple[Watch, tuple[Link, ...]], int] = {}  # most trials of a grid share it
    found = {}
    for trial_id, one in waiting.items():
        key = one.watch, one.links
        if key not in known:
            grid = ((lineage, step) for lineage, steps in one.places() for step in steps)
            missing = (step for lineage, step in grid if step not in recorded.get(lineage, ()))
            known[key] = next(missing, one.watch.criterion.latest)
        found[trial_id] = known[key]
    return found


# --- what ended a stage ----------------------------------------------------------------------------------------------


def watcher_events(trials: Iterable[Trial], checks: Any) -> pa.Table:
    """Where criteria ended the stages of trials: trial_id, step, detail, once for each trial and criterion.

    The detail is canonical JSON: the stage, whether the criterion fired there (or the stage came to its latest step),
    and the criterion's terms.

    Args:
        trials: with distinct ids.
        checks: the table checks, as a dataset.
    """
    ends = [(trial.trial_id, one) for trial in trials if trial.ended for one in watched(trial) if one.ended is not None]
    fired = _fired([one for _, one in ends], checks)
    shown = [_detail(one.watch, yes) for (_, one), yes in zip(ends, fired, strict=True)]
    return pa.table(
        {
            "trial_id": pa.array([trial_id for trial_id, _ in ends], pa.string()),
            "step": pa.array([one.ended for _, one in ends], pa.int64()),
            "detail": pa.array(shown, pa.string()),
        }
    )


@lru_cache(maxsize=4096)
def _detail(one: Watch, fired: bool) -> str:
    return canonical_json({"stage": one.stage, "fired": fired, **one.criterion.terms()})


def _fired(ends: Sequence[Watched], checks: Any) -> list[bool]:
    """Whether each criterion fired where its stage ended: certainly before its latest step, and there by its rows."""
    rows = _rows([one for one in ends if one.ended == one.watch.criterion.latest], checks)
    return [one.ended != one.watch.criterion.latest or _holds(one, rows) for one in ends]


def _last_grid(one: Watch) -> range:
    """The last checks of a criterion's grid, as many as it reads at once."""
    return one.criterion.grid(one.start)[-one.criterion.patience - 1 :]


def _rows(ends: Sequence[Watched], checks: Any) -> Mapping[tuple[str, int], Check]:
    """By lineage and step, the last checks that each of some criteria saw."""
    if not ends:
        return {}
    steps = {step for one in ends for step in _last_grid(one.watch)}
    lineages = {link.lineage for one in ends for link in one.links}
    names = ["lineage", "step", "val_loss", "train_loss", "grad_norm"]
    mine = pc.field("lineage").isin(sorted(lineages)) & pc.field("step").isin(sorted(steps))
    table = checks.to_table(columns=names, filter=mine)
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return {(lineage, step): Check(val_loss=v, train_loss=t, grad_norm=g) for lineage, step, v, t, g in rows}


def _holds(one: Watched, rows: Mapping[tuple[str, int], Check]) -> bool:
    """Whether a criterion holds at the last check of its grid, and that is its latest step."""
    if one.watch.criterion.latest not in _last_grid(one.watch):
        return False
    places = ((lineage, step) for lineage, steps in one.places() for step in steps)
    return holds(one.watch.criterion, [rows[place] for place in places if place in rows])
