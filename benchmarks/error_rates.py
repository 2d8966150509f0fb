"""Do the statistics of a report keep what they promise? Coverage of intervals, wrong verdicts, power of seeds needed.

Everything is simulated from a known truth, many studies at once: the same formulas as `reports.stats`, over an axis of
draws (a test holds them equal to it). Nothing is measured in time, so any machine gives the same numbers.

    python benchmarks/error_rates.py                # 10^6 draws, a minute
    python benchmarks/error_rates.py --draws 20000  # seconds
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats as scipy_stats

from core.streams import stream
from reports import stats

ALPHA = 0.05
BLOCK = 50_000

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""Paired differences of mean 0 and deviation 1."""

DIFFERENCES: Mapping[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "difference of two exponentials": lambda rng, shape: (
        (rng.exponential(size=shape) - rng.exponential(size=shape)) / math.sqrt(2)
    ),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "lognormal (σ = 1)": lambda rng, shape: (
        (rng.lognormal(size=shape) - math.exp(0.5)) / math.sqrt(math.e * (math.e - 1))
    ),
}
"""Arms that are skewed alike have symmetric differences (the second); skewed differences (the last two) come of one arm
that sometimes goes far wrong."""


def t_ends(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of 95 % t intervals: x [draws, n]."""
    n = x.shape[-1]
    half = scipy_stats.t.ppf(0.975, n - 1) * x.std(axis=-1, ddof=1) / math.sqrt(n)
    return x.mean(axis=-1) - half, x.mean(axis=-1) + half


def t_p(x: np.ndarray) -> np.ndarray:
    """Two-sided p values of t tests against 0: x [..., n]."""
    n = x.shape[-1]
    t = x.mean(axis=-1) / (x.std(axis=-1, ddof=1) / math.sqrt(n))
    return np.asarray(2 * scipy_stats.t.sf(np.abs(t), n - 1))


def flip_p(x: np.ndarray) -> np.ndarray:
    """Two-sided p values of exact sign-flip tests: x [draws, n]."""
    signs = np.array(list(itertools.product((1, -1), repeat=x.shape[-1] - 1)), dtype=np.float64)
    signs = np.hstack([np.ones((len(signs), 1)), signs])  # the other half mirrors it
    sums, seen = np.abs(x @ signs.T), np.abs(x.sum(axis=-1))
    return np.asarray((sums >= seen[:, None] - 1e-12 * np.abs(x).sum(axis=-1)[:, None]).mean(axis=1))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values: p [draws, claims]."""
    order, m = np.argsort(p, axis=1), p.shape[1]
    adjusted = np.minimum(1, np.maximum.accumulate(np.take_along_axis(p, order, 1) * (m - np.arange(m)), axis=1))
    found = np.empty_like(p)
    np.put_along_axis(found, order, adjusted, 1)
    return found


def coverage(draw: Draw, n: int, draws: int) -> float:
    """Share of 95 % t intervals of n seeds that hold the true mean."""
    return _mean(lambda rng, size: np.logical_and(*_around(*t_ends(draw(rng, (size, n))), 0.0)), draws, "coverage", n)


def wrong(draw: Draw, n: int, draws: int, *, test: Callable[[np.ndarray], np.ndarray] = t_p) -> float:
    """Share of tests that reject where there is nothing: a verdict of "differs" that is wrong."""
    return _mean(lambda rng, size: test(draw(rng, (size, n))) < ALPHA, draws, "wrong", n)


def family_wrong(claims: int, n: int, draws: int, *, shared: float = 0.5) -> float:
    """Share of studies of which any claim is decided where none of them holds.

    Args:
        claims: of the study.
        n: seeds.
        draws: studies.
        shared: correlation of the claims' differences, as of claims against one arm.
    """

    def decided(rng: np.random.Generator, size: int) -> np.ndarray:
        x = math.sqrt(shared) * rng.normal(size=(size, 1, n)) + math.sqrt(1 - shared) * rng.normal(
            size=(size, claims, n)
        )
        return np.asarray((holm(t_p(x)) < ALPHA).any(axis=1))

    return _mean(decided, draws, "family", claims, n)


def found(effect: float, n: int, draws: int, *, claims: int = 1) -> float:
    """Share of studies that find an effect (in deviations) after Holm, beside claims of which nothing is true."""

    def detected(rng: np.random.Generator, size: int) -> np.ndarray:
        x = rng.normal(size=(size, claims, n))
        x[:, 0] += effect
        return np.asarray(holm(t_p(x))[:, 0] < ALPHA)

    return _mean(detected, draws, "found", claims, n)


def second_run(effect: float, pilot: int, draws: int) -> tuple[float, float, float]:
    """What comes of "so many seeds would decide it": after a study that did not, one of as many seeds as it says.

    Returns:
        Share of pilots that did not decide; of these, the share whose next study decides for the right side, and the
        median of the seeds that they were told.
    """
    rng = stream(0, "error-rates", "second", pilot)
    open_, told, decided = 0, [], 0
    for x in rng.normal(effect, 1, (draws, pilot)):
        if float(t_p(x)) < ALPHA:
            continue
        open_ += 1
        n = stats.seeds_needed(float(x.mean()), float(x.std(ddof=1))) or stats.MOST_SEEDS
        told.append(n)
        again = rng.normal(effect, 1, n)
        decided += bool(t_p(again) < ALPHA and again.mean() > 0)
    return open_ / draws, decided / max(1, open_), float(np.median(told)) if told else math.nan


def _around(low: np.ndarray, high: np.ndarray, truth: float) -> tuple[np.ndarray, np.ndarray]:
    return low <= truth, truth <= high


def _mean(draw: Callable[[np.random.Generator, int], np.ndarray], draws: int, *names: str | int) -> float:
    """The mean over so many draws, block by block."""
    rng, done, total = stream(0, "error-rates", *names), 0, 0
    while done < draws:
        size = min(BLOCK, draws - done)
        total += int(np.count_nonzero(draw(rng, size)))
        done += size
    return total / draws


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=1_000_000)
    draws = parser.parse_args().draws
    print("| differences | seeds | 95 % interval covers | t test wrong at 0.05 | sign flips wrong at 0.05 |")
    print("|---|---:|---:|---:|---:|")
    for name, draw in DIFFERENCES.items():
        for n in (5, 10):
            flips = wrong(draw, n, max(1, draws // 10), test=flip_p)
            print(f"| {name} | {n} | {coverage(draw, n, draws):.2%} | {wrong(draw, n, draws):.2%} | {flips:.2%} |")
    print("\n| claims, none true | seeds | any decided after Holm |\n|---:|---:|---:|")
    for claims, n in itertools.product((1, 5, 20), (5, 10)):
        print(f"| {claims} | {n} | {family_wrong(claims, n, draws // claims):.2%} |")
    print("\n| effect (SD) | claims | seeds needed | found | found with a seed less |\n|---:|---:|---:|---:|---:|")
    for effect, claims in itertools.product((0.5, 1.0, 2.0), (1, 5)):
        n = stats.seeds_needed(effect, 1.0, alpha=ALPHA / claims)
        assert n is not None
        less = found(effect, n - 1, draws // claims, claims=claims)
        print(f"| {effect} | {claims} | {n} | {found(effect, n, draws // claims, claims=claims):.1%} | {less:.1%} |")
    print("\n| effect (SD) | seeds of the first study | undecided | seeds told (median) | then decided |")
    print("|---:|---:|---:|---:|---:|")
    for effect, pilot in itertools.product((0.5, 1.0, 2.0), (5, 10)):
        undecided, decided, told = second_run(effect, pilot, max(1, draws // 1000))
        print(f"| {effect} | {pilot} | {undecided:.1%} | {told:.0f} | {decided:.1%} |")


if __name__ == "__main__":
    main()
