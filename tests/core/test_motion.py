"""Motion in the river valley: shares and hops of hand-made cases, and of the trial's own next updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.findings import Finding
from core.motion import hops, river_share, river_shares, valley_hopping
from core.probes import Probe
from core.quantities import THRESHOLDS
from tests.core import packs, probing

MEASURE: dict[str, Any] = {"quantities": ("river_share", "valley_hopping"), "window": 4, "top": 3, "probe": 4}


def trial(model: str = "toy", *, measured: dict[str, Any] | None = None, **train: Any) -> TrialConfig:
    config = probing.config(model, **MEASURE | (measured or {}))
    return replace(config, train=replace(config.train, **{"batch": 4, "lr": 0.01} | train))


def vector(state: TrialState) -> Tensor:
    return torch.cat([p.double().flatten() for p in state.parameters.values()])


def visited(config: TrialConfig, updates: int) -> list[TrialState]:
    """The state of a probe and those that the trial itself goes through from there, one by one."""
    states = [probing.state(config)]
    for step in range(1, updates + 1):
        states.append(packs.run([config], states=[states[0]], until=step)[0].state)
    return states


def curve(finding: Finding, name: str) -> dict[float, float]:
    assert {quantity for quantity, _, _ in finding.curves} <= {name}
    return {x: y for _, x, y in finding.curves}


# --- hand-made -----------------------------------------------------------------------------------------------------


def test_shares_gather_by_magnitude() -> None:
    values, along = torch.tensor([-2.0, 0.0, 0.5, 1.0]), torch.tensor([1.0, 4.0, 2.0, 3.0])
    assert river_shares(values, along, [0.0, 0.1, 0.5, 0.9, 1.0, 2.0, 9.0]) == pytest.approx(
        [0.4, 0.4, 0.6, 0.6, 0.9, 1.0, 1.0]
    )
    assert river_shares(values[2:], along[2:], [0.1]) == [0.0]


def test_the_null_space_is_river_at_every_threshold() -> None:
    """On which side of a small ε rounding has put a zero decides nothing; what lies just above it is itself."""
    top, zero, small = 100.0, 0.5e-10, 2e-10  # the null space ends at 1e-12 of the largest
    values = torch.tensor([-zero, small, zero, top], dtype=torch.float64)
    along = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert river_shares(values, along, [1e-12, 1e-11, 1e-9, top]) == pytest.approx([0.4, 0.4, 0.6, 1.0])
    assert river_shares(0 * values, along, [1e-12]) == [1.0]


def test_descent_on_a_quadratic_leaves_the_valley_for_the_river() -> None:
    """Of w ← w − η H w the part along λ shrinks by 1 − ηλ an update: closed forms of the shares, more river later."""
    values = torch.tensor([0.01, 0.5, 1.0], dtype=torch.float64)
    decay = 1 - 0.5 * values
    early, late = (
        sum(((0.5 * values * decay**t) ** 2 for t in range(first, first + 5)), torch.zeros(3)) for first in (0, 40)
    )
    [share], [later] = river_shares(values, early, [0.1]), river_shares(values, late, [0.1])
    assert share == pytest.approx(float(early[0] / early.sum()))
    assert share < 0.001
    assert later > 0.9


def test_hops_count_the_updates_across_which_the_sign_changes() -> None:
    steps = torch.arange(9).double()
    columns = [(-0.9) ** steps, 0.9**steps, torch.cos(math.pi * (steps + 0.5) / 2), torch.zeros(9)]
    assert hops(torch.stack(columns, 1)) == [1.0, 0.0, 0.5, 0.0]
    assert hops(torch.tensor([[1.0], [0.0], [-1.0]])) == [0.0]


# --- updates of a trial --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [{}, {"optimizer": "sgd", "lr": 0.3}], ids=["adamw", "sgd"])
def test_the_share_is_that_of_the_updates_that_the_trial_makes(train: dict[str, Any]) -> None:
    config = trial(**train)
    probe = probing.probe([config])
    weights = torch.stack([vector(state) for state in visited(config, 4)])
    values, vectors = torch.linalg.eigh(probe.dense(0))
    steps = weights.diff(dim=0)
    expected = [
        float((steps @ vectors[:, values.abs() <= e]).square().sum() / steps.square().sum()) for e in THRESHOLDS
    ]
    [finding] = river_share(probe)
    found = curve(finding, "river_share")
    assert list(found) == list(THRESHOLDS)
    # Which side of a threshold within rounding of zero an eigenvalue lies on is rounding too.
    assert [found[e] for e in THRESHOLDS if e > 1e-9] == pytest.approx(
        [share for e, share in zip(THRESHOLDS, expected, strict=True) if e > 1e-9], rel=1e-9, abs=1e-12
    )
    shares = list(found.values())
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    value = finding.values["river_share"]
    assert (value.number, value.method, value.failure) == (None, "exact, 4 updates", None)
    assert value.products == probe.size
    assert [kind for kind, _, _ in finding.spectra] == ["exact"]


def test_hopping_is_that_of_the_gradients_at_the_weights_that_the_trial_visits() -> None:
    config = trial(optimizer="sgd", lr=0.3)
    probe = probing.probe([config])
    _, vectors = torch.linalg.eigh(probe.dense(0))
    gradients = torch.stack([probing.probe([config], [state]).gradient[0] for state in visited(config, 4)])
    signs = (gradients @ vectors[:, -3:].flip(1)).sign()
    expected = (signs[1:] != signs[:-1]).double().mean(0).tolist()
    assert any(expected)
    [finding] = valley_hopping(probe)
    assert curve(finding, "valley_hopping") == dict(zip([1.0, 2.0, 3.0], expected, strict=True))
    value = finding.values["valley_hopping"]
    assert (value.number, value.failure) == (None, None)
    assert (value.method, value.products > 3) == ("lanczos, 4 updates", True)


# --- packs, limits, failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["toy", "layer-mlp"])
def test_a_lane_has_the_same_bits_in_any_pack(model: str) -> None:
    configs = packs.lanes(trial(model), 3)

    def both(order: Sequence[int]) -> list[list[Finding]]:
        probe = probing.probe([configs[lane] for lane in order])
        return [river_share(probe), valley_hopping(probe)]

    whole = both([0, 1, 2])
    for order in ([0], [2, 1]):
        assert both(order) == [[found[lane] for lane in order] for found in whole]


def test_one_branch_serves_both() -> None:
    trained = []

    def train(segments: Any, states: Any) -> Any:
        trained.append(len(segments))
        return probing.TRAIN(segments, states)

    probe = replace(probing.probe([trial()]), train=train)
    alone = [river_share(probing.probe([trial()])), valley_hopping(probing.probe([trial()]))]
    assert [river_share(probe), valley_hopping(probe)] == alone
    assert trained == [1]


def test_shares_are_exact_or_not_at_all_and_hopping_has_no_such_limit() -> None:
    probe: Probe = probing.probe([trial(measured={"exact": 10})])
    [finding] = river_share(probe)
    assert finding.curves == ()
    assert "exceeds measure.exact = 10" in str(finding.values["river_share"].failure)
    assert valley_hopping(probe) == valley_hopping(probing.probe([trial()]))


def test_what_has_not_converged_has_no_rank() -> None:
    [full] = valley_hopping(probing.probe([trial()]))
    [finding] = valley_hopping(probing.probe([trial(measured={"products": 8, "top": 3})]))
    assert len(finding.curves) < len(full.curves) == 3
    assert "eigenvectors not found" in str(finding.values["valley_hopping"].failure)


def test_where_nothing_moves_there_is_no_share_and_no_hop() -> None:
    config = trial(lr_schedule="cosine", steps=3)
    state = packs.run([config], states=[probing.state(config)], until=1)[0].state
    probe = probing.probe([config], [state])
    for name, find in (("river_share", river_share), ("valley_hopping", valley_hopping)):
        [finding] = find(probe)
        assert finding.curves == []
        assert finding.values[name].failure == "the learning rate is zero at update 2 of the branch"


def test_weights_that_no_gradient_moves_are_not_said_to_have_no_learning_rate() -> None:
    """Embeddings and head that are zero have a gradient of zero, each because of the other."""
    config = trial(momentum=0.0, optimizer="sgd")
    start = probing.state(config)
    still = replace(start, parameters={name: torch.zeros_like(p) for name, p in start.parameters.items()})
    [finding] = river_share(probing.probe([config], [still]))
    assert str(finding.values["river_share"].failure).startswith("the next updates are zero: the gradients are")
    assert finding.curves == []


def test_a_branch_that_diverges_has_no_curve_and_its_neighbour_does_not_notice() -> None:
    sound = trial(optimizer="sgd", lr=0.1, momentum=0.0, measured={"window": 12, "top": 1})
    wild = replace(sound, seed=1, train=replace(sound.train, lr=1e3))
    for find, name in ((river_share, "river_share"), (valley_hopping, "valley_hopping")):
        first, second = find(probing.probe([wild, sound]))
        assert "its branch diverged at update" in str(first.values[name].failure)
        assert list(first.curves) == []
        assert [first] == find(probing.probe([wild]))
        assert [second] == find(probing.probe([sound]))
        assert second.values[name].failure is None


def test_the_engine_asks_for_them_by_name() -> None:
    configs = packs.lanes(trial(), 2)
    probe = probing.probe(configs)
    for lane, rows in enumerate(probing.measured(configs)):
        expected = [*river_share(probe)[lane].curves, *valley_hopping(probe)[lane].curves]
        assert [(row["quantity"], row["x"], row["y"]) for row in rows.curves] == expected
        assert set(rows.curvature["method"]) == {"river_share", "valley_hopping"}
        assert [row["kind"] for row in rows.spectra] == ["exact"]
