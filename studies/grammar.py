"""The structure of a study file as strict pydantic models: which tables and keys there are, and of what type.

What the terms of a trial mean is declared in `core.config` alone, so the tables of terms (task, model, train, schedule,
measure) and of axes are open here; `studies.spec` checks their contents. The JSON Schema starts from these models too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from core.config import SECTIONS
from core.errors import Problem
from core.terms import nearest

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of studies and arms: they become file names, column values and labels."""
NAME_RULE = "must be 1 … 64 letters, digits, dots, dashes and underscores, with a letter or digit first"

MAX_SEEDS = 1_000_000
MAX_LIST = 1000

Terms = dict[str, Any]
Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Whole = Annotated[int, Field(ge=1, le=1_000_000)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class BaseTable(_Table):
    """``[base]``: what all arms share."""

    task: Terms = Field({}, description="the task; its other keys depend on task.kind")
    model: Terms = Field({}, description="the model")
    train: Terms = Field({}, description="the optimisation")
    schedule: Terms = Field({}, description="how many loops when")


class ArmTable(BaseTable):
    """``[arms.NAME]``: what this arm changes, and axes of its own."""

    axes: Terms = Field({}, description="axes of this arm alone")
    space: Terms = Field({}, description="keys that a search varies in this arm alone, or otherwise than in the others")
    match: Literal["parameters", "flops"] | None = Field(
        None, description="makes it a control: as many parameters, or FLOPs, as another arm, setting by setting"
    )
    match_to: str | None = Field(None, description="the arm that it is matched to; silent where there is but one")
    match_by: Literal["model.depth", "model.width", "train.steps"] | None = Field(
        None, description='the term that is chosen so that it matches; silent = "model.depth"'
    )


class NuisanceTable(BaseModel):
    """``[nuisance]``: axes that are tuned inside each arm before arms are compared, and how."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    tune_seeds: Whole = Field(3, description="seeds on which each value is tried; disjoint from `seeds`")
    tune_metric: str = Field("final_val_loss", description="the metric whose mean over these seeds decides")


class HalvingTable(_Table):
    """``[search.halving]``: settings stop at rungs, and only the best go on; see `studies.rungs`."""

    rungs: int | list[int | float] = Field(
        3,
        description="how many rungs, the last included, each `factor` times as long as the one before; or those before "
        "the last: shares of train.steps (float), or steps (integer)",
    )
    factor: Annotated[int, Field(ge=2, le=1000)] = Field(3, description="of each rung the best 1/factor go on")
    asynchronous: bool = Field(
        False, description="go on as soon as among the best of those that have ended, instead of when all have"
    )


class SearchTable(_Table):
    """``[search]``: settings that are proposed one batch after the other."""

    kind: Literal["grid", "random", "qmc", "tpe", "gp", "nsga2"] = Field(description="how settings are proposed")
    metric: Text | None = Field(
        None, description='what the search improves: its mean over `seeds`; silent = "final_val_loss"'
    )
    metrics: Annotated[list[str], Field(min_length=1, max_length=8)] | None = Field(
        None, description="several that it improves at once, instead of `metric`"
    )
    trials: Whole | None = Field(None, description="settings per arm; a grid has all its points")
    batch: Annotated[int, Field(ge=1, le=4096)] = Field(8, description="settings proposed at once: they fill a pack")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="of the proposals")
    space: Terms = Field({}, description="by dotted key: {low, high, log, points} or a list of choices")
    halving: HalvingTable | None = Field(None, description="stops settings at rungs; only the best run to the end")


class PartTable(_Table):
    """One comparison of a claim; in `all`, what is silent is taken from the claim."""

    metric: Text | None = Field(None, description="a column, with or without final_ or best_, or a functional")
    arm: str | None = Field(None, description="the arm that is looked at")
    against: str | None = Field(None, description="the arm that it is compared with")
    value: float | None = Field(None, description="the number that it is compared with")
    at: int | str | None = Field(None, description='a step, "final" (default) or "best"')
    where: Text | None = Field(None, description="settings that it speaks of, as model.loops == 3; silent: all of them")
    expect: str | None = Field(None, description="the direction that is expected")
    margin: float | None = Field(None, description='for "not worse": what may be lost, in the unit of the metric')


class ClaimTable(PartTable):
    """``[[claims]]``: a sentence that the results support, contradict or leave undecided."""

    text: Text = Field(description="the claim in words")
    all: Annotated[list[PartTable], Field(min_length=1)] | None = Field(None, description="parts that must all hold")
    each: Text | None = Field(None, description="an axis: one claim for each of its values")
    along: Text | None = Field(None, description="an axis: up to which of its values the claim holds, in their order")


class SizeTable(_Table):
    """``[sizes.NAME]``: what another size of the study changes; see `studies.sizes`."""

    seeds: int | list[int] | None = Field(None, description="number of seeds, or a list of them")
    base: BaseTable | None = Field(None, description="what all arms share")
    arms: dict[str, ArmTable] | None = Field(None, description="what single arms change, by name")
    axes: Terms | None = Field(None, description="axes that replace those of their names")
    nuisance: NuisanceTable | None = Field(None, description="axes tuned inside each arm, that replace likewise")
    measure: Terms | None = Field(None, description="what curvature is measured, when and on what")


class StudyTable(_Table):
    """A study: a question, the arms that answer it, and what is varied, measured and claimed."""

    name: Name = Field(description="name of the study in tables and reports")
    question: Text = Field(description="what the study asks, in one sentence")
    seeds: int | list[int] = Field(5, description="number of seeds (0 … n − 1), or a list of them")
    base: BaseTable = Field(default_factory=lambda: BaseTable.model_validate({}), description="what all arms share")
    arms: Annotated[dict[str, ArmTable], Field(min_length=1)] = Field(description="what is compared, by name")
    axes: Terms = Field({}, description="what is varied in every arm")
    where: list[str] = Field([], description="filters: settings for which one of them is false are dropped")
    nuisance: NuisanceTable | None = Field(None, description="axes tuned inside each arm")
    measure: Terms = Field({}, description="what curvature is measured, when and on what")
    search: SearchTable | None = Field(None, description="a search in each arm: settings that are proposed")
    claims: Annotated[list[ClaimTable], Field(max_length=MAX_LIST)] = Field([], description="what is expected")
    sizes: dict[str, SizeTable] = Field({}, description="other sizes of the study, by name; STUDY@NAME asks for one")


_RULES = {
    "string_type": "must be a text",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
}


def structural_problems(document: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the structure of a study: unknown and missing keys, wrong types, ranges of numbers."""
    try:
        StudyTable.model_validate(document)
    except ValidationError as error:
        found: dict[str, Problem] = {}
        for details in error.errors(include_url=False):
            at = details["loc"]
            # Unions: `studies.check` words their errors better.
            if "seeds" in (at[2:3] if at[0] == "sizes" else at[:1]) or at[:3] == ("search", "halving", "rungs"):
                continue
            problem = _problem(details)
            found.setdefault(problem.where, problem)
        return list(found.values())
    return []


def _problem(error: ErrorDetails) -> Problem:
    """One error of pydantic in our words: rule, value got, next step."""
    kind, context, got = error["type"], error.get("ctx", {}), error["input"]
    where = dotted(error["loc"])
    if kind == "extra_forbidden":
        return Problem(where, _unknown(error["loc"]))
    if kind == "missing":
        return Problem(where, f"is required: {_fields_at(error['loc'][:-1])[str(error['loc'][-1])]}")
    if kind == "string_pattern_mismatch":
        rule = NAME_RULE
    elif kind == "literal_error":
        rule = f"must be one of {context['expected'].replace(chr(39), chr(34)).replace(' or ', ', ')}"
    elif kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        rule = " and ".join(f"must be {words[name]} {context[name]}" for name in words if name in context)
    elif kind in ("too_short", "too_long", "string_too_long"):
        limit = context.get("min_length", context.get("max_length"))
        rule = f"must have at {'least' if kind == 'too_short' else 'most'} {limit} entries"
        if kind == "string_too_long":
            rule = f"must have at most {limit} characters"
    else:
        rule = _RULES.get(kind, error["msg"])
    return Problem(where, f"{rule}, got {_shown(got)}")


def dotted(location: tuple[int | str, ...]) -> str:
    """A place as it is named in messages: ``claims[1].metric``, counted from 1 as people do."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        elif part in ("int", "str"):  # pydantic's names for the branches of a union
            continue
        else:
            text += f"{'.' if text else ''}{part}"
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fields_at(location: tuple[int | str, ...]) -> dict[str, str]:
    """Name and description of every key that the table at a place may have."""
    model: type[BaseModel] = StudyTable
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _table_of(model.model_fields[part].annotation) or model
    return {name: field.description or "" for name, field in model.model_fields.items()}


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``dict[str, X]``, ``list[X]``, ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _table_of(argument)) is not None), None)


def _unknown(location: tuple[int | str, ...]) -> str:
    """What to write instead of an unknown key."""
    key, whole = str(location[-1]), location
    location = location[2:] if location[0] == "sizes" and len(location) > 2 else location
    if location[:-1] == ("base",) or location[0] == "arms":
        if key == "measure":
            return "unknown key; what is measured is the same for all arms: write [measure] at the top level"
        if "." in key and key.partition(".")[0] in SECTIONS:
            return f"unknown key; write {key} without the quotes"
    elif len(location) == 1 and key in ("task", *SECTIONS):
        return f"unknown key; what all arms share stands in [base.{key}]"
    elif len(whole) == 3 and len(location) == 1 and key in StudyTable.model_fields:
        return "is the same in every size; write it outside [sizes]"
    return f"unknown key; {nearest(key, _fields_at(whole[:-1]))}"
