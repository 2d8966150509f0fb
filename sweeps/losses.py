"""What becomes of a unit that a worker lost.

A loss costs the unit that ran an attempt. A pack is halved, so that one poisonous trial ends up alone and its
neighbours do not suffer; a lane that was lost alone as often as is allowed is given up: recorded as a failure, with its
reason. Where that lane was a replay, its own rows stand, and what waited for its state fails.
"""

from __future__ import annotations

from datetime import UTC, datetime

from studies.store import Store
from sweeps.agenda import Agenda
from sweeps.executor import Lost
from sweeps.unit_rows import segment_row
from sweeps.units import Lane, Unit


def again(unit: Unit, lost: Lost, *, attempts: int) -> tuple[list[Unit], str]:
    """The units that go again for a lost one, each in a bundle of its own, and a line for the user.

    Args:
        unit: that ran when its worker was lost.
        lost: how.
        attempts: times that a lane may be lost before it is given up; then no unit goes again.
    """
    if len(unit.lanes) > 1:
        # Alone, each lane gets one more attempt at least, for the fault may be its neighbour's.
        attempt = min(unit.attempt + (lost.kind != "oom"), max(1, attempts - 1))
        said = f"a pack of {len(unit.lanes)} was lost and is halved: {lost.reason}"
        return [_attempt(half, attempt) for half in unit.split()], said
    if unit.attempt < attempts:
        said = f"attempt {unit.attempt} of {attempts} was lost: {lost.reason}"
        return [_attempt(unit, unit.attempt + 1)], said
    return [], f"given up after {unit.attempt} attempts: {lost.reason}"


def give_up(unit: Unit, lost: Lost, *, agenda: Agenda, store: Store, attempts: int) -> bool:
    """Records the failure of a lane that was lost alone too often; returns whether there was anything to record."""
    lane = unit.lanes[0]
    index = agenda.index(lane)
    if lane.record:
        _record(lane, lost.kind, lost.reason, store=store, attempts=unit.attempt)
        if index is not None:
            agenda.close(index, lost.kind)
        return True
    if index is None:
        return False
    reason = f"the replay of its past was lost: {lost.reason}"
    return fail_waiting(index, lost.kind, reason, agenda=agenda, store=store, attempts=attempts)


def fail_waiting(index: int, kind: str, reason: str, *, agenda: Agenda, store: Store, attempts: int) -> bool:
    """A replay did not bring back its state: what waited for it fails; returns whether anything was recorded."""
    recorded = False
    for child in agenda.forget(index):
        lane = agenda.lane(child)
        if lane.record:
            _record(lane, kind, reason, store=store, attempts=attempts)
            agenda.close(child, kind)
            recorded = True
        else:
            recorded |= fail_waiting(child, kind, reason, agenda=agenda, store=store, attempts=attempts)
    return recorded


def _record(lane: Lane, kind: str, reason: str, *, store: Store, attempts: int) -> None:
    now = datetime.now(UTC)
    row = segment_row(
        lane,
        status=kind,
        end=lane.end,
        reached=lane.start,
        attempts=attempts,
        error=reason,
        pack_size=1,
        started_at=now,
        finished_at=now,
    )
    store.commit({"segments": [row]})


def _attempt(unit: Unit, number: int) -> Unit:
    return Unit(id=unit.id, lanes=unit.lanes, attempt=number)
