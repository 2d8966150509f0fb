"""By which methods numbers were found, and which of them compare with which.

The column ``method`` of the view `curvature` says it of each number. Three rules, for the two sides of a comparison:

- What is exact, what Lanczos finds to its bound and what is sampled without bias (Hutchinson's trace and norm, the
  negative mass by quadrature) compare with one another: the error of a sample scatters from seed to seed, so that it is
  in the interval. That the methods differ is said beside the numbers.
- A number whose method says that it is *biased* (entropies by quadrature) compares with numbers of the very same method
  alone. Else the bias would be taken for a difference between arms: it is the same in every seed.
- Where all are biased by one method, or one is compared with a number that the claim gives, that is said: the interval
  does not hold the bias.

Pairs count, not arms: where an axis decides which trials are exact, those of equal setting are of one method.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from core.config import MeasureConfig
from reports.tables import Setting, Tables

_BIASED = "biased"
"""In a method's text: an estimate that is off in one direction (`core.densities`)."""
_MOST = next(term.metadata["bounds"].le for term in fields(MeasureConfig) if term.name == "exact")
"""Parameters up to which `measure.exact` may ask for exact spectra."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """How the numbers of a comparison were found."""

    by_arm: Mapping[str, tuple[str, ...]]
    """The methods of each arm's numbers, sorted; empty where none has one (losses, costs)."""
    differ: bool
    """Whether the two sides of some pair are of different methods."""
    mixed: bool
    """Whether the sides of some pair do not compare, by the rules above."""


def method_of(cell: Any, name: str) -> str | None:
    """The method of a number that was found, from a cell of the column ``method``; None where it has none.

    Without what is a trial's own: the limit of the edge, points of a curve that are left out.
    """
    text = cell.get(name) if isinstance(cell, Mapping) else None
    if text is None or " failed: " in text:
        return None
    return str(text).partition("; ")[0].partition(", limit ")[0]


def of_rows(rows: pd.DataFrame, name: str) -> frozenset[str]:
    """The methods by which a column or curve was found in some rows of the view curvature."""
    if "method" not in rows.columns:
        return frozenset()
    return frozenset(text for cell in rows["method"] if (text := method_of(cell, name)) is not None)


def compare(texts: Collection[str]) -> bool:
    """Whether numbers of these methods compare with one another."""
    return len(texts) < 2 or not any(map(biased, texts))


def biased(text: str) -> bool:
    """Whether a method says that its numbers are off in one direction."""
    return _BIASED in text


def found(tables: Tables, methods: Mapping[str, frozenset[str]], arms: Sequence[str]) -> Found:
    """How the numbers of one arm or of two were found, pair by pair.

    Args:
        tables: of the study.
        methods: by trial_id, of the trials that have a number.
        arms: that are compared; of one alone nothing differs.
    """
    if not any(methods.values()):
        return Found(by_arm={}, differ=False, mixed=False)
    sides = {arm: tables.compared(arm) for arm in arms}
    shared = tables.shared(*sides.values())
    by_arm: dict[str, set[str]] = {arm: set() for arm in arms}
    pairs: dict[tuple[int, Setting], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for arm, rows in sides.items():
        for row in rows[["arm", "trial_id", "seed", *shared]].to_dict("records"):
            own = methods.get(str(row["trial_id"]), frozenset())
            by_arm[arm] |= own
            for pairing in tables.pairings(row, shared):
                pairs[int(row["seed"]), pairing][arm] |= own
    both = [set().union(*pair.values()) for pair in pairs.values() if len(pair) == 2 and all(pair.values())]
    return Found(
        by_arm={arm: tuple(sorted(own)) for arm, own in by_arm.items() if own},
        differ=any(len(texts) > 1 for texts in both),
        mixed=not all(map(compare, both)),
    )


def said(by_arm: Mapping[str, Sequence[str]]) -> str:
    """How each arm's numbers were found: ``exactly in single and by lanczos in looped``."""
    arms: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for arm, texts in by_arm.items():
        arms[tuple(texts)].append(arm)
    return _joined(f"{_joined(map(_by, texts))} in {_joined(names)}" for texts, names in arms.items())


def _by(text: str) -> str:
    return f"exactly{text.removeprefix('exact')}" if text.startswith("exact") else f"by {text}"


def _joined(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def refusal(tables: Tables, by_arm: Mapping[str, Sequence[str]]) -> str:
    """Why numbers that do not compare decide nothing, with the way out where `measure.exact` is one."""
    reason = f"measured {said(by_arm)}, so a bias of the method would pass for a difference"
    sizes = _sizes(tables, by_arm)
    if not sizes or not any(text == "exact" for texts in by_arm.values() for text in texts):
        return reason
    low, high = min(sizes), max(sizes)
    ways = [f"to {high} or more (exact spectra in both)"] if high <= _MOST else []
    ways.append(f"below {low} (in none)")
    return f"{reason}; set measure.exact {' or '.join(ways)} and measure again"


def _sizes(tables: Tables, arms: Iterable[str]) -> list[int]:
    """Parameters of the trials of some arms."""
    return [int(size) for arm in arms for size in tables.compared(arm)["parameters"].dropna()]
