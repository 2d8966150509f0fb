"""The outline of a stage tree as text, one line for each branch: what acts, from where to where, how many."""

from __future__ import annotations

from collections.abc import Iterator

from studies.branches import Branch, LeftOut, Outline
from studies.stage_words import steps_text
from sweeps.output import clean_lines
from sweeps.tables import plural

Row = tuple[str, str, str, str, str]
"""What acts (with the tree's lines before it), steps, how many, trials, remarks (arms that end there)."""


def tree_text(outline: Outline) -> str:
    """The tree with box characters; columns aligned, numbers of steps before training at 0."""
    rows: list[Row] = []
    for branch in outline.branches:
        rows += _rows(branch, "", "")
    if outline.left_out is not None:
        rows.append(_remainder(outline.left_out, ""))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines = []
    for name, steps, copies, trials, remark in rows:
        cells = (
            name.ljust(widths[0]),
            steps.ljust(widths[1]),
            copies.ljust(widths[2]),
            trials.rjust(widths[3]),
            remark,
        )
        lines.append("  ".join(cells).rstrip())
    return clean_lines("\n".join(lines))


def _rows(branch: Branch, first: str, rest: str) -> Iterator[Row]:
    """The lines of a branch and all that leaves it.

    Args:
        branch: the branch.
        first: what stands before its own line.
        rest: what stands before the lines below it.
    """
    yield (first + branch.label, _span(branch), _copies(branch), plural(branch.trials, "trial"), _remark(branch))
    below = branch.children
    last = branch.left_out is not None
    if branch.criteria is not None:
        watched = branch.criteria
        verb = "watches" if watched.number == 1 else "watch"
        yield (
            f"{rest}{'├─' if below or last else '└─'} {plural(watched.number, 'criterion', 'criteria')} {verb}",
            f"at {watched.earliest} … {watched.latest}",
            "",
            plural(watched.trials, "trial"),
            f"{', '.join(watched.arms)}: branches begin where they end it, then {' or '.join(watched.then)}",
        )
    forks = branch.complete or branch.criteria is not None or last or len(below) != 1
    if not forks and below[0].lineages == branch.lineages:
        yield from _rows(below[0], f"{rest}↳ ", rest)  # no deeper than before
        return
    for number, child in enumerate(branch.children, 1):
        ends = number == len(branch.children) and not last
        yield from _rows(child, rest + ("└─ " if ends else "├─ "), rest + ("   " if ends else "│  "))
    if branch.left_out is not None:
        yield _remainder(branch.left_out, f"{rest}└─ ")


def _remainder(left_out: LeftOut, before: str) -> Row:
    kinds = plural(left_out.kinds, "more kind")
    return (f"{before}… {kinds} of branches", "", "", plural(left_out.trials, "trial"), "not shown")


def _span(branch: Branch) -> str:
    return f"{steps_text(branch.starts, branch.start_count)} → {steps_text(branch.ends, branch.end_count)}"


def _copies(branch: Branch) -> str:
    """How many lineages: a number for each seed where all have as many; what begins at step 0 differs in settings."""
    seeds = plural(branch.seeds, "seed")
    if branch.each * branch.seeds != branch.lineages:
        return f"{branch.lineages:,} in all, {seeds}"
    if branch.each == 1:
        return seeds
    return f"{branch.each:,}{' settings' if branch.starts == (0,) else ''} × {seeds}"


def _remark(branch: Branch) -> str:
    remarks = []
    if branch.ended:
        steps = [step for step, _ in branch.ended]
        trials = sum(number for _, number in branch.ended)
        remarks.append(f"criteria of {plural(trials, 'trial')} ended it at {steps_text(steps)}")
    done = sum(number for _, number in branch.complete)
    arms = ", ".join(branch.arms)
    if done and (done < branch.trials or len(branch.complete) > 1):
        remarks.append(f"{arms}: {done:,} complete at {steps_text([step for step, _ in branch.complete])}")
    elif done:
        remarks.append(arms)
    return "; ".join(remarks)
