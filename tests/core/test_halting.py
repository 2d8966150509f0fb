"""Loops at test time: outputs against separate forward passes, halting against its definition, bits in any pack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from core import halting
from core.checkpoint import TrialState
from core.config import TrialConfig, trial_config
from core.findings import Finding, Rows
from core.halting import METHOD, UNMASKED, Outputs, finding
from core.lengths import loops_by_length
from core.lineage import links
from core.pack import initial_state
from core.task_data import task_data
from core.tasks import IGNORE, Validation
from core.train import train_segments
from tests.core import probing
from tests.core.packs import run, segment
from tests.core.reference import CASES, SCHEDULES, PlainModel, case

LOOPS = (1, 2, 3, 5)


def asking(config: TrialConfig, *loops: int, at: Sequence[int] = ()) -> TrialConfig:
    """A trial whose outputs are measured."""
    measure = replace(config.measure, quantities=("test_loops",), test_loops=loops or LOOPS, at=tuple(at))
    return replace(config, measure=measure)


def curve(rows: Rows | Finding, name: str) -> dict[int, float]:
    """A curve over loops."""
    if isinstance(rows, Finding):
        return {int(x): y for quantity, x, y in rows.curves if quantity == name}
    return {int(point["x"]): point["y"] for point in rows.curves if point["quantity"] == name}


# --- the outputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if "train" not in CASES[name]])
def test_outputs_and_halting_are_those_of_separate_passes_of_a_plain_module(name: str) -> None:
    """Over the predicted tokens of each sequence; sequences are looped alike, whatever training does."""
    trials = probing.seeds(asking(case(name, precision="float64", steps=80, lr=0.01)), 2)
    states = [probing.state(trial, noise=0.1) for trial in trials]
    if trials[0].task.masked:  # trained until some answers are right
        states = [result.state for result in run(trials)]
    for trial, state, rows in zip(trials, states, probing.measured(trials, states), strict=True):
        validation = task_data(trial).validation()
        asked = validation.targets != IGNORE
        losses, hits, doubts = np.moveaxis([slow(trial, state, loops) for loops in LOOPS], 1, 0)
        tokens, right, found = asked.sum(1), hits == asked.sum(1), rows.curvature
        expected = {
            "val_loss_loops": losses.sum(1) / tokens.sum(),
            "val_accuracy_loops": hits.sum(1) / tokens.sum(),
        }
        chosen = (doubts / tokens).argmin(0), np.arange(len(tokens))
        assert found["confident_loops"] == pytest.approx(np.array(LOOPS)[chosen[0]].mean())
        assert found["val_accuracy_confident"] == pytest.approx(hits[chosen].sum() / tokens.sum())
        if trial.task.masked:
            expected["val_exact_loops"] = right.mean(1)
            for stratum in ("trained", "longer"):
                expected[f"val_exact_{stratum}_loops"] = right[:, validation.strata[stratum]].mean(1)
            assert found["val_exact_confident"] == pytest.approx(right[chosen].mean())
            solved = right.any(0)
            assert found["val_exact_oracle"] == pytest.approx(solved.mean())
            assert solved.any()
            assert found["oracle_loops"] == pytest.approx(np.array(LOOPS)[right.argmax(0)][solved].mean())
        assert {point["quantity"] for point in rows.curves} == set(expected)
        for quantity, values in expected.items():
            assert curve(rows, quantity) == pytest.approx(dict(zip(LOOPS, values, strict=True)), rel=1e-11), quantity


def slow(trial: TrialConfig, state: TrialState, loops: int) -> tuple[Any, Any, Any]:
    """Losses, hits and doubts of each sequence, summed over its predicted tokens, by a pass of its own."""
    validation, plain = task_data(trial).validation(), PlainModel(trial).double()
    plain.take(state.parameters)
    with torch.no_grad():
        inputs, injection = torch.from_numpy(validation.inputs), links(trial)[0].injection
        (logits,) = plain(inputs, loops=loops, injection=injection, every=False)
    chances, targets = logits.log_softmax(-1).numpy(), validation.targets
    asked = targets != IGNORE
    of_target = np.take_along_axis(chances, np.where(asked, targets, 0)[..., None], -1)[..., 0]
    return (
        -(of_target * asked).sum(1),
        ((chances.argmax(-1) == targets) & asked).sum(1),
        -(chances.max(-1) * asked).sum(1),
    )


@pytest.mark.parametrize("precision", ["float32", "bf16", "float64"])
@pytest.mark.parametrize(
    "name", ["deep", "gpt2", "heads_long", "unit_width", "masked_all", "timestep", "odd_shape", "shift"]
)
def test_at_the_loops_of_its_link_a_trial_has_the_losses_of_its_row_of_metrics(name: str, precision: str) -> None:
    """To the last bit, at every evaluation, however many lanes train beside it."""
    agree([asking(config, *LOOPS) for config in probing.seeds(case(name, precision=precision), 2)])
    agree([asking(case(name, precision=precision), 1, 2, 3, 64)])


@pytest.mark.parametrize("name", ["drawn", "drawn_shift", "drawn_backprop", "grow_all", "listed"])
def test_so_it_is_where_loops_are_drawn_and_in_every_stage(name: str) -> None:
    assert name in SCHEDULES
    agree([asking(config, *range(1, 7)) for config in probing.seeds(case(name), 2)])


def agree(trials: Sequence[TrialConfig]) -> None:
    """Trains a pack along its chain: what is measured beside a row of metrics is what stands in it."""
    states = [initial_state(trial) for trial in trials]
    for index, link in enumerate(links(trials[0])):
        steps = tuple(dict.fromkeys([*([0] if link.start == 0 else []), link.start + 1, link.end]))
        parts = [segment(t, index, link.start, link.end, evaluate=steps, measure=steps) for t in trials]
        results = train_segments(parts, states)
        states = [result.state for result in results]
        for result in results:
            found = {(p["step"], p["quantity"]): p["y"] for p in result.curves if p["x"] == link.loops}
            for row in result.metrics:
                for column in ("val_loss", "val_accuracy", "val_exact", "val_exact_trained", "val_exact_longer"):
                    assert found.pop((row["step"], f"{column}_loops"), None) == row.get(column)
            assert [row["step"] for row in result.metrics] == list(steps)
            assert not found


@pytest.mark.parametrize("name", ["by_length", "by_length_deep"])
def test_where_loops_go_by_length_the_row_of_metrics_is_that_of_the_oracle_that_knows_the_length(name: str) -> None:
    """The outputs after T(n) loops of each problem of length n make up its row, within rounding."""
    trial = asking(case(name, precision="float64"), *range(1, 7))
    (result,) = train_segments([segment(trial, 0, 0, 12, evaluate=(12,))], [initial_state(trial)])
    validation = task_data(trial).validation()
    (outputs,) = halting.outputs(probing.probe([trial], [result.state]), [validation])
    place = np.array(loops_by_length(validation.lengths, links(trial)[0])) - 1, np.arange(len(validation.targets))
    tokens, (row,) = (validation.targets != IGNORE).sum(1), result.metrics
    assert len(set(place[0])) > 3
    assert row["val_loss"] == pytest.approx(outputs.losses[place].sum() / tokens.sum(), rel=1e-12)
    assert row["val_accuracy"] == outputs.hits[place].sum() / tokens.sum()
    assert row["val_exact"] == (outputs.hits[place] == tokens).mean()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ["toy", "by_length_deep", "gpt2", "unit_hidden", "unit_width", "odd_shape"])
def test_a_lane_has_the_same_bits_alone_and_at_any_place_of_a_pack(name: str, precision: str) -> None:
    trials = probing.seeds(asking(case(name, precision=precision)), 3)
    states = [probing.state(trial) for trial in trials]

    def rows(order: Sequence[int]) -> list[Rows]:
        return probing.measured([trials[lane] for lane in order], [states[lane] for lane in order])

    whole = rows([0, 1, 2])
    assert [rows([lane])[0] for lane in range(3)] == whole
    assert rows([2, 0, 1]) == [whole[2], whole[0], whole[1]]


def test_a_number_of_loops_has_the_values_it_has_beside_others() -> None:
    base = case("gpt2")
    at = probing.state(base)
    (several,) = probing.measured([asking(base, 1, 2, 7)], [at])
    for loops in (1, 2, 7):
        (one,) = probing.measured([asking(base, loops)], [at])
        for name in ("val_loss_loops", "val_accuracy_loops"):
            assert curve(one, name) == {loops: curve(several, name)[loops]}
        assert one.curvature["confident_loops"] == loops


def test_a_stage_of_one_loop_is_looped_without_injection() -> None:
    """Injection belongs to stages that loop: at one loop it does not act, so a single pass has never seen it."""
    model = {"width": 4, "injection": "add", "loops": 2}
    trials = [asking(probing.config(model | {"injection": kind})) for kind in ("add", "none")]
    at = probing.state(trials[0])
    single = trial_config({"schedule": {"kind": "single"}}).schedule
    added, plain = (curve(probing.measured([trial], [at])[0], "val_loss_loops") for trial in trials)
    (alone,) = probing.measured([replace(trials[0], schedule=single)], [at])
    assert added[1] == plain[1]
    assert added[2] != plain[2]
    assert curve(alone, "val_loss_loops") == plain


# --- halting -------------------------------------------------------------------------------------------------------

ANSWERS = np.array([[IGNORE, 1, 2], [IGNORE, IGNORE, 3], [0, 1, 2], [IGNORE, 2, 2]])
"""Targets of four sequences with 2, 1, 3 and 2 tokens to predict."""


MASKED = Validation(inputs=np.zeros_like(ANSWERS), targets=ANSWERS, strata={}, floors={})


def made(hits: list[list[int]], doubts: list[list[float]], losses: list[list[float]] | None = None) -> Outputs:
    summed = np.ones(np.shape(hits)) if losses is None else np.array(losses)
    return Outputs(losses=summed, hits=np.array(hits), doubts=np.array(doubts))


def numbers(found: Finding) -> dict[str, Any]:
    return {name: value.failure or value.number for name, value in found.values.items()}


def test_sequences_halt_at_their_most_confident_output_or_where_they_are_right() -> None:
    hits = [[0, 1, 3, 1], [2, 1, 2, 1], [2, 0, 3, 0]]  # after 1, 4 and 8 loops
    doubts = [[3.0, 0.5, 2.0, 1.0], [2.0, 0.5, 2.0, 0.1], [1.0, 4.0, 3.0, 0.2]]
    found = numbers(finding((1, 4, 8), made(hits, doubts), MASKED, masked=True))
    # Chosen: 8 (least doubt), 1 (of equal ones the fewest), 1 (likewise), 4: right, right, right, wrong.
    assert found["confident_loops"] == (8 + 1 + 1 + 4) / 4
    assert found["val_accuracy_confident"] == (2 + 1 + 3 + 1) / (2 + 1 + 3 + 2)
    assert found["val_exact_confident"] == 3 / 4
    # All right first after 4, 1 and 1 loops; the last never.
    assert found["val_exact_oracle"] == 3 / 4
    assert found["oracle_loops"] == (4 + 1 + 1) / 3


def test_no_rule_is_more_often_right_than_the_oracle() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        predicted = (ANSWERS != IGNORE).sum(1)
        hits = draw.integers(0, predicted + 1, (3, 4)).tolist()
        found = numbers(finding((1, 2, 3), made(hits, draw.random((3, 4)).tolist()), MASKED, masked=True))
        assert 0 <= found["val_exact_confident"] <= found["val_exact_oracle"] <= 1


def test_where_nothing_is_right_the_oracle_has_no_loops_and_says_so() -> None:
    found = numbers(finding((1, 2), made([[0] * 4] * 2, [[1.0] * 4] * 2), MASKED, masked=True))
    assert found["val_exact_oracle"] == 0.0
    assert found["oracle_loops"] == "no sequence is all right at any of these loops"
    assert found["confident_loops"] == 1.0


def test_an_output_that_is_not_finite_is_not_right_and_not_chosen() -> None:
    nan, inf = math.nan, math.inf
    hits = [[0, 0, 0, 1], [2, 1, 3, 2]]
    doubts = [[3.0, 3.0, 3.0, 3.0], [nan, inf, 0.1, 0.1]]
    losses = [[1.0, 1.0, 1.0, 1.0], [nan, inf, 0.1, 0.1]]
    found = finding((1, 2), made(hits, doubts, losses), MASKED, masked=True)
    assert numbers(found)["confident_loops"] == (1 + 1 + 2 + 2) / 4
    assert numbers(found)["val_exact_oracle"] == 2 / 4
    assert math.isnan(curve(found, "val_loss_loops")[2])
    everywhere = finding((1, 2), made(hits, [doubts[1]] * 2, losses), MASKED, masked=True)
    assert numbers(everywhere)["confident_loops"] == "no output of some sequence is finite"
    assert numbers(everywhere)["val_exact_oracle"] == 2 / 4


def test_loops_that_overflow_are_left_out_and_counted() -> None:
    """The rest of the curve stands, and what is chosen is of the rest."""
    base = asking(case("linear"), 1, 2, 64)
    at = probing.state(base, noise=1.0)
    (rows,) = probing.measured([base], [at])
    assert sorted(curve(rows, "val_loss_loops")) == [1, 2]
    lost = "; 1 points of {} are not finite and left out".format
    assert rows.curvature["method"]["test_loops"] == METHOD + lost("val_loss_loops") + lost("val_accuracy_loops")
    (fewer,) = probing.measured([asking(case("linear"), 1, 2)], [at])
    assert fewer.curvature["confident_loops"] == rows.curvature["confident_loops"]


def test_a_task_that_predicts_every_token_has_no_sequence_that_is_right_as_a_whole() -> None:
    (rows,) = probing.measured([asking(probing.config())])
    for name in ("val_exact_confident", "val_exact_oracle", "oracle_loops", "val_exact_loops"):
        assert rows.curvature.get(name) is None
        assert rows.curvature["method"][name] == f"{METHOD} failed: {UNMASKED}"
    assert {point["quantity"] for point in rows.curves} == {"val_loss_loops", "val_accuracy_loops"}


def test_only_predicted_positions_are_judged() -> None:
    """Losses, hits and doubts of masked sequences against their sums over the positions that count."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=draw, dtype=torch.float64)
    targets = torch.randint(7, (2, 3, 5), generator=draw)
    targets[:, :, :2] = IGNORE
    losses, hits, doubts = halting.judged(logits, targets)
    chances = logits[:, :, 2:].log_softmax(-1)
    truth = targets[:, :, 2:]
    torch.testing.assert_close(losses, -chances.gather(-1, truth.unsqueeze(-1)).squeeze(-1).sum(-1))
    torch.testing.assert_close(doubts, -chances.amax(-1).sum(-1))
    assert torch.equal(hits, (chances.argmax(-1) == truth).sum(-1))


def test_measuring_at_a_later_state_is_what_training_gives_when_it_passes_there() -> None:
    base = asking(case("toy"), at=(12,))
    (trained,) = run([replace(base, measure=probing.config().measure)])
    (later,) = probing.measured([base], [trained.state])
    parts = [segment(base, 0, 0, 12, measure=(12,))]
    (passing,) = train_segments(parts, [initial_state(base)])
    assert (passing.curvature, passing.curves) == ([later.curvature], later.curves)
