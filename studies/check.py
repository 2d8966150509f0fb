"""Checks a document and makes it a `Study`: everything that is wrong is found in one pass.

The structure is checked by `studies.grammar`; terms by what `core.config` declares; filters by `studies.where`, claims
by `studies.claims`. What only shows on the settings that the axes make needs sound parts and comes last
(`studies.feasible`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.config import MeasureConfig, TrialConfig, section_class
from core.errors import InputError, Problem
from core.quantities import QUANTITIES, QUANTITY_OF, point, quantity_of
from core.streams import fresh_seeds
from core.terms import build, hints, nearest, terms
from studies.claims import Claim, parse_claims
from studies.feasible import searched_where_acting, walk
from studies.grammar import MAX_SEEDS, NAME, NAME_RULE, NuisanceTable, StudyTable, structural_problems
from studies.grid import Grid, joined, parse_grid
from studies.located import located
from studies.match import parse_match
from studies.nested import checked, listed_table
from studies.objectives import objective_problem, objectives
from studies.overlaps import overlaps
from studies.searched import parse_search
from studies.settings import TRIAL_SECTIONS, checker, known_keys, layered
from studies.sizes import SMALL, at_overlay, name_problems, size_names, sized
from studies.sources import at_their_source
from studies.space import probe_grids
from studies.study import Arm, Nuisance, Search, Study
from studies.texts import Texts
from studies.where import Expression, parse

MAX_FILTERS = 100
MAX_TASKS = 4096
"""Tasks of an arm that are asked for their strata; an axis with more than these has the strata of the first ones."""
INT64 = range(-(2**63), 2**63)


def parse_study(document: Mapping[str, Any], *, file: str, size: str = SMALL, folder: Path | None = None) -> Study:
    """A study from plain nested values.

    Args:
        document: as TOML gives it.
        file: what the messages call it.
        size: which of its sizes; all are checked.
        folder: where relative paths in it begin; default: the current one.

    Raises:
        InputError: with every problem, one line each; for a size that it does not have, with this alone.
    """
    if size not in (known := size_names(document)):
        raise InputError(located([Problem("", f"has no size {size!r}; {nearest(size, known)}")], file))
    return parse_sizes(document, file=file, asked=size, folder=folder)[size]


def parse_sizes(
    document: Mapping[str, Any], *, file: str, asked: str = SMALL, folder: Path | None = None
) -> dict[str, Study]:
    """As `parse_study`, the study in each of its sizes: by the size's name, `SMALL` first.

    A study of another size is called ``NAME@SIZE``, and its file likewise. Of the texts only those of the size
    that is asked for are read: those of another may lie elsewhere, and what only they say is not known.
    """
    if unwritable := list(_unwritable(document)):
        raise InputError(located(unwritable, file))
    texts = Texts(folder or Path())
    checks: dict[str, _Check] = {}
    studies: dict[str, Study | None] = {}
    names = size_names(document)
    for size in sorted(names, key=lambda name: name != asked):  # first the one whose texts are read
        whole = sized(document, size)
        checks[size] = _Check(whole, structural_problems(whole), texts, reads=size == asked)
        studies[size] = checks[size].study(file if size == SMALL else f"{file}@{size}")
    problems = list(checks[SMALL].problems)
    for size in names[1:]:
        problems += at_overlay(checks[size].problems, document, size, small=checks[SMALL].problems)
    of_sizes = [problem for problem in structural_problems(document) if problem.where.partition(".")[0] == "sizes"]
    known = {problem.where for problem in problems}
    problems += [problem for problem in (*of_sizes, *name_problems(document)) if problem.where not in known]
    if problems:
        raise InputError(located(problems, file))
    return {
        size: study if size == SMALL else replace(study, name=f"{study.name}@{size}")
        for size in names
        if (study := studies[size]) is not None
    }


def _unwritable(value: Any, where: str = "") -> Iterator[Problem]:
    """Numbers beyond 64 bits, which TOML forbids and Python reads."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _unwritable(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield from _unwritable(item, f"{where}[{number}]")
    elif isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        yield Problem(where, f"integers must fit in 64 bits, got one of {value.bit_length()} bits")


class _Check:
    """One pass over a document; each method checks a part, appends what is wrong and returns what is sound."""

    def __init__(
        self, document: Mapping[str, Any], structural: Sequence[Problem], texts: Texts, *, reads: bool
    ) -> None:
        self.document = document
        self.structural = structural
        self.found: list[Problem] = []
        self.keys = known_keys()
        self.convert = checker(self.keys)
        self.texts = texts
        self.reads = reads

    @property
    def problems(self) -> list[Problem]:
        """The structure's problems, and those of ours that are not about the same places."""
        places = {problem.where for problem in self.structural}
        return [*self.structural, *(problem for problem in self.found if problem.where not in places)]

    def wrong(self, where: str, message: str) -> None:
        self.found.append(Problem(where, message))

    def table(self, name: str) -> Mapping[str, Any]:
        """A table of the document; empty where it is none (the structure's check says so)."""
        found = self.document.get(name, {})
        return found if isinstance(found, dict) else {}

    def study(self, file: str) -> Study | None:
        """The study; None where there are problems."""
        seeds = self.seeds()
        arms = self.arms()
        axes = self.grid(self.table("axes"), "axes")
        nuisance = self.nuisance(seeds)
        search, arms = parse_search(self.document, arms, self.convert, self.found)
        where = self.filters()
        measure = self.measure()
        self.found += overlaps(self.document, arms, axes, nuisance)
        claims = self.claims(arms, axes, nuisance, search)
        if self.problems:
            return None
        names = StudyTable.model_validate(self.document)
        study = Study(
            name=names.name,
            question=names.question,
            file=file,
            seeds=seeds,
            arms=tuple(arms),
            axes=axes,
            where=where,
            nuisance=nuisance,
            measure=measure,
            search=search,
            claims=claims,
            texts=self.texts.of([arm.values["task"] for arm in arms]),
        )
        try:
            walked = walk(study)
            self.found += at_their_source(walked.problems, study, self.document)
            study = searched_where_acting(study, walked)
        except InputError as error:  # a filter that cannot be evaluated ends the walk
            self.found += error.problems
        return None if self.problems else study

    def seeds(self) -> tuple[int, ...]:
        value = self.document.get("seeds", 5)
        if type(value) is int:
            if 1 <= value <= MAX_SEEDS:
                return tuple(range(value))
            self.wrong("seeds", f"must be 1 … {MAX_SEEDS} seeds, got {value}")
        elif isinstance(value, list) and all(type(seed) is int for seed in value):
            if not 1 <= len(value) <= MAX_SEEDS:
                self.wrong("seeds", f"must list 1 … {MAX_SEEDS} seeds, got {len(value)}")
            elif negative := [seed for seed in value if seed < 0]:
                self.wrong("seeds", f"must be integers in 0 … 2^63 − 1, got {negative[0]}")
            elif repeated := [seed for i, seed in enumerate(sorted(value)) if i and sorted(value)[i - 1] == seed]:
                self.wrong("seeds", f"must differ, got {repeated[0]} twice; drop one")
            else:
                return tuple(value)
        else:
            self.wrong("seeds", f"must be a number of seeds or a list of integers, got {value!r}")
        return (0,)

    def arms(self) -> list[Arm]:
        base = self.table("base")
        tables = {name: arm for name, arm in self.table("arms").items() if isinstance(arm, dict)}
        # A key that only one arm's task knows may still stand in [base]: each task takes what it knows.
        kinds = [self.terms_of(section, base, {}, "base") for section in TRIAL_SECTIONS]
        matches = {name: parse_match(name, tables, self.found) for name in tables}
        arms: dict[str, Arm] = {}
        # Controls come last, since they take the values and axes of other arms.
        for name in sorted(tables, key=lambda name: matches[name] is not None):
            table, match = tables[name], matches[name]
            if not re.fullmatch(NAME, name):
                self.wrong(f"arms.{name}", f"{NAME_RULE}, got {name!r}")
            target = None if match is None else arms[match.to]
            below = dict(zip(TRIAL_SECTIONS, kinds, strict=True)) if target is None else target.values
            own = {section: self.terms_of(section, table, below[section], f"arms.{name}") for section in TRIAL_SECTIONS}
            if match is not None and not {"kind", "stages"} & own["schedule"].keys():
                own["schedule"] = {"kind": "single", **own["schedule"]}
            values = {section: layered(section, below[section], own[section]) for section in TRIAL_SECTIONS}
            if target is None:
                values["task"] = self.read_texts(name, values["task"])
            axes = table.get("axes", {})
            grid = self.grid(axes if isinstance(axes, dict) else {}, f"arms.{name}.axes")
            arms[name] = Arm(
                name=name,
                values=values,
                axes=grid if target is None else target.axes,
                match=None if match is None else replace(match, own=own),
            )
        return [arms[name] for name in tables]

    def read_texts(self, arm: str, values: dict[str, Any]) -> dict[str, Any]:
        """The terms of an arm's task; of a text, with what follows from its files."""
        if values.get("kind") != "text":
            return values
        try:
            return self.texts.resolved(values, reads=self.reads)
        except InputError as error:
            own = self.table("arms")[arm].get("task", {})
            for problem in error.problems:
                name = problem.where.removeprefix("task.")
                self.wrong(f"{f'arms.{arm}' if name in own else 'base'}.{problem.where}", problem.message)
            return values

    def terms_of(self, section: str, table: Mapping[str, Any], below: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The terms that a table sets in one section, each checked by itself; rules between them come later."""
        given = table.get(section, {})
        if not isinstance(given, dict):
            return {}
        try:
            cls = section_class(section, {**below, **given})
        except InputError as error:
            for problem in error.problems:
                self.wrong(f"{where}.{problem.where}", problem.message)
            return {}
        values = {}
        wrong = set()
        for name, value in given.items():
            place = f"{where}.{section}.{name}"
            if name not in terms(cls):
                self.wrong(place, f"unknown key; {nearest(name, terms(cls))}")
                continue
            values[name], problems = checked(cls, name, value)
            self.found += [Problem(f"{place}{problem.where}", problem.message) for problem in problems]
            wrong |= {name} if problems else set()
        if section == "schedule" and {"kind", "stages"} <= values.keys() - wrong and values["kind"] != "stages":
            message = f'are listed beside kind = "{values["kind"]}"; keep the list or the kind'
            self.wrong(f"{where}.schedule.stages", message)
        return layered(section, {}, values)

    def grid(self, table: Mapping[str, Any], where: str) -> Grid:
        return parse_grid(table, where, self.convert, self.found)

    def filters(self) -> tuple[Expression, ...]:
        texts = self.document.get("where", [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return ()
        if len(texts) > MAX_FILTERS:
            self.wrong("where", f"must be at most {MAX_FILTERS} filters, got {len(texts)}; join them with `and`")
            return ()
        filters = []
        names = {*self.keys, "arm", "seed"}
        lists = {key for key, (cls, *_) in self.keys.items() if listed_table(hints(cls)[key.partition(".")[2]])}
        for number, text in enumerate(texts, start=1):
            try:
                expression = parse(text)
            except InputError as error:
                self.wrong(f"where[{number}]", str(error))
                continue
            for name in sorted(expression.names - names):
                self.wrong(f"where[{number}]", f"unknown name {name!r} in {text!r}; {nearest(name, names)}")
            for name in sorted(expression.names & lists):
                way = "filter by `arm`, or leave the value out of its axis"
                self.wrong(f"where[{number}]", f"{name} is a list of tables and cannot be compared in {text!r}; {way}")
            filters.append(expression)
        return tuple(filters)

    def nuisance(self, seeds: Collection[int]) -> Nuisance | None:
        if "nuisance" not in self.document:
            return None
        table = self.table("nuisance")
        own = set(NuisanceTable.model_fields)
        grid = self.grid({key: value for key, value in table.items() if key not in own}, "nuisance")
        if not set(table) - own:
            self.wrong("nuisance", 'names no axis; write the key to tune, as "train.lr" = [3e-4, 1e-3]')
        count = table.get("tune_seeds", 3)
        metric = table.get("tune_metric", "final_val_loss")
        if type(count) is not int or not 1 <= count <= MAX_SEEDS or not isinstance(metric, str):
            return None
        return Nuisance(axes=grid, seeds=fresh_seeds("tune", count, set(seeds)), metric=metric)

    def measure(self) -> MeasureConfig:
        try:
            measure = build(MeasureConfig, self.table("measure"), "measure")
        except InputError as error:
            self.found += error.problems
            return MeasureConfig()
        for name in measure.quantities:
            if (name in QUANTITY_OF or point(name)) and name not in QUANTITIES:
                self.wrong(
                    "measure.quantities", f"{name!r} comes with the quantity {quantity_of(name)!r}; ask for that"
                )
            elif name not in QUANTITIES:
                self.wrong("measure.quantities", f"unknown quantity, got {name!r}; {nearest(name, QUANTITIES)}")
        for name in ("quantities", "at"):
            values = getattr(measure, name)
            if len(set(values)) < len(values):
                self.wrong(f"measure.{name}", f"must not repeat, got {list(values)!r}")
        if not measure.quantities and self.table("measure").keys() & {"every", "at"}:
            self.wrong("measure.quantities", "is required where `every` or `at` is given; name what is measured")
        return measure

    def claims(
        self, arms: Sequence[Arm], axes: Grid, nuisance: Nuisance | None, search: Search | None
    ) -> tuple[Claim, ...]:
        """The claims, and the metrics that tuning and search improve."""
        strata = _strata(arms, axes)
        by_arm = {arm.name: _strata([arm], axes) for arm in arms}
        for place, name in objectives(nuisance, search):
            if (problem := objective_problem(name, place, by_arm)) is not None:
                self.found.append(problem)
        tables = self.document.get("claims", [])
        sound = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
        varied = dict.fromkeys(self.table("arms"), Grid()) | {arm.name: joined([axes, arm.axes]) for arm in arms}
        return parse_claims(tables if sound else [], axes=varied, strata=strata, problems=self.found)


def _strata(arms: Sequence[Arm], axes: Grid) -> list[str]:
    """Suffixes of the stratum columns that the arms' tasks have; of a default task where none can be built."""
    found: list[str] | None = None
    for arm in arms:
        grids = probe_grids({key: d for key, d in arm.space.items() if key.startswith("task.")}) if arm.space else []
        grids = grids or [joined([axes, arm.axes]).only("task")]
        for assignment in itertools.islice(itertools.chain.from_iterable(grids), MAX_TASKS):
            values = dict(arm.values.get("task", {})) | {key.removeprefix("task."): value for key, value in assignment}
            try:
                cls = section_class("task", values)
                task: Any = build(cls, {name: value for name, value in values.items() if name in terms(cls)})
            except InputError:
                continue
            found = [*(found or ()), *task.stratum_names]
    return list(dict.fromkeys(TrialConfig().task.stratum_names if found is None else found))
