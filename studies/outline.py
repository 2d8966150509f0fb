"""The stage tree for people: what looks alike is one branch, however many seeds and settings train it.

Pure, and of trials alone: their links, seeds and watches. A *branch* stands for all lineages that look alike and come
from lineages that look alike: 19 switch points after which three loops act are one branch with 19 starts, ten seeds of
them are the same branch with 190 lineages. Looking alike means that the same acts (loops, how they are drawn, the
learning rate's factor, a warm-up, a reset, a decay); where they begin and end may differ and is kept.

It is bounded: of kinds of branches those with the most trials stay, and each branch says how much of what leaves it was
left out; of many steps some stay, and how many there were.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from core.schedule import Watch
from studies.branches import MOST_ARMS, MOST_STEPS, Branch, Criteria, LeftOut, Outline
from studies.expand import Trial
from studies.stage_ends import stage_ends
from studies.stage_words import acting_text, terms_text

T = TypeVar("T")

MOST_LINES = 30
"""Lines of a drawn outline, one for each branch, each branch's criteria and each remainder."""


def outline(trials: Iterable[Trial], *, most_lines: int = MOST_LINES) -> Outline:
    """The outline of the stage tree of some trials, in time linear in their links.

    Args:
        trials: with their chains as far as known.
        most_lines: branches, criteria and remainders together, at least 3.
    """
    root = _Group(_ROOT)
    number, alone, seeds = 0, 0, set()
    for trial in trials:
        number += 1
        alone += trial.links[-1].end
        seeds.add(trial.config.seed)
        _add(root, trial)
    names = _Names(root)
    kept = _kept(root, most_lines)
    branches, left_out = _children(root, kept, names)
    return Outline(
        trials=number,
        waiting=sum(group.waiting for group in _all(root)),
        seeds=len(seeds),
        steps_alone=alone,
        steps_trained=sum(sum(group.reach.values()) - sum(group.begin.values()) for group in _all(root)),
        branches=branches,
        left_out=left_out,
    )


def stopped_at(trial: Trial, step: int) -> Trial:
    """A trial that ended (diverged, or failed) at a step, before the criterion that it waits for: it waits no more."""
    chain = [replace(link, end=min(link.end, step)) for link in trial.links if link.start < step]
    return replace(trial, links=tuple(chain or [replace(trial.links[0], end=0)]), watch=None)


def earliest(watch: Watch) -> int:
    """The first step at which a criterion can end its stage: its (patience + 1)-th check, or the latest step."""
    criterion = watch.criterion
    checks = criterion.grid(watch.start)
    return checks[criterion.patience] if len(checks) > criterion.patience else criterion.latest


# --- groups ----------------------------------------------------------------------------------------------------------

_Look = tuple[Any, ...]
"""Loops, draw, what else acts (as `terms_text` takes it), injection, place of the loss: all that makes lineages look
different."""
_ROOT: _Look = (0, None, 1.0, 0, False, False, None, 0, "none", "last")


@dataclass(slots=True, eq=False)
class _Group:
    """A branch while trials are collected."""

    look: _Look
    reach: dict[str, int] = field(default_factory=dict)
    """By lineage, the last step that anybody needs of it."""
    begin: dict[str, int] = field(default_factory=dict)
    """By lineage, the step at which it begins."""
    by_seed: dict[int, int] = field(default_factory=dict)
    """Lineages of each seed."""
    trials: int = 0
    complete: dict[int, int] = field(default_factory=dict)
    arms: dict[str, None] = field(default_factory=dict)
    """Of trials that are complete."""
    ended: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    waiting_arms: dict[str, None] = field(default_factory=dict)
    watches: dict[int, tuple[Watch, Trial]] = field(default_factory=dict)
    """By identity of the value: trials of a grid share it, and comparing values would cost more than the rest."""
    children: dict[_Look, _Group] = field(default_factory=dict)


def _add(group: _Group, trial: Trial) -> None:
    seed, ended = trial.config.seed, trial.ended
    end = 0
    for link in trial.links:
        start, end, lineage, rewarm = link.start, link.end, link.lineage, link.rewarm
        look = (
            link.loops,
            link.draw,
            link.lr_factor,
            rewarm[1] if rewarm is not None and rewarm[0] == start else 0,
            start == link.reset > 0,
            link.decay is not None,
            link.offset,
            link.backprop,
            link.injection,
            link.loss_on,
        )
        child = group.children.get(look)
        if child is None:
            child = group.children[look] = _Group(look)
        group = child
        group.trials += 1
        known = group.reach.get(lineage)
        if known is None:
            group.reach[lineage] = end
            group.begin[lineage] = start
            group.by_seed[seed] = group.by_seed.get(seed, 0) + 1
        elif end > known:
            group.reach[lineage] = end
        if end in ended:
            group.ended[end] = group.ended.get(end, 0) + 1
    if trial.watch is None:
        group.complete[end] = group.complete.get(end, 0) + 1
        group.arms[trial.arm] = None
    else:
        group.waiting += 1
        group.waiting_arms[trial.arm] = None
        if id(trial.watch) not in group.watches:
            group.watches[id(trial.watch)] = trial.watch, trial


class _Names:
    """Looks in words; where the loops get their input and where the loss is taken is said only where it differs."""

    def __init__(self, root: _Group) -> None:
        looped = [group.look for group in _all(root) if group.look[0] > 1]
        self._injections = len({look[-2] for look in looped}) > 1
        self._losses = len({look[-1] for look in looped}) > 1

    def acts(self, look: _Look) -> tuple[str, ...]:
        """What else acts."""
        *_, injection, loss_on = look
        looped = look[0] > 1
        words = [f"injection {injection}"] if looped and self._injections else []
        words += [f"loss on {loss_on}"] if looped and self._losses else []
        return (*terms_text(*look[2:-2]), *words)


def _all(group: _Group) -> Iterator[_Group]:
    for child in group.children.values():
        yield child
        yield from _all(child)


def _ordered(groups: Iterable[_Group]) -> list[_Group]:

    def place(group: _Group) -> tuple[Any, ...]:
        return min(group.begin.values()), *(-math.inf if term is None else term for term in group.look)

    return sorted(groups, key=place)


def _kept(root: _Group, most_lines: int) -> set[int]:
    """The groups (by identity) that stay: those with the most trials, never one without that which it leaves."""
    order: list[_Group] = []
    heap = [(-g.trials, 0, i, g) for i, g in enumerate(_ordered(root.children.values()))]
    number = len(heap)
    heapq.heapify(heap)
    while heap and len(order) < most_lines:
        _, depth, _, group = heapq.heappop(heap)
        order.append(group)
        for child in _ordered(group.children.values()):
            number += 1
            heapq.heappush(heap, (-child.trials, depth + 1, number, child))
    while len(order) > 1 and _lines(root, order) > most_lines:
        order.pop()
    return {id(group) for group in order}


def _lines(root: _Group, order: list[_Group]) -> int:
    kept = {id(group) for group in order}
    cut = sum(any(id(child) not in kept for child in group.children.values()) for group in (root, *order))
    return len(order) + sum(group.waiting > 0 for group in order) + cut


def _children(group: _Group, kept: set[int], names: _Names) -> tuple[tuple[Branch, ...], LeftOut | None]:
    found = _ordered(group.children.values())
    rest = [child for child in found if id(child) not in kept]
    left_out = None
    if rest:
        kinds = len(rest) + sum(1 for child in rest for _ in _all(child))
        left_out = LeftOut(kinds=kinds, trials=sum(child.trials for child in rest))
    return tuple(_branch(child, kept, names) for child in found if id(child) in kept), left_out


def _branch(group: _Group, kept: set[int], names: _Names) -> Branch:
    children, left_out = _children(group, kept, names)
    starts, ends = sorted(set(group.begin.values())), sorted(set(group.reach.values()))
    return Branch(
        loops=group.look[0],
        draw=group.look[1],
        acts=names.acts(group.look),
        starts=_thinned(starts),
        start_count=len(starts),
        ends=_thinned(ends),
        end_count=len(ends),
        spans=_thinned(sorted({(start, group.reach[lineage]) for lineage, start in group.begin.items()})),
        lineages=len(group.reach),
        each=max(group.by_seed.values()),
        seeds=len(group.by_seed),
        trials=group.trials,
        complete=_some(group.complete),
        arms=tuple(group.arms)[:MOST_ARMS],
        ended=_some(group.ended),
        criteria=_criteria(group),
        children=children,
        left_out=left_out,
    )


def _thinned(steps: list[T]) -> tuple[T, ...]:
    """At most `MOST_STEPS` of them, evenly chosen by their rank, with the first and the last."""
    if len(steps) <= MOST_STEPS:
        return tuple(steps)
    return tuple(steps[round(rank * (len(steps) - 1) / (MOST_STEPS - 1))] for rank in range(MOST_STEPS))


def _some(counted: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple((step, counted[step]) for step in _thinned(sorted(counted)))


def _criteria(group: _Group) -> Criteria | None:
    if not group.watches:
        return None
    watches = [watch for watch, _ in group.watches.values()]
    then = dict.fromkeys(_follows(trial) for _, trial in group.watches.values())
    return Criteria(
        number=len({watch.criterion for watch in watches}),
        trials=group.waiting,
        arms=tuple(group.waiting_arms)[:MOST_ARMS],
        earliest=min(earliest(watch) for watch in watches),
        latest=max(watch.criterion.latest for watch in watches),
        then=tuple(sorted(then)),
    )


def _follows(trial: Trial) -> str:
    """What acts once a criterion has ended its stage, in words."""
    follows = stage_ends(trial)[-1].follows
    return acting_text(follows[0].acting) if follows else "nothing more"
