"""Blocks of the Hessian: against its dense form, within its spectrum, in any pack."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.blocks import block_lambda_max
from core.ends import lambda_max
from core.findings import Finding
from tests.core import quadratics
from tests.core.probing import MODELS, config, measured, probe, seeds, state

QUANTITY = ("block_lambda_max",)


def by_kind(found: Finding) -> dict[str, float | None]:
    return {name.removeprefix("block_lambda_max_"): value.number for name, value in found.values.items()}


@pytest.mark.parametrize("name", MODELS)
def test_they_are_the_largest_eigenvalues_of_the_dense_blocks(name: str) -> None:
    at = probe(seeds(config(name), 2))
    found, whole = block_lambda_max(at), lambda_max(at)
    for lane in range(2):
        hessian = at.dense(lane)
        expected = {
            kind: float(torch.linalg.eigvalsh(hessian[places][:, places])[-1]) for kind, places in at.kinds.items()
        }
        assert by_kind(found[lane]) == pytest.approx(expected, rel=1e-9)
        for value in found[lane].values.values():
            assert value.method == "lanczos"
            assert 0 < value.products <= len(hessian)
            assert value.error is not None
        # Interlacing: no block reaches beyond the whole.
        assert max(expected.values()) <= whole[lane].values["lambda_max"].number * (1 + 1e-9)


def test_on_a_quadratic_each_block_has_its_own_eigenvalue_whatever_couples_them() -> None:
    [trial] = seeds(quadratics.config(), 1)
    places = quadratics.quadratic([trial], torch.zeros(1, 0, 0)).kinds
    P = sum(map(len, places.values()))
    matrix = 100 * quadratics.with_spectrum(torch.linspace(-1, 1, P).double())  # what lies between blocks
    for top, (_, at) in enumerate(places.items(), start=1):
        values = torch.linspace(-2, 0.5, len(at)).double()
        values[0] = float(top)
        matrix[at.unsqueeze(1), at] = quadratics.with_spectrum(values, top)
    [found] = block_lambda_max(quadratics.quadratic([trial], matrix.unsqueeze(0)))
    assert by_kind(found) == pytest.approx({kind: float(top) for top, kind in enumerate(places, start=1)}, rel=1e-9)


@pytest.mark.parametrize(
    "model",
    ["toy", {"width": 5, "loops": 2, "norm": "layer", "mlp_ratio": 1.4, "heads": 1, "output": "tied"}],
)
def test_a_lane_has_the_same_bits_in_any_pack(model: str | dict[str, object]) -> None:
    configs = seeds(config(model, quantities=QUANTITY), 3)
    alone = [measured([trial])[0].curvature for trial in configs]
    for order in ([0, 1, 2], [2, 0]):
        assert [row.curvature for row in measured([configs[lane] for lane in order])] == [alone[i] for i in order]


def test_a_block_that_does_not_converge_says_so_and_the_others_stand() -> None:
    [short] = block_lambda_max(probe([config("layer-mlp", products=8)]))
    [long] = block_lambda_max(probe([config("layer-mlp")]))
    late = {name for name, value in long.values.items() if value.products > 8}
    assert 0 < len(late) < len(long.values)
    for name, value in short.values.items():
        if name in late:
            assert value.number is None
            assert value.products == 8
            assert "not converged after 8 products" in str(value.failure)
        else:
            assert value == long.values[name]


def test_a_block_without_curvature_has_the_eigenvalue_zero() -> None:
    """With W_O = 0 nothing depends on queries and keys, nor, but through W_O, on values."""
    base = config("toy")
    start = state(base)
    silent = {name: p * (not name.endswith("out")) for name, p in start.parameters.items()}
    [found] = block_lambda_max(probe([base], [replace(start, parameters=silent)]))
    assert [by_kind(found)[kind] for kind in ("query", "key", "value")] == [0.0, 0.0, 0.0]
    assert by_kind(found)["out"] > 0
