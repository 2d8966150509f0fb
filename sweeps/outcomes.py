"""What has become of the proposals of a search, from the rows of their trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studies.expand import Proposal, expand
from studies.objectives import mean_of
from studies.study import Study


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What has become of a proposal."""

    trial_ids: tuple[str, ...]
    """Of its trials, one for each seed; where settings are halved, those at the first rung, to which all come."""
    ended: bool
    """Whether all of them have ended."""
    values: tuple[float, ...] | None
    """Its objectives; None: not yet, or where it has ended, a seed of it has no value."""


def outcome(study: Study, proposal: Proposal, ended: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """What has become of a proposal.

    Args:
        study: with the search.
        proposal: of it.
        ended: rows by trial_id, of trials that have ended.
    """
    names = tuple(trial.trial_id for trial in expand(study, proposals=[proposal]))
    rows = [ended[name] for name in names if name in ended]
    complete = len(rows) == len(names)
    metrics = study.search.metrics if study.search else ()
    return Outcome(trial_ids=names, ended=complete, values=_objectives(rows, metrics) if complete else None)


def _objectives(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[float, ...] | None:
    """The mean of each over the seeds; None where any has none."""
    values = [mean_of(rows, name) for name in names]
    return None if None in values else tuple(value for value in values if value is not None)
