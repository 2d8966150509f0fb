"""The one sentence of a verdict, with its numbers.

It reads an entry of ``claims`` in ``report.json``. Of a claim with a test against 0 it gives the effect as it lies,
"lower by 0.21"; of "not worse", and on a log scale, the signed difference or the ratio, so that it can be held against
the margin. Along an axis it says up to which value the claim is supported and from which on it is contradicted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reports import words


def sentence(finding: Mapping[str, Any]) -> str:
    """What was found, in one plain sentence with its numbers (a joint claim: how its parts stand)."""
    verdict = str(finding["verdict"]).capitalize()
    if finding["along"] is not None:
        return _along(finding)
    if finding["parts"]:
        standing = "; ".join(f"({i}) {sentence(part)}" for i, part in enumerate(finding["parts"], 1))
        return f"{verdict}: {standing}"
    if finding["effect"] is None:
        return f"{verdict}: {finding['reason']}."
    if finding["exact"]:
        of = f"where {finding['where']}, " if finding["where"] else ""
        return f"{verdict}: {of}{_comparison(finding)} (exactly: it follows from the configurations)"
    seen = f"where {finding['where']}, " if finding["where"] else ""
    seen += "in these seeds " if verdict == "Undecided" and finding["expect"] != "not worse" else ""
    text = f"{verdict}: {seen}{_comparison(finding)} ({_statistics(finding)})"
    reason = finding["reason"]
    return f"{text}. {reason[:1].upper()}{reason[1:]}." if reason else text


def _statistics(finding: Mapping[str, Any]) -> str:
    """Interval, n and p of the verdict."""
    found = [f"95 % CI {_interval(finding)}"] if finding["low"] is not None else []
    found.append(f"n = {words.plural(finding['n'], 'seed')}")
    if finding["p_holm"] is not None:
        found.append(f"p_holm {_p(finding)}")
    return ", ".join(found)


def _along(claim: Mapping[str, Any]) -> str:
    """How far along its axis a claim stands, what it claims, and what was found where that changes."""
    where = f", where {claim['where']}" if claim["where"] else ""
    return f"{standing(claim)}: {_claimed(claim)}{where}. {_edges(claim)}."


def standing(claim: Mapping[str, Any]) -> str:
    """The verdicts of a claim along an axis: ``Supported up to switch = 0.25, undecided beyond``."""
    text = ", ".join(text for _, text in standings(claim))
    return text[0].upper() + text[1:]


def standings(claim: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Verdict and words of each stretch of a claim along an axis: supported, then undecided, then contradicted."""
    key, values = claim["along"]["key"], claim["along"]["values"]
    verdicts = [part["verdict"] for part in claim["parts"]]
    n, shown, refuted = len(values), verdicts.count("supported"), verdicts.count("contradicted")
    at = [words.setting({key: value}) for value in values]
    if len(set(verdicts)) == 1:
        return [(verdicts[0], f"{verdicts[0]} at all {n} values, {at[0]} … {words.cell(values[-1])}")]
    said = []
    if shown:
        said.append(("supported", f"supported {'up to' if shown > 1 else 'at'} {at[shown - 1]}"))
    if shown + refuted < n:
        stretch = f"up to {at[n - refuted - 1]}" if not shown else "between" if refuted else "beyond"
        said.append(("undecided", f"undecided {stretch}"))
    if refuted:
        said.append(
            (
                "contradicted",
                f"contradicted {'from' if refuted > 1 else 'at'} {at[n - refuted]}{' on' if refuted > 1 else ''}",
            )
        )
    return said


def _edges(claim: Mapping[str, Any]) -> str:
    """What was found at the last supported value, the first undecided and the first contradicted one."""
    found = list(zip(claim["along"]["values"], claim["parts"], strict=True))
    edges = []
    for verdict, which in (("supported", -1), ("undecided", 0), ("contradicted", 0)):
        edges += [one for one in found if one[1]["verdict"] == verdict][which:][:1]
    text = "; ".join(f"at {words.setting({claim['along']['key']: value})} {_seen(part)}" for value, part in edges)
    return text[0].upper() + text[1:]


def steps(claim: Mapping[str, Any]) -> list[list[str]]:
    """A row for each value of a claim along an axis: the value, difference, interval, n, p and verdict."""
    rows = []
    for value, part in zip(claim["along"]["values"], claim["parts"], strict=True):
        if part["effect"] is None:
            rows.append([words.cell(value), "–", "–", str(part["n"]), "–", f"{part['verdict']}: {part['reason']}"])
            continue
        mean, low, high = _signed(part)
        interval = f"{low} … {high}" if part["low"] is not None else "–"
        rows.append([words.cell(value), mean, interval, str(part["n"]), _p(part), part["verdict"]])
    return rows


def _p(finding: Mapping[str, Any]) -> str:
    """The adjusted p of the verdict: for the claim, or where it is contradicted for its opposite."""
    opposite = finding["verdict"] == "contradicted" and finding["p_holm_opposite"] is not None
    return words.p_value(finding["p_holm_opposite" if opposite else "p_holm"])


def _seen(part: Mapping[str, Any]) -> str:
    """What was found at one value of an axis, as it lies."""
    if part["effect"] is None:
        return str(part["reason"])
    if part["exact"]:
        return f"{difference(part)} (exactly)"
    _, low, high = _signed(part)
    interval = f"95 % CI {low} … {high}, " if part["low"] is not None else ""
    holm = f", p_holm {_p(part)}" if part["p_holm"] is not None else ""
    open_ = f": {part['reason']}" if part["reason"] else ""
    return f"{difference(part)} ({interval}n = {words.plural(part['n'], 'seed')}{holm}){open_}"


def _claimed(claim: Mapping[str, Any]) -> str:
    """What a claim expects, as a clause."""
    arm, other, expect = claim["arm"], _other(claim), claim["expect"]
    if expect == "not worse":
        return _not_worse(claim, "is not")
    what = words.place(claim["quantity"], claim["at"])
    return f"{what} of {arm} and {other} differs" if expect == "differs" else f"{arm} has {expect} {what} than {other}"


def difference(finding: Mapping[str, Any]) -> str:
    """The effect alone: ``looped − single −0.21 nats/token``, or as a ratio ``looped / single 1.8``."""
    log = finding["scale"] == "log"
    unit = "" if log else words.of_unit(finding["unit"])
    return f"{relation(finding)} = {_signed(finding)[0]}{unit}"


def relation(finding: Mapping[str, Any]) -> str:
    """What a difference is of: ``looped − single``, or as a ratio ``looped / single``."""
    return f"{finding['arm']} {'/' if finding['scale'] == 'log' else '−'} {_other(finding)}"


def edge(finding: Mapping[str, Any]) -> float | None:
    """The difference, or the ratio, at which "not worse" ends; None where nothing of the kind is claimed."""
    if finding["expect"] != "not worse":
        return None
    lower, margin = finding["better"] == "lower", float(finding["margin"])
    if finding["scale"] == "log":
        return margin if lower else 1 / margin
    return margin if lower else -margin


def _other(finding: Mapping[str, Any]) -> str:
    return str(finding["against"]) if finding["against"] is not None else f"{finding['value']:g}"


def _comparison(finding: Mapping[str, Any]) -> str:
    arm, other = finding["arm"], _other(finding)
    effect, unit = finding["effect"], words.of_unit(finding["unit"])
    if finding["expect"] == "not worse":
        stands = {"supported": "is not", "contradicted": "is"}.get(finding["verdict"], "may or may not be")
        return f"{_not_worse(finding, stands)}: {difference(finding)}"
    what = _what(finding)
    if effect == 0:
        return f"{arm} and {other} have the same {what}"
    direction = "lower" if effect < 0 else "higher"
    if finding["scale"] == "log":
        return f"{arm} has {direction} {what} than {other}: {_signed(finding)[0]} times as much"
    return f"{arm} has {direction} {what} than {other} by {_magnitude(finding)[0]}{unit}"


def _not_worse(finding: Mapping[str, Any], stands: str) -> str:
    """What "not worse" means: ``shift is not worse than looped by more than 0.02 nats/token in final val_loss``."""
    log, unit = finding["scale"] == "log", words.of_unit(finding["unit"])
    margin = f"a factor of {finding['margin']:g}" if log else f"{finding['margin']:g}{unit}"
    return f"{finding['arm']} {stands} worse than {_other(finding)} by more than {margin} in {_what(finding)}"


def _what(finding: Mapping[str, Any]) -> str:
    """The metric, and where it is taken."""
    return words.place(finding["quantity"], None if finding["exact"] else finding["at"])


def _interval(finding: Mapping[str, Any]) -> str:
    shown = _signed(finding) if _keeps_sign(finding) else _magnitude(finding)
    return f"{shown[1]} … {shown[2]}"


def _keeps_sign(finding: Mapping[str, Any]) -> bool:
    return bool(finding["scale"] == "log" or finding["expect"] == "not worse" or finding["effect"] == 0)


def _signed(finding: Mapping[str, Any]) -> tuple[str, str, str]:
    """Effect and interval as they are; as ratios on a log scale, with digits of their own where they lie far apart."""
    three = [finding["effect"], finding["low"], finding["high"]]
    if finding["scale"] != "log":
        return words.estimate(*three)
    mean, low, high = (None if v is None else math.exp(v) for v in three)
    if low is None or high is None or high < 5 * low:
        return words.estimate(mean, low, high)
    return words.significant(mean), words.significant(low), words.significant(high)


def _magnitude(finding: Mapping[str, Any]) -> tuple[str, str, str]:
    """Effect and interval in the direction of the effect, so that the effect is positive."""
    effect, low, high = finding["effect"], finding["low"], finding["high"]
    if effect < 0:
        effect, low, high = -effect, None if high is None else -high, None if low is None else -low
    return words.estimate(effect, low, high)
