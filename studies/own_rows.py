"""Which rows of the store are a trial's own: addresses (lineage, step) by trial_id, for joins with the tables.

A trial's rows are those on its chain, at the steps that it asks for itself, up to where its latest attempt ended and,
where it waits for a criterion, up to where it is known to train.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.lineage import Link, canonical_json
from studies.coverage import ChainState, asked_of
from studies.keys import probe_observed
from studies.schemas import FAILURES
from studies.switches import switches, watched, watcher_events

if TYPE_CHECKING:
    from studies.expand import Trial


@dataclass(frozen=True, slots=True)
class Group:
    """Trials with one id: they train the same, and may be observed differently."""

    trials: list[Trial]
    links: list[tuple[Link, int, int]]
    """Each link that the trial has come to, up to where it is known to be its own, and how far it is recorded there.

    What an attempt recorded beyond where the latest one ended (a divergence that was run again) is not among it.
    """
    settled: bool
    """All that each of them asks is recorded, to its end or to where it diverged."""

    @property
    def key(self) -> str:
        """Their id."""
        return self.trials[0].trial_id


def known_ends(trials: Sequence[Trial], known: Mapping[str, int]) -> dict[str, list[int]]:
    """By trial_id: the step up to which each link is known to be the trial's own; `known` of those that wait."""
    ends: dict[str, list[int]] = {}
    for trial in trials:
        last = known.get(trial.trial_id)
        ends[trial.trial_id] = [link.end if last is None else min(link.end, last) for link in trial.links]
    return ends


def grouped(trials: Sequence[Trial], chains: Sequence[ChainState], ends: Mapping[str, Sequence[int]]) -> list[Group]:
    """Trials by id, in the order in which they first come."""
    groups: dict[str, Group] = {}
    for trial, chain in zip(trials, chains, strict=True):
        settled = chain.status is not None and chain.status not in FAILURES
        known = groups.get(trial.trial_id)
        if known is not None:
            known.trials.append(trial)
            groups[trial.trial_id] = replace(known, settled=known.settled and settled)
            continue
        links = []
        for link, state, end in zip(trial.links, chain.links, ends[trial.trial_id], strict=True):
            links.append((link, end, min(state.reached, end)))
            if state.reached < link.end:
                break
        groups[trial.trial_id] = Group([trial], links, settled)
    return list(groups.values())


def own_rows(groups: Sequence[Group], checks: Any) -> dict[str, pa.Table]:
    """The relations that the views are made of, by name.

    Args:
        groups: all trials.
        checks: the table checks, as a dataset.
    """
    spans, grids = _evaluated(groups)
    return {
        "_spans": spans,
        "_grids": grids,
        "_probed": _probed(groups),
        "_checked": _checked(groups),
        "_chains": _chains(groups),
        "_switches": _switches(groups),
        "_watchers": watcher_events([group.trials[0] for group in groups], checks),
    }


_Entry = tuple[str, str, npt.NDArray[np.int64]]
"""trial_id, lineage, steps."""


def _exploded(entries: Sequence[_Entry]) -> dict[str, Any]:
    """Columns trial_id, lineage and step, one row per step of each entry."""
    index = pa.array(np.repeat(np.arange(len(entries)), [len(steps) for _, _, steps in entries]))
    steps = [steps for _, _, steps in entries]
    return {
        "trial_id": pa.array([trial_id for trial_id, _, _ in entries], pa.string()).take(index),
        "lineage": pa.array([lineage for _, lineage, _ in entries], pa.string()).take(index),
        "step": pa.array(np.concatenate(steps) if steps else np.empty(0, np.int64)),
    }


class _Steps:
    """Steps up to a last one, as arrays; each worked out once, since the trials of a grid ask alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[tuple[int, ...], npt.NDArray[np.int64]]] = {}

    def until(self, steps: tuple[int, ...], last: int) -> npt.NDArray[np.int64]:
        """Those of some ascending steps that are at most `last`."""
        found = self._known.get((id(steps), last))
        if found is None:  # the steps are kept beside it, so that their identity stays theirs
            array = np.asarray(steps, dtype=np.int64)
            found = self._known[id(steps), last] = steps, array[array <= last]
        return found[1]

    def asked(self, group: Group, link: int, kind: str, last: int) -> npt.NDArray[np.int64]:
        """Those that anyone of a group asks for on a link, to ``evaluate`` or to ``measure``."""
        if len(group.trials) == 1:
            return self.until(getattr(asked_of(group.trials[0])[link], kind), last)
        return self.until(tuple(sorted({s for t in group.trials for s in getattr(asked_of(t)[link], kind)})), last)


def _evaluated(groups: Iterable[Group]) -> tuple[pa.Table, pa.Table]:
    """The evaluations that are a trial's: its place and lineages, each with its grid; and the steps of the grids.

    Trials of a study are mostly evaluated alike, so that grids are few. The row of each evaluation, written out, would
    be as many as there are metrics, and a join with them would take seconds where there are 10^7.
    """
    steps = _Steps()
    grids: dict[bytes, int] = {}
    spans: list[tuple[int, str, str, int]] = []
    for place, group in enumerate(groups):
        for index, (link, _, last) in enumerate(group.links):
            grid = steps.asked(group, index, "evaluate", last).tobytes()
            if grid:
                spans.append((place, group.key, link.lineage, grids.setdefault(grid, len(grids))))
    listed = [np.frombuffer(grid, np.int64) for grid in grids]
    lengths = [len(grid) for grid in listed]
    return _table(spans, {"place": _WHOLE, "trial_id": _TEXT, "lineage": _TEXT, "grid": _WHOLE}), pa.table(
        {
            "grid": pa.array(np.repeat(np.arange(len(listed)), lengths), _WHOLE),
            "step": pa.array(np.concatenate(listed) if listed else np.empty(0, np.int64), _WHOLE),
        }
    )


def _probed(groups: Iterable[Group]) -> pa.Table:
    """The measurements that are a trial's: trial_id, lineage, step, observed (`studies.keys.probe_observed`)."""
    entries: list[_Entry] = []
    observed: list[str] = []
    grids = _Steps()
    for group in groups:
        measures = [trial.config.measure for trial in group.trials if trial.config.measure.quantities]
        if not measures:
            continue
        mine = canonical_json({k: v for m in reversed(measures) for k, v in json.loads(probe_observed(m)).items()})
        for index, (link, _, last) in enumerate(group.links):
            steps = grids.asked(group, index, "measure", last)
            entries.append((group.key, link.lineage, steps))
            observed += [mine] * len(steps)
    return pa.table(_exploded(entries) | {"observed": pa.array(observed, pa.string())})


def _checked(groups: Iterable[Group]) -> pa.Table:
    """The checks that are a trial's: trial_id, lineage, step."""
    return pa.table(
        _exploded(
            [
                (group.key, lineage, np.arange(steps.start, steps.stop, steps.step, dtype=np.int64))
                for group in groups
                if group.trials[0].watch is not None or group.trials[0].ended
                for one in watched(group.trials[0])
                for lineage, steps in one.places(group.links[-1][2])
            ]
        )
    )


def _chains(groups: Iterable[Group]) -> pa.Table:
    """The links of each trial, as far as it has come: trial_id, lineage, start, end, reached."""
    rows = [(group.key, link.lineage, link.start, end, last) for group in groups for link, end, last in group.links]
    names = {"trial_id": _TEXT, "lineage": _TEXT, "start": _WHOLE, "end": _WHOLE, "reached": _WHOLE}
    return _table(rows, names)


def _switches(groups: Iterable[Group]) -> pa.Table:
    """The switches that each trial has come to: trial_id, number (from 1), step, lineage after it, settled."""
    rows = [
        (group.key, number, link.start, link.lineage, group.settled)
        for group in groups
        for number, link in enumerate(switches([link for link, _, _ in group.links]), start=1)
    ]
    return _table(rows, {"trial_id": _TEXT, "number": _WHOLE, "step": _WHOLE, "lineage": _TEXT, "settled": pa.bool_()})


_TEXT, _WHOLE = pa.string(), pa.int64()


def _table(rows: Sequence[tuple[Any, ...]], types: Mapping[str, Any]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(types)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)]
    return pa.table(arrays, names=list(types))
