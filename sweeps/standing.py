"""How the trials of a study stand, from what is recorded: counts by arm, what they lack, and which did not end ok."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from studies.coverage import Coverage
from studies.expand import Trial
from studies.schemas import FAILURES, STATUSES
from studies.store import Store
from sweeps.hold import Hold
from sweeps.measuring import missing
from sweeps.tables import plural, table

PARTS = ("begun", "waiting", "unmeasured")
"""Of the trials that run or remain: counted besides."""


def counts(trials: Sequence[Trial], coverage: Coverage, holds: Sequence[Hold] = ()) -> dict[str, Any]:
    """Trials by how they stand, in all and by arm.

    done (ok or diverged), running, failed (failed, timeout or oom) and remaining add up to trials. *Running* are those
    of which a driver runs a part now, as the holds say; a part that many share counts for each of them.

    Of those that run or remain, *begun* counts the ones of which a part is recorded, *waiting* the ones whose chain
    depends on what a criterion will decide, and *unmeasured* the ones that are trained and lack nothing but
    measurements.
    """
    arms: dict[str, Counter[str]] = {}
    for trial in trials:
        state = coverage.chain(trial)
        runs = any(hold.holds(link.lineage, link.start, link.end) for hold in holds for link in trial.links)
        waits = state.status is None and trial.watch is not None
        lacks = state.status is None and coverage.lacks_measurements(trial)
        stands = state.status or ("running" if runs else "remaining")
        begun = state.status is None and state.covered > 0 and not lacks
        parts = {"begun": int(begun), "waiting": int(waits), "unmeasured": int(lacks)}
        arms.setdefault(trial.arm, Counter()).update({stands: 1} | parts)
    whole = sum(arms.values(), Counter())
    return _standing(whole) | {"arms": {arm: _standing(found) for arm, found in arms.items()}}


def _standing(found: Counter[str]) -> dict[str, Any]:
    return {
        "trials": found.total() - sum(found[name] for name in PARTS),
        "done": found["ok"] + found["diverged"],
        "running": found["running"],
        "failed": sum(found[name] for name in FAILURES),
        "remaining": found["remaining"],
        **{name: found[name] for name in PARTS},
        "status": {name: found[name] for name in STATUSES if found[name]},
    }


def endings(trials: Sequence[Trial], coverage: Coverage) -> list[dict[str, Any]]:
    """The trials that did not end ok, with the reason."""
    found = []
    for trial in trials:
        state = coverage.chain(trial)
        if state.status not in (None, "ok"):
            facts = {"trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.config.seed}
            found.append(facts | {"status": state.status, "error": state.error})
    return found


def lacking(of: str, trials: Sequence[Trial], store: Store, coverage: Coverage) -> str | None:
    """In words, how many trials are trained and lack measurements, and what brings those; None where none does.

    Args:
        of: the study and its store, as further commands take them.
        trials: of the study.
        store: which states lie there.
        coverage: what is recorded.
    """
    unmeasured = [trial for trial in trials if coverage.lacks_measurements(trial)]
    if not unmeasured:
        return None
    found = missing(unmeasured, store, coverage)
    said = f"{plural(len(unmeasured), 'trial')} trained, measurements missing: "
    if not found.gone:
        return said + f"loopsweep measure {of}"
    replays = f"replays up to {plural(found.gone, 'state')} not kept"
    at_kept = f"measures at {plural(len(found.kept), 'kept state')} and " if found.kept else ""
    return said + f"loopsweep run {of} {at_kept}{replays}"


def standing_table(counts: Mapping[str, Any]) -> str:
    """The counts as a table, a line for each arm and one for all."""
    columns = ["arm", "trials", "done", "running", "failed", "remaining"]
    lines = {**counts["arms"], "all": counts} if len(counts["arms"]) > 1 else counts["arms"]
    kinds = [name for name in STATUSES[1:] if name in counts["status"]]
    parts = [name for name in PARTS if counts[name]]
    rows = [
        [
            arm,
            *(line[name] for name in columns[1:]),
            *(line[name] for name in parts),
            *(line["status"].get(kind, 0) for kind in kinds),
        ]
        for arm, line in lines.items()
    ]
    return table([*columns, *(f"of these {kind}" for kind in (*parts, *kinds))], rows)
