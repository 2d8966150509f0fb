"""Where the cause of a problem stands: what several arms get wrong alike is said once, where they take the value from.

Rules between terms are tried arm by arm and name the arm. A slip in [base], or in an axis of all arms, breaks them in
each, and is one mistake in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import Problem
from studies.settings import TRIAL_SECTIONS
from studies.study import Study

_Rule = tuple[str, str]
"""Dotted key, and the rule with the value, without the assignment."""


def at_their_source(problems: Sequence[Problem], study: Study, document: Mapping[str, Any]) -> list[Problem]:
    """The problems of a study's settings, each once.

    Args:
        problems: as `studies.feasible.walk` finds them; those of arms are at ``arms.NAME.key``.
        study: the study.
        document: its file, of sound structure.
    """
    names = sorted((arm.name for arm in study.arms), key=len, reverse=True)
    by_rule: dict[_Rule, dict[str, Problem]] = {}
    for problem in problems:
        arm, key = _halves(problem.where, names)
        rule = problem.message.partition(" (with ")[0] if arm else problem.message
        by_rule.setdefault((key, rule), {})[arm] = problem
    found: dict[str, Problem] = {}
    for number, ((key, _), of_arms) in enumerate(by_rule.items()):
        for arm, problem in of_arms.items():
            placed = _placed(problem, arm, key, study, document) if len(of_arms) > 1 else problem
            found.setdefault(f"{number} {placed.where}", placed)
    return list(found.values())


def _halves(where: str, arms: Sequence[str]) -> tuple[str, str]:
    """The arm and the key of a place; no arm where the place is not a term of one."""
    for arm in arms:
        key = where.removeprefix(f"arms.{arm}.")
        if key != where and key.partition(".")[0] in TRIAL_SECTIONS:
            return arm, key
    return "", where


def _placed(problem: Problem, arm: str, key: str, study: Study, document: Mapping[str, Any]) -> Problem:
    """A problem that other arms have too, at the table from which they take the value."""
    section, _, rest = key.partition(".")
    name = re.split(r"[.\[]", rest, maxsplit=1)[0]
    dotted = f"{section}.{name}"
    own = next(a.axes.keys for a in study.arms if a.name == arm)
    table = document["arms"][arm]
    if dotted in own or dotted in table.get("space", {}) or name in table.get(section, {}):
        return problem
    axes = {"axes": study.axes.keys, "nuisance": study.nuisance.axes.keys if study.nuisance else ()}
    axes["search.space"] = tuple(study.search.space) if study.search else ()
    for table, keys in axes.items():
        if dotted in keys:
            inner = key.removeprefix(dotted)
            return Problem(f'{table}."{dotted}"', f"{dotted}{inner} {problem.message}" if inner else problem.message)
    if name in document.get("base", {}).get(section, {}):
        return Problem(f"base.{key}", problem.message)
    return problem
