"""What a search or a tuning may improve: one number per trial, by the name of a column.

``final_`` or ``best_`` before a metric (``final_val_loss``, ``best_val_loss_high_ic``) or a measured quantity
(``final_lambda_max``), or the cost of a trial by itself (``flops_alone``, ``alone_s``). Which of two values is better
says the registry of metrics. A trial that did not end ok, or has no finite value, has none: nobody makes one up.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.errors import Problem
from core.quantities import COLUMNS, point
from core.terms import nearest
from studies.claims import SPENT, MetricRef, metric_names
from studies.metrics import COST, HISTORY
from studies.metrics import metric as registered

if TYPE_CHECKING:
    from studies.study import Nuisance, Search
    from studies.views import Views

_COSTS = tuple(cost.name for cost in COST if cost.name not in SPENT)
_WHEN = ("final", "best")


def objectives(nuisance: Nuisance | None, search: Search | None) -> Iterator[tuple[str, str]]:
    """(place in the file, name) of what a tuning and a search improve."""
    if nuisance is not None:
        yield "nuisance.tune_metric", nuisance.metric
    if search is not None:
        for number, text in enumerate(search.metrics, start=1):
            yield f"search.metrics[{number}]" if len(search.metrics) > 1 else "search.metric", text


def objective(text: str) -> MetricRef:
    """The column that a checked objective names."""
    if text in _COSTS:
        return MetricRef(text=text, source="trials", name=text)
    prefix, _, name = text.partition("_")
    measured = name in COLUMNS or point(name) is not None
    return MetricRef(
        text=text, source="curvature" if measured else "metrics", name=name, at="final" if prefix == "final" else "best"
    )


def objective_problem(text: str, place: str, strata: Mapping[str, Collection[str]]) -> Problem | None:
    """What is wrong with the name of an objective.

    Args:
        text: the name.
        place: where it stands.
        strata: by arm, the suffixes of the stratum columns that its tasks have; each arm is to have the objective.
    """
    prefix, _, name = text.partition("_")
    if text in _COSTS or (prefix in _WHEN and (name in COLUMNS or point(name) is not None)):
        return None
    if text in SPENT:
        return Problem(place, f"{text} is a share of what happened to run; take flops_alone or alone_s")
    known = {arm: _histories(found) for arm, found in strata.items()}
    if prefix in _WHEN and all(name in names for names in known.values()):
        return None
    if prefix in _WHEN and any(name in names for names in known.values()):
        lacking = ", ".join(arm for arm, names in known.items() if name not in names)
        return Problem(place, f"the tasks of arm {lacking} have no {name}; take a metric that every arm has")
    every = dict.fromkeys([name for names in known.values() for name in names] or HISTORY)
    names = [f"{when}_{column}" for column in (*every, *COLUMNS) for when in _WHEN]
    if text in every or text in COLUMNS:
        return Problem(place, f"must say when, got {text!r}; write final_{text} or best_{text}")
    hint = nearest(text, [*names, *_COSTS])
    return Problem(place, f"must be a final_ or best_ metric, or a cost of a trial, got {text!r}; {hint}")


def _histories(strata: Collection[str]) -> list[str]:
    """The metrics of evaluations, with and without strata."""
    costs = {cost.name for cost in COST}
    return [name for name, source in metric_names(strata).items() if source == "metrics" and name not in costs]


def known_objectives(views: Views) -> list[str]:
    """The names that `recorded_objectives` finds a column for."""
    there, measured = _columns(views, "trials"), _columns(views, "curvature")
    names = [name for name in there if name in _COSTS or name.startswith(tuple(f"{when}_" for when in _WHEN))]
    return names + [f"{when}_{name}" for name in measured if name in COLUMNS or point(name) for when in _WHEN]


def _columns(views: Views, view: str) -> list[str]:
    return [name for name, *_ in views.connection.execute(f"DESCRIBE {view}").fetchall()]


def recorded_objectives(views: Views, names: Sequence[str]) -> list[dict[str, Any]]:
    """trial_id, status and the objectives of every trial; None where there is no value."""
    there, measured = _columns(views, "trials"), _columns(views, "curvature")
    columns = []
    for text in names:
        ref = objective(text)
        value = "NULL"
        if ref.source != "curvature" and text in there:
            value = f't."{text}"'
        elif ref.source == "curvature" and ref.name in measured:
            value = f"(SELECT {_chosen(ref)} FROM curvature AS c WHERE c.trial_id = t.trial_id)"  # noqa: S608 - as below
        columns.append(f"CASE WHEN t.status = 'ok' THEN {value} END AS \"{text}\"")
    sql = f"SELECT t.trial_id, t.status, {', '.join(columns)} FROM trials AS t"  # noqa: S608 - names of the registry
    rows: list[dict[str, Any]] = views.connection.sql(sql).to_arrow_table().to_pylist()
    return rows


def _chosen(ref: MetricRef) -> str:
    """SQL: a measured quantity at the last step of a trial, or its best."""
    if ref.at == "final":
        return f'any_value(c."{ref.name}") FILTER (c.step = t.steps)'
    return f'{"min" if registered(ref.name).better == "lower" else "max"}(c."{ref.name}")'


def mean_of(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean over the seeds of a setting; None where a seed did not end ok or has no finite value."""
    values = [row[name] if row["status"] == "ok" else None for row in rows]
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite and len(finite) == len(values) else None
