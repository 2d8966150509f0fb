"""How a notebook shows a study and its results: small tables in HTML, every text of a study escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from studies.schemas import STATUSES

if TYPE_CHECKING:
    import pyarrow as pa

    from studies.study import Study

LOSS = "final_val_loss"


def study_html(study: Study) -> str:
    """A study: name, question, arms with what varies in them, claims."""
    shared = list(study.axes.keys)
    arms = []
    for arm in study.arms:
        keys = dict.fromkeys([*shared, *arm.axes.keys, *arm.space])
        match = f"as {arm.match.to}, by {arm.match.by}" if arm.match is not None else ""
        arms.append([arm.name, match or ", ".join(keys)])
    claims = [[number, claim.text] for number, claim in enumerate(study.claims, 1)]
    seeds = f"{len(study.seeds)} seeds"
    return _box(study, seeds, _table(["arm", "varies"], arms), _table(["", "claim"], claims) if claims else "")


def results_html(study: Study, trials: pa.Table) -> str:
    """Results: by arm how many trials ended how, and the mean final loss over those that ended ok, the best first.

    Args:
        study: whose results they are.
        trials: the view.
    """
    frame = trials.select([name for name in trials.column_names if name in ("arm", "role", "status", "seed", LOSS)])
    frame = frame.to_pandas()
    ended = frame["status"].fillna("not run")
    kinds = [kind for kind in (*STATUSES, "not run") if (ended == kind).any()]
    tasks = [name for name in trials.column_names if name.startswith("task.")]
    # Losses on different tasks have no mean.
    lossy = LOSS in frame and all(len(trials[name].unique()) == 1 for name in tasks)
    rows: list[tuple[float, list[Any]]] = []  # with what they are sorted by
    for arm in (arm.name for arm in study.arms):
        own = frame["arm"] == arm
        row: list[Any] = [arm, int(own.sum()), *(int((own & (ended == kind)).sum()) for kind in kinds)]
        mean = math.nan
        if lossy:
            compared = frame[own & (frame["role"] == "compare") & (frame["status"] == "ok")]
            mean = float(compared[LOSS].mean())
            row += ["–" if math.isnan(mean) else f"{mean:.4g}", int(compared["seed"].nunique())]
        rows.append((math.inf if math.isnan(mean) else mean, row))
    rows.sort(key=lambda one: one[0])
    head = ["arm", "trials", *kinds, *(["mean final val_loss", "seeds"] if lossy else [])]
    counts = ", ".join(f"{int((ended == kind).sum()):,} {kind}" for kind in kinds) or "none"
    return _box(study, f"{len(frame):,} trials: {counts}", _table(head, [row for _, row in rows]))


def _box(study: Study, said: str, *tables: str) -> str:
    head = f"<p><strong>{_text(study.name)}</strong> {_text(study.question)}<br>{_text(said)}</p>"
    return f"<div>{head}{''.join(tables)}</div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    cells = ("".join(f"<td>{_text(value)}</td>" for value in row) for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in cells)}</tbody></table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
