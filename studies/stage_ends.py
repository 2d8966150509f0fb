"""How the stages of a trial end, as its schedule declares it and as far as its criteria have decided."""

from __future__ import annotations

from dataclasses import dataclass

from core.schedule import Declared, declared
from studies.expand import Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class StageEnd:
    """A declared stage with at least one update, in its place."""

    stage: Declared
    start: int
    end: int
    """Where a trial waits for its criterion, the latest step."""
    waits: bool
    follows: tuple[Declared, ...]
    """The declared stages after it."""


def stage_ends(trial: Trial) -> list[StageEnd]:
    """The declared stages of a trial up to the one whose end it waits for.

    Neighbours that act alike are one stage in its links; here they stand as declared.
    """
    config = trial.config
    stages = declared(config.model, config.train, config.schedule)
    found: list[StageEnd] = []
    start, left = 0, list(trial.ended)
    for index, stage in enumerate(stages):
        waits = False
        if isinstance(stage.until, int):
            end = stage.until
        elif start >= stage.until.latest:  # criteria before it have taken all steps, as in `core.schedule.placed`
            continue
        elif left:
            end = left.pop(0)
        else:
            end, waits = stage.until.latest, True
        if end > start:
            found.append(StageEnd(stage=stage, start=start, end=end, waits=waits, follows=stages[index + 1 :]))
        if waits:
            break
        start = end
    return found
