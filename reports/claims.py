"""Verdicts: what the rows of a study say about its claims.

A claim is *supported* where Holm's p (over all claims of the study) is below 0.05 in the expected direction,
*contradicted* where it is in the opposite one, else *undecided*, with the reason or the number of seeds that would
decide it. A joint claim (``all``) is supported when every part is (its p is the largest of theirs: an
intersection–union test) and contradicted when one part is (the smallest p against one, times their number).

Nothing is decided, whatever p says, where arms diverge at different rates (the pairs left describe survivors), below
two complete seeds, where the metric is not measured, where a searched setting was chosen on the very seeds that would
judge it (`reports.searched`), or where both sides were measured by methods that do not compare (`reports.methods`).
Such a claim still counts in Holm's family, with p = 1 if it has none: a missing measurement never makes the others look
better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import methods, stats, words
from reports.compare import ALPHA, Finding, find
from reports.searched import Bests
from reports.tables import Tables
from studies.claims import Claim


def judge(tables: Tables, claims: Sequence[Claim], *, bests: Bests | None = None) -> list[dict[str, Any]]:
    """The verdicts of a study's claims, in its order, with the fields that ``report.json`` holds.

    Args:
        tables: of what is compared.
        claims: of the study.
        bests: of a search, the settings that stand for its arms.

    ``p`` and ``p_holm`` are of the claim, ``p_opposite`` and ``p_holm_opposite`` of its opposite; they differ only for
    "not worse" and joint claims.
    """
    found = [[find(tables, part, family=len(claims), bests=bests) for part in claim.parts] for claim in claims]
    support = [_support(findings) for findings in found]
    opposition = [_opposition(findings) for findings in found]
    ps = zip(support, _holm(support), opposition, _holm(opposition), strict=True)
    names = ("p", "p_holm", "p_opposite", "p_holm_opposite")
    return [
        _claim(claim.text, findings, dict(zip(names, row, strict=True)))
        for claim, findings, row in zip(claims, found, ps, strict=True)
    ]


def _holm(ps: Sequence[float | None]) -> list[float | None]:
    adjusted = stats.holm([1.0 if p is None else p for p in ps])
    return [None if p is None else a for p, a in zip(ps, adjusted, strict=True)]


def _support(findings: Sequence[Finding]) -> float | None:
    """The p of the claim: that of its test, or the largest of its parts in the expected direction."""
    ps = [finding.tests.p if finding.tests else None for finding in findings]
    if len(findings) > 1:
        ps = [1.0 if p is not None and _wrong_side(f) else p for p, f in zip(ps, findings, strict=True)]
    known = [p for p in ps if p is not None]
    return max(known) if len(known) == len(ps) else None


def _opposition(findings: Sequence[Finding]) -> float | None:
    """The p of the opposite: that of its test, or the smallest against a part, times the number of parts."""
    if len(findings) == 1:
        return findings[0].tests.p_opposite if findings[0].tests else None
    ps = [_against(f, f.tests.p_opposite) for f in findings if f.tests and f.blocked is None]
    return min(1.0, len(findings) * min(ps)) if ps else None


def _wrong_side(finding: Finding) -> bool:
    """Whether a two-sided p speaks for the opposite of what is expected; a one-sided p knows its side."""
    return finding.part.expect != "not worse" and not finding.agrees


def _against(finding: Finding, p: float) -> float:
    """The p against one part: 1 where a two-sided test speaks for it, or where no opposite exists."""
    two_sided = finding.part.expect != "not worse"
    return 1.0 if finding.part.expect == "differs" or (two_sided and finding.agrees) else p


def _verdict(findings: Sequence[Finding], p: float | None, p_opposite: float | None) -> str:
    """Supported, contradicted or undecided, at the level `ALPHA`, from adjusted p values."""
    if p_opposite is not None and p_opposite < ALPHA:
        against = [f for f in findings if f.blocked is None and _against(f, 0.0) == 0.0 and not f.agrees]
        if against:
            return "contradicted"
    blocked = any(f.blocked is not None for f in findings)
    if not blocked and p is not None and p < ALPHA and all(f.agrees for f in findings):
        return "supported"
    return "undecided"


def _claim(text: str, findings: Sequence[Finding], ps: dict[str, float | None]) -> dict[str, Any]:
    """One entry of ``claims``; a joint claim has no effect of its own, its parts have."""
    verdict = _verdict(findings, ps["p_holm"], ps["p_holm_opposite"])
    result = findings[0].to_json()
    parts: list[dict[str, Any]] = []
    if len(findings) > 1:
        result = dict.fromkeys(result) | {"n": min(len(f.pairs.seeds) for f in findings)}
        parts = [_part(finding) for finding in findings]
    result |= {"text": text, **ps, "verdict": verdict, "parts": parts, **_open(findings, verdict)}
    result["notes"] = list(dict.fromkeys(note for finding in findings for note in _notes(finding, verdict)))
    free = all(finding.blocked is None for finding in findings)
    if verdict == "undecided" and free and any(part["verdict"] != verdict for part in parts):
        result["notes"].append("Its parts are judged each by itself, without the correction that the whole must pass.")
    return result | {"sentence": words.sentence(result)}


def _part(finding: Finding) -> dict[str, Any]:
    """A part of a joint claim: its own standing, before Holm."""
    tests = finding.tests
    verdict = _verdict([finding], tests.p if tests else None, tests.p_opposite if tests else None)
    result = finding.to_json() | {"verdict": verdict, "p_holm": None, "parts": [], **_open([finding], verdict)}
    return result | {"sentence": words.sentence(result)}


def _open(findings: Sequence[Finding], verdict: str) -> dict[str, Any]:
    """Why a claim is undecided, and how many seeds would decide it if the effects seen are the true ones."""
    if verdict != "undecided":
        return {"reason": None, "seeds_needed": None}
    blocked = next((f.blocked for f in findings if f.blocked is not None), None)
    if blocked is not None:
        return {"reason": blocked, "seeds_needed": None}
    still = [f for f in findings if len(findings) == 1 or _part(f)["verdict"] == "undecided"] or findings
    needed = [f.tests.seeds_needed if f.tests else None for f in still]
    known = [n for n in needed if n is not None]
    if len(known) < len(needed):
        return {"reason": f"even {stats.MOST_SEEDS:,} seeds would not decide an effect so small", "seeds_needed": None}
    return {
        "reason": f"{max(known)} seeds would decide it if the effect seen is the true one",
        "seeds_needed": max(known),
    }


def _notes(finding: Finding, verdict: str) -> list[str]:
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
