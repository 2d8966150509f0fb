"""Numbers and findings in words: how many digits a number deserves, and sentences about settings and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, with a true minus sign and without an exponent where that is short."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -4 <= size < 7:
        rounded = f"{value:,.{max(0, digits - 1 - size)}f}".replace(",", "\u202f")
        return rounded.replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def significant(value: float | None, digits: int = 3) -> str:
    """A number that is known to so many digits alone: 7 222 773 is 7 220 000."""
    return number(None if value is None else float(f"{value:.{digits - 1}e}"), digits)


def count(value: float | None) -> str:
    """A count in full, in groups of three digits."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def estimate(mean: float | None, low: float | None, high: float | None) -> tuple[str, str, str]:
    """A mean and its interval with the digits that the interval's half width gives (two of it)."""
    if mean is None or low is None or high is None or high <= low:
        return number(mean, 4), number(low, 4), number(high, 4)
    decimals = 1 - math.floor(math.log10((high - low) / 2))
    if not 0 <= decimals <= 6 or abs(mean) >= 1e6:
        return number(mean), number(low), number(high)
    return fixed(mean, decimals), fixed(low, decimals), fixed(high, decimals)


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, never as −0."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def p_value(p: float | None) -> str:
    """A p value with three digits at most, and never as 0."""
    if p is None:
        return "–"
    if p < 1e-4:
        return "< 0.0001"
    return f"{p:.3g}"


def setting(values: Mapping[str, Any]) -> str:
    """Axis values by their last names: ``loops = 3, switch = 0.5``."""
    return ", ".join(f"{key.rpartition('.')[2]} = {cell(value)}" for key, value in values.items())


def searched(entry: Mapping[str, Any]) -> str:
    """Which setting stands for an arm of a search."""
    if entry["of"] == 1:
        return f"{entry['arm']} has a single setting."
    best = f"{entry['arm']} is the best of its {entry['of']} settings by mean {entry['metric']}"
    return f"{best}: {setting(entry['setting'])}."


def confirmed(entry: Mapping[str, Any]) -> str:
    """What fresh seeds say of a setting that was among the best."""
    place = "the best" if entry["place"] == 1 else f"place {entry['place']}"
    values = setting(entry["setting"])
    which = f"{entry['arm']}{f' ({values})' if values else ''}, {place} of {plural(entry['of'], 'setting')}"
    chosen, fresh = entry["chosen"], entry["fresh"]
    if fresh["n"] == 0:
        return f"{which}: none of its {plural(entry['asked'], 'fresh seed')} has a value yet."
    if entry["change"] is None:
        return f"{which}: {number(fresh['mean'], 4)} on {plural(fresh['n'], 'fresh seed')}."
    worse = (entry["change"] > 0) == (entry["better"] == "lower")
    if entry["scale"] == "log":
        by = f"{number(math.exp(abs(entry['change'])))} times {'worse' if worse else 'better'}"
    else:
        by = f"{number(abs(entry['change']))} {entry['unit']} {'worse' if worse else 'better'}"
    return f"{which}: on {plural(fresh['n'], 'fresh seed')} {by} than on the {chosen['n']} that chose it."


def factors(entry: Mapping[str, Any]) -> str:
    """What the final value depends on most, of a full grid."""
    what = {"val_loss": "final validation loss", "val_exact": "final exact match"}[entry["metric"]]
    of = f"{what} of {', '.join(entry['arms'])}" + (f" ({entry['task']})" if entry["task"] else "")
    if entry["reason"] is not None:
        return f"Factor effects on the {of}: not computed, as {entry['reason']}."
    terms = [term for term in entry["terms"] if term["kind"] in ("main", "interaction")][:3]
    shown = "; ".join(
        f"{term['name']} {fixed(100 * term['omega2'], 1)} %"
        f" ({fixed(100 * term['low'], 1)} … {fixed(100 * term['high'], 1)} %)"
        for term in terms
    )
    rest = entry["terms"][-1]["eta2"]
    return f"Of the variance of the {of}: {shown}; seeds and settings together leave {fixed(100 * rest, 1)} %."


def boundary(entries: Sequence[Mapping[str, Any]]) -> str:
    """Where the best value of what was tuned lies at an end of what was tried, in arms that tried the same."""
    first = entries[0]
    tried = f"({cell(first['low'])} … {cell(first['high'])})"
    if first["kind"] == "search":
        where = f"at the {first['end']} end of what was searched {tried}"
        arms = [f"{one['arm']} {cell(one['value'])}" for one in entries]
    else:
        where = f"the {first['end']} of those tried {tried}"
        shares = [f" in {one['settings']} of {one['of']} settings" if one["of"] > 1 else "" for one in entries]
        arms = [one["arm"] + share for one, share in zip(entries, shares, strict=True)]
        where = f"{cell(first['value'])}, {where}"
    beyond = "A better one may lie beyond, so extend the range before you trust what was compared."
    return f"The best value of {first['key']} is {where}: {', '.join(arms)}. {beyond}"


def cell(value: Any) -> str:
    """A value of an axis, as short as it is."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def tick(value: float) -> str:
    """A number on an axis: as short as it is exact."""
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.6e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    return f"{value:.10g}".replace("-", "−")


def stratum(column: str) -> str:
    """How a stratum is called in a title."""
    names = {
        "low_ic": "low-IC (simple) sequences",
        "high_ic": "high-IC (complex) sequences",
        "trained": "trained lengths",
        "longer": "longer lengths",
        "": "all sequences",
    }
    suffix = column.removeprefix("val_loss").removeprefix("_")
    return names.get(suffix, suffix)


def place(metric: str, at: int | str | None) -> str:
    """A metric with where it is taken: ``final val_loss``, ``val_loss at step 500``; without a place as it is."""
    if at is None:
        return metric
    return f"{metric} at step {at}" if isinstance(at, int) else f"{at} {metric}"


def column(name: str) -> str:
    """A column of a table as a choice names it: ``final validation loss, low-IC (simple) sequences``."""
    bare = name.removeprefix("final_")
    names = {
        "val_loss": "validation loss",
        "val_exact": "exact match",
        "val_accuracy": "accuracy",
        "val_bits_per_byte": "bits per byte",
        "excess_loss": "excess loss",
        "flops_alone": "FLOPs alone",
    }
    base = next((base for base in names if bare == base or bare.startswith(f"{base}_")), None)
    if base is None:
        return name.replace("_", " ")
    part = bare.removeprefix(base)
    whole = f"{names[base]}, {stratum(part)}" if part else names[base]
    return whole if bare == name else f"final {whole}"


def plural(number: int, word: str) -> str:
    """A count with its noun: ``1 trial``, ``2 trials``."""
    return f"{count(number)} {word}{'s' * (number != 1)}"


def tree(found: Mapping[str, Any]) -> str:
    """What the stage tree of a study saves, from what its configurations and criteria say."""
    head = f"{plural(found['trials'], 'trial')} on {plural(found['seeds'], 'seed')}"
    if found["waiting"]:
        return f"{head}; {count(found['waiting'])} of them wait for a criterion, so what they share is not known yet."
    alone, trained = found["flops_alone"], found["flops_trained"]
    if found["steps_alone"] == found["steps_trained"]:
        return f"{head}: no two of them have a past in common, so each is trained by itself ({number(alone)} FLOPs)."
    return (
        f"{head} share the past that they have in common: {count(found['steps_trained'])} updates are trained instead "
        f"of {count(found['steps_alone'])}, with {number(trained)} FLOPs instead of {number(alone)}. "
        f"The tree needs {number(alone / trained)} times fewer FLOPs."
    )


def switches(found: Sequence[Mapping[str, Any]]) -> str:
    """The switches of several arms in one sentence: how far their drops reach."""
    known = sorted((entry for entry in found if entry["drop"]["mean"] is not None), key=lambda e: e["drop"]["mean"])
    if not known:
        return f"{len(found)} arms switch."
    least, most = ((number(e["drop"]["mean"]), e["arm"], count(e["step"]["mean"])) for e in (known[0], known[-1]))
    lost, trials = (sum(entry["recovery"][name] for entry in found) for name in ("never", "trials"))
    back = f"{count(lost)} of {plural(trials, 'trial')} were not back by the end" if lost else "all trials came back"
    return (
        f"{len(found)} arms switch. With the same weights the validation loss changes by {least[0]} nats/token "
        f"({least[1]}, at step {least[2]} on average) to {most[0]} ({most[1]}, at step {most[2]}); {back}."
    )


def switch(found: Mapping[str, Any]) -> str:
    """What the switches of an arm cost at first, and in all, in plain sentences."""
    step, back = found["step"], found["recovery"]
    at = f"at step {count(step['mean'])}"
    if step["min"] < step["max"]:
        at += f" on average ({count(step['min'])} … {count(step['max'])})"
    settings = f", {len(found['settings'])} settings" if len(found["settings"]) > 1 else ""
    many = f", the first of {found['switches']} switches" if found["switches"] > 1 else ""
    said = [f"switches {at}{many}: {plural(found['trials'], 'trial')}{settings}, {plural(found['n'], 'seed')}."]
    if found["drop"]["mean"] is not None:
        mean, low, high = estimate(*(found["drop"][name] for name in ("mean", "low", "high")))
        interval = f" [{low}, {high}]" if found["drop"]["low"] is not None else ""
        turn = "rises" if found["drop"]["mean"] >= 0 else "changes"
        said.append(
            f"With the same weights the validation loss {turn} by {mean}{interval} nats/token, from "
            f"{number(found['loss_before']['mean'])} to {number(found['loss_after']['mean'])}, and the accuracy goes "
            f"from {number(found['accuracy_before']['mean'])} to {number(found['accuracy_after']['mean'])}."
        )
    if back["trials"]:
        never = f"{count(back['never'])} of {plural(back['trials'], 'trial')} were not back by the end"
        if back["median"] is None:
            said.append(f"{never}, so there is no median of the updates until the loss is back.")
        else:
            updates = f"The loss is back after {tick(back['median'])} updates (median)"
            said.append(f"{updates}; {never}." if back["never"] else f"{updates}, in every trial.")
    if found["cost"] is not None:
        said.append(f"In all a trial costs {number(found['cost'])} times the FLOPs of one of {found['reference']}.")
    return " ".join(said)


def of_unit(unit: str) -> str:
    """A unit behind a number, with its space; nothing for a pure number, whose unit is 1, or for a fraction."""
    return "" if unit in ("1", "fraction") else f" {unit}"
