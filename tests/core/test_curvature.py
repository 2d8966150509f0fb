"""Measurements of a pack: the rows they give, what cannot be measured, and that training does not notice."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

import core.probes
from core.config import TrialConfig, trial_config
from core.errors import InputError
from core.findings import Rows
from core.halting import UNMASKED
from core.lineage import links
from core.numerics import THREAD_VARIABLES
from core.observation import with_measure
from core.pack import initial_state
from core.quantities import QUANTITIES, QUANTITY_OF
from core.tangents import TangentHessian
from core.train import train_segments
from tests.core.packs import bits, segment
from tests.core.probing import MODELS, TINY, WITHOUT_ANSWERS, config, held_out, measured, probe, seeds, state

SETTINGS = {"products": 64, "top": 3, "vectors": 4, "nodes": 8, "lag": 2, "window": 2, "decay": 2, "points": 1}
"""Small, and within a few updates."""
EVERY_KIND = MODELS["layer-mlp"] | {"timestep": "sinusoidal"}
"""A model with parameters of every kind: no column lacks its matrices."""
CURVED = tuple(name for name in QUANTITIES if QUANTITIES[name].curved)
SAMPLED = tuple(name for name in QUANTITIES if QUANTITIES[name].means != "exact")
"""Those that are had of models above the limit of exact spectra too."""


def trial(*quantities: str, model: str | dict[str, Any] = "toy", **given: Any) -> TrialConfig:
    return config(model, quantities=quantities, **{**SETTINGS, **given})


def without_step(row: Rows) -> dict[str, Any]:
    return {name: value for name, value in row.curvature.items() if name not in ("step", "asymmetry")}


# --- every quantity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_gives_its_own_columns_curves_and_nothing_else(name: str) -> None:
    quantity = QUANTITIES[name]
    base = trial(name, model=EVERY_KIND)
    (row,) = measured([base], [after_updates(base)])
    found = without_step(row)
    method, error, products = (found.pop(part) for part in ("method", "error", "products"))
    assert set(found) == set(quantity.columns), "a number or None for each column"
    assert row.curvature["step"] == 3
    lacking = WITHOUT_ANSWERS & set(method)
    assert set(method) == set(products) == own_names(name) | lacking
    for column in lacking:
        assert method.pop(column).endswith(UNMASKED)
        assert found.pop(column, None) is None
    for column, number in found.items():
        assert number is not None, method[column]
        assert type(number) is float
        assert math.isfinite(number)
    assert all(not said.count("failed") for said in method.values()), method
    assert set(error) <= set(method)
    assert all(value >= 0 and math.isfinite(value) for value in error.values())
    assert all(type(count) is int and count >= 0 for count in products.values())
    assert {point["quantity"] for point in row.curves} == set(quantity.curves) - WITHOUT_ANSWERS
    keys = [(point["quantity"], point["x"]) for point in row.curves]
    assert len(set(keys)) == len(keys)
    assert all(point["step"] == 3 and math.isfinite(point["y"]) for point in row.curves)
    for spectrum in row.spectra:
        values, weights = spectrum["eigenvalues"], spectrum["weights"]
        assert spectrum["kind"] in ("exact", "slq")
        assert values == sorted(values)
        assert len(values) == len(weights)
        assert sum(weights) == pytest.approx(1.0)
    assert json.loads(json.dumps([row.curvature, row.curves, row.spectra], allow_nan=False))


def own_names(name: str) -> set[str]:
    """What a quantity's methods stand under: its columns, and itself where it has more than those."""
    quantity = QUANTITIES[name]
    return set(quantity.columns) | ({name} if quantity.curves or not quantity.columns else set())


def after_updates(base: TrialConfig) -> Any:
    """The trial's state after three updates: there is a preconditioner."""
    (result,) = train_segments([segment(base, 0, 0, 3)], [initial_state(base)])
    return result.state


@pytest.mark.parametrize("exact", [5000, 0])
@pytest.mark.parametrize(
    "model", ["toy", "heads-all-tied", {"width": 3, "loops": 2, "norm": "layer", "mlp_ratio": 1.4}]
)
def test_a_lane_has_the_same_bits_in_any_pack(model: str | dict[str, Any], exact: int) -> None:
    """All quantities at once, alone, in packs and at any position, from exact spectra and sampled."""
    configs = seeds(trial(*(QUANTITIES if exact else SAMPLED), model=model, exact=exact, probe=3), 4)
    states = [after_updates(lane) for lane in configs]

    def rows(order: list[int]) -> list[Rows]:
        return measured([configs[lane] for lane in order], [states[lane] for lane in order])

    whole = rows([0, 1, 2, 3])
    assert rows([2]) == whole[2:3]
    assert rows([3, 3, 1]) == [whole[3], whole[3], whole[1]]


def test_lanes_of_several_groups_have_the_bits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = seeds(trial(*QUANTITIES, model={"width": 2, "loops": 2}, probe=2), 3)
    states = [after_updates(lane) for lane in configs]
    together = measured(configs, states)
    for size in (1, 2):
        one = core.probes.GROUP_ELEMENTS["cpu"] // probe(configs).group
        monkeypatch.setattr(core.probes, "GROUP_ELEMENTS", {"cpu": size * one})
        assert probe(configs).group == size
        assert measured(configs, states) == together


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_has_the_value_it_has_beside_others(name: str, everything: Rows) -> None:
    base = trial(name, model=EVERY_KIND)
    (row,) = measured([base], [after_updates(base)])
    columns = without_step(row)
    for part in ("method", "error", "products"):
        for column, value in columns.pop(part).items():
            assert everything.curvature[part][column] == value
    assert columns.items() <= everything.curvature.items()
    assert all(point in everything.curves for point in row.curves)
    assert all(spectrum in everything.spectra for spectrum in row.spectra)


@pytest.fixture(scope="module")
def everything() -> Rows:
    """All quantities of one trial, in one measurement."""
    base = trial(*reversed(QUANTITIES), model=EVERY_KIND)
    (row,) = measured([base], [after_updates(base)])
    return row


# --- the ends of the spectrum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_ends_are_those_that_scipy_finds(name: str) -> None:
    configs = seeds(trial("lambda_max", "lambda_min", model=name), 2)
    at = probe(configs)
    for lane, row in enumerate(measured(configs)):

        def product(vector: np.ndarray, lane: int = lane) -> np.ndarray:
            return at.hessian([lane]).product(torch.from_numpy(vector.reshape(1, -1).copy()))[0].numpy()

        operator = LinearOperator((at.size, at.size), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(at.size)
        for quantity, which in (("lambda_max", "LA"), ("lambda_min", "SA")):
            [expected] = eigsh(operator, k=1, which=which, v0=start, return_eigenvectors=False)
            assert row.curvature[quantity] == pytest.approx(expected, rel=1e-8)
            assert abs(row.curvature[quantity] - expected) <= row.curvature["error"][quantity]
            assert 3 <= row.curvature["products"][quantity] <= 64
            assert row.curvature["method"][quantity] == "lanczos"
        assert 0 <= row.curvature["asymmetry"] < 1e-14


# --- what cannot be measured ---------------------------------------------------------------------------------------


class _Twisted(TangentHessian):
    """Products that are symmetric no more."""

    def product(self, vectors: Tensor) -> Tensor:
        return super().product(vectors).roll(1, -1)


def test_products_that_are_not_symmetric_give_null_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes them. First derivatives are what they are."""
    base = trial(*QUANTITIES, model=EVERY_KIND)
    at = after_updates(base)
    monkeypatch.setattr(core.probes, "TangentHessian", _Twisted)
    (row,) = measured([base], [at])
    found = without_step(row)
    for name in CURVED:
        for column in QUANTITIES[name].columns or [name]:
            assert found.get(column) is None
            assert found["method"][column].startswith("products failed: the product is not symmetric: ")
            assert found["products"][column] == 2
            assert column not in found["error"]
    assert row.curvature["asymmetry"] > 1e-4
    assert not {QUANTITY_OF[point["quantity"]] for point in row.curves} & set(CURVED)
    assert row.spectra == []
    for name in set(QUANTITIES) - set(CURVED):
        (alone,) = measured([trial(name, model=EVERY_KIND)], [at])
        assert all(found[column] == alone.curvature[column] for column in QUANTITIES[name].columns)


@pytest.mark.parametrize("name", QUANTITIES)
def test_weights_that_overflow_give_null_beside_a_sound_lane(name: str) -> None:
    configs = seeds(trial(name, model=EVERY_KIND), 3)
    states = [after_updates(lane) for lane in configs]
    parameters = {**states[1].parameters, "embedding": torch.full((5, 4), float("inf"))}
    wild = replace(states[1], parameters=parameters)
    first, lost, last = measured(configs, [states[0], wild, states[2]])
    sound = measured([configs[0], configs[2]], [states[0], states[2]])
    assert [first, last] == sound
    found = without_step(lost)
    assert all(found[column] is None for column in QUANTITIES[name].columns)
    assert all(" failed: " in said for said in found["method"].values())
    assert found["error"] == {}
    assert lost.curves == lost.spectra == []
    assert lost.curvature["asymmetry"] is None


def test_a_pack_of_which_no_lane_is_sound_has_rows() -> None:
    configs = seeds(trial("lambda_max", "trace"), 2)
    wild = [replace(s, parameters={n: p * float("nan") for n, p in s.parameters.items()}) for s in map(state, configs)]
    for row in measured(configs, wild):
        assert row.curvature == {
            "step": 0,
            "asymmetry": None,
            "lambda_max": None,
            "trace": None,
            "method": dict.fromkeys(("lambda_max", "trace"), "products failed: a product is not finite"),
            "error": {},
            "products": {"lambda_max": 2, "trace": 2},
        }


def test_above_the_limit_of_exact_spectra_there_is_a_reason_and_the_rest_is_measured() -> None:
    size = probe([trial("null_count")]).size
    (within,) = measured([trial("null_count", exact=size)])
    assert within.curvature["null_count"] > 0
    exact_alone = [name for name in QUANTITIES if name not in SAMPLED]
    (beyond,) = measured([trial("lambda_max", *exact_alone, exact=size - 1)])
    found = without_step(beyond)
    assert found["lambda_max"] == measured([trial("lambda_max")])[0].curvature["lambda_max"]
    reason = f"needs the exact spectrum; P = {size} exceeds measure.exact = {size - 1}, raise it"
    for name in exact_alone:
        assert found.get(name) is None
        assert found["method"][name] == f"exact failed: {reason}"
        assert found["products"][name] == 0
    assert beyond.curves == beyond.spectra == []


# --- what is measured ----------------------------------------------------------------------------------------------


def test_the_probe_is_the_beginning_of_the_validation_set() -> None:
    base = trial("lambda_max", probe=6)
    inputs, targets = held_out([base])
    rows = measured([base])
    outside = [tokens.clone() for tokens in (inputs, targets)]
    for tokens in outside:
        tokens[:, 6:] = 0
    assert measured([base], tokens=(outside[0], outside[1])) == rows
    for index in (0, 1):
        inside = [inputs.clone(), targets.clone()]
        inside[index][:, 5] = (inside[index][:, 5] + 1) % 5
        assert measured([base], tokens=(inside[0], inside[1])) != rows


def test_the_loss_is_that_of_the_link() -> None:
    """At the switch of a shift the curvature is that of the loops that trained, before and after."""
    base = replace(trial("lambda_max"), schedule=trial_config({"schedule": {"kind": "shift"}}).schedule)
    at = state(base)

    def value(config: TrialConfig, link: int = 0) -> float:
        return float(measured([config], [at], link=link)[0].curvature["lambda_max"])

    assert value(base, 0) != value(base, 1)
    assert value(base, 1) == value(trial("lambda_max"))
    single = trial_config({"schedule": {"kind": "single"}}).schedule
    assert value(base, 0) == value(replace(trial("lambda_max"), schedule=single))
    everywhere = {**MODELS["toy"], "loss_on": "all"}
    assert value(trial("lambda_max", model=everywhere)) != value(trial("lambda_max"))


def test_weights_of_any_precision_are_measured_in_float64() -> None:
    base = trial("lambda_max", "lambda_min")
    single = state(base)
    double = replace(single, parameters={name: p.double() for name, p in single.parameters.items()})
    assert measured([base], [single]) == measured([base], [double])


# --- training does not notice --------------------------------------------------------------------------------------


def rich_trial(name: str, **train: Any) -> TrialConfig:
    """A trial whose every part could be disturbed: momentum or moments, clipping, a schedule, data in epochs."""
    return trial_config(
        {
            "task": TINY | {"train_size": 12},
            "model": EVERY_KIND,
            "train": {
                "steps": 6,
                "batch": 4,
                "lr": 0.05,
                "clip": 0.5,
                "evaluate_every": 3,
                "weight_decay": 0.1,
                **train,
            },
            "schedule": {"kind": "shift", "switch": 4},
            "measure": {"quantities": [name], "probe": 3, "at": [0, 2, 4, 5, 6], **SETTINGS},
        }
    )


@pytest.mark.parametrize("train", [{}, {"optimizer": "sgd", "lr_schedule": "wsd", "decay": 2}], ids=["adamw", "sgd"])
@pytest.mark.parametrize("name", QUANTITIES)
def test_training_has_the_same_bits_with_and_without_measurements(name: str, train: dict[str, Any]) -> None:
    """Every metric, event and state; the measurements stand between updates, at a switch and at both ends."""
    configs = seeds(rich_trial(name, **train), 2)

    def trained(measure: bool) -> list[Any]:
        states, found = [initial_state(config) for config in configs], []
        for index, link in enumerate(links(configs[0])):
            at = tuple(s for s in configs[0].measure.at if link.start < s <= link.end or s == link.start == 0)
            segments = [
                segment(config, index, link.start, link.end, measure=at if measure else (), check=(link.end,))
                for config in configs
            ]
            found.append(train_segments(segments, states))
            states = [result.state for result in found[-1]]
        return found

    plain, observed = trained(False), trained(True)
    steps = [[row["step"] for results in observed for row in results[lane].curvature] for lane in range(2)]
    assert steps == [[0, 2, 4, 5, 6]] * 2
    for before, after in zip(plain, observed, strict=True):
        assert before[0].curvature == before[0].curves == before[0].spectra == []
        assert before[0].measured_s == 0.0 < after[0].measured_s
        for lane in range(2):
            without = replace(after[lane], curvature=[], curves=[], spectra=[], surfaces=[])
            assert bits(without) == bits(before[lane])


def test_a_lane_is_measured_as_alone_whoever_diverges_or_is_not_measured_beside_it() -> None:
    configs = seeds(rich_trial("lambda_max"), 3)
    configs = [with_measure(c, replace(c.measure, quantities=tuple(QUANTITIES))) for c in configs]
    wild = replace(configs[1], train=replace(configs[1].train, lr=1e3, weight_decay=100.0, clip=0.0))
    lanes = [
        segment(c, 0, 0, 4, measure=at)
        for c, at in zip((configs[0], wild, configs[2]), ((0, 4), (4,), ()), strict=True)
    ]
    pack = train_segments(lanes, [initial_state(lane.config) for lane in lanes])
    assert [result.status for result in pack] == ["ok", "diverged", "ok"]
    assert [len(result.curvature) for result in pack] == [2, 0, 0]
    (alone,) = train_segments(lanes[:1], [initial_state(configs[0])])
    assert bits(pack[0]) == bits(alone)


def test_generators_gradients_weights_and_modes_are_left_alone() -> None:
    configs = seeds(trial(*QUANTITIES, model=EVERY_KIND), 2)
    states = [after_updates(lane) for lane in configs]
    tensors = [tensor for at in states for tensor in (*at.parameters.values(), *at.optimizer.values())]
    before = [tensor.clone() for tensor in tensors]
    tokens = held_out(configs)
    held = [x.clone() for x in tokens]
    torch.manual_seed(5)
    np.random.seed(5)
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist()
    modes = torch.get_default_dtype(), torch.get_num_threads(), torch.is_inference_mode_enabled()
    with torch.no_grad():
        rows = measured(configs, states, tokens=tokens)
        assert not torch.is_grad_enabled()
    assert rows == measured(configs, states, tokens=tokens)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tolist() == generators[1]
    assert modes == (torch.get_default_dtype(), torch.get_num_threads(), torch.is_inference_mode_enabled())
    for tensor, old in zip((*tensors, *tokens), (*before, *held), strict=True):
        assert torch.equal(tensor, old)
        assert tensor.grad is None
        assert not tensor.requires_grad


def test_another_process_has_the_same_bits_whatever_threads_its_environment_names() -> None:
    """It pins itself, as workers do."""
    code = (
        "from core.numerics import pin_threads; pin_threads();"
        "from tests.core.test_curvature import elsewhere; print(elsewhere())"
    )
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "2")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == elsewhere() + "\n"


def elsewhere() -> str:
    """Rows by gradients, losses, products, exact eigenvectors, of a model for which kernels would use threads."""
    names = ("probe_grad_norm", "eigenvalues", "block_lambda_max", "loss_surface", "river_share")
    configs = seeds(trial(*names, model={"width": 6, "loops": 2, "norm": "layer"}, probe=12), 2)
    rows = measured(configs, [after_updates(lane) for lane in configs])
    return json.dumps([[row.curvature, row.curves, row.spectra, row.surfaces] for row in rows])


# --- refusals ------------------------------------------------------------------------------------------------------


def refused(configs: Sequence[TrialConfig], sequences: int = 16) -> str:
    inputs, targets = held_out(configs)
    with pytest.raises(InputError) as error:
        measured(configs, tokens=(inputs[:, :sequences], targets[:, :sequences]))
    return str(error.value)


def test_refusals_name_the_key() -> None:
    base = trial("lambda_max")
    assert "measure.probe: must be at most task.val_size = 5 sequences, got 6" in refused([base], sequences=5)
    assert "unknown quantity 'lambda_mid'; did you mean" in refused([trial("lambda_mid")])
    other = with_measure(base, replace(base.measure, probe=5))
    assert "one pack" in refused([base, replace(other, seed=1)])


def test_what_is_measured_alike_may_be_measured_at_other_steps() -> None:
    base = trial("lambda_max")
    other = with_measure(base, replace(base.measure, at=(3,), every=2))
    assert measured([base, replace(other, seed=1)]) == measured(seeds(base, 2))
