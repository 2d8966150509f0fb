"""The grammar of `[[claims]]`: what a study expects its results to say, as frozen values. Verdicts are `reports`' work.

A claim has a text and one or several parts that must all hold. A part compares a metric of one arm with that of another
(`against`) or with a number (`value`). The metric is a column of metrics or curvature at a step, at the end or at its
best, the cost of a trial, or a functional of its history, ``plateau_step(0.05)``. Over the values of an axis a claim is
asked by `each` and `along` (`studies.claim_axes`). Every name is checked when the study is read, so a slip costs a
second and not the night of the sweep.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from core.errors import InputError, Problem
from core.quantities import COLUMNS, CURVES, THRESHOLDS, point
from core.terms import nearest
from studies.claim_axes import filters
from studies.grid import Grid
from studies.metrics import COST, METRICS, STRATIFIED
from studies.metrics import metric as registered
from studies.where import Expression, conjuncts

Expect = Literal["lower", "higher", "differs", "not worse"]
At = int | Literal["final", "best"]
Source = Literal["metrics", "curvature", "trials", "functional"]

EXPECTATIONS: tuple[str, ...] = get_args(Expect)

SPENT = frozenset({"flops_spent", "spent_s"})
"""Costs that depend on what else was run: no property of an arm, so no metric of a claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """A functional of a trial's history, as far as a study's text may call it; `reports.functionals` computes it."""

    doc: str
    arguments: tuple[str, ...] = ()
    """What its arguments mean, in order; all are numbers."""
    required: int = 0
    """How many of them must be given."""
    within: tuple[float, float] = (-math.inf, math.inf)
    """Least and largest value of an argument."""
    whole: bool = False
    """Arguments are whole numbers."""
    log: bool = False
    """Lives on orders of magnitude and is positive: differences and margins are ratios."""
    quantity: str | None = None
    """What must be measured for it; None: it looks at evaluations."""
    measurements: int = 1
    """Of that quantity on one trial, below which it has no value."""


def _at_threshold(curve: str, doc: str, argument: str, *, log: bool = False) -> Signature:
    within = THRESHOLDS[0], THRESHOLDS[-1]
    return Signature(doc=doc, arguments=(argument,), required=1, within=within, log=log, quantity=curve)


FUNCTIONALS: Mapping[str, Signature] = MappingProxyType(
    {
        "plateau_step": Signature(
            doc="first step after which the loss improves by no more than a share of its drop", arguments=("share",)
        ),
        "phase_order": Signature(doc="steps by which accuracy on high-IC sequences comes after that on low-IC ones"),
        "force_at": _at_threshold(
            "cumulative_force", "cumulative force of the eigenvalues with |λ| ≤ τ, at the end", "tau", log=True
        ),
        "below_at": _at_threshold(
            "eigenvalues_below", "number of eigenvalues with |λ| ≤ τ outside the null space, at the end", "tau"
        ),
        "kappa_at": _at_threshold(
            "kappa_valley", "condition of the valley, largest over smallest |λ| > ε, at the end", "eps", log=True
        ),
        "river_share_at": _at_threshold("river_share", "share of the next updates along |λ| ≤ ε, at the end", "eps"),
        "hopping_at": Signature(
            doc="how often the gradient along the eigenvector of a rank from the top changes sign, at the end",
            arguments=("rank",),
            required=1,
            within=(1, 1000),
            whole=True,
            quantity="valley_hopping",
        ),
        "entropy_dip": Signature(
            doc="how far the matrix entropy falls below its first value", quantity="entropy", measurements=2
        ),
        "entropy_rise": Signature(
            doc="how far the matrix entropy ends above its least value", quantity="entropy", measurements=2
        ),
        "phases_in_order": Signature(
            doc="1 where Collapse, Diversification and Stabilization follow one another by the rule, else 0",
            quantity="entropy",
            measurements=4,  # each of the three phases takes an interval of its own
        ),
    }
)
"""Functionals that a claim may name."""

_CALL = re.compile(r"([a-z][a-z0-9_]*)\s*\(([^()]*)\)")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRef:
    """What a part of a claim looks at."""

    text: str
    """As written: the name in the report."""
    source: Source
    name: str
    """Column without `final_` or `best_`, or the functional's name."""
    at: At | None = None
    """A step, "final" or "best"; None for costs and functionals, which belong to the whole trial."""
    arguments: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One comparison; exactly one of `against` and `value` is set."""

    metric: MetricRef
    arm: str
    against: str | None = None
    value: float | None = None
    expect: Expect
    margin: float = 0.0
    """For "not worse": what the arm may lose, in the metric's unit; on a log scale a ratio above 1."""
    where: tuple[Expression, ...] = ()
    """Keep the settings that it speaks of; an axis that does not act on an arm filters nothing there."""

    @property
    def where_text(self) -> str | None:
        """The filters as one text; None without any."""
        return " and ".join(one.text for one in self.where) or None


@dataclass(frozen=True, kw_only=True, slots=True)
class Along:
    """The axis whose values the parts of a claim go through, in their order."""

    key: str
    values: tuple[bool | int | float | str, ...]
    """By part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A claim: supported where each of its parts is."""

    text: str
    parts: tuple[Part, ...]
    place: str
    """Where the study's file states it, ``claims[1]``: several have one place where `each` made them."""
    along: Along | None = None


def parse_claims(
    tables: Sequence[Mapping[str, Any]], *, axes: Mapping[str, Grid], strata: Collection[str], problems: list[Problem]
) -> tuple[Claim, ...]:
    """The claims of a study; what is wrong is appended to `problems` and left out.

    Args:
        tables: of ``[[claims]]``, in order.
        axes: what the study's arms vary, by arm.
        strata: suffixes of the stratum columns that the study's tasks have.
        problems: receives every problem found.
    """
    claims: list[Claim] = []
    texts: dict[str, int] = {}
    for number, table in enumerate(tables, start=1):
        where = f"claims[{number}]"
        text = table.get("text")
        if isinstance(text, str):
            if text in texts:
                problems.append(Problem(f"{where}.text", f"stands already in claims[{texts[text]}]; drop one"))
            texts.setdefault(text, number)
        outer = {key: value for key, value in table.items() if key not in ("text", "all", "each", "along")}
        inner = table.get("all", [{}])
        if not isinstance(inner, list) or not inner or not all(isinstance(part, dict) for part in inner):
            problems.append(Problem(f"{where}.all", f"must be a non-empty list of tables, got {inner!r}"))
            continue
        places = [f"{where}.all[{i}]" for i in range(1, len(inner) + 1)] if "all" in table else [where]
        # A part takes from the claim what it does not say itself, so `arm` or `expect` is written once.
        parts = [
            _part({**outer, **part}, place, axes, strata, problems) for part, place in zip(inner, places, strict=True)
        ]
        sound = tuple(part for part in parts if part is not None)
        if isinstance(text, str) and len(sound) == len(parts):
            claims += _over_axes(Claim(text=text, parts=sound, place=where), table, axes, problems)
    return tuple(claims)


def _over_axes(
    claim: Claim, table: Mapping[str, Any], axes: Mapping[str, Grid], problems: list[Problem]
) -> Iterator[Claim]:
    """The claims that `each` and `along` make of one; itself without them."""
    each, along = table.get("each"), table.get("along")
    arms = {name: axes[name] for part in claim.parts for name in (part.arm, part.against) if name is not None}
    where = [one for part in claim.parts for one in part.where]
    over: dict[str, dict[Any, Expression]] = {}
    for name, key in (("each", each), ("along", along)):
        if key is None:
            continue
        try:
            over[name] = filters(str(key), arms, where)
        except InputError as error:
            problems.append(Problem(f"{claim.place}.{name}", str(error)))
            return
    if along is not None and (wrong := _no_order(claim, each, along, len(over["along"]))) is not None:
        problems.append(Problem(f"{claim.place}.along", wrong))
        return
    for value, one in over.get("each", {None: None}).items():
        text = claim.text if one is None else f"{claim.text} ({str(each).rpartition('.')[2]} = {value})"
        parts = tuple(replace(part, where=(*part.where, one)) for part in claim.parts) if one else claim.parts
        if along is None:
            yield replace(claim, text=text, parts=parts)
            continue
        steps = tuple(replace(parts[0], where=(*parts[0].where, step)) for step in over["along"].values())
        order = Along(key=str(along), values=tuple(over["along"]))
        yield replace(claim, text=text, parts=steps, along=order)


def _no_order(claim: Claim, each: Any, along: Any, values: int) -> str | None:
    """Why a claim can't go along an axis; None where it can."""
    if len(claim.parts) > 1:
        return "makes a part of each value, so `all` has no place beside it; write one claim for each of its parts"
    if along == each:
        return f"must be another axis than `each`, got {along!r} twice; drop one of the two"
    if values < 2:
        return f"must be an axis of at least two values here, got {along!r} with one; drop it"
    return None


def _part(
    table: Mapping[str, Any], where: str, arms: Collection[str], strata: Collection[str], problems: list[Problem]
) -> Part | None:
    found: list[Problem] = []

    def wrong(key: str, message: str) -> None:
        found.append(Problem(f"{where}.{key}", message))

    for key in ("metric", "arm", "expect"):
        if key not in table:
            wrong(key, "is required")
    metric = None
    if "metric" in table:
        metric = _metric(table["metric"], table.get("at"), strata, wrong)
    for key in ("arm", "against"):
        name = table.get(key)
        if name is not None and (not isinstance(name, str) or name not in arms):
            wrong(key, f"no such arm, got {name!r}; {nearest(str(name), arms)}")
    if "against" in table and table["against"] == table.get("arm"):
        wrong("against", f"must be another arm than {table['against']!r}")
    value = _finite(table, "value", wrong)
    if ("against" in table) == ("value" in table):
        got = "both" if "value" in table else "neither"
        wrong("against", f"a comparison is `against` an arm or with a number `value`, got {got}; give one")
    expect = table.get("expect")
    if expect is not None and expect not in EXPECTATIONS:
        shown = ", ".join(f'"{name}"' for name in EXPECTATIONS)
        wrong("expect", f"must be one of {shown}, got {expect!r}")
    margin = _finite(table, "margin", wrong)
    if expect == "not worse" and (margin is not None or "margin" not in table):
        ratio = metric is not None and _ratio(metric)
        least, unit = (1.0, "a ratio above 1, as 1.05 for 5 %") if ratio else (0.0, "above 0 in the metric's unit")
        if margin is None or margin <= least:
            wrong("margin", f'"not worse" needs a margin, {unit}, got {margin!r}')
    elif expect != "not worse" and "margin" in table:
        wrong("margin", f'acts only under expect = "not worse", got expect = {expect!r}; drop it')
    where_filters = _filters(table.get("where"), wrong)
    problems += found
    if found or metric is None:
        return None
    return Part(
        metric=metric,
        arm=table["arm"],
        against=table.get("against"),
        value=value,
        expect=cast("Expect", expect),
        margin=margin or 0.0,
        where=where_filters,
    )


def _filters(text: Any, wrong: Any) -> tuple[Expression, ...]:
    if text is None:
        return ()
    if not isinstance(text, str):
        wrong("where", f"must be a text, got {text!r}")
        return ()
    try:
        return conjuncts(text)
    except InputError as error:
        wrong("where", str(error))
        return ()


def _ratio(metric: MetricRef) -> bool:
    """Whether its differences are ratios."""
    if metric.source == "functional":
        return FUNCTIONALS[metric.name].log
    return registered(metric.name).scale == "log"


def _finite(table: Mapping[str, Any], key: str, wrong: Any) -> float | None:
    number = table.get(key)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        wrong(key, f"must be a finite number, got {number!r}")
        return None
    return float(number)


def _metric(text: Any, at: Any, strata: Collection[str], wrong: Any) -> MetricRef | None:
    if not isinstance(text, str):
        wrong("metric", f"must be a text, got {text!r}")
        return None
    called = _CALL.fullmatch(text.strip())
    if called or text in FUNCTIONALS:
        name, arguments = (called[1], called[2]) if called else (text, "")
        return _functional(text, name, arguments, at, wrong)
    prefix, column = next(((p, text[len(p) + 1 :]) for p in ("final", "best") if text.startswith(f"{p}_")), ("", text))
    known = metric_names(strata)
    source: Source | None = "curvature" if point(column) is not None else known.get(column)
    if source is None:
        wrong("metric", f"unknown metric, got {text!r}; {_hint(column, known)}")
        return None
    if at is not None:
        if prefix:
            wrong("at", f"{text!r} says already when, got at = {at!r}; drop one of the two")
        elif source == "trials":
            wrong("at", f"{column} belongs to the whole trial, got at = {at!r}; drop it")
        elif not (at in ("final", "best") or (type(at) is int and at >= 0)):
            wrong("at", f'must be a step (an integer of at least 0), "final" or "best", got {at!r}')
    if source == "trials":
        return MetricRef(text=text, source=source, name=column)
    return MetricRef(text=text, source=source, name=column, at=cast("At", prefix or ("final" if at is None else at)))


def _hint(column: str, known: Collection[str]) -> str:
    """What may be meant by a metric that there is not."""
    if column in SPENT:
        return "it is a share of what happened to run; claim flops_alone or alone_s"
    if column in CURVES and CURVES[column].listed is not None:
        return f"it is a curve over {CURVES[column].x}; claim a point of it, as {column}_8"
    return nearest(column, [*known, *FUNCTIONALS])


def _functional(text: str, name: str, arguments: str, at: Any, wrong: Any) -> MetricRef | None:
    if name not in FUNCTIONALS:
        wrong("metric", f"unknown functional, got {text!r}; {nearest(name, FUNCTIONALS)}")
        return None
    signature = FUNCTIONALS[name]
    parts = [part.strip() for part in arguments.split(",")] if arguments.strip() else []
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    takes = ", ".join(signature.arguments) or "nothing"
    if not all(math.isfinite(number) for number in numbers):
        wrong("metric", f"{name} takes numbers ({takes}), got {text!r}")
        return None
    if not signature.required <= len(numbers) <= len(signature.arguments):
        wrong("metric", f"{name} takes ({takes}), {signature.required} of them required, got {text!r}")
        return None
    low, high = signature.within
    if not all(low <= number <= high and (number.is_integer() or not signature.whole) for number in numbers):
        kind = "a whole number" if signature.whole else "a number"
        wrong("metric", f"{name} takes {kind} in {low:g} … {high:g} ({takes}), got {text!r}")
        return None
    if at is not None:
        wrong("at", f"{name} looks at the whole history, got at = {at!r}; drop it")
        return None
    return MetricRef(text=text, source="functional", name=name, arguments=numbers)


def metric_names(strata: Collection[str]) -> dict[str, Source]:
    """Every column that a claim may name, without `final_` and `best_`, and the table or view it is read from.

    But for the points of curves over listed x, which are any number of columns (`core.quantities.point`).
    """
    names: dict[str, Source] = dict.fromkeys(METRICS, "metrics")
    names |= {f"{metric.name}_{stratum}": "metrics" for metric in STRATIFIED for stratum in strata}
    names |= {metric.name: "trials" for metric in COST if metric.name != "flops_alone"}
    names |= dict.fromkeys(COLUMNS, "curvature")
    return {name: source for name, source in names.items() if name not in SPENT}
