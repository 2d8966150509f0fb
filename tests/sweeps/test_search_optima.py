"""Samplers beat random search at equal trials on functions with a known optimum, through our own ask and tell.

The short form runs in CI; the full one under ``--run-soak``, which prints its medians (``-s``): docs/log.md has them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from studies.expand import Proposal
from sweeps import search
from tests.sweeps.sought import CLIP, LR, Value, results, sought

BRANIN_LEAST = 0.39788735772973816
HARTMANN_LEAST = -3.32236801141551
UNIT = {
    "train.lr": LR,
    "train.clip": CLIP,
    "train.weight_decay": {"low": 0.0, "high": 0.5},
    "train.beta1": {"low": 0.1, "high": 0.9},
    "train.beta2": {"low": 0.1, "high": 0.9},
    "train.warmup": {"low": 0, "high": 1000},
}
"""Six keys, each of which stands for a coordinate in 0 … 1."""


def unit(params: Mapping[str, Any]) -> list[float]:
    """The coordinates of a setting in 0 … 1."""
    shares = []
    for key, value in sorted(params.items(), key=lambda item: list(UNIT).index(item[0])):
        low, high = UNIT[key]["low"], UNIT[key]["high"]
        along = math.log if UNIT[key].get("log") else float
        shares.append((along(value) - along(low)) / (along(high) - along(low)))
    return shares


def branin(params: Mapping[str, Any]) -> tuple[float]:
    """Of two coordinates in [−5, 10] × [0, 15]; three equal minima."""
    x, y = (15 * share - shift for share, shift in zip(unit(params), (5, 0), strict=True))
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return (bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10,)


_HARTMANN = (
    (1.0, (10, 3, 17, 3.5, 1.7, 8), (1312, 1696, 5569, 124, 8283, 5886)),
    (1.2, (0.05, 10, 17, 0.1, 8, 14), (2329, 4135, 8307, 3736, 1004, 9991)),
    (3.0, (3, 3.5, 1.7, 10, 17, 8), (2348, 1451, 3522, 2883, 3047, 6650)),
    (3.2, (17, 8, 0.05, 10, 0.1, 14), (4047, 8828, 8732, 5743, 1091, 381)),
)


def hartmann(params: Mapping[str, Any]) -> tuple[float]:
    """Hartmann's function of six coordinates (Dixon & Szegő 1978); one global minimum of six."""
    at = unit(params)
    wells = (
        weight * math.exp(-sum(a * (x - c / 1e4) ** 2 for a, x, c in zip(steep, at, centre, strict=True)))
        for weight, steep, centre in _HARTMANN
    )
    return (-sum(wells),)


def zdt1(params: Mapping[str, Any]) -> tuple[float, float]:
    """Two objectives against each other (Zitzler, Deb & Thiele 2000); the front is y = 1 − √x where the rest is 0."""
    first, *rest = unit(params)
    distance = 1 + 9 * sum(rest) / len(rest)
    return first, distance * (1 - math.sqrt(first / distance))


def hypervolume(points: Sequence[tuple[float, ...]], corner: tuple[float, float] = (1.1, 6.0)) -> float:
    """Area that two objectives dominate up to a corner; more is better."""
    area, height = 0.0, corner[1]
    for x, y in sorted(points):
        if x < corner[0] and y < height:
            area += (corner[0] - x) * (height - y)
            height = y
    return area


def found(kind: str, value: Value, score: Callable[[list[Any]], float], seeds: int, **terms: Any) -> float:
    """The median, over seeds of a search, of what its settings have come to."""
    scores = []
    for seed in range(seeds):
        study, known = sought(kind, seed=seed, **terms), list[Proposal]()
        while due := search.propose(study, known, results(study, known, value)):
            known += [(row["arm"], row["number"], json.loads(row["params"])) for row in due]
        scores.append(score([value(params) for _, _, params in known]))
    return statistics.median(scores)


def compare(
    kind: str, value: Value, score: Callable[[list[Any]], float], *, keys: int, seeds: int, **terms: Any
) -> tuple[float, float]:
    """Medians of a sampler and of random search at equal trials."""
    space = dict(list(UNIT.items())[:keys])
    both = [found(each, value, score, seeds, space=space, **terms) for each in (kind, "random")]
    print(f"{value.__name__}, {terms['trials']} settings, {seeds} seeds: {kind} {both[0]:.4g}, random {both[1]:.4g}")
    return both[0], both[1]


def regret(least: float) -> Callable[[list[Any]], float]:
    """How far the best of some values lies above the optimum."""
    return lambda values: min(value for (value,) in values) - least


@pytest.mark.parametrize(("kind", "trials", "seeds"), [("tpe", 40, 7), ("gp", 25, 3)])
def test_tpe_and_gp_beat_random_on_branin(kind, trials, seeds):
    ours, random = compare(kind, branin, regret(BRANIN_LEAST), keys=2, seeds=seeds, trials=trials, batch=5)
    assert ours < random / 2


def test_nsga2_beats_random_on_zdt1():
    metrics = ["final_val_loss", "flops_alone"]
    ours, random = compare("nsga2", zdt1, hypervolume, keys=6, seeds=3, trials=96, batch=12, metrics=metrics)
    assert ours > random * 1.05


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["qmc", "tpe", "gp"])
@pytest.mark.parametrize(("value", "least", "keys"), [(branin, BRANIN_LEAST, 2), (hartmann, HARTMANN_LEAST, 6)])
def test_samplers_on_functions_with_a_known_optimum(kind, value, least, keys):
    ours, random = compare(kind, value, regret(least), keys=keys, seeds=5, trials=64, batch=8)
    # A sequence that is no better than chance at this is no fault; six coordinates take more settings than two.
    assert kind == "qmc" or ours < random / (2 if keys == 2 else 1.3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_samplers_on_two_objectives(kind):
    metrics = ["final_val_loss", "flops_alone"]
    ours, random = compare(kind, zdt1, hypervolume, keys=6, seeds=5, trials=320, batch=16, metrics=metrics)
    assert ours > random * 1.1
