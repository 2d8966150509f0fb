"""What titles and captions of several figures say: of which task, of how many seeds, by which methods, without what."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports import methods, words
from reports.labels import slug
from reports.panels import label

WIDTH = 48
"""Letters of a title that fit over a panel."""

MOST_SAID = 5
"""Lines that a caption says one by one."""

Entry = Mapping[str, Any]


def titled(text: str, task: str) -> str:
    """A title with its task, where the study has several."""
    return f"{task}: {text}" if task else text


def wrapped(title: str) -> str:
    """A title in lines that fit over a panel."""
    return textwrap.fill(title, WIDTH)


def task_prefix(prefix: str, task: str, tasks: Iterable[str]) -> str:
    """The prefix of the figures of one of these tasks: with its place among them, as names may look alike."""
    places = list(dict.fromkeys(tasks))
    if not task or len(places) == 1:
        return prefix
    return f"{prefix}-task{places.index(task) + 1}-{slug(task)}"


def counted(series: Sequence[Entry]) -> str:
    """Of how many seeds each line is the mean, in words; with the trials that lack what is drawn."""
    if len({one["n"] for one in series}) == 1:
        text = f"n = {words.plural(series[0]['n'], 'seed')}"
        text += " in each arm" if len(series) > 1 else ""
    else:
        text = "seeds: " + ", ".join(f"{label(one)} {one['n']}" for one in series)
    lost = [f"{label(one)} {one['lost']}" for one in series if one.get("lost")]
    return text + (f"; trials without it, left out: {', '.join(lost)}" if lost else "")


def listed(lines: Sequence[tuple[float, str]], joint: str = ", ") -> str:
    """What lines come to: each of a few; of many the lowest and the highest, as the tables have all.

    Args:
        lines: value, and what is said of it.
        joint: between two.
    """
    if len(lines) <= MOST_SAID:
        return joint.join(text for _, text in lines)
    return f"of {len(lines)} lines the lowest is {min(lines)[1]}, the highest {max(lines)[1]}"


def left_out(entry: Entry) -> str:
    """Lines that are not drawn as they have no exact spectrum, for the brackets after `counted`."""
    names = ", ".join(map(label, entry["absent"]))
    return f"; without exact spectra, left out: {names}" if names else ""


def failures(study: Entry, *names: str) -> str:
    """What could not be measured of some quantities, as a sentence; empty where nothing failed."""
    found = []
    for entry in study["panels"]["how"]:
        if entry["quantity"] in names and entry["failed"]:
            reasons = "; ".join(one["reason"] for one in entry["failures"][:3])
            found.append(
                f"{entry['quantity']} in {entry['failed']} of {entry['measurements']} measurements ({reasons})"
            )
    return f" Failed: {', '.join(found)}." if found else ""


def how_found(drawn: Sequence[Entry], what: str) -> str:
    """By which methods lines were found, as a sentence, where these differ; where they do not compare, that too.

    Args:
        drawn: lines with their ``methods``.
        what: the subject of the sentence.
    """
    by_line = {label(s): s["methods"] for s in drawn if s["methods"]}
    if len({tuple(texts) for texts in by_line.values()}) < 2 and all(len(texts) == 1 for texts in by_line.values()):
        return ""
    warning = "" if methods.compare({t for texts in by_line.values() for t in texts}) else ": do not compare heights"
    return f" {what} was found {methods.said(by_line)}{warning}."


def families(series: Entry) -> str:
    """The methods of a line by their first words: ``exact``, ``slq`` and so on."""
    return ", ".join(text.partition(",")[0] for text in series["methods"])


def in_unit(unit: str, *, log: bool) -> str:
    """A unit and the scale in brackets; nothing where there is neither."""
    said = ", ".join([*([unit] if unit != "1" else []), *(["log"] if log else [])])
    return f" ({said})" if said else ""


def estimate(point: Entry, *, log: bool = False) -> str:
    """A mean with its interval; on a log scale each with digits of its own."""
    three = [point[k] for k in ("mean", "low", "high")]
    mean, low, high = (words.significant(v) for v in three) if log else words.estimate(*three)
    return f"{mean} [{low}, {high}]" if point["low"] is not None else mean
