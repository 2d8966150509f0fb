"""Stages and steps in words: what acts, from when to when.

One wording for plans, tables and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from core.lineage import Link
from core.schedule import Acting

MOST_WORDS = 4
"""Steps that are written out one by one."""


def loops_text(loops: int, draw: float | None = None) -> str:
    """``1 loop``, ``3 loops``, ``3 loops on average (drawn, σ 0.5)``."""
    text = f"{loops} loop" if loops == 1 else f"{loops} loops"
    return text if draw is None else f"{text} on average (drawn, σ {draw:g})"


def acts_text(link: Link) -> tuple[str, ...]:
    """What begins to act with a link besides its loops, in words."""
    rewarm = link.rewarm[1] if link.rewarm is not None and link.rewarm[0] == link.start else 0
    look = (link.lr_factor, rewarm, link.start == link.reset > 0, link.decay is not None)
    return terms_text(*look, link.offset, link.backprop)


def terms_text(  # noqa: PLR0917 - all that makes two lineages look different, as it is kept in one tuple
    factor: float, rewarm: int, reset: bool, decay: bool, offset: int | None, backprop: int
) -> tuple[str, ...]:
    """What acts besides the number of loops.

    Args:
        factor: of the learning rate.
        rewarm: updates of warm-up.
        reset: whether the optimiser state is set to zero.
        decay: whether the learning rate decays.
        offset: loops by length, more than it; None: all sequences are looped alike.
        backprop: loops through which gradients flow; 0 = all.
    """
    words = []
    if offset is not None:
        words.append(f"fewer by length (n{offset:+d})" if offset else "fewer by length (n)")
    if backprop:
        words.append(f"gradients through the last {'loop' if backprop == 1 else f'{backprop} loops'}")
    if factor != 1.0:
        words.append(f"learning rate × {factor:g}")
    if rewarm:
        words.append(f"warm-up of {rewarm} updates")
    if reset:
        words.append("optimiser reset")
    if decay:
        words.append("learning rate decays")
    return tuple(words)


def steps_text(steps: Sequence[int], count: int | None = None) -> str:
    """``100``; ``100, 250, 900``; evenly spread ``150, 300 … 2850``; else ``100 … 900``.

    Args:
        steps: distinct, ascending, at least one.
        count: how many there were, where only some were kept.
    """
    if len(steps) <= MOST_WORDS and count in (None, len(steps)):
        return ", ".join(map(str, steps))
    gaps = {b - a for a, b in pairwise(steps)}
    second = f", {steps[1]}" if len(gaps) == 1 and count in (None, len(steps)) else ""
    return f"{steps[0]}{second} … {steps[-1]}"


def acting_text(acting: Acting) -> str:
    """What acts in a stage, in words."""
    words = terms_text(acting.lr_factor, acting.rewarm, acting.reset, False, acting.offset, acting.backprop)
    return ", ".join((loops_text(acting.loops, acting.draw), *words))
