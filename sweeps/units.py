"""What is sent to a worker: plain frozen values that pickle, of lanes, the units they form and bundles of units.

A *lane* is one stretch of one lineage: where it begins, where it ends, what is observed on the way. A *unit* is lanes
of equal shape, start, end and observation that train in one pack. A *bundle* is units that one worker runs in a row
and commits in groups. Nothing here is identity of results: rows are keyed by lineage and step, whatever the unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.config import TrialConfig
from core.lineage import Link, digest16
from core.numerics import Engine
from core.observation import NOTHING, Asked
from core.schedule import Watch
from core.watch import Check
from studies.tree import origin

WORK = "sweeps.training:train_unit"
"""The work function of a bundle where none is named: it trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One stretch of one lineage, from the state at `start` to the state at `end`."""

    config: TrialConfig
    """Of a trial that goes through it; ``config.measure`` says what is measured."""
    chain: tuple[Link, ...]
    """That trial's links up to the one that the lane lies in."""
    start: int
    end: int
    asked: Asked = NOTHING
    """Steps in (start, end], and 0 where start is 0, at which something is observed."""
    watches: tuple[Watch, ...] = ()
    """What trials wait for on it: it is checked, and its state saved where a criterion ends the stage."""
    seen: tuple[tuple[int, Check], ...] = ()
    """(step, check) of the watched stage that are recorded already."""
    needed: bool = True
    """It is trained to its end though every criterion that waits on it has ended the stage before."""
    checkpoint: bool = False
    """Save the state at `end`: somebody begins from it, or it is kept."""
    keep: bool = False
    """That state stays when nobody needs it any more."""
    generation: int = 0
    """Raised by ``--retry``: rows of a higher generation replace those of a lower one."""
    record: bool = True
    """False for a replay that only brings back a lost checkpoint: its rows are recorded already."""

    @property
    def where(self) -> Link:
        """The link it lies in."""
        return self.chain[-1]

    @property
    def lineage(self) -> str:
        """Of its rows and of the states on it."""
        return self.chain[-1].lineage

    @property
    def origin(self) -> tuple[str, int] | None:
        """The address (lineage, step) of the state it begins from; None where that is the initial one."""
        return origin(self.chain, self.start)


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
    engine: Engine = "eager"
    """Of training; what measures or compares is always eager."""
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
