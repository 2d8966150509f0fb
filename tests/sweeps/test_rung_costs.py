"""What a plan says of rungs: how many settings come to each, and FLOPs that no choice of them exceeds."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.flops import flops_alone
from studies.expand import Proposal, expand
from studies.space import grid_points
from studies.spec import parse_study
from studies.study import Study
from sweeps.cli import execute
from sweeps.rung_costs import halving_cost

STUDY = """
name = "halved"
question = "Which?"
seeds = 2
[base.train]
steps = 900
[arms.looped]
[arms.scp]
schedule.kind = "shift-scp"
schedule.check_every = 100
[search]
kind = "grid"
[search.space]
"model.width" = [8, 16, 32]
"train.lr" = [1e-3, 1e-2, 1e-1]
[search.halving]
"""


def study(**changes: str) -> Study:
    text = STUDY
    for before, after in changes.items():
        text = text.replace({"kind": 'kind = "grid"'}[before], after)
    return parse_study(tomllib.loads(text), file="halved.toml")


def of_grid(found: Study, arm: str) -> list[Proposal]:
    space = next(one.space for one in found.arms if one.name == arm)
    return [(arm, number, params) for number, params in enumerate(grid_points(space, range(9)))]


def test_each_rung_is_stated_beside_all_settings_to_the_end() -> None:
    found = study()
    cost = halving_cost(found, [])
    assert cost is not None
    assert [(rung.arm, rung.step, rung.settings) for rung in cost.rungs] == [
        (arm, step, settings) for arm in ("looped", "scp") for step, settings in ((100, 9), (300, 3), (900, 1))
    ]
    proposals = of_grid(found, "looped")
    every = expand(found, proposals=proposals, promoted={("looped", number): 2 for number in range(9)})
    last = [trial.config for trial in every if trial.role == "compare"]
    costliest = max(flops_alone(config) for config in last)
    first, second, third = (rung.flops for rung in cost.rungs[:3])
    assert first == sum(flops_alone(config, 100) for config in last)
    assert second == 3 * 2 * costliest * 2 // 9  # a third of the settings is as wide, on two seeds
    assert third == 2 * costliest * 6 // 9
    assert cost.flops == sum(rung.flops for rung in cost.rungs)


@given(st.permutations(range(9)))
@settings(max_examples=20)
def test_no_choice_of_settings_costs_more(order: list[int]) -> None:
    found = study()
    cost = halving_cost(found, [])
    assert cost is not None
    going = {("scp", number): rung for rung, numbers in ((1, order[:3]), (2, order[:1])) for number in numbers}
    trials = expand(found, proposals=of_grid(found, "scp"), promoted=going)
    highest: dict[Any, int] = {}
    for trial in trials:  # as if no criterion ended its stage before the latest step: the chain as it is known
        key = trial.links[0].lineage
        highest[key] = max(highest.get(key, 0), flops_alone(trial.config, chain=trial.links))
    assert sum(highest.values()) <= sum(rung.flops for rung in cost.rungs if rung.arm == "scp")


def test_settings_that_are_not_proposed_count_as_the_dearest() -> None:
    random = study(kind='kind = "random"\ntrials = 9')
    nothing, some = (halving_cost(random, known) for known in ([], of_grid(random, "looped")[:4]))
    assert nothing is not None
    assert some is not None
    assert nothing.rungs[0].settings == some.rungs[0].settings == 9
    assert nothing.flops > some.flops
    assert halving_cost(study(), [])  # a grid needs none


def test_the_plan_tells_it(tmp_path: Path, capfd: Any) -> None:
    file = tmp_path / "halved.toml"
    file.write_text(STUDY + "asynchronous = true\n")
    line = ["plan", str(file), "--store", str(tmp_path / "none")]
    assert execute(line) == 0
    shown = capfd.readouterr().out
    assert "looped: 9 settings to step 100, " in shown
    assert "of all settings to the end; some more where settings go on that later are not among the best" in shown
    assert execute([*line, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)["halving"]
    assert told["asynchronous"] is True
    assert told["flops"] < told["flops_whole"]
    assert len(told["rungs"]) == 6
