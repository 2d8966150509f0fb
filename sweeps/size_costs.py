"""What each size of a study would cost: trials, FLOPs and time, in the words of a plan.

A size of more than `MOST_PLANNED` trials is counted from its product alone, so that planning the small one stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studies.expand import count
from studies.sizes import SMALL
from studies.store import Store
from studies.study import Study
from studies.wanted import wanted
from sweeps.local_executor import available_cores
from sweeps.plan import Plan, plan
from sweeps.tables import duration, flops, plural

MOST_PLANNED = 100_000
"""Trials up to which a size is planned beside another: about 5 s on one core."""

_SOURCES = {
    "calibrations": "measured step times",
    "default rate": "no step times measured yet: a rough guess",
    "both": "some step times are not measured yet",
}


@dataclass(frozen=True, kw_only=True)
class SizeCost:
    """The cost of a study in one of its sizes."""

    study: Study
    planned: Plan | None
    """None where it is too large to be planned beside another."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; where it was not planned, `trials` is the most that there can be."""
        names = ("trials", "flops_alone", "flops_spent", "estimate_s")
        if self.planned is None:
            return dict.fromkeys(names) | {"trials": count(self.study)}
        return {name: getattr(self.planned, name) for name in names}

    @property
    def text(self) -> str:
        """In words."""
        if self.planned is None:
            most = plural(count(self.study), "trial")
            return f"up to {most}; what they cost says loopsweep plan {self.study.file}"
        later = to_come(self.study, self.planned)
        return ", ".join(
            [
                plural(self.planned.trials, "trial") + (f" and at most {later:,} to come" if later else ""),
                f"{flops(self.planned.flops_alone)} each trial alone",
                f"{flops(self.planned.flops_spent)} with pasts shared ({self.planned.saving:.2f}× saved)",
                f"time left: {time_left(self.planned, later)}",
            ]
        )


def size_costs(
    sizes: Mapping[str, Study], store: Store, known: Mapping[str, Plan] | None = None
) -> dict[str, SizeCost]:
    """The cost of each size; `SMALL` is always planned.

    Args:
        sizes: of one study, by name.
        store: what is recorded; may not exist yet.
        known: by the name of the study in its size, plans that are made already.
    """
    found = {}
    for size, study in sizes.items():
        planned = (known or {}).get(study.name)
        if planned is None and (size == SMALL or count(study) <= MOST_PLANNED):
            planned = plan(wanted(study, store), store, workers=available_cores())
        found[size] = SizeCost(study=study, planned=planned)
    return found


def to_come(study: Study, planned: Plan) -> int:
    """Trials that come at most, once what they depend on is recorded."""
    return count(study) - planned.trials + planned.confirming if study.nuisance or study.search else 0


def time_left(planned: Plan, later: int) -> str:
    """The time that is left, and how well it is known.

    Args:
        planned: the plan.
        later: trials that come at most, beside those planned.
    """
    if planned.estimate_from in _SOURCES:
        workers = plural(planned.workers, "worker")
        return f"about {duration(planned.estimate_s)} on {workers} ({_SOURCES[planned.estimate_from]})"
    return "not known: more trials are to come" if later else "none: nothing is left to run"
