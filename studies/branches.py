"""An outline of a stage tree as values: branches, what watches them, what was left out.

See `studies.outline`, which makes them; `reports` draws the plain form, `sweeps` prints it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from studies.stage_words import loops_text

MOST_STEPS = 60
"""Steps of one kind that a branch keeps."""
MOST_ARMS = 6
"""Arms that a branch names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Criteria:
    """What watches the lineages of a branch."""

    number: int
    """Distinct criteria, the most that watch one lineage."""
    trials: int
    """That wait for them."""
    arms: tuple[str, ...]
    """Of these trials, in their order; at most `MOST_ARMS`."""
    earliest: int
    """First step at which one can end its stage: its (patience + 1)-th check."""
    latest: int
    """Last step at which one does."""
    then: tuple[str, ...]
    """What acts afterwards, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """What was not kept."""

    kinds: int
    """Branches with all that leaves them."""
    trials: int
    """That pass through them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """Lineages that look alike."""

    loops: int
    draw: float | None
    """Loops are drawn with that mean and this sigma; None: they are as many."""
    acts: tuple[str, ...]
    """What else acts, in words."""
    starts: tuple[int, ...]
    """Distinct steps at which they begin, ascending; at most `MOST_STEPS`, the first and the last among them."""
    start_count: int
    """How many there were."""
    ends: tuple[int, ...]
    """Likewise, the last steps that anybody needs of them; of what is watched, the latest."""
    end_count: int
    spans: tuple[tuple[int, int], ...]
    """Distinct (start, end), ascending; at most `MOST_STEPS`."""
    lineages: int
    each: int
    """The most lineages that one seed has among them."""
    seeds: int
    trials: int
    """That pass through them."""
    complete: tuple[tuple[int, int], ...]
    """(step, trials that are complete there), ascending; at most `MOST_STEPS`."""
    arms: tuple[str, ...]
    """Of these trials, in their order; at most `MOST_ARMS`."""
    ended: tuple[tuple[int, int], ...]
    """(step, trials whose criterion ended the stage there, as recorded), likewise."""
    criteria: Criteria | None
    children: tuple[Branch, ...]
    """By their first start."""
    left_out: LeftOut | None

    @property
    def label(self) -> str:
        """What acts, in words."""
        return ", ".join((loops_text(self.loops, self.draw), *self.acts))

    @property
    def lines(self) -> int:
        """Lines that it takes, without what leaves it."""
        return 1 + (self.criteria is not None) + (self.left_out is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """A stage tree in short."""

    trials: int
    waiting: int
    """Trials of these whose chain is not known to its end: criteria will decide."""
    seeds: int
    steps_alone: int
    """Updates of all trials, each by itself, as far as their chains are known."""
    steps_trained: int
    """Updates of the tree: what is shared counts once."""
    branches: tuple[Branch, ...]
    """That begin at step 0, those with the fewest loops first."""
    left_out: LeftOut | None


def outline_dict(found: Outline) -> dict[str, Any]:
    """An outline as plain values for JSON; each branch has its `label` besides."""

    def plain(branch: Branch) -> dict[str, Any]:
        own = asdict(replace(branch, children=()))
        return {"label": branch.label} | own | {"children": [plain(child) for child in branch.children]}

    own = asdict(replace(found, branches=()))
    whole: dict[str, Any] = _listed(own | {"branches": [plain(branch) for branch in found.branches]})
    return whole


def _listed(value: Any) -> Any:
    """With lists for tuples, as JSON gives them back."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
