"""Verdicts: what the rows of a study say about its claims.

A claim is *supported* where Holm's p (over all claims of the study) is below 0.05 in the expected direction,
*contradicted* where it is in the opposite one, else *undecided*, with the reason or the number of seeds that would
decide it. A joint claim (``all``) is supported when every part is (its p is the largest of theirs: an
intersection–union test) and contradicted when one part is (the smallest p against one, times their number).

A claim ``along`` an axis has a part for each value and is tested in their order: from the first value on until one is
not shown, and its opposite from the last value back. Each test passes its level on to the next, so all of them cost the
family no more than one claim does (`stats.holm_in_order`), and parts have an adjusted p and a verdict of their own.

Nothing is decided, whatever p says, where arms diverge at different rates (the pairs left describe survivors), below
two complete seeds, where the metric is not measured, where a searched setting was chosen on the very seeds that would
judge it (`reports.searched`), or where both sides were measured by methods that do not compare (`reports.methods`).
Such a claim still counts in Holm's family, with p = 1 if it has none: a missing measurement never makes the others look
better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports import methods, stats, verdict_words, words
from reports.compare import ALPHA, Finding, find
from reports.searched import Bests
from reports.tables import Tables
from studies.claims import Claim

_DECLARED = frozenset(
    {"metric", "quantity", "at", "arm", "against", "value", "where", "expect", "margin", "unit", "better", "scale"}
)
"""Fields that say what is claimed: an entry of several parts has those in which they agree."""


def judge(tables: Tables, claims: Sequence[Claim], *, bests: Bests | None = None) -> list[dict[str, Any]]:
    """The verdicts of a study's claims, in its order, with the fields that ``report.json`` holds.

    Args:
        tables: of what is compared.
        claims: of the study.
        bests: of a search, the settings that stand for its arms.

    ``p`` and ``p_holm`` are of the claim, ``p_opposite`` and ``p_holm_opposite`` of its opposite; they differ only for
    "not worse", joint claims and claims along an axis.
    """
    found = [[find(tables, part, family=len(claims), bests=bests) for part in claim.parts] for claim in claims]
    support = _adjusted([_supporting(*pair) for pair in zip(claims, found, strict=True)])
    opposition = _adjusted([_opposing(*pair) for pair in zip(claims, found, strict=True)])
    return [
        _claim(claim, findings, *ps) for claim, findings, *ps in zip(claims, found, support, opposition, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """The p values of a claim in the order in which they are tested: one, or along an axis one for each value."""

    p: list[float | None]
    p_holm: list[float | None]
    """After the correction over the claims of the study."""


def _adjusted(chains: Sequence[list[float | None]]) -> list[_Chain]:
    found = stats.holm_in_order([[1.0 if p is None else p for p in chain] for chain in chains])
    return [
        _Chain(p=ps, p_holm=[None if p is None else a for p, a in zip(ps, adjusted, strict=True)])
        for ps, adjusted in zip(chains, found, strict=True)
    ]


def _supporting(claim: Claim, findings: Sequence[Finding]) -> list[float | None]:
    """For the claim: along an axis from its first value to the last."""
    if claim.along is not None:
        return [None if finding.blocked is not None else _for(finding) for finding in findings]
    if len(findings) == 1:
        return [findings[0].tests.p if findings[0].tests else None]
    ps = [_for(finding) for finding in findings]
    known = [p for p in ps if p is not None]
    return [max(known) if len(known) == len(ps) else None]


def _opposing(claim: Claim, findings: Sequence[Finding]) -> list[float | None]:
    """For its opposite: along an axis from its last value back; of a joint claim its parts' least p × their number."""
    if claim.along is None and len(findings) == 1:
        return [findings[0].tests.p_opposite if findings[0].tests else None]
    ps = [_against(finding) for finding in findings]
    if claim.along is not None:
        return ps[::-1]
    known = [p for p in ps if p is not None]
    return [min(1.0, len(findings) * min(known)) if known else None]


def _for(finding: Finding) -> float | None:
    """The p for one part of several: 1 where a two-sided test speaks for the opposite; a one-sided p knows its side."""
    if finding.tests is None:
        return None
    return 1.0 if finding.part.expect != "not worse" and not finding.agrees else finding.tests.p


def _against(finding: Finding) -> float | None:
    """The p against one part of several: 1 where a two-sided test speaks for it, or where no opposite exists."""
    if finding.tests is None or finding.blocked is not None:
        return None
    return finding.tests.p_opposite if _opposable(finding) else 1.0


def _opposable(finding: Finding) -> bool:
    """Whether what was seen may speak against the part."""
    return finding.part.expect == "not worse" or (finding.part.expect != "differs" and not finding.agrees)


def _verdict(findings: Sequence[Finding], p: float | None, p_opposite: float | None) -> str:
    """Supported, contradicted or undecided, at the level `ALPHA`, from adjusted p values."""
    disagrees = any(f.blocked is None and _opposable(f) and not f.agrees for f in findings)
    if disagrees and p_opposite is not None and p_opposite < ALPHA:
        return "contradicted"
    blocked = any(f.blocked is not None for f in findings)
    if not blocked and p is not None and p < ALPHA and all(f.agrees for f in findings):
        return "supported"
    return "undecided"


def _claim(claim: Claim, findings: Sequence[Finding], support: _Chain, opposition: _Chain) -> dict[str, Any]:
    """One entry of ``claims``; one of several parts has no effect of its own, its parts have."""
    known = [p for p in support.p if p is not None]
    ps = {
        "p": max(known) if len(known) == len(support.p) else None,
        "p_holm": support.p_holm[-1] if len(known) == len(support.p) else None,
        "p_opposite": opposition.p[0],
        "p_holm_opposite": opposition.p_holm[0],
    }
    verdict = _verdict(findings, ps["p_holm"], ps["p_holm_opposite"])
    result = findings[0].to_json()
    parts: list[dict[str, Any]] = []
    if claim.along is not None:
        corrected = zip(findings, support.p_holm, opposition.p_holm[::-1], strict=True)
        parts = [_part(finding, p, p_opposite, in_order=True) for finding, p, p_opposite in corrected]
    elif len(findings) > 1:
        parts = [_part(f, *((f.tests.p, f.tests.p_opposite) if f.tests else (None, None))) for f in findings]
    if parts:
        alike = {key for key in _DECLARED if all(part[key] == result[key] for part in parts)}
        result = {key: value if key in alike else None for key, value in result.items()}
        result["n"] = min(part["n"] for part in parts)
        if claim.along is not None:
            result["where"] = replace(claim.parts[0], where=claim.parts[0].where[:-1]).where_text  # without its value
    result |= {"text": claim.text, "along": _along(claim, parts), **ps, "verdict": verdict, "parts": parts}
    result |= _open(findings, verdict, parts, in_order=claim.along is not None)
    result["notes"] = _notes(claim, findings, parts, verdict)
    free = all(finding.blocked is None for finding in findings)
    joint = parts and claim.along is None
    if joint and verdict == "undecided" and free and any(part["verdict"] != verdict for part in parts):
        result["notes"].append("Its parts are judged each by itself, without the correction that the whole must pass.")
    return result | {"sentence": verdict_words.sentence(result)}


def _part(finding: Finding, p: float | None, p_opposite: float | None, *, in_order: bool = False) -> dict[str, Any]:
    """A part of a claim: of a joint one as it stands by itself, before Holm; along an axis (`in_order`) after it."""
    verdict = _verdict([finding], p, p_opposite)
    holm = {"p_holm": p, "p_holm_opposite": p_opposite} if in_order else {"p_holm": None}
    result = finding.to_json() | {
        "verdict": verdict,
        **holm,
        "along": None,
        "parts": [],
        **_open([finding], verdict, []),
    }
    return result | {"sentence": verdict_words.sentence(result)}


def _along(claim: Claim, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How far along its axis a claim is supported, and from where on it is contradicted."""
    if claim.along is None:
        return None
    values = claim.along.values
    supported = [value for value, part in zip(values, parts, strict=True) if part["verdict"] == "supported"]
    against = [value for value, part in zip(values, parts, strict=True) if part["verdict"] == "contradicted"]
    return {
        "key": claim.along.key,
        "values": list(values),
        "supported_to": supported[-1] if supported else None,
        "contradicted_from": against[0] if against else None,
    }


def _open(
    findings: Sequence[Finding], verdict: str, parts: Sequence[Mapping[str, Any]], *, in_order: bool = False
) -> dict[str, Any]:
    """Why a claim is undecided, and how many seeds would decide it if the effects seen are the true ones."""
    if verdict != "undecided":
        return {"reason": None, "seeds_needed": None}
    still = [f for f, part in zip(findings, parts, strict=True) if part["verdict"] == "undecided"] if parts else []
    still = still or list(findings)
    if in_order:
        still = still[:1]  # the test stops here, whatever comes after
    blocked = next((f.blocked for f in (still if in_order else findings) if f.blocked is not None), None)
    if blocked is not None:
        return {"reason": blocked, "seeds_needed": None}
    needed = [f.tests.seeds_needed if f.tests else None for f in still]
    known = [n for n in needed if n is not None]
    if len(known) < len(needed):
        return {"reason": f"even {stats.MOST_SEEDS:,} seeds would not decide an effect so small", "seeds_needed": None}
    return {
        "reason": f"{max(known)} seeds would decide it if the effect seen is the true one",
        "seeds_needed": max(known),
    }


def _notes(claim: Claim, findings: Sequence[Finding], parts: Sequence[Mapping[str, Any]], verdict: str) -> list[str]:
    """What a reader should know of a claim, each thing once; what is so at some values of an axis says at which."""
    if claim.along is None:
        return list(dict.fromkeys(note for finding in findings for note in _notes_on(finding, verdict)))
    at: dict[str, list[Any]] = {}
    for value, finding, part in zip(claim.along.values, findings, parts, strict=True):
        for note in _notes_on(finding, part["verdict"]):
            at.setdefault(note, []).append(value)
    every = len(findings)
    return [
        note
        if len(values) == every
        else f"At {words.setting({claim.along.key: ', '.join(map(words.cell, values))})}: {note}"
        for note, values in at.items()
    ]


def _notes_on(finding: Finding, verdict: str) -> list[str]:
    """What a reader should know beside the numbers, one sentence each."""
    pairs, tests, notes = finding.pairs, finding.tests, [finding.basis] if finding.basis else []
    if pairs.settings > 1:
        notes.append(f"Each seed is the mean over {pairs.settings} settings.")
    for arm, count in pairs.own.items():
        notes.append(f"{arm} is the mean over its {count} settings.")
    if pairs.dropped_seeds:
        seeds = f"{'Seeds' if len(pairs.dropped_seeds) > 1 else 'Seed'} {', '.join(map(str, pairs.dropped_seeds))}"
        notes.append(f"{seeds} left out of n: a pair is incomplete.")
    if pairs.dropped_settings:
        shown = "; ".join(words.setting(dict(s)) or "the only setting" for s in pairs.dropped_settings)
        notes.append(f"Left out, as no seed has its pair complete: {shown}.")
    notes += _how_found(finding)
    if tests is not None and verdict != "undecided":
        p = tests.p_sign_flip if verdict == "supported" else tests.p_sign_flip_opposite
        if p >= ALPHA > tests.p_sign_flip_floor:
            notes.append(f"The sign-flip check disagrees: p = {words.p_value(p)}.")
    return notes


def _how_found(finding: Finding) -> list[str]:
    """By which methods both sides were found, where that is no reason to decide nothing but should be known."""
    found, texts = finding.found, {text for texts in finding.found.by_arm.values() for text in texts}
    if found.mixed or not (found.differ or any(map(methods.biased, texts))):
        return []
    said = f"Measured {methods.said(found.by_arm)}"
    if not any(map(methods.biased, texts)):
        return [f"{said}."]
    alike = "" if finding.part.against is None else ", as far as it is not so in both arms alike"
    return [f"{said}; the interval does not hold how far that is off{alike}."]
