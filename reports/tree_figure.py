"""The stage tree of a study as a figure: steps to the right, a line for each branch, colour by loops.

Drawn from the plain outline in ``report.json`` (`studies.branches.outline_dict`) alone. A branch leaves its trunk where
a thin line falls from it, once for each step at which it does; a thicker line has more trials. Triangles on a trunk are
the steps at which criteria ended its stage; a dotted line is where criteria that still watch it may.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.colours import FAINT, INK, PALETTE, PAPER
from reports.panels import SIZE, styled
from reports.ticks import plain_ticks
from studies.stage_words import steps_text

_ROW, _MARGIN = 0.4, 0.9
"""Inches of a row, and of what stands above and below the rows."""
_MOST_DROPS = 20
"""Starts of one branch that are drawn."""

Tree = Mapping[str, Any]


def tree_figure(tree: Tree) -> Figure:
    """The figure of an outline, given as plain values with at least one branch."""
    rows = [row for branch in tree["branches"] for row in _rows(branch, None)]
    places = {id(branch): -float(number) for number, (branch, _) in enumerate(rows)}
    colours = loop_colours(tree)
    last = max(end for branch, _ in rows for end in branch["ends"])
    with styled():
        figure = Figure(figsize=(SIZE[0] * 1.25, _MARGIN + _ROW * len(rows)), layout="constrained")
        axes = figure.subplots()
        for branch, parent in rows:
            y, colour = places[id(branch)], colours[branch["loops"]]
            if parent is not None:
                _drops(axes, branch, places[id(parent)], y, colour)
            _line(axes, branch, y, colour)
        _frame(axes, len(rows), last)
        axes.set_title(tree_title(tree))
    return figure


def tree_title(tree: Tree) -> str:
    """The figure's title: what sharing saves, once that is known."""
    if tree["waiting"]:
        return "What trials share"
    if "flops_trained" in tree:  # a step with more loops costs more
        return f"What trials share: {tree['flops_alone'] / tree['flops_trained']:.2f} times fewer FLOPs"
    return f"What trials share: {_ratio(tree)} times fewer updates"


def _ratio(tree: Tree) -> str:
    return f"{tree['steps_alone'] / tree['steps_trained']:.2f}"


def tree_alt(tree: Tree) -> str:
    """What the figure shows, for those who do not see it."""
    sentences = [f"Stage tree of {_count(tree['trials'], 'trial')} on {_count(tree['seeds'], 'seed')}."]
    if not tree["waiting"]:
        updates = f"{tree['steps_trained']:,} updates for trials that would take {tree['steps_alone']:,} each alone"
        sentences.append(f"It trains {updates}: {_ratio(tree)} times fewer.")
    for branch in tree["branches"]:
        sentences += [_sentence(each, parent) for each, parent in _rows(branch, None)]
    if tree["left_out"] is not None:
        sentences.append(f"{_count(tree['left_out']['trials'], 'trial')} of further kinds are not shown.")
    return " ".join(sentences)


def loop_colours(tree: Tree) -> dict[int, str]:
    """A colour for each number of loops, the fewest first."""
    found = sorted({branch["loops"] for root in tree["branches"] for branch, _ in _rows(root, None)})
    colours = PALETTE if len(found) <= len(PALETTE) else sns.husl_palette(len(found), l=0.55).as_hex()
    return dict(zip(found, colours, strict=False))


def _rows(branch: Tree, parent: Tree | None) -> Iterator[tuple[Tree, Tree | None]]:
    """A branch and all that leaves it, in the order of the figure: (branch, what it leaves)."""
    yield branch, parent
    for child in branch["children"]:
        yield from _rows(child, branch)


def _line(axes: Axes, branch: Tree, y: float, colour: str) -> None:
    width = 1.4 + 0.9 * math.log10(branch["trials"])
    watch = branch["criteria"]
    open_ended = watch is not None and not branch["children"] and not branch["complete"]
    for first, end in branch["spans"]:
        certain = max(first, min(watch["earliest"], end)) if open_ended else end
        axes.plot([first, certain], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
        axes.plot([certain, end], [y, y], color=colour, linewidth=width, alpha=0.35, solid_capstyle="butt")
    if watch is not None:
        span = [watch["earliest"], watch["latest"]]
        axes.plot(span, [y - 0.22] * 2, color=INK, linewidth=1.3, linestyle=(0, (1, 1.6)))
    steps = [step for step, _ in branch["ended"]]
    axes.plot(steps, [y] * len(steps), "v", color=INK, markersize=6, markeredgecolor=PAPER, markeredgewidth=0.8)
    axes.annotate(
        branch["label"], xy=(1.0, y), xytext=(6, 1), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="bottom", ha="left", color=colour, fontsize=10, annotation_clip=False,
    )  # fmt: skip
    axes.annotate(
        _how_many(branch), xy=(1.0, y), xytext=(6, -1), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="top", ha="left", color=FAINT, fontsize=8.5, annotation_clip=False,
    )  # fmt: skip


def _drops(axes: Axes, branch: Tree, above: float, y: float, colour: str) -> None:
    """A thin line for each step at which a branch leaves its trunk."""
    starts = branch["starts"]
    stride = math.ceil(len(starts) / _MOST_DROPS)
    for start in dict.fromkeys((*starts[::stride], starts[-1])):
        axes.plot([start, start], [above, y], color=colour, linewidth=0.8, alpha=0.55, zorder=1)
        axes.plot([start], [y], "o", color=colour, markersize=3.5)


def _frame(axes: Axes, rows: int, last: int) -> None:
    axes.set_xlim(0, last)
    axes.set_ylim(0.6 - rows, 0.5)
    axes.set_yticks([])
    axes.set_xlabel("step (updates)")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    plain_ticks(axes, "x")


def _how_many(branch: Tree) -> str:
    """Trials, lineages of each seed; criteria that watch."""
    words = [_count(branch["trials"], "trial")]
    if branch["lineages"] == branch["each"] * branch["seeds"] > branch["seeds"]:
        what = "settings" if branch["starts"] == [0] else "branches"
        words.append(f"{branch['each']:,} {what} × {_count(branch['seeds'], 'seed')}")
    elif branch["lineages"] > branch["seeds"]:
        words.append(f"{branch['lineages']:,} branches")
    if branch["criteria"] is not None:
        words.append(f"{_count(branch['criteria']['number'], 'criterion', 'criteria')} waiting")
    if branch["left_out"] is not None:
        words.append(f"{_count(branch['left_out']['kinds'], 'kind')} not shown")
    return ", ".join(words)


def _sentence(branch: Tree, parent: Tree | None) -> str:
    start, end = (_steps(branch, which) for which in ("start", "end"))
    what = f"{branch['label']} from step {start} to {end}"
    text = f"{what}, {_count(branch['trials'], 'trial')}"
    done, arms = sum(number for _, number in branch["complete"]), ", ".join(branch["arms"])
    if done:
        text += f" ({arms})" if done == branch["trials"] else f" ({done:,} complete: {arms})"
    if parent is not None:
        text = f"From {parent['label']}: {text}"
    if branch["ended"]:
        ended = sum(number for _, number in branch["ended"])
        text += f"; criteria of {_count(ended, 'trial')} ended it at {steps_text([s for s, _ in branch['ended']])}"
    if branch["criteria"] is not None:
        watch = branch["criteria"]
        criteria = _count(watch["number"], "criterion", "criteria")
        text += f"; {criteria} may end it at {watch['earliest']} … {watch['latest']}"
    return text[:1].upper() + text[1:] + "."


def _steps(branch: Tree, which: str) -> str:
    return steps_text(branch[f"{which}s"], branch[f"{which}_count"])


def _count(number: int, word: str, many: str | None = None) -> str:
    return f"{number:,} {word if number == 1 else many or word + 's'}"
