"""What was measured of one trial: a row for each step, and in words what could not be measured.

The rows are those of the view `curvature`: the numbers that are asked for, with the settings that are asked for,
whichever measurement found them. Where studies ask for one quantity with different settings no row answers for both, so
each study has its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.expand import Trial
    from studies.store import Store

_FAILED = " failed: "
"""What stands between the method and the reason where there is no number (`core.findings.rows`)."""


def measured(asking: Sequence[Trial], store: Store) -> list[dict[str, Any]]:
    """The measurements of a trial by step, without columns that have no value.

    They begin with the column `study` where studies ask for one quantity with different settings.

    Args:
        asking: the trial, once for each measurement that is asked for.
        store: where its rows are.
    """
    from studies.views import open_views

    rows: list[dict[str, Any]] = []
    for study, uses in _agreeing(asking):
        with open_views(uses, store) as views:
            found = views.arrow("curvature").drop_columns("trial_id").to_pylist()
        rows += [{"study": study} | row for row in found]
    kept = [key for key in (rows[0] if rows else ()) if any(row[key] is not None for row in rows)]
    return [{key: row[key] for key in kept} for row in rows]


def failures(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What could not be measured, a line for each reason: ``step 0: edge: the moments are zero``.

    Args:
        rows: with `method` by column or quantity, and `study` where there are several.
    """
    at: dict[tuple[str | None, str, str], list[int]] = {}
    for row in rows:
        names: dict[str, list[str]] = {}
        for name, method in (row.get("method") or {}).items():
            _, failed, reason = method.partition(_FAILED)
            if failed:
                names.setdefault(reason, []).append(name)
        for reason, columns in names.items():
            at.setdefault((row.get("study"), ", ".join(columns), reason), []).append(row["step"])
    return [
        f"{f'{study}, ' if study else ''}step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"
        f": {columns}: {reason}"
        for (study, columns, reason), steps in at.items()
    ]


def _agreeing(asking: Iterable[Trial]) -> list[tuple[str | None, list[Trial]]]:
    """Who can be answered together: all of them, without a name, or each study by itself.

    Texts of one study that disagree are numbered: which of them is the later one is not recorded.
    """
    from studies.keys import probe_observed

    whole: dict[str, Any] = {}
    agree, everybody = True, []
    parts: dict[str, list[tuple[dict[str, Any], list[Trial]]]] = {}
    for trial in asking:
        if not trial.config.measure.quantities:
            continue
        asked = json.loads(probe_observed(trial.config.measure))
        everybody.append(trial)
        agree = agree and _compatible(whole, asked)
        whole |= asked
        own = parts.setdefault(trial.study, [])
        for known, uses in own:
            if _compatible(known, asked):
                known.update(asked)
                uses.append(trial)
                break
        else:
            own.append((asked, [trial]))
    if agree:
        return [(None, everybody)] if everybody else []
    return [
        (study if number == 1 else f"{study} (text {number})", uses)
        for study, own in parts.items()
        for number, (_, uses) in enumerate(own, start=1)
    ]


def _compatible(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether what both ask for, they ask for with equal settings."""
    return all(first[name] == second[name] for name in first.keys() & second.keys())
