"""From an arm and an assignment of its axes to the configuration of a trial.

Sections are built once per value and shared by all the configurations of an arm: 10^5 trials hold a few hundred section
objects. Broken rules are kept beside the assignment that breaks them, since a `where` filter may drop it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config import SECTIONS, MeasureConfig, TrialConfig, section_class
from core.errors import InputError, Problem
from core.lineage import acting_keys
from core.schedule_terms import overlaid
from core.task_terms import TASKS
from core.terms import build, check, nearest, terms
from studies.grid import Assignment, Convert
from studies.nested import checked, shown, written
from studies.where import Expression

TRIAL_SECTIONS = ("task", "model", "train", "schedule")
"""The sections that an arm may set and an axis may vary."""


_FLAT = ("model", "train")
"""Of these, the sections whose class and terms do not depend on one of their values."""

_Assigned = tuple[str, type, Any, Any]
"""Name, type, text (`written`) and value of an assigned term."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting of an arm: everything but the seed."""

    config: TrialConfig
    """With seed 0."""
    varied: Mapping[str, Any]
    """The assigned values that act; a list of stages as its text (`studies.nested.written`)."""
    assignment: Assignment
    """All the assigned values."""
    paired: Mapping[str, Any] | None = None
    """Of a control: the assigned values that act on it or on the trial that it is matched to; see `studies.match`."""


def known_keys() -> dict[str, tuple[type, ...]]:
    """Every dotted key of a trial and the section classes that declare it: of a task's key one for each that has it."""
    classes = [("task", cls) for cls in dict.fromkeys(TASKS.values())]
    classes += [(name, SECTIONS[name]) for name in TRIAL_SECTIONS if name != "task"]
    keys: dict[str, tuple[type, ...]] = {}
    for section, cls in classes:
        for name in terms(cls):
            key = f"{section}.{name}"
            keys[key] = (*keys.get(key, ()), cls)
    return keys


def converter(keys: Mapping[str, tuple[type, ...]]) -> Callable[[str, Any], tuple[Any, str | None]]:
    """A function that checks and converts one value of one dotted key that must be part of a trial's identity."""
    found = checker(keys)

    def convert(key: str, value: Any) -> tuple[Any, str | None]:
        value, problems = found(key, value)
        return value, str(problems[0]) if problems else None

    return convert


def checker(keys: Mapping[str, tuple[type, ...]]) -> Convert:
    """As `converter`, with every problem of a value; their places follow the key.

    A key of several tasks takes what one of them takes; whether it suits the arm's own task shows with its settings.
    """

    def convert(key: str, value: Any) -> tuple[Any, list[Problem]]:
        if key not in keys:
            return value, [Problem("", f"unknown key; {nearest(key, keys)}")]
        name = key.partition(".")[2]
        if not terms(keys[key][0])[name].metadata["identity"]:
            message = "is not part of what a trial is, so it cannot vary; set it in [base] or in the arms"
            return value, [Problem("", message)]
        if key == "task.kind":
            try:
                section_class("task", {"kind": value})
            except InputError as error:
                return value, [Problem("", problem.message) for problem in error.problems]
            return value, []
        found = [checked(section, name, value) for section in keys[key]]
        return next((sound for sound in found if not sound[1]), found[0])

    return convert


class ArmSettings:
    """The settings of one arm, one at a time; sections are cached by value."""

    def __init__(
        self,
        arm: str,
        values: Mapping[str, Mapping[str, Any]],
        *,
        measure: MeasureConfig,
        where: Sequence[Expression] = (),
        over: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Takes an arm.

        Args:
            arm: its name.
            values: by section, what base and arm set.
            measure: what is observed.
            where: filters of the study.
            over: by section, what lies over axes too; filters do not see it.
        """
        self.arm = arm
        self._values = values
        self._over = over or {}
        self._measure = measure
        self._static = [filter_ for filter_ in where if "seed" not in filter_.names]
        self._seeded = [filter_ for filter_ in where if "seed" in filter_.names]
        self._sections: dict[tuple[Any, ...], Any] = {}
        self._known: dict[tuple[str, str, type, Any], tuple[Any, str | None]] = {}
        self._examples: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._split: dict[str, tuple[str, str]] = {}
        self._defaults = self._flat() if where else {}

    def setting(self, assignment: Assignment) -> Setting | None:
        """The setting of an assignment; None where a filter drops it whatever the seed.

        Raises:
            InputError: where it breaks a rule between terms; the problems name the assignment.
        """
        if not self._stays(assignment):
            return None
        texts = {key: written(value) for key, value in assignment}
        try:
            config = self._config(self._by_section(assignment, texts))
        except InputError as error:
            raise InputError([self._located(problem, assignment) for problem in error.problems]) from error
        acting = acting_keys(config)
        varied = {key: text for key, text in texts.items() if key in acting}
        return Setting(config=config, varied=varied, assignment=assignment)

    def _stays(self, assignment: Assignment) -> bool:
        """Whether the filters that do not read the seed keep an assignment."""
        if not self._static:
            return True
        values = self._environment(assignment)
        return all(_keeps(filter_, values) for filter_ in self._static)

    def _by_section(self, assignment: Assignment, texts: Mapping[str, Any]) -> dict[str, list[_Assigned]]:
        by_section: dict[str, list[_Assigned]] = {}
        for key, value in assignment:
            section, name = self._split.get(key) or self._split.setdefault(key, _halves(key))
            by_section.setdefault(section, []).append((name, type(value), texts[key], value))
        return by_section

    def _config(
        self, assigned: Mapping[str, Sequence[_Assigned]], last: Mapping[str, int] | None = None
    ) -> TrialConfig:
        """The configuration where these are assigned; over all else lie `last`, by dotted key."""
        sections = {name: self._section(name, assigned.get(name, ()), last) for name in TRIAL_SECTIONS}
        return TrialConfig(measure=self._measure, **sections)

    def keeps(self, setting: Setting, seed: int) -> bool:
        """Whether the filters that read the seed keep it."""
        if not self._seeded:
            return True
        values = self._environment(setting.assignment) | {"seed": seed}
        return all(_keeps(filter_, values) for filter_ in self._seeded)

    def _section(self, section: str, assigned: Sequence[_Assigned], last: Mapping[str, int] | None = None) -> Any:
        own = {key.partition(".")[2]: value for key, value in (last or {}).items() if key.startswith(f"{section}.")}
        # By type and text: a step of 1 and a share of 1.0 are equal, in a list of stages too.
        place = section, tuple([(name, kind, text) for name, kind, text, _ in assigned]), *own.items()
        found = self._sections.get(place)
        if found is None and not own:
            found = self._sections[place] = self._like_another(section, assigned)
        if found is None:
            values = {**self._layers(section, assigned), **own}
            cls = section_class(section, values)
            # A key of another kind of task, in [base] or on an axis, does not act here: each task takes what it knows.
            found = build(cls, {name: value for name, value in values.items() if name in terms(cls)}, section)
            self._sections[place] = found
            if section in _FLAT and not own:
                self._examples[section, tuple([name for name, *_ in assigned])] = found
        return found

    def _like_another(self, section: str, assigned: Sequence[_Assigned]) -> Any:
        """A section with the values of a sound one but for what is assigned, which alone is checked; None: none such.

        What is wrong with it is for `build` to say.
        """
        names = tuple([name for name, *_ in assigned])
        example = self._examples.get((section, names))
        if example is None or not self._over.get(section, {}).keys().isdisjoint(names):
            return None
        values = {}
        for name, kind, text, value in assigned:
            known = self._known.get((section, name, kind, text))
            if known is None:
                known = self._known[section, name, kind, text] = check(type(example), name, value)
            if known[1] is not None:
                return None
            values[name] = known[0]
        found = replace(example, **values)
        return None if found.rules() else found

    def _layers(self, section: str, assigned: Sequence[_Assigned]) -> dict[str, Any]:
        """What base, arm, axes and what lies over them give the terms of a section."""
        values = layered(section, self._values.get(section, {}), {name: value for name, _, _, value in assigned})
        return layered(section, values, self._over.get(section, {}))

    def _flat(self) -> dict[str, Any]:
        """What filters read: every term by dotted key, defaults written out."""
        flat: dict[str, Any] = {"arm": self.arm}
        for section in TRIAL_SECTIONS:
            values = self._values.get(section, {})
            cls = section_class(section, values)
            for name, spec in terms(cls).items():
                value = check(cls, name, values[name])[0] if name in values else spec.default
                flat[f"{section}.{name}"] = _compared(value)
        return flat

    def _environment(self, assignment: Assignment) -> dict[str, Any]:
        assigned = {key: _compared(value) for key, value in assignment}
        if "schedule.stages" in assigned:  # a list displaces a short form, whose kind a filter would read
            assigned.setdefault("schedule.kind", "stages")
        return self._defaults | assigned

    def _located(self, problem: Problem, assignment: Assignment) -> Problem:
        values = ", ".join(f"{key} = {shown(value)}" for key, value in assignment)
        return Problem(f"arms.{self.arm}.{problem.where}", f"{problem.message}{f' (with {values})' if values else ''}")


def _compared(value: Any) -> Any:
    """A value as filters compare it: they write lists."""
    return list(value) if isinstance(value, tuple) else value


def _keeps(filter_: Expression, values: Mapping[str, Any]) -> bool:
    missing = sorted(filter_.names - values.keys())
    if missing:
        raise InputError([Problem("where", f"{filter_.text!r}: arm {values['arm']!r} has no {missing[0]}")])
    try:
        return filter_.keeps(values)
    except InputError as error:
        raise InputError([Problem("where", f"{filter_.text!r} {error}")]) from error


def layered(section: str, lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of a section where an arm or an axis (`upper`) lies over what it changes."""
    return overlaid(lower, upper) if section == "schedule" else {**lower, **upper}


def _halves(key: str) -> tuple[str, str]:
    section, _, name = key.partition(".")
    return section, name


def sound_settings(
    arm: ArmSettings, assignments: Iterator[Assignment], problems: dict[str, Problem]
) -> Iterator[Setting]:
    """The settings that filters keep; broken ones are left out and their problems kept, one per rule that is broken."""
    for assignment in assignments:
        try:
            setting = arm.setting(assignment)
        except InputError as error:
            for problem in error.problems:
                problems.setdefault(f"{problem.where}: {problem.message.partition(' (with ')[0]}", problem)
            continue
        if setting is not None:
            yield setting
