"""The sorted component-wise comparison of two arms' spectra."""

from __future__ import annotations

import numpy as np
import pytest

from core.quantities import THRESHOLDS
from core.streams import stream
from reports.components import compare, comparisons
from reports.spectra import Spectrum, read
from reports.tables import Tables
from tests.reports.curved import MEASURED, curved
from tests.reports.synthetic import results

ARMS = ["single", "looped", "shift", "depth-matched"]


def by_definition(a, b, tau):
    """Rank by rank, without any array."""
    below_a, below_b = sorted(v for v in a if v <= tau), sorted(v for v in b if v <= tau)
    ranks = min(len(below_a), len(below_b))
    wins = sum((x < y) + 0.5 * (x == y) for x, y in zip(below_a, below_b, strict=False))
    return (wins / ranks if ranks else None), len(below_a) - len(below_b)


@pytest.mark.parametrize("seed", range(5))
def test_the_comparison_is_that_of_its_definition(seed):
    draws = stream(seed, "components")
    a = np.sort(np.exp(draws.normal(-3, 3, size=20)))
    b = np.sort(np.concatenate([np.exp(draws.normal(-2, 3, size=13)), a[:2]]))  # of another size, with ties
    shares, more = compare(a, b)
    for share, count, tau in zip(shares, more, THRESHOLDS, strict=True):
        want_share, want_count = by_definition(a, b, tau)
        assert count == want_count
        assert (np.isnan(share) and want_share is None) or share == pytest.approx(want_share)


def test_equal_spectra_are_half_smaller_and_swapped_ones_the_complement():
    a, b = np.array([1e-3, 1e-2, 1.0]), np.array([2e-3, 5e-3, 2.0])
    assert np.nanmax(np.abs(compare(a, a)[0] - 0.5)) == 0
    forth, back = compare(a, b), compare(b, a)
    assert np.nanmax(np.abs(forth[0] + back[0] - 1.0)) < 1e-12
    assert (forth[1] == -back[1]).all()
    assert np.isnan(compare(a, np.array([]))[0]).all()


@pytest.fixture(scope="module")
def tables():
    return Tables.read(curved(results(seeds=range(4))))


def test_pairs_are_of_one_seed_and_the_interval_is_over_seeds(tables):
    spectra = read(tables)
    found = comparisons(tables, spectra, ARMS, "single")
    assert (found["step"], found["reference"]) == (MEASURED[-1], "single")
    assert [one["arm"] for one in found["series"]] == ["looped", "shift", "depth-matched"]
    looped = found["series"][0]
    assert (looped["n"], looped["lost"], looped["unpaired_seeds"]) == (4, 0, [])
    trials = tables.trials.set_index(["arm", "seed"])["trial_id"]
    at = THRESHOLDS[44]
    want = []
    for seed in range(4):
        a, b = (spectra[trials[arm, seed]][MEASURED[-1]].sizes() for arm in ("looped", "single"))
        want.append(by_definition(a, b, at))
    point = next(p for p in looped["share_smaller"] if p["x"] == at)
    assert point["mean"] == pytest.approx(np.mean([share for share, _ in want]))
    assert point["low"] < point["mean"] < point["high"]
    point = next(p for p in looped["more_below"] if p["x"] == at)
    assert point["mean"] == pytest.approx(np.mean([count for _, count in want]))


def test_a_seed_without_a_partner_leaves_and_is_named(tables):
    frames = curved(results(seeds=range(4)))
    trials = frames.trials_
    cut = frames.without(~((trials["arm"] == "single") & (trials["seed"] == 2)))
    read_again = Tables.read(cut)
    found = comparisons(read_again, read(read_again), ARMS, "single")
    assert [(one["n"], one["unpaired_seeds"]) for one in found["series"]] == [(3, [2])] * 3


def test_quadrature_is_no_spectrum_to_compare():
    frames = Tables.read(curved(results(seeds=range(2)), kind="slq"))
    assert comparisons(frames, read(frames), ARMS, "single") is None


def test_the_null_space_is_no_component():
    values = np.array([-1e-15, 0.0, 1e-14, 1e-3, -2.0])
    order = np.argsort(values)
    spectrum = Spectrum(kind="exact", values=values[order], weights=np.full(5, 0.2))
    assert spectrum.sizes().tolist() == [1e-3, 2.0]
    assert spectrum.null_share == pytest.approx(0.6)


def test_quantiles_weigh_the_nodes():
    spectrum = Spectrum(kind="slq", values=np.array([-1.0, 0.0, 5.0]), weights=np.array([0.1, 0.8, 0.1]))
    assert spectrum.quantiles((0.0, 0.05, 0.5, 0.9, 0.95, 1.0)).tolist() == [-1.0, -1.0, 0.0, 0.0, 5.0, 5.0]
