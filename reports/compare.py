"""One comparison of a claim: its paired differences, their interval and tests, and what keeps it from being decided.

`lower`, `higher` and `differs` are tested two-sided against 0; `not worse` one-sided against the margin, and its
opposite from the other side. On a log scale differences are of natural logarithms and a margin is the ratio
that is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from reports import methods, stats, words
from reports.divergence import Divergence, divergence
from reports.pairs import NO_PAIRS, LogScaleError, Pairs, pair
from reports.searched import Bests
from reports.tables import Tables
from reports.values import Meaning, Values, meaning, values
from studies.claims import Part

ALPHA = 0.05
POWER = 0.8
_OPPOSITE: dict[stats.Alternative, stats.Alternative] = {
    "two-sided": "two-sided",
    "less": "greater",
    "greater": "less",
}


@dataclass(frozen=True, kw_only=True)
class Tests:
    """What is computed from at least two differences; p for the claim's own hypothesis."""

    p: float
    """Two-sided against 0; for "not worse" one-sided against the margin."""
    p_opposite: float
    """Of the opposite finding: the same two-sided p; for "not worse" one-sided from the other side."""
    p_sign_flip: float
    """The check of p by sign flips."""
    p_sign_flip_opposite: float
    p_sign_flip_floor: float
    """The least that the check can give at this n."""
    d_z: float | None
    """Mean over standard deviation of the differences; None without spread."""
    smallest_detectable: float
    """Effect found with power 0.8 at this n and spread, in Holm's worst case."""
    seeds_needed: int | None
    """Seeds that find the effect seen with power 0.8, in Holm's worst case; None beyond 10 000."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the rows say about one comparison, before Holm."""

    part: Part
    what: Meaning
    pairs: Pairs
    interval: stats.Interval | None
    tests: Tests | None
    blocked: str | None
    """Why nothing can be decided, whatever p says; None where something can."""
    found: methods.Found
    """How both sides were measured."""
    diverged: Divergence
    """How many trials of both sides diverged."""
    basis: str | None = None
    """On what settings and seeds it stands, where these are not simply the study's."""

    @property
    def agrees(self) -> bool:
        """Whether the effect lies on the side that the claim expects."""
        if self.interval is None:
            return False
        effect = self.interval.mean
        if self.part.expect == "not worse":
            against, alternative = _null(self.part, self.what)
            return effect < against if alternative == "less" else effect > against
        return {"lower": effect < 0, "higher": effect > 0, "differs": effect != 0}[self.part.expect]

    def to_json(self) -> dict[str, Any]:
        """The fields of ``report.json``."""
        interval, tests, pairs = self.interval, self.tests, self.pairs
        return {
            "metric": self.part.metric.text,
            "quantity": self.part.metric.text if self.part.metric.arguments else self.part.metric.name,
            "at": None if self.part.metric.source == "trials" else self.part.metric.at,
            "arm": self.part.arm,
            "against": self.part.against,
            "value": self.part.value,
            "where": self.part.where_text,
            "expect": self.part.expect,
            "margin": self.part.margin,
            "unit": self.what.unit,
            "better": self.what.better,
            "scale": self.what.scale,
            "exact": tests is not None and self.what.exact and stats.no_spread(pairs.differences),
            "methods": {arm: list(texts) for arm, texts in self.found.by_arm.items()},
            "n": len(pairs.seeds),
            "seeds": list(pairs.seeds),
            "differences": list(pairs.differences),
            "settings": pairs.settings,
            "own_settings": dict(pairs.own),
            "incomplete": pairs.incomplete,
            "diverged": {arm: list(counts) for arm, counts in self.diverged.counts.items()},
            "p_diverged": self.diverged.p,
            "dropped_seeds": list(pairs.dropped_seeds),
            "dropped_settings": [words.setting(dict(s)) for s in pairs.dropped_settings],
            "effect": interval.mean if interval else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "p": tests.p if tests else None,
            "p_opposite": tests.p_opposite if tests else None,
            "p_sign_flip": tests.p_sign_flip if tests else None,
            "p_sign_flip_floor": tests.p_sign_flip_floor if tests else None,
            "d_z": tests.d_z if tests else None,
            "p_better": _share_better(pairs, self.what),
            "smallest_detectable": tests.smallest_detectable if tests else None,
            "seeds_needed": tests.seeds_needed if tests else None,
        }


def find(tables: Tables, part: Part, *, family: int, bests: Bests | None = None) -> Finding:
    """Compares an arm with another, or with a number, in one metric.

    Args:
        tables: of the study.
        part: the comparison.
        family: claims of the study: power is counted at level 0.05 / family, Holm's worst case.
        bests: of a search, the settings that stand for its arms.
    """
    refused = basis = None
    if bests is not None:
        tables, refused, basis = bests.of(_arms(part))
    tables = tables.where(part.where) if part.where else tables
    what, got = meaning(part.metric), values(tables, part.metric)
    against = part.value if part.value is not None else str(part.against)
    found, diverged = methods.found(tables, got.methods, _arms(part)), divergence(tables, _arms(part))
    try:
        pairs = pair(tables, got.known, arm=part.arm, against=against, scale=what.scale)
        blocked = _blocked(tables, part, what=what, got=got, pairs=pairs, diverged=diverged)
    except LogScaleError as error:
        pairs, blocked = NO_PAIRS, f"{part.metric.name} is compared as a ratio, but {error}"
    if blocked is None and found.mixed:
        blocked = methods.refusal(tables, found.by_arm)
    blocked = blocked or refused
    tests = _tests(part, what, pairs, family) if len(pairs.seeds) > 1 and not _senseless(part, what) else None
    interval = stats.t_interval(pairs.differences) if pairs.seeds else None
    return Finding(
        part=part,
        what=what,
        pairs=pairs,
        interval=interval,
        tests=tests,
        blocked=blocked,
        found=found,
        diverged=diverged,
        basis=basis,
    )


def _arms(part: Part) -> list[str]:
    return [part.arm] if part.against is None else [part.arm, part.against]


def _blocked(
    tables: Tables, part: Part, *, what: Meaning, got: Values, pairs: Pairs, diverged: Divergence
) -> str | None:
    """Why this comparison cannot be decided."""
    if _senseless(part, what):
        return f'{part.metric.text} has no better direction, so "not worse" means nothing; expect "lower" or "higher"'
    arms = _arms(part)
    if diverged.differ:
        return f"divergence rates differ ({diverged.said}), so what is left describes survivors"
    if len(pairs.seeds) < 2:
        empty = next((arm for arm in arms if tables.compared(arm).empty), None)
        of = f" with {part.where_text}" if part.where else ""
        why = got.main_reason() if empty is None else f"no trials of {empty}{of} are recorded"
        return f"n = {len(pairs.seeds)}, at least 2 seeds are needed" + (f" ({why})" if why else "")
    return None


def _senseless(part: Part, what: Meaning) -> bool:
    return part.expect == "not worse" and what.better is None


def _null(part: Part, what: Meaning) -> tuple[float, stats.Alternative]:
    """The mean under the null hypothesis and the alternative that the claim states."""
    if part.expect != "not worse":
        return 0.0, "two-sided"
    margin = math.log(part.margin) if what.scale == "log" else part.margin
    return (margin, "less") if what.better == "lower" else (-margin, "greater")


def _tests(part: Part, what: Meaning, pairs: Pairs, family: int) -> Tests:
    differences, n = pairs.differences, len(pairs.seeds)
    against, alternative = _null(part, what)
    two_sided = alternative == "two-sided"
    interval = stats.t_interval(differences)
    level, sd = ALPHA / family, float(interval.sd or 0.0)
    if what.exact and stats.no_spread(differences):
        return _certain(interval.mean - against, alternative)
    d_z = stats.cohen_dz(differences)
    needed: int | None
    if d_z is None:  # without spread the sign-flip test decides: the first n at which it can
        needed = next(k for k in range(2, 64) if stats.sign_flip_floor(k, alternative) < level)
    else:
        needed = stats.seeds_needed(interval.mean - against, sd, alpha=level, wanted=POWER, two_sided=two_sided)
    return Tests(
        p=stats.t_test(differences, against=against, alternative=alternative),
        p_opposite=stats.t_test(differences, against=against, alternative=_OPPOSITE[alternative]),
        p_sign_flip=stats.sign_flip(differences, against=against, alternative=alternative),
        p_sign_flip_opposite=stats.sign_flip(differences, against=against, alternative=_OPPOSITE[alternative]),
        p_sign_flip_floor=stats.sign_flip_floor(n, alternative),
        d_z=d_z,
        smallest_detectable=stats.smallest_detectable(sd, n, alpha=level, wanted=POWER, two_sided=two_sided),
        seeds_needed=needed,
    )


def _certain(excess: float, alternative: stats.Alternative) -> Tests:
    """A difference that the configurations alone decide: there is no chance in it, so p is 0 or 1.

    Args:
        excess: the difference, less its value under the null hypothesis.
        alternative: of the claim.
    """
    side = {"two-sided": excess != 0, "less": excess < 0, "greater": excess > 0}
    p, p_opposite = float(not side[alternative]), float(not side[_OPPOSITE[alternative]])
    return Tests(
        p=p,
        p_opposite=p_opposite,
        p_sign_flip=p,
        p_sign_flip_opposite=p_opposite,
        p_sign_flip_floor=0.0,
        d_z=None,
        smallest_detectable=0.0,
        seeds_needed=1,
    )


def _share_better(pairs: Pairs, what: Meaning) -> float | None:
    if what.better is None or not pairs.seeds:
        return None
    sign = 1.0 if what.better == "lower" else -1.0
    return stats.share_below([sign * d for d in pairs.differences])
