"""What ``report --fail-if`` takes: the verdicts with which a report is to fail, of all claims or of one.

    [[STUDY:]NUMBER=]VERDICT        contradicted | undecided | not-supported

NUMBER is that of the claim in the report. ``not-supported`` is either of the others. A condition that could never hold
is refused, as a check that always passes is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InputError, Problem
from core.terms import nearest
from studies.study import Study

EXIT_CODE = 4
"""Of a report with a claim that fails; 1 says that trials failed."""
VERDICTS: Mapping[str, tuple[str, ...]] = {
    "contradicted": ("contradicted",),
    "undecided": ("undecided",),
    "not-supported": ("contradicted", "undecided"),
}
"""By the word of a condition, the verdicts that it is about."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One ``--fail-if``."""

    text: str
    """As it was typed."""
    verdict: str
    study: str | None = None
    """None: of every study."""
    number: int | None = None
    """Of a claim in its study, from 1; None: of all."""

    def holds(self, study: str, number: int, verdict: str) -> bool:
        """Whether the report is to fail for this claim."""
        of = self.study in (None, study) and self.number in (None, number)
        return of and verdict in VERDICTS[self.verdict]


def conditions(texts: Sequence[str], studies: Sequence[Study]) -> list[Condition]:
    """The conditions of a command line.

    Raises:
        InputError: for a word that is no verdict, and a claim that there is not.
    """
    problems: list[Problem] = []
    found = []
    for text in texts:
        try:
            found.append(_condition(text, studies))
        except ValueError as error:
            problems.append(Problem(f"--fail-if {text}", str(error)))
    if problems:
        raise InputError(problems)
    return found


def failing(claims: Sequence[Mapping[str, Any]], asked: Sequence[Condition]) -> list[dict[str, Any]]:
    """The claims for which a report is to fail: study, number, verdict, text and the condition, in their order.

    Args:
        claims: of ``report.json``.
        asked: as `conditions` gives them.
    """
    numbers: dict[str, int] = {}
    found = []
    for claim in claims:
        study, verdict = str(claim["study"]), str(claim["verdict"])
        number = numbers[study] = numbers.get(study, 0) + 1
        reasons = [condition.text for condition in asked if condition.holds(study, number, verdict)]
        if reasons:
            facts = {"study": study, "claim": number, "verdict": verdict, "text": claim["text"]}
            found.append(facts | {"fail_if": reasons[0]})
    return found


def _condition(text: str, studies: Sequence[Study]) -> Condition:
    claim, given, verdict = text.rpartition("=")
    if verdict not in VERDICTS:
        raise ValueError(f"unknown verdict {verdict!r}; {nearest(verdict, tuple(VERDICTS))}")
    if not given:
        if not any(study.claims for study in studies):
            raise ValueError("no claims are made, so it could never fail; add [[claims]] to the study")
        return Condition(text=text, verdict=verdict)
    name, named, number = claim.rpartition(":")
    names = tuple(study.name for study in studies)
    if named and name not in names:
        raise ValueError(f"no study {name!r} in this report; {nearest(name, names)}")
    if not named and len(studies) > 1:
        raise ValueError(f"of several studies one must be named: {names[0]}:{number}={verdict}")
    study = studies[names.index(name)] if named else studies[0]
    most = len(study.claims)
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= most):
        which = f"one of 1 to {most}" if most else "none, as the study makes no claims"
        raise ValueError(f"no claim {number!r} in {study.name}: a claim's number is {which}")
    return Condition(text=text, verdict=verdict, study=study.name, number=int(number))
