"""What stands for an arm whose settings were searched: its best one.

A search proposes settings to find good ones, so their mean says how it searched and little of the arm. Whatever
compares arms (claims, curves, curvature, switches, other studies) therefore has the best setting of each, by the
ranking that `confirm` has; the leaderboard, the costs, the explorer and the failures have all of them.

The best of many was chosen on the study's seeds and looks better there than it is. A claim is therefore decided on
fresh seeds alone, where `confirm` has run the best setting of each of its arms; until then it shows what the study's
seeds say and stays undecided. An arm that has a single setting was not chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports import words
from reports.tables import Results, Tables
from studies.confirm import Ranked, chosen, ranking, settings
from studies.study import Study


@dataclass(frozen=True, kw_only=True)
class Bests:
    """The best setting of each arm of a search; of several tasks, one of each."""

    tables: Tables
    """Of the best settings on the study's seeds."""
    fresh: Tables
    """Of the same on fresh seeds; empty where none were run."""
    by_arm: Mapping[str, Sequence[Ranked]]
    metric: str
    """That chose."""

    def of(self, arms: Sequence[str]) -> tuple[Tables, str | None, str | None]:
        """What arms are compared on: their tables, why that decides nothing, and what a reader should know of it."""
        if all(len(self.fresh.compared(arm)) for arm in arms):
            which = "the best setting of the search" if len(arms) == 1 else "the best setting of each arm's search"
            return self.fresh, None, f"Of {which}, on fresh seeds."
        open_ = [arm for arm in arms if any(one.of > 1 for one in self.by_arm.get(arm, ()))]
        if not open_:
            return self.tables, None, None
        calls = [f"loopsweep confirm STUDY --top 1 --arm {arm}" for arm in arms if self.fresh.compared(arm).empty]
        were = f"setting of {open_[0]} was" if len(open_) == 1 else f"settings of {' and '.join(open_)} were"
        reason = f"the best {were} chosen on these very seeds; fresh ones would decide: {' and '.join(calls)}"
        return self.tables, reason, None

    def to_json(self) -> list[dict[str, Any]]:
        """The section ``searched`` of a study in ``report.json``: an entry an arm (and task), with its ``sentence``."""
        found = [
            {
                "arm": arm,
                "setting": dict(one.trial.varied),
                "of": one.of,
                "metric": self.metric,
                "fresh_seeds": int(self.fresh.compared(arm)["seed"].nunique()),
            }
            for arm, ranked in self.by_arm.items()
            for one in ranked
        ]
        return [entry | {"sentence": words.searched(entry)} for entry in found]


def bests(study: Study, results: Results, tables: Tables) -> Bests | None:
    """The best settings of a study's arms, as far as it has run; None where nothing is searched.

    Args:
        study: the study.
        results: of it.
        tables: of all its trials, with the searched keys as axes.
    """
    if study.search is None:
        return None
    metric, by_arm = study.search.metric, {}
    rows = []
    if metric in tables.trials.columns:
        rows = tables.trials[["trial_id", "status", metric]].to_dict("records")
    for arm in study.arms:
        own = [trial for trial in results.wanted if trial.arm == arm.name]
        by_arm[arm.name] = chosen(ranking(own, rows, metric), top=1)
    return Bests(
        tables=_only(results, tables, by_arm, "compare"),
        fresh=_only(results, tables, by_arm, "confirm"),
        by_arm=by_arm,
        metric=metric,
    )


def _only(results: Results, tables: Tables, by_arm: Mapping[str, Sequence[Ranked]], role: str) -> Tables:
    """The trials of the best settings in one role, as those that are compared; without axes."""
    of_role = settings(results.wanted, role)
    kept = {(arm, trial.trial_id) for arm, best in by_arm.items() for one in best for trial in of_role.get(one.key, ())}
    trials = tables.trials
    there = [pair in kept for pair in zip(trials["arm"], trials["trial_id"], strict=True)]
    rows = trials[there]
    return replace(tables, trials=rows[rows["role"] == role].assign(role="compare"), axes=())
