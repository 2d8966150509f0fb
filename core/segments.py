"""What the lanes of a pack do and give: plain values between those who plan training and the engine (`core.train`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.lineage import Link, pack_shape
from core.schedule import Watch
from core.watch import Check


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What one lane of a pack does."""

    config: TrialConfig
    chain: tuple[Link, ...]
    """The links of the trial up to the one that is trained on."""
    start: int
    """Step of the state it begins from; link.start ≤ start < end ≤ link.end."""
    end: int
    evaluate: tuple[int, ...]
    """Steps in (start, end], and 0 where start is 0, at which metrics are taken."""
    measure: tuple[int, ...] = ()
    """Likewise for curvature; `config.measure` says what."""
    check: tuple[int, ...] = ()
    """Steps in (start, end] at which what criteria see is taken."""
    watches: tuple[Watch, ...] = ()
    """Criteria that wait for this stage's rows and have not ended it yet, each once."""
    seen: tuple[tuple[int, Check], ...] = ()
    """(step, check) of the stage so far, as recorded."""
    needed: int | None = None
    """Step up to which it is trained even where no criterion waits any more; None: `end`."""
    states: tuple[int, ...] = ()
    """Steps in (start, end] whose states are given back."""
    branch: bool = False
    """It leaves the trial at `start` and records nothing, so that state may be evaluated in its link too."""

    @property
    def link(self) -> Link:
        """The link that is trained on."""
        return self.chain[-1]

    @property
    def begins_stage(self) -> bool:
        """Whether a stage after the first begins with it; the decay of a learning rate is none."""
        return self.start == self.link.start > 0 and self.chain[-2].stage != self.link.stage


@dataclass(kw_only=True)
class LaneResult:
    """What one lane of a pack gave."""

    status: str
    """``ok`` or ``diverged``."""
    reached: int
    """Last step with a finite state: the end, unless it diverged or was stopped."""
    metrics: list[dict[str, Any]]
    """Rows of the table metrics, without the lineage."""
    curvature: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    spectra: list[dict[str, Any]]
    surfaces: list[dict[str, Any]]
    events: list[dict[str, Any]]
    """step, kind, detail; the step of a divergence is that of the update that could not be made."""
    checks: list[dict[str, Any]]
    """Rows of the table checks, without the lineage."""
    measured_s: float
    """Its share of the seconds that measuring took."""
    state: TrialState
    """The state at `reached`."""
    states: list[TrialState] = field(default_factory=list)
    """Those of `Segment.states` that were reached, in order."""


def refuse_misfits(segments: Sequence[Segment], states: Sequence[TrialState]) -> None:
    """Checks that segments form a pack, and states fit them.

    Raises:
        ValueError: they do not.
    """
    if not segments or len(segments) != len(states):
        raise ValueError(f"a pack needs one state per segment, got {len(segments)} and {len(states)}")
    first = segments[0]
    for segment, state in zip(segments, states, strict=True):
        if not segment.link.start <= segment.start < segment.end <= segment.link.end:
            raise ValueError(f"a segment lies within its link, got {segment.start}–{segment.end} of {segment.link}")
        if (segment.start, segment.end) != (first.start, first.end):
            raise ValueError("the segments of a pack have one start and one end")
        if pack_shape(segment.config, segment.link) != pack_shape(first.config, first.link):
            raise ValueError("the segments of a pack have one pack_shape")
        if state.step != segment.start:
            raise ValueError(f"the state is at step {state.step}, the segment starts at {segment.start}")
        for step in (*segment.evaluate, *segment.measure, *segment.check, *segment.states):
            at_start = step == segment.start and (step == 0 or segment.branch)
            if not (segment.start < step <= segment.end or at_start):
                raise ValueError(f"step {step} cannot be observed in {segment.start}–{segment.end}")
        if 0 in segment.check:
            raise ValueError("step 0 is never checked")
