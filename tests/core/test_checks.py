"""What criteria see while a pack trains: right values, no effect on training, stages that end where they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.lineage import links
from core.pack import initial_state
from core.schedule import Criterion, Watch
from core.segments import LaneResult
from core.task_data import task_data
from core.train import train_segments
from core.watch import Check, ending
from tests.core.packs import bits, join, lanes, run, segment
from tests.core.reference import PlainModel, case, plain_loss

GRID = (2, 4, 6, 8, 10, 12)


def watching(*, patience: int = 2, latest: int = 12, delta: float = 1e9, every: int = 2, start: int = 0) -> Watch:
    criterion = Criterion(
        delta1=delta, delta2=None, patience=patience, change="absolute", on="val", latest=latest, every=every
    )
    return Watch(criterion=criterion, start=start, stage=0)


def watched(configs: list[TrialConfig], *watches: Watch, **given: Any) -> tuple[list[LaneResult], dict[int, Any]]:
    """One pack over 12 steps in which each lane has the watches; results, and by lane what was kept."""
    kept: dict[int, Any] = {lane: [] for lane in range(len(configs))}
    segments = [segment(config, 0, 0, 12, **{"check": GRID, "watches": watches} | given) for config in configs]
    results = train_segments(
        segments, [initial_state(c) for c in configs], keep=lambda lane, state: kept[lane].append(state)
    )
    return results, kept


def seen(result: LaneResult) -> dict[int, Check]:
    return {row["step"]: Check(**{k: v for k, v in row.items() if k != "step"}) for row in result.checks}


def frozen(state: TrialState) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in {**state.parameters, **state.optimizer}.items()}


@pytest.mark.parametrize("name", ["toy", "shift", "loss_on_all", "decay_clip_warmup", "drawn", "drawn_shift"])
def test_a_check_is_what_a_plain_module_gives_on_the_batch_of_the_first_update(name: str) -> None:
    config = case(name, precision="float64", evaluate_every=2)
    result = run([config], check=GRID)[0]
    assert [row["step"] for row in result.checks] == list(GRID)
    inputs, targets = (torch.from_numpy(np.asarray(a)[0]) for a in task_data(config).batches(0, 1))
    for row in result.checks:
        (link,) = [link for link in links(config) if link.start < row["step"] <= link.end]
        plain = PlainModel(config).double()
        plain.take(run([config], until=row["step"])[0].state.parameters)
        loss = plain_loss(
            plain, inputs, targets, loops=link.loops, injection=link.injection, loss_on=link.loss_on
        )  # drawn loops: with their mean
        loss.backward()
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in plain.parameters()]))
        assert row["train_loss"] == pytest.approx(loss.item(), rel=1e-9)
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-7)
    evaluated = {row["step"]: row["val_loss"] for row in result.metrics}
    assert {row["step"]: row["val_loss"] for row in result.checks} == {s: evaluated[s] for s in GRID}


@pytest.mark.parametrize("name", ["toy", "gpt2", "sgd", "wsd", "drawn_shift", "unit_hidden"])
def test_checking_evaluating_and_watching_change_no_bit_of_training(name: str) -> None:
    config = case(name)
    plain = run([config])[0]
    checked = run([config], check=range(1, 13))[0]
    assert bits(checked)["tensors"] == bits(plain)["tensors"]
    assert checked.metrics == plain.metrics
    ends = {link.end for link in links(config)}
    bare = run([replace(config, train=replace(config.train, evaluate_every=12))])[0]
    assert bits(bare)["tensors"] == bits(plain)["tensors"]
    assert bare.metrics == [row for row in plain.metrics if row["step"] in {0, 12, *ends}]


@pytest.mark.parametrize("name", ["toy", "drawn", "unit_width"])  # a lane of unit width is trained beside a copy
def test_watching_and_keeping_change_no_bit_of_training(name: str) -> None:
    config = case(name)
    (result,), kept = watched([config], watching(), watching(patience=3), needed=12)
    plain = run([config], check=GRID)[0]
    assert [state.step for state in kept[0]] == [6, 8]
    every_second = run([case(name, evaluate_every=2)])[0].metrics
    assert result.metrics == [row for row in every_second if row["step"] in (0, 6, 8, 12)]
    assert bits(replace(result, metrics=[])) == bits(replace(plain, metrics=[]))


@pytest.mark.parametrize("name", ["toy", "decay_clip_warmup", "drawn", "drawn_shift", "unit_width"])
def test_checks_and_events_of_a_lane_do_not_depend_on_the_pack(name: str) -> None:
    trials = lanes(case(name), 5)
    whole = [bits(result) for result in run(trials, check=GRID)]
    for position in range(5):
        assert bits(run([trials[position]], check=GRID)[0]) == whole[position]
    assert [bits(result) for result in run(trials[3:], check=GRID)] == whole[3:]
    assert [bits(result) for result in run([trials[4], trials[1]], check=GRID)] == [whole[4], whole[1]]
    if name == "drawn_shift":
        assert len({str(row["rows"][3]) for row in whole}) == 5  # events, each its own


@pytest.mark.parametrize("delta", [0.03, 0.05, 1e9, 1e-9])
@pytest.mark.parametrize("every", [1, 3, 13])
def test_a_state_is_kept_exactly_where_the_criterion_ends_the_stage(delta: float, every: int) -> None:
    configs = lanes(case("toy", lr=1e-2), 3)
    watch = watching(delta=delta, every=every, latest=11)
    results, kept = watched(configs, watch, check=tuple(watch.criterion.grid(0)), needed=0)
    for lane, result in enumerate(results):
        (state,) = kept[lane]
        assert state.step == ending(watch.criterion, 0, seen(run([configs[lane]], check=range(1, 12))[0]))
        assert state.step in [row["step"] for row in result.metrics]
        assert frozen(state) == frozen(run([configs[lane]], until=state.step)[0].state)
    assert {result.reached for result in results} == {max(states[0].step for states in kept.values())}


def test_a_kept_state_goes_on_with_the_same_bits() -> None:
    config = case("toy")
    (whole,), kept = watched([config], watching(), needed=12)
    (state,) = kept[0]
    assert state.step == 6 < whole.reached == 12
    rest = run([config], states=[state], check=GRID)[0]
    assert bits(rest)["tensors"] == bits(whole)["tensors"]
    assert rest.checks == whole.checks[3:]


def test_what_was_seen_before_a_segment_counts() -> None:
    config = case("toy")
    (first,), _ = watched([config], watching(), check=(2, 4), watches=(), evaluate=())
    half = run([config], until=5)[0].state
    kept: list[int] = []
    given = {"check": (6, 8, 10, 12), "watches": (watching(),)}
    segments = [segment(config, 0, 5, 12, seen=tuple(s.items()), **given) for s in (seen(first), {})]
    for one in segments:
        train_segments([one], [half], keep=lambda lane, state: kept.append(state.step))
    assert kept == [6, 10]


def test_a_pack_ends_when_nobody_needs_it() -> None:
    configs = lanes(case("toy"), 2)

    def reached(*watches: Watch, **given: Any) -> int:
        results, _ = watched(configs, *watches, **given)
        assert all(result.status == "ok" for result in results)
        return results[0].reached

    assert reached() == 12
    assert reached(watching(), needed=0) == 6
    assert reached(watching(), needed=7) == 8  # the next observation ends a block
    assert reached(watching()) == 12  # needed by the caller to its end
    assert reached(watching(), watching(patience=3), needed=0) == 8
    assert reached(watching(), watching(latest=5), needed=0) == 6  # the second waits no more, it has ended at 5
    assert reached(watching(latest=3), needed=0) == 3
    assert reached(watching(delta=1e-9), needed=0) == 12


def test_a_lane_that_diverged_does_not_keep_a_pack_going() -> None:
    configs = lanes(case("toy", clip=0.0), 2)
    configs[1] = replace(configs[1], train=replace(configs[1].train, lr=1e3, weight_decay=100.0))
    results, kept = watched(configs, watching(patience=4), needed=0)
    assert [result.status for result in results] == ["ok", "diverged"]
    assert results[0].reached == 10
    assert [[state.step for state in states] for states in kept.values()] == [[10], []]
    assert results[1].reached < 10
    assert all(row["step"] <= results[1].reached for row in results[1].checks)
    alone, nothing = watched(configs[1:], watching(patience=4), needed=0)
    assert bits(alone[0]) == bits(results[1])
    assert nothing == {0: []}


def test_watches_of_a_lane_are_its_own() -> None:
    configs = lanes(case("toy"), 2)
    kept: list[tuple[int, int]] = []
    segments = [
        segment(config, 0, 0, 12, check=GRID, watches=(watching(patience=patience),), needed=0)
        for config, patience in zip(configs, (3, 1), strict=True)
    ]
    results = train_segments(
        segments, [initial_state(c) for c in configs], keep=lambda lane, state: kept.append((lane, state.step))
    )
    assert kept == [(1, 4), (0, 8)]
    assert [result.reached for result in results] == [8, 8]


def test_step_zero_is_never_checked() -> None:
    config = case("toy")
    with pytest.raises(ValueError, match="step 0 is never checked"):
        train_segments([segment(config, 0, 0, 12, check=(0,))], [initial_state(config)])


# --- drawn loops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["drawn", "drawn_shift"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_lanes_with_drawn_loops_are_those_alone(name: str, precision: str) -> None:
    trials = lanes(case(name, precision=precision), 5)
    sigmas = (0.5, 0.0, 1.0, 0.5, 2.0)
    trials = [replace(t, schedule=replace(t.schedule, sigma=s)) for t, s in zip(trials, sigmas, strict=True)]
    whole = [bits(result) for result in run(trials)]
    for position in (0, 2, 4):
        assert bits(run([trials[position]])[0]) == whole[position]
    assert [bits(result) for result in run(trials[3:1:-1])] == whole[3:1:-1]


def test_drawn_loops_do_not_depend_on_blocks_or_on_where_training_was_resumed() -> None:
    config = case("drawn", evaluate_every=12)
    whole = run([config])[0]
    assert frozen(run([case("drawn", evaluate_every=1)])[0].state) == frozen(whole.state)
    for step in (1, 5, 11):
        half = run([config], until=step)[0]
        rest = run([config], states=[half.state])[0]
        assert bits(replace(join(half, rest), metrics=[])) == bits(replace(whole, metrics=[]))


def test_drawn_loops_are_those_of_the_seed_and_are_evaluated_at_their_mean() -> None:
    config = case("drawn", evaluate_every=12)
    fixed = case("toy", evaluate_every=12)
    one, two = run([config])[0], run([replace(config, seed=4)])[0]
    assert run([config])[0].metrics == one.metrics != two.metrics
    assert frozen(run([fixed])[0].state) != frozen(one.state)
    # The same weights, evaluated by both: at step 0.
    assert one.metrics[0] == run([fixed])[0].metrics[0]
    assert [row["loops"] for row in one.metrics] == [3, 3]
