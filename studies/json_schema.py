"""The JSON Schema of a study file, so that editors complete and check it while it is written.

Generated from the same declarations that validate: the structure from `studies.grammar`, terms with type, range and
meaning from `core.config`. The file ``study.schema.json`` beside this one is checked in, and a test holds it current:

    python -m studies.json_schema > studies/study.schema.json
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any, Literal, Union, get_args, get_origin

from core.config import MeasureConfig, section_class
from core.quantities import QUANTITIES
from core.schedule_terms import ScheduleConfig
from core.task_terms import TASKS
from core.terms import Bounds, fixed_count, hints, terms
from studies.claims import EXPECTATIONS, FUNCTIONALS, metric_names
from studies.grammar import NAME, StudyTable
from studies.nested import listed_table, table_in
from studies.settings import TRIAL_SECTIONS, known_keys
from studies.sizes import SMALL
from studies.space import MAX_POINTS

Schema = dict[str, Any]

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def schema() -> Schema:
    """The schema as plain values."""
    whole = StudyTable.model_json_schema()
    definitions: Schema = whole["$defs"]
    for section in TRIAL_SECTIONS:
        classes = dict.fromkeys(TASKS.values()) if section == "task" else [section_class(section, {})]
        tables = [_section(cls) for cls in classes]
        definitions[section] = tables[0] if len(tables) == 1 else {"anyOf": tables}
        for owner in ("BaseTable", "ArmTable"):
            definitions[owner]["properties"][section] = {"$ref": f"#/$defs/{section}"}
    definitions |= {_named(table): _section(table) for table in _nested(ScheduleConfig)}
    definitions["measure"] = _section(MeasureConfig)
    definitions["measure"]["properties"]["quantities"]["items"] = {"enum": list(QUANTITIES)}
    varied = {key: _values(key, classes) for key, classes in known_keys().items() if _identity(key, classes)}
    definitions["axis"] = {"type": "object", "properties": varied, "additionalProperties": False}
    same = {key: {"$ref": f"#/$defs/axis/properties/{key}"} for key in varied}
    grid = same | {
        "zip": {"type": "array", "items": {"$ref": "#/$defs/axis"}, "description": "lists that move together"},
        "union": {"type": "array", "items": {"$ref": "#/$defs/axes"}, "description": "grids one after the other"},
    }
    definitions["axes"] = {"type": "object", "properties": grid, "additionalProperties": False}
    definitions["ArmTable"]["properties"]["axes"] = {"$ref": "#/$defs/axes"}
    definitions["NuisanceTable"]["properties"] |= grid
    definitions["NuisanceTable"]["additionalProperties"] = False
    definitions["space"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            key: _dimension(key, classes) for key, classes in known_keys().items() if _searched(key, classes)
        },
    }
    for owner in ("SearchTable", "ArmTable"):
        definitions[owner]["properties"]["space"] = {"$ref": "#/$defs/space"}
    for owner in ("ClaimTable", "PartTable"):
        properties = definitions[owner]["properties"]
        properties["expect"] = {"enum": list(EXPECTATIONS), "description": "the direction that is expected"}
        properties["at"] = {
            "anyOf": [{"type": "integer", "minimum": 0}, {"enum": ["final", "best"]}],
            "description": "when: a step, or the end, or the best",
        }
        properties["metric"]["examples"] = [*metric_names(("low_ic", "high_ic")), *FUNCTIONALS]
    for table in (whole, definitions["SizeTable"]):
        table["properties"]["axes"] = {"$ref": "#/$defs/axes"}
        table["properties"]["measure"] = {"$ref": "#/$defs/measure"}
        table["properties"]["arms"] |= {"propertyNames": {"pattern": NAME}}
    whole["properties"]["sizes"] |= {"propertyNames": {"pattern": NAME, "not": {"const": SMALL}}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "title": "A study of loopsweep"}


def text() -> str:
    """The schema as it stands in ``study.schema.json``."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _section(cls: type) -> Schema:
    """A table of terms."""
    properties = {name: _term(cls, name) for name in terms(cls)}
    description = (cls.__doc__ or "").strip().splitlines()[0]
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}


def _term(cls: type, name: str) -> Schema:
    spec = terms(cls)[name]
    found = _typed(hints(cls)[name], spec.metadata["bounds"]) | {"description": spec.metadata["doc"]}
    if spec.default is not MISSING and spec.default is not None and not listed_table(hints(cls)[name]):
        found["default"] = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return found


def _typed(hint: Any, bounds: Bounds) -> Schema:
    """The schema of a type, with the range of its numbers; tables by their definition."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        options = [_typed(option, bounds) for option in arguments if option is not type(None)]  # TOML has no null
        return options[0] if len(options) == 1 else {"anyOf": options}
    if origin is tuple:
        count = fixed_count(hint)
        number = {"minItems": count, "maxItems": count} if count else {"minItems": 1} if listed_table(hint) else {}
        return {"type": "array", "items": _typed(arguments[0], bounds)} | number
    if (table := table_in(hint)) is not None:
        return {"$ref": f"#/$defs/{_named(table)}"}
    found: Schema = {"type": _TYPES[hint]}
    if hint in (int, float):
        limits = {word: getattr(bounds, name) for name, word in _LIMITS.items()}
        found |= {word: limit for word, limit in limits.items() if limit is not None}
    return found


def _nested(section: type) -> Iterator[type]:
    """The tables inside the values of a section's terms, and inside those."""
    for hint in hints(section).values():
        table = listed_table(hint) or table_in(hint)
        if table is not None:
            yield table
            yield from _nested(table)


def _named(table: type) -> str:
    """The name of a table inside a term, in `$defs`."""
    return table.__name__.removesuffix("Config").lower()


def _searched(key: str, classes: tuple[type, ...]) -> bool:
    """Whether a search may propose values of a key."""
    return _identity(key, classes) and get_origin(hints(classes[0])[_name(key)]) is not tuple


def _identity(key: str, classes: tuple[type, ...]) -> bool:
    return bool(terms(classes[0])[_name(key)].metadata["identity"])


def _values(key: str, classes: tuple[type, ...]) -> Schema:
    """An axis over a key; its values are those of any task that has it."""
    specs = [terms(cls)[_name(key)] for cls in classes]
    items = _either(
        [_typed(hints(cls)[_name(key)], spec.metadata["bounds"]) for cls, spec in zip(classes, specs, strict=True)]
    )
    meaning = specs[0].metadata["doc"]
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": items, "description": meaning}


def _either(options: list[Schema]) -> Schema:
    """What one of the schemas takes; choices become one list."""
    if all(option.keys() == {"enum"} for option in options):
        return {"enum": list(dict.fromkeys(choice for option in options for choice in option["enum"]))}
    distinct = [option for number, option in enumerate(options) if option not in options[:number]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _dimension(key: str, classes: tuple[type, ...]) -> Schema:
    """A searched key: a range of its numbers, or a list of choices."""
    axis = f"#/$defs/axis/properties/{key}"
    choices = {"$ref": axis, "minItems": 2}
    if get_origin(hints(classes[0])[_name(key)]) is Literal:
        return choices
    end = {"$ref": f"{axis}/items"}
    ends = {
        "type": "object",
        "properties": {
            "low": end,
            "high": end,
            "log": {"type": "boolean", "default": False},
            "points": {"type": "integer", "minimum": 2, "maximum": MAX_POINTS},
        },
        "required": ["low", "high"],
        "additionalProperties": False,
    }
    return {"anyOf": [ends, choices]}


def _name(key: str) -> str:
    """The term of a dotted key."""
    return key.partition(".")[2]


if __name__ == "__main__":
    sys.stdout.write(text())
