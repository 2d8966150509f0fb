"""The loss around the last measured state, for the figures: surfaces of one seed, and their cuts of all seeds.

A surface is the loss on a grid in the plane of the two top eigenvectors of the Hessian (`core.surfaces`). Arms are
compared by the *rise*: the loss less that at the state. A surface cannot be averaged (each seed has axes of its own),
so one trial stands for a line, that of its first seed; its cuts along the axes can be, rank by rank, and are.

The *exponent* of a cut says how its even part s(r) = (z(r) + z(−r)) / 2 − z(0) grows from half the way to its end,
ln(s(r) / s(r′)) / ln(r / r′): 2 for a parabola (a U), 1 for a V. It has none where s is not positive.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports import series
from reports.means import summary
from reports.tables import Tables

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The loss around the state of one trial."""

    x: Floats
    """[m] distances along the top eigenvector, ascending; the middle one is 0."""
    y: Floats
    """[n] along the second."""
    z: Floats
    """[m, n] nats per token."""

    @property
    def rise(self) -> Floats:
        """[m, n] the loss less that at the state."""
        found: Floats = self.z - self.z[len(self.x) // 2, len(self.y) // 2]
        return found

    def cuts(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """By axis: the places along it, and the rise there."""
        return (self.x, self.rise[:, len(self.y) // 2]), (self.y, self.rise[len(self.x) // 2])


def read(tables: Tables) -> Mapping[str, Mapping[int, Surface]]:
    """The surfaces of all trials of a study, by trial_id and step."""
    found: dict[str, dict[int, Surface]] = defaultdict(dict)
    for row in tables.surfaces[tables.surfaces["kind"] == "top"].to_dict("records"):
        x, y, z = (np.asarray(row[name], dtype=float) for name in ("x", "y", "z"))
        found[str(row["trial_id"])][int(row["step"])] = Surface(x=x, y=y, z=z.reshape(len(x), len(y)))
    return found


def panel(tables: Tables, arms: Sequence[str]) -> dict[str, Any] | None:
    """The surfaces at the last step that all lines have; None without.

    A line that is the mean over settings has cuts, and no surface: no one trial stands for it.
    """
    known, lines = read(tables), series.groups(tables, arms)
    step = series.last_step(lines, known)
    if step is None:
        return None
    found = []
    for line in lines:
        own = [(seed, known[trial][step]) for trial, seed in line.seeds.items() if step in known.get(trial, ())]
        if own:
            found.append(
                line.head | {"lost": len(line.trials) - len(own)} | _line(own, shown=line.settings == 1 or line.best)
            )
    return {"step": step, "series": found}


def _line(own: Sequence[tuple[int, Surface]], *, shown: bool) -> dict[str, Any]:
    """What is said of a line with these surfaces by seed."""
    seed, first = min(own, key=lambda one: one[0])
    surface = {"seed": seed, "x": first.x.tolist(), "y": first.y.tolist(), "rise": first.rise.tolist()}
    return {
        "n": len({seed for seed, _ in own}),
        "surface": surface if shown else None,
        "cuts": [{"axis": axis + 1} | _cut([(seed, *one.cuts()[axis]) for seed, one in own]) for axis in range(2)],
    }


def _cut(own: Sequence[tuple[int, Floats, Floats]]) -> dict[str, Any]:
    """One cut: its mean over seeds where all have a place, each seed's, and the exponents."""
    common = sorted(set.intersection(*(set(x.tolist()) for _, x, _ in own)))
    rises = [(seed, dict(zip(x.tolist(), rise.tolist(), strict=True))) for seed, x, rise in own]
    exponents = [(seed, found) for seed, x, rise in own if (found := exponent(x, rise)) is not None]
    seeds = [seed for seed, _ in rises]
    return {
        "points": [{"x": x} | summary(seeds, [rise[x] for _, rise in rises]) for x in common],
        "seeds": [{"seed": seed, "rise": [rise[x] for x in common]} for seed, rise in rises],
        "exponent": summary([seed for seed, _ in exponents], [found for _, found in exponents]),
    }


def exponent(x: Floats, rise: Floats) -> float | None:
    """The power with which the even part of a rise grows from half the way out to its end.

    Args:
        x: [2 n + 1] places, even around 0, ascending.
        rise: [2 n + 1] the rise there, 0 in the middle.

    Returns:
        None where n = 1, or where the even part is not positive at both places.
    """
    n = len(x) // 2
    half = n // 2
    if half == 0:
        return None
    near, far = ((rise[n + i] + rise[n - i]) / 2 for i in (half, n))
    if not (near > 0 and far > 0):
        return None
    return math.log(far / near) / math.log(x[2 * n] / x[n + half])
