"""Spectra of the Hessian for the figures: |λ| by rank at one step, and quantiles of λ over training.

Of a trial and step the exact spectrum counts; the density of stochastic quadrature (a few nodes with weights) stands in
only for the quantiles, and says so. Eigenvalues that are zero within rounding (`core.quantities.NULL`) are the null
space: the ranks leave them out, and their share of all eigenvalues stands beside. What is drawn of several seeds is a
mean over seeds, of trials that have the spectrum; how many lack it is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.quantities import NULL
from reports import series
from reports.means import summary
from reports.tables import Tables

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Of the eigenvalues, that the fan over training is made of."""
MOST_RANKS = 96
"""Ranks of a line: evenly spread on a log axis."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The spectrum of one trial at one step."""

    kind: str
    """exact | slq"""
    values: NDArray[np.float64]
    """[m] eigenvalues (exact: all of them; slq: nodes), ascending."""
    weights: NDArray[np.float64]
    """[m] share of the spectrum by eigenvalue; they sum to 1."""

    @property
    def null(self) -> NDArray[np.bool_]:
        """[m] whether an eigenvalue is zero within rounding."""
        size = np.abs(self.values)
        zero: NDArray[np.bool_] = size <= NULL * size.max(initial=0.0)
        return zero

    @property
    def null_share(self) -> float:
        """Share of the spectrum that is the null space."""
        return float(self.weights[self.null].sum())

    def sizes(self) -> NDArray[np.float64]:
        """|λ| outside the null space, ascending."""
        return np.sort(np.abs(self.values[~self.null]))

    def quantiles(self, shares: Sequence[float]) -> NDArray[np.float64]:
        """The least eigenvalues below or at which at least these shares of the spectrum lie."""
        reached = np.cumsum(self.weights)
        places = np.searchsorted(reached, np.asarray(shares) * reached[-1] - 1e-9)
        found: NDArray[np.float64] = self.values[np.minimum(places, len(self.values) - 1)]
        return found


Spectra = Mapping[str, Mapping[int, Spectrum]]
"""By trial_id and step."""


def read(tables: Tables) -> Spectra:
    """The spectra of all trials of a study: the exact one of a step where there is one."""
    found: dict[str, dict[int, Spectrum]] = defaultdict(dict)
    for row in tables.spectra.to_dict("records"):
        of_trial, step = found[str(row["trial_id"])], int(row["step"])
        if step not in of_trial or row["kind"] == "exact":
            values, weights = (np.asarray(row[name], dtype=float) for name in ("eigenvalues", "weights"))
            order = np.argsort(values, kind="stable")
            of_trial[step] = Spectrum(kind=str(row["kind"]), values=values[order], weights=weights[order])
    return found


def ranks(tables: Tables, spectra: Spectra, arms: Sequence[str]) -> dict[str, Any] | None:
    """|λ| by rank from the largest, at the last common step with exact spectra; geometric means over seeds.

    Ranks go as far as every trial of a line has one outside its null space. Lines without exact spectra are ``absent``.
    None without any.
    """
    exact = {
        trial: {step: one for step, one in steps.items() if one.kind == "exact"} for trial, steps in spectra.items()
    }
    lines = series.groups(tables, arms)
    step = series.last_step(lines, exact)
    if step is None:
        return None
    found, absent = [], []
    for line in lines:
        own = [(seed, exact[trial][step]) for trial, seed in line.seeds.items() if step in exact.get(trial, ())]
        if not own:
            absent.append(line.head)
            continue
        seeds, sizes = [seed for seed, _ in own], [one.sizes()[::-1] for _, one in own]
        points = [
            {"rank": rank} | summary(seeds, [one[rank - 1] for one in sizes], log=True)
            for rank in _ranks(min(map(len, sizes)))
        ]
        found.append(
            line.head
            | {
                "n": len(set(seeds)),
                "lost": len(line.trials) - len(own),
                "eigenvalues": summary(seeds, [len(one.values) for _, one in own])["mean"],
                "null": summary(seeds, [one.null_share for _, one in own]),
                "points": points,
            }
        )
    return {"step": step, "series": found, "absent": absent}


def over_training(tables: Tables, spectra: Spectra, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Quantiles of λ (`QUANTILES`) at each step that all trials of a line have: means over seeds, a series per line."""
    found = []
    for line in series.groups(tables, arms):
        seeds = {trial: seed for trial, seed in line.seeds.items() if trial in spectra}
        if not seeds:
            continue
        points = []
        for step in sorted(set.intersection(*(set(spectra[trial]) for trial in seeds))):
            at = [spectra[trial][step] for trial in seeds]
            quantiles = zip(*(one.quantiles(QUANTILES) for one in at), strict=True)
            points.append(
                {
                    "step": step,
                    "quantiles": [summary(seeds.values(), own)["mean"] for own in quantiles],
                    "null": summary(seeds.values(), [one.null_share for one in at]),
                }
            )
        kinds = sorted({one.kind for trial in seeds for one in spectra[trial].values()})
        lost = len(line.trials) - len(seeds)
        found.append(line.head | {"kinds": kinds, "n": len(set(seeds.values())), "lost": lost, "points": points})
    return found


def _ranks(most: int) -> list[int]:
    """1 … most, thinned evenly on a log axis."""
    if most < 1:
        return []
    return sorted({round(float(rank)) for rank in np.geomspace(1, most, MOST_RANKS)})
