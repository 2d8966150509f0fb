"""Weights at which Hessian products overflow or vanish: numbers or reasons, and no exception."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.quantities import QUANTITIES
from tests.core.probing import config, measured, probe, seeds, state

SETTINGS: dict[str, Any] = {
    "products": 16,
    "top": 2,
    "vectors": 4,
    "nodes": 6,
    "lag": 2,
    "window": 2,
    "decay": 2,
    "points": 1,
}
SPECTRAL = tuple(name for name, quantity in QUANTITIES.items() if quantity.means in ("spectrum", "exact"))


def scaled(base: TrialConfig, factor: float) -> TrialState:
    """The weights times a factor, in float64."""
    at = state(base)
    return replace(at, parameters={name: p.double() * factor for name, p in at.parameters.items()})


@pytest.mark.parametrize("name", SPECTRAL)
def test_a_hessian_that_is_not_finite_gives_a_reason_beside_a_sound_lane(name: str) -> None:
    """Its products with two random vectors are sound, those with unit vectors are not."""
    configs = seeds(config("toy", quantities=(name,), **SETTINGS), 2)
    states = [scaled(configs[0], 1e10), state(configs[1])]
    at = probe(configs, states)
    assert [wrong for _, wrong in at.symmetry] == [None, None]
    assert at.finite == [False, True]
    lost, sound = measured(configs, states)
    assert [sound] == measured(configs[1:], states[1:])
    for column in QUANTITIES[name].columns or (name,):
        assert lost.curvature["method"][column] == "exact failed: the Hessian is not finite"
        assert lost.curvature["products"][column] == at.size
        assert lost.curvature.get(column) is None
    assert lost.curves == lost.spectra == []


def test_a_hessian_of_zeros_has_no_valley_and_says_so() -> None:
    """All that is counted of it is zero, its spectrum is recorded, and no functional of shares is defined."""
    base = config("rms-rotary-linear", quantities=SPECTRAL, **SETTINGS)
    (row,) = measured([base], [scaled(base, 0.0)])
    method = row.curvature["method"]
    assert method["kappa_valley"] == "exact failed: undefined: every |λ| is 1e-12 at most"
    assert method["entropy"] == "exact failed: undefined: every eigenvalue is zero"
    assert {curve["quantity"]: curve["y"] for curve in row.curves} == {
        "cumulative_force": 0.0,
        "eigenvalues_below": 0.0,
    }
    assert row.curvature["trace"] == row.curvature["frobenius"] == 0.0
    assert row.curvature["null_count"] == probe([base]).size
    [spectrum] = row.spectra
    assert set(spectrum["eigenvalues"]) == {0.0}
