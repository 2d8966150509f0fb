"""Searches: pure proposals, what samplers are told, recording."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from studies.expand import Proposal, count, expand
from studies.proposals import read_proposals
from studies.spec import load_study
from studies.store import Store
from studies.study import Study
from sweeps import search

SPACE = '"train.lr" = {low = 1e-5, high = 1.0, log = true}\n"train.clip" = {low = 0.0, high = 4.0}'

Value = Callable[[str, Mapping[str, Any], int], float | None]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Study]:
    def build(
        *, kind: str = "tpe", trials: int = 20, batch: int = 5, space: str = SPACE, seed: int = 0, seeds: int = 1,
        metric: str = "final_val_loss", arms: tuple[str, ...] = ("single",), name: str = "searched",
        metrics: tuple[str, ...] = (), own: str = "",
    ) -> Study:  # fmt: skip
        lines = [f'name = "{name}"', 'question = "Which?"', f"seeds = {seeds}"]
        lines += [f'[arms.{arm}]\nschedule.kind = "{arm}"' for arm in arms]
        lines += [f"[arms.{arms[-1]}.space]\n{own}"] if own else []
        lines += [f'[search]\nkind = "{kind}"\nbatch = {batch}\nseed = {seed}']
        lines += [] if kind == "grid" else [f"trials = {trials}"]
        lines += [f"metrics = {list(metrics)}" if metrics else f'metric = "{metric}"']
        path = tmp_path / f"{name}.toml"
        path.write_text("\n".join([*lines, "[search.space]", space]))
        return load_study(str(path))

    return build


def bowl(arm: str, params: Mapping[str, Any], seed: int) -> float:
    """Least, 0, at lr = 1e-2 and clip = 3."""
    return math.log10(params["train.lr"] / 1e-2) ** 2 + (params["train.clip"] - 3) ** 2 + 0.001 * seed


def results(study: Study, proposals: Iterable[Proposal], value: Value, status: str = "ok") -> list[dict[str, Any]]:
    """Rows of the view trials for these proposals."""
    assert study.search is not None
    rows = []
    for arm, number, params in proposals:
        for trial in expand(study, proposals=[(arm, number, params)]):
            got = value(arm, params, trial.config.seed)
            rows.append(
                {
                    "trial_id": trial.trial_id,
                    "status": "diverged" if got is None else status,
                }
                | dict.fromkeys(study.search.metrics, got)
            )
    return rows


def run(study: Study, store: Store, value: Value, rounds: int | None = None) -> list[Proposal]:
    """Drives a search as a driver would."""
    for _ in itertools.count() if rounds is None else range(rounds):
        if not search.advance(study, store, results(study, read_proposals(study, store), value)):
            break
    return read_proposals(study, store)


def advanced(study: Study, store: Store, rows: list[dict[str, Any]]) -> list[Proposal]:
    """All proposals after one call."""
    search.advance(study, store, rows)
    return read_proposals(study, store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_does(make, store, tmp_path, kind):
    study = make(kind=kind, arms=("single", "looped"), seeds=2)
    whole = run(study, store, bowl)
    broken = Store.open(tmp_path / "other", create=True)
    for _ in range(2):
        assert len(run(study, Store.open(broken.root), bowl, rounds=1)) < 40
    assert run(study, broken, bowl) == whole
    assert len(whole) == 40
    assert [number for _, number, _ in whole] == [*range(20), *range(20)]


def test_nothing_is_proposed_before_the_last_batch_has_ended(make, store):
    study = make()
    first = advanced(study, store, [])
    assert len(first) == 5
    rows = results(study, first, bowl)
    assert advanced(study, store, rows[:-1]) == first
    assert advanced(study, store, [*rows[:-1], rows[-1] | {"status": None}]) == first
    assert len(advanced(study, store, rows)) == 10


def test_a_random_search_proposes_all_at_once_and_grows(make, store):
    few = advanced(make(kind="random", trials=7), store, [])
    many = advanced(make(kind="random", trials=12), store, [])
    assert (len(few), len(many)) == (7, 12)
    assert many[:7] == few
    assert len({str(params) for _, _, params in many}) == 12


def test_a_sobol_search_goes_on_along_its_sequence(make, store):
    few = advanced(make(kind="qmc", trials=5), store, [])
    many = advanced(make(kind="qmc", trials=16), store, [])
    assert many[:5] == few
    # The first 2^4 points of a scrambled Sobol sequence lie one in each sixteenth of either axis.
    shares = [(math.log10(p["train.lr"] / 1e-5) / 5, p["train.clip"] / 4) for _, _, p in many]
    for axis in zip(*shares, strict=True):
        assert sorted(int(share * 16) for share in axis) == list(range(16))


def test_a_grid_has_each_of_its_points_once_under_several_drivers(make, tmp_path):
    space = (
        '"train.lr" = {low = 1e-4, high = 1e-1, log = true, points = 4}\n"train.optimizer" = ["adamw", "sgd"]\n'
        '"train.warmup" = {low = 0, high = 2}'
    )
    study = make(kind="grid", space=space, arms=("single", "looped"), batch=5)
    root = Store.open(tmp_path / "store", create=True).root
    with ThreadPoolExecutor(4) as drivers:
        list(drivers.map(lambda _: search.advance(study, Store.open(root), []), range(4)))
    proposals = read_proposals(study, Store.open(root))
    points = [tuple(params.values()) for arm, _, params in proposals if arm == "single"]
    assert points == list(itertools.product([1e-4, 1e-3, 1e-2, 1e-1], ["adamw", "sgd"], [0, 1, 2]))
    assert len(proposals) == count(study) == 2 * 24
    assert not search.advance(study, Store.open(root), results(study, proposals, lambda *_: 1.0))


def test_what_an_arm_searches_of_its_own_is_proposed_to_it_alone(make, store):
    own = '"schedule.switch" = {low = 0.1, high = 0.9}\n"train.clip" = {low = 5.0, high = 6.0}'
    proposals = advanced(make(arms=("single", "shift"), own=own), store, [])
    assert all(params.keys() == {"train.lr", "train.clip"} for arm, _, params in proposals if arm == "single")
    theirs = [params for arm, _, params in proposals if arm == "shift"]
    assert all(params.keys() == {"train.lr", "train.clip", "schedule.switch"} for params in theirs)
    assert all(params["train.clip"] >= 5 for params in theirs)


def test_an_arm_on_which_nothing_searched_acts_has_one_setting(make, store):
    study = make(kind="tpe", arms=("single", "looped"), space='"model.loops" = [2, 3, 4]', trials=6)
    proposals = run(study, store, lambda arm, params, seed: 1.0)
    assert [params for arm, _, params in proposals if arm == "single"] == [{}]
    assert len([arm for arm, *_ in proposals if arm == "looped"]) == 6


def test_arms_and_seeds_search_differently(make, store):
    both = advanced(make(kind="random", arms=("single", "looped")), store, [])
    single = [params for arm, _, params in both if arm == "single"]
    looped = [params for arm, _, params in both if arm == "looped"]
    other = [params for _, _, params in advanced(make(kind="random", seed=1), store, [])]
    assert single != looped
    assert single != other


def test_an_arm_goes_on_without_waiting_for_another(make, store):
    study = make(arms=("single", "looped"))
    first = advanced(study, store, [])
    rows = results(study, [p for p in first if p[0] == "looped"], bowl)
    after = advanced(study, store, rows)
    assert [arm for arm, _, _ in after] == ["single"] * 5 + ["looped"] * 10


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_settings_without_a_value_never_become_numbers(make, store, bad):
    study = make(trials=15, seeds=2)

    def half(arm: str, params: Mapping[str, Any], seed: int) -> float | None:
        return bad if params["train.lr"] > 1e-2 and seed == 1 else bowl(arm, params, seed)

    proposals = run(study, store, half)
    assert len(proposals) == 15
    assert all(math.isfinite(params["train.lr"]) for _, _, params in proposals)


def test_a_search_in_which_everything_fails_still_ends(make, store):
    assert len(run(make(trials=12), store, lambda arm, params, seed: None)) == 12


def test_higher_is_better_where_the_metric_says_so(make):
    found = {}
    for metric in ("final_val_loss", "final_val_accuracy"):
        study = make(trials=40, batch=10, metric=metric, seed=3)
        known: list[Proposal] = []
        rise = lambda arm, params, seed: params["train.clip"]  # noqa: E731
        while due := search.propose(study, known, results(study, known, rise)):
            known += [(row["arm"], row["number"], json.loads(row["params"])) for row in due]
        found[metric] = statistics.mean(params["train.clip"] for _, _, params in known[20:])
    assert found["final_val_loss"] < 1.5
    assert found["final_val_accuracy"] > 2.5


def test_whole_numbers_and_choices_come_back_as_declared(make, store):
    space = (
        '"model.width" = {low = 4, high = 64, log = true}\n"train.warmup" = {low = 0, high = 9}\n'
        '"train.optimizer" = ["adamw", "sgd"]\n"model.mlp_ratio" = [0.0, 2.0]'
    )
    proposals = run(make(space=space, trials=30), store, lambda arm, params, seed: float(params["model.width"]))
    for _, _, params in proposals:
        assert type(params["model.width"]) is int
        assert 4 <= params["model.width"] <= 64
        assert type(params["train.warmup"]) is int
        assert params["train.optimizer"] in ("adamw", "sgd")
        assert params["model.mlp_ratio"] in (0.0, 2.0)


def test_a_setting_that_comes_again_is_the_same_trial(make, store):
    study = make(kind="random", trials=12, space='"train.optimizer" = ["adamw", "sgd"]')
    proposals = advanced(study, store, [])
    assert len(proposals) == 12
    assert len(expand(study, proposals=proposals)) == 2


def test_two_drivers_that_propose_at_once_record_each_proposal_once(make, store):
    study = make()
    due = search.propose(study, [], [])
    store.commit({"proposals": due})
    store.commit({"proposals": search.propose(study, [], [])})
    assert store.read("proposals").num_rows == 5
    assert [number for _, number, _ in read_proposals(study, store)] == list(range(5))


def test_proposals_of_another_driver_are_more_to_run(make, store):
    study = make()
    store.commit({"proposals": search.propose(study, [], [])})
    assert search.advance(study, store, [])  # nothing new is due, but its trials have not ended
    assert len(read_proposals(study, store)) == 5
    rows = results(study, read_proposals(study, store), bowl)
    assert search.advance(make(trials=5), store, rows) is False


def test_another_space_is_another_search(make, store):
    search.advance(make(kind="random"), store, [])
    assert read_proposals(make(kind="random", space='"train.lr" = {low = 0.1, high = 0.2}'), store) == []
    assert read_proposals(make(kind="random", name="else"), store) == []
