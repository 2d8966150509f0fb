"""What samplers are asked and told: bounds, directions, the constant liar and its relatives, generations, failures."""

from __future__ import annotations

import math
import statistics
from typing import Any

import optuna
import pytest

from studies.space import Range, Space
from sweeps import optuna_bridge
from sweeps.optuna_bridge import Told, ask

SPACE: Space = {
    "lr": Range(low=1e-4, high=1e-1, log=True),
    "depth": Range(low=1, high=6),
    "width": (16, 32, 64),
    "gain": Range(low=-1.0, high=1.0),
}
KINDS = ("random", "qmc", "tpe", "gp", "nsga2")


def told_of(settings: list[dict[str, Any]], objectives: int) -> list[Told]:
    """Narrow settings have values, wide ones failed."""
    return [(s, None if s["width"] == 64 else (s["gain"], float(s["depth"]))[:objectives]) for s in settings]


@pytest.mark.parametrize("kind", KINDS)
def test_settings_lie_in_the_space_and_follow_from_what_is_told(kind):
    first = ask("qmc", SPACE, [], count=24, first=0, seed=5, batch=24, lower=[True])
    lower = [True] if kind == "gp" else [True, False]  # several objectives of a Gaussian process take a second each
    told = told_of(first, len(lower))

    def asked(seed: int) -> list[dict[str, Any]]:
        return ask(kind, SPACE, told, count=2, first=24, seed=seed, batch=4, lower=lower)

    batch = asked(7)
    assert batch == asked(7)
    assert batch != asked(8)
    for setting in (*first, *batch):
        assert list(setting) == list(SPACE)
        assert 1e-4 <= setting["lr"] <= 1e-1
        assert type(setting["depth"]) is int
        assert 1 <= setting["depth"] <= 6
        assert setting["width"] in (16, 32, 64)
    assert len({str(setting) for setting in first}) == 24


@pytest.mark.parametrize(("kind", "count"), [("tpe", 48), ("gp", 20), ("nsga2", 96)])
@pytest.mark.parametrize("lower", [True, False])
def test_an_objective_is_improved_in_its_direction(kind, count, lower):
    space: Space = {"x": Range(low=0.0, high=1.0), "y": Range(low=0.0, high=1.0)}
    told: list[Told] = []
    while len(told) < count:
        few = min(count // 4, 16)
        batch = ask(kind, space, told, count=few, first=len(told), seed=len(told), batch=few, lower=[lower])
        told += [(setting, (setting["x"],)) for setting in batch]
    late = statistics.mean(setting["x"] for setting, _ in told[-count // 4 :])
    assert late < 0.35 if lower else late > 0.65


@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_settings_of_one_batch_keep_apart(kind):
    """Of six settings asked for at once none comes close to another, though all are drawn to the same optimum."""
    space: Space = {"x": Range(low=0.0, high=1.0)}
    told: list[Told] = [({"x": place / 16}, ((place / 16 - 0.4) ** 2,)) for place in range(17)]
    batch = sorted(s["x"] for s in ask(kind, space, told, count=6, first=17, seed=1, batch=10, lower=[True]))
    alone = [ask(kind, space, told, count=1, first=17, seed=seed, batch=1, lower=[True])[0]["x"] for seed in range(10)]
    assert statistics.stdev(batch) > 1.5 * statistics.stdev(alone)


def test_a_batch_of_nsga2_is_a_generation_as_the_sampler_itself_counts_them():
    space: Space = {"x": Range(low=0.0, high=1.0)}
    sampler = optuna.samplers.NSGAIISampler(seed=0, population_size=4)
    theirs = optuna.create_study(sampler=sampler)
    fails = {2, 5, 6, 7, 9}
    told: list[bool] = []
    for first in range(0, 24, 4):
        trials = [theirs.ask(optuna_bridge.distributions(space)) for _ in range(4)]
        generation = {sampler.get_trial_generation(theirs, theirs.trials[trial.number]) for trial in trials}
        told += [number not in fails for number in range(first, first + 4)]
        assert generation == set(optuna_bridge._generations(told, 4)[-4:])
        for trial in trials:
            if trial.number in fails:
                theirs.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                theirs.tell(trial, trial.params["x"])
    kept = [trial.system_attrs[optuna_bridge._GENERATION] for trial in theirs.trials]
    assert kept == optuna_bridge._generations(told, 4)


def test_settings_without_a_value_reach_no_sampler():
    """Samplers that are told nothing but failures ask as if they were told nothing; no NaN comes back."""
    space: Space = {"x": Range(low=0.0, high=1.0)}
    failed: list[Told] = [({"x": place / 12}, None) for place in range(12)]
    for kind in ("tpe", "gp", "nsga2"):
        batch = ask(kind, space, failed, count=4, first=12, seed=3, batch=4, lower=[True])
        assert batch == ask(kind, space, [], count=4, first=0, seed=3, batch=4, lower=[True])
        assert all(math.isfinite(setting["x"]) for setting in batch)
