"""Which lanes train together: ready lanes form units of K, units form bundles.

Lanes pack when tensor shapes, start, end and what is observed agree. K is given, or is the pack size at which a
calibration found the least time per trial; where that would leave a worker without work, they are divided. Lanes wait
here, and are formed into units only when a worker is about to be free, so that those that become ready meanwhile join
them. The longest chain of work goes first, since it decides when the sweep ends.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.lineage import pack_shape
from core.numerics import Engine, device_and_engine
from studies.keys import shape_key
from studies.store import Store
from sweeps.units import Lane, Unit, unit

PACK_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sizes that a calibration measures."""
BUNDLE_UNITS = 64
BUNDLE_SECONDS = 0.5
"""A bundle holds so many units, or so much estimated work; more would only delay what it unlocks."""
DEFAULT_RATE = 1e10
"""FLOP per second and worker where a shape was never timed.

Packs of small attention-only models did 2e10 to 5e10 on one quiet core (batch 8, width 16 to batch 32, width 32);
half of the lesser, since evaluation and data take time too.
"""
STEP_SECONDS = 7e-4
"""What a step takes whatever its size, where it was never timed: calls of a tiny model's kernels (0.7 to 1.2 ms)."""
SPREAD = 8
"""Lanes of a pack over which what a step takes whatever its size is spread thinly enough to be left out."""
GAIN = 0.97
"""A larger pack is taken only where a trial takes at most this share of its time in a smaller one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What calibrations say about one shape."""

    step_s: Mapping[int, float]
    """Seconds of one step of a pack, by pack size; the size 1 is always there."""

    def best(self) -> int:
        """The pack size with the least time per trial, the smaller one where they are close."""
        chosen = 1
        for size in sorted(self.step_s):
            if self.step_s[size] / size < GAIN * self.step_s[chosen] / chosen:
                chosen = size
        return chosen

    def seconds(self, size: int) -> float:
        """Seconds of one step of a pack of any size: as the next larger measured one, scaled beyond the largest."""
        larger = [measured for measured in self.step_s if measured >= size]
        if larger:
            return self.step_s[min(larger)]
        largest = max(self.step_s)
        return self.step_s[largest] * size / largest

    def work(self, flops: float) -> float:
        """Seconds of a step that grow with its work: those of one lane among many, without what every step takes.

        Args:
            flops: of one update of a trial, for shapes of which no large pack was timed.
        """
        size = max(self.step_s)
        least = min(seconds / lanes for lanes, seconds in self.step_s.items())
        return least if size >= SPREAD else min(least, flops / DEFAULT_RATE)


def stated_seconds(flops: float, size: int) -> float:
    """Seconds assumed of a step of a pack whose shape was never timed, of so many FLOPs per update of a trial."""
    return STEP_SECONDS + size * flops / DEFAULT_RATE


def stated_pace(flops: float) -> Pace:
    """The pace assumed of such a shape."""
    return Pace({size: stated_seconds(flops, size) for size in PACK_SIZES})


def paces(store: Store, *, engine: Engine = "eager", device: str | None = None) -> dict[str, Pace]:
    """The recorded calibrations by shape; of several numerics classes the slower time counts.

    Args:
        store: what is recorded.
        engine: whose step times.
        device: kind of device on which they were taken; None: on any.
    """
    table = store.read("calibrations", ["shape", "numerics_class", "pack", "step_s"])
    times: dict[str, dict[int, float]] = {}
    for row in table.to_pylist():
        where = device_and_engine(row["numerics_class"])
        if where != (device or where[0], engine):
            continue
        known = times.setdefault(row["shape"], {})
        known[row["pack"]] = max(row["step_s"], known.get(row["pack"], 0.0))
    return {shape: Pace(step_s) for shape, step_s in times.items() if 1 in step_s}


def lane_shape(lane: Lane) -> str:
    """The shape of a lane, as calibrations name it."""
    return shape_key(lane.config, lane.where)


def pack_key(lane: Lane) -> tuple[Any, ...]:
    """What must agree for lanes to form one unit."""
    measure = lane.config.measure
    observed = (lane.asked, measure.how if lane.asked.measure else None)
    return (pack_shape(lane.config, lane.where), lane.start, lane.end, observed)


def even(total: int, largest: int) -> int:
    """The size of the next of several packs, each at most `largest`, that share `total` lanes evenly."""
    return math.ceil(total / math.ceil(total / largest))


class Ready:
    """Lanes and units that may start now."""

    def __init__(self, *, slots: int, size: Callable[[Lane], int], seconds: Callable[[Lane, int], float]) -> None:
        """Nothing is ready yet.

        Args:
            slots: bundles that run at once.
            size: the best pack size for lanes like this one.
            seconds: estimated seconds of a unit of so many lanes like this one.
        """
        self._slots = slots
        self._size = size
        self._seconds = seconds
        self._groups: dict[tuple[Any, ...], deque[Lane]] = {}
        self._order: list[tuple[float, int, tuple[Any, ...]]] = []
        self._numbers = 0
        self._lanes = 0
        self._again: deque[tuple[Unit, ...]] = deque()

    def __len__(self) -> int:
        """Lanes that wait."""
        return self._lanes + sum(len(unit.lanes) for units in self._again for unit in units)

    def add(self, lane: Lane, priority: float) -> None:
        """A lane may start; of groups, the one whose first lane has the highest priority goes first."""
        key = pack_key(lane)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = deque()
            self._numbers += 1  # ties go first come, first served; keys need no order
            heapq.heappush(self._order, (-priority, self._numbers, key))
        group.append(lane)
        self._lanes += 1

    def clear(self) -> None:
        """Forgets the lanes that wait, but for the units that were put back."""
        self._groups.clear()
        self._order.clear()
        self._lanes = 0

    def again(self) -> list[Unit]:
        """The units that were put back and wait."""
        return [unit for units in self._again for unit in units]

    def put_back(self, units: Iterable[Unit]) -> None:
        """Units that go again as they are, in one bundle of their own, before everything else."""
        if again := tuple(units):
            self._again.append(again)

    @property
    def plenty(self) -> bool:
        """Whether each slot would still find a full pack if one were taken: a bundle may wait beside those that run."""
        if not self._order:
            return bool(self._again)
        group = self._groups[self._order[0][2]]
        return self._lanes > self._slots * max(1, self._size(group[0]))

    def take(self, free: int = 1) -> tuple[Unit, ...]:
        """The units of the next bundle; empty where nothing waits.

        Args:
            free: slots that have nothing to do, this one included. A group of equal lanes is divided only where there
                are fewer groups than that: halves of packs cost more than a short wait.
        """
        if self._again:
            return self._again.popleft()
        units: list[Unit] = []
        seconds = 0.0
        taken = 0
        share = math.ceil(self._lanes / max(1, free))
        alone = len(self._order) < free
        while self._order and len(units) < BUNDLE_UNITS:
            key = self._order[0][2]
            group = self._groups[key]
            best = max(1, self._size(group[0]))
            size = even(len(group), min(best, share) if alone else best)
            cost = self._seconds(group[0], size)
            if units and (taken + size > share or seconds + cost > BUNDLE_SECONDS):
                break
            units.append(unit(group.popleft() for _ in range(size)))
            seconds += cost
            taken += size
            self._lanes -= size
            if not group:
                heapq.heappop(self._order)
                del self._groups[key]
        return tuple(units)
