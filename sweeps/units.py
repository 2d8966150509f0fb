"""What is sent to a worker: plain frozen values that pickle, of lanes, the units they form and bundles of units.

A *lane* is one stretch of one lineage: where it begins, where it ends, what is observed on the way. A *unit* is lanes
of equal shape, start, end and observation that train in one pack. A *bundle* is units that one worker runs in a row
and commits in groups. Nothing here is identity of results: rows are keyed by lineage and step, whatever the unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.config import TrialConfig
from core.lineage import Link, digest16, links

WORK = "sweeps.worker:train_unit"
"""The work function of a bundle where none is named: it trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One stretch of one lineage, from the state at `start` to the state at `end`."""

    config: TrialConfig
    """Of a trial that goes through it; ``config.measure`` says what is measured."""
    link: int
    """Index into ``links(config)``."""
    start: int
    end: int
    evaluate: tuple[int, ...]
    """Steps in (start, end], and 0 where start is 0, at which metrics are taken."""
    measure: tuple[int, ...]
    """Likewise for curvature."""
    checkpoint: bool
    """Save the state at `end`: somebody begins from it, or ``train.keep`` says so."""
    generation: int = 0
    """Raised by ``--retry``: rows of a higher generation replace those of a lower one."""
    record: bool = True
    """False for a replay that only brings back a lost checkpoint: its rows are recorded already."""
    lineage: str = ""
    """Of its rows and of the states on it; computed where it is not given."""

    def __post_init__(self) -> None:
        """Fills in the lineage: hashing it again at every use would cost more than the rest of the driver's work."""
        if not self.lineage:
            object.__setattr__(self, "lineage", self.where.lineage)

    @property
    def where(self) -> Link:
        """The link it lies in."""
        return links(self.config)[self.link]

    @property
    def origin(self) -> tuple[str, int] | None:
        """The address (lineage, step) of the state it begins from; None where that is the initial one."""
        chain = links(self.config)
        if self.start == 0:
            return None
        # The state at the start of a link was reached on the link before: it is kept under that lineage.
        index = self.link - 1 if self.start == chain[self.link].start else self.link
        return chain[index].lineage, self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Lanes that train in one pack."""

    id: str
    """Digest of its lanes: equal lanes, equal id, whatever the attempt."""
    lanes: tuple[Lane, ...]
    attempt: int = 1

    def split(self) -> list[Unit]:
        """Its two halves at the same attempt (for out-of-memory and poison); itself where it is one lane."""
        if len(self.lanes) == 1:
            return [self]
        middle = len(self.lanes) // 2
        return [unit(self.lanes[:middle], self.attempt), unit(self.lanes[middle:], self.attempt)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Units that one worker runs in a row."""

    id: str
    """Unique in a run; a unit that is submitted again goes in a new bundle."""
    units: tuple[Unit, ...]
    device: str = "cpu"
    checkpoint_seconds: float = 600.0
    """A unit ends at the latest after so long; what is left of it is planned again."""
    unit_timeout_s: float | None = None
    """A unit that takes longer is lost with kind ``timeout``; None = no limit."""
    work: str = WORK
    """``module:function`` that does one unit; see `sweeps.worker.Work`."""


def unit(lanes: Iterable[Lane], attempt: int = 1) -> Unit:
    """A unit of these lanes, with its id."""
    lanes = tuple(lanes)
    text = ";".join(f"{lane.lineage},{lane.start},{lane.end},{lane.generation}" for lane in lanes)
    return Unit(id=digest16(text), lanes=lanes, attempt=attempt)
