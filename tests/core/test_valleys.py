"""Valleys: curves of spectra that are written down, the null space of real models, refusals where nothing is exact."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from core import spectrum
from core.quantities import NULL, THRESHOLDS
from core.valleys import cumulative_force, eigenvalues_below, kappa_valley, null_count
from tests.core import quadratics
from tests.core.probing import MODELS, config, measured, probe, seeds

CURVES = {"kappa_valley": kappa_valley, "cumulative_force": cumulative_force, "eigenvalues_below": eigenvalues_below}


def known() -> quadratics.Quadratic:
    """Two lanes: four zeros and a few orders of magnitude, and four times the same."""
    base = quadratics.config()
    P = quadratics.quadratic([base], torch.zeros(1, 0, 0)).size
    values = torch.cat([torch.zeros(4), torch.logspace(-4, 1, P - 4) * torch.tensor([1.0, -1.0]).repeat(P)[: P - 4]])
    matrix = torch.diag(values.double())
    return quadratics.quadratic([base, base], torch.stack([matrix, 4 * matrix]))


def test_curves_of_a_known_spectrum() -> None:
    at = known()
    sizes = np.sort(np.abs(at.matrices[0].diagonal().numpy()))[4:]
    assert [finding.values["null_count"].number for finding in null_count(at)] == [4.0, 4.0]
    points = {name: {x: y for _, x, y in found(at)[0].curves} for name, found in CURVES.items()}
    for t in THRESHOLDS:
        kept, below = sizes[sizes > t], sizes[sizes <= t]
        assert points["cumulative_force"][t] == pytest.approx(float((1 / below).sum()), rel=1e-9)
        assert points["eigenvalues_below"][t] == len(below)
        if len(kept):
            assert points["kappa_valley"][t] == pytest.approx(kept.max() / kept.min(), rel=1e-9)
        else:
            assert t not in points["kappa_valley"]
    assert set(points["cumulative_force"]) == set(THRESHOLDS)


def test_of_four_times_the_loss_the_force_is_a_quarter() -> None:
    plain, scaled = ({x: y for _, x, y in finding.curves} for finding in cumulative_force(known()))
    assert scaled[THRESHOLDS[-1]] == pytest.approx(plain[THRESHOLDS[-1]] / 4, rel=1e-9)
    once, twice = ({x: y for _, x, y in finding.curves} for finding in kappa_valley(known()))
    assert twice[THRESHOLDS[0]] == pytest.approx(once[THRESHOLDS[0]], rel=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_of_a_real_model_they_are_those_of_its_spectrum(name: str) -> None:
    trials = seeds(config(name, quantities=("null_count", *CURVES)), 2)
    at = probe(trials)
    for lane, rows in enumerate(measured(trials)):
        values = scipy.linalg.eigh(at.dense(lane).numpy(), eigvals_only=True)
        sizes = np.abs(values)
        null = int((sizes <= NULL * sizes.max()).sum())
        assert rows.curvature["null_count"] == null > 0
        assert rows.curvature["method"] == dict.fromkeys(("null_count", *CURVES), "exact")
        assert rows.curvature["products"] == dict.fromkeys(("null_count", *CURVES), at.size)
        curves: dict[str, dict[float, float]] = {}
        for row in rows.curves:
            curves.setdefault(row["quantity"], {})[row["x"]] = row["y"]
        assert set(curves) == set(CURVES)
        last = THRESHOLDS[-1]
        assert curves["eigenvalues_below"][last] == at.size - null
        [recorded] = rows.spectra
        exact = np.array(recorded["eigenvalues"])
        assert curves["cumulative_force"] == dict(spectrum.cumulative_force(exact, THRESHOLDS))
        assert curves["kappa_valley"] == dict(spectrum.kappa_valley(exact, THRESHOLDS))
        for t in (1e-4, 1e-2, 1.0):  # where rounding of the spectrum is of no account
            t = min(THRESHOLDS, key=lambda x, t=t: abs(x - t))
            assert curves["eigenvalues_below"][t] == np.count_nonzero(sizes <= t) - null


def test_where_nothing_is_exact_they_are_refused() -> None:
    base = config(exact=0)
    at = probe([base])
    for name, found in {"null_count": null_count, **CURVES}.items():
        [finding] = found(at)
        assert finding.values[name].number is None
        reason = f"needs the exact spectrum; P = {at.size} exceeds measure.exact = 0, raise it"
        assert finding.values[name].failure == reason
        assert (finding.curves, finding.spectra, finding.values[name].products) == ((), (), 0)
