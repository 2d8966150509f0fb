"""How many trials of the arms of a comparison diverged, and whether chance could do that.

A diverged trial has no final loss, so where arms diverge at different rates the pairs that are left describe survivors.
Any difference keeps a claim undecided: to decide that rates are the same takes more seeds than anybody runs (at ten, 5
of one arm and none of the other have p = 0.06). The p is there to read, not to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports import stats, words
from reports.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How many of the finished trials of the arms of a comparison diverged."""

    counts: Mapping[str, tuple[int, int]]
    """By arm: diverged, finished."""
    p: float | None
    """Exact, of equal rates; None where an arm is compared with a number, or no seed has finished trials of both."""

    @property
    def differ(self) -> bool:
        """Whether the rates differ at all. A number that an arm is compared with does not diverge."""
        (diverged, ended), (other, other_ended) = [*self.counts.values(), (0, 1)][:2]
        return diverged * max(1, other_ended) != other * max(1, ended)

    @property
    def said(self) -> str:
        """In words: ``3 of 10 trials of looped, 0 of 10 trials of single; exact p = 0.25``."""
        shown = ", ".join(f"{diverged} of {ended} trials of {arm}" for arm, (diverged, ended) in self.counts.items())
        return shown + (f"; exact p = {words.p_value(self.p)}" if self.p is not None else "")


def divergence(tables: Tables, arms: Sequence[str]) -> Divergence:
    """The rates of one arm, or of two that are paired by seed.

    The test flips the signs of the differences of the rates, one a seed: where each arm has one trial a seed, that is
    McNemar's exact test (McNemar 1947).
    """
    counts, rates = {}, []
    for arm in arms:
        rows = tables.compared(arm)
        ended = rows[rows["status"].isin(["ok", "diverged"])]
        diverged = ended["status"] == "diverged"
        counts[arm] = (int(diverged.sum()), len(ended))
        rates.append(diverged.astype(float).groupby(ended["seed"]).mean())
    if len(rates) < 2 or not (seeds := rates[0].index.intersection(rates[1].index)).size:
        return Divergence(counts=counts, p=None)
    return Divergence(counts=counts, p=stats.sign_flip((rates[0][seeds] - rates[1][seeds]).tolist()))
