"""The registry of quantities: complete, without torch, and honest about which settings act on what."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_type_hints

import pytest

import core.quantities
from core.config import MeasureConfig
from core.curvature import ESTIMATORS
from core.findings import Finding, Rows
from core.lineage import canonical_json
from core.probes import Probe
from core.quantities import (
    COLUMNS,
    CURVES,
    MATRICES,
    QUANTITIES,
    QUANTITY_OF,
    THRESHOLDS,
    Point,
    exact,
    point,
    points,
    quantity_of,
    settings,
)
from core.terms import terms
from tests.core.probing import config, measured
from tests.core.test_curvature import SETTINGS, after_updates

WHEN = {"quantities", "every", "at"}
"""Terms of ``[measure]`` that say what is measured and when."""
OTHER = {
    "probe": 2,
    "exact": 0,
    "products": 8,
    "top": 2,
    "vectors": 5,
    "nodes": 6,
    "points": 2,
    "radius": 0.5,
    "rho": 0.1,
    "adaptive_rho": 1.0,
    "loops": 2,
    "window": 3,
    "decay": 3,
    "lag": 3,
    "test_loops": (1, 3),
}
"""Another value for each of the others."""
TINIEST = {"width": 2, "loops": 2, "mlp_ratio": 1.0}


# --- the registry --------------------------------------------------------------------------------------------------


def test_every_quantity_has_an_estimator() -> None:
    assert set(ESTIMATORS) == set(QUANTITIES)


@pytest.mark.parametrize("name", QUANTITIES)
def test_an_estimator_finds_one_quantity_for_every_lane(name: str) -> None:
    estimator = ESTIMATORS[name]
    assert estimator.__name__ == name
    assert get_type_hints(estimator) == {"probe": Probe, "return": list[Finding]}
    assert inspect.getdoc(estimator)


def test_every_column_and_curve_belongs_to_one_quantity() -> None:
    names = [name for quantity in QUANTITIES.values() for name in (*quantity.columns, *quantity.curves)]
    assert len(names) == len(set(names)) == len(COLUMNS) + len(CURVES)
    assert {*COLUMNS, *CURVES} == set(names) == set(QUANTITY_OF)
    for name, asked in QUANTITY_OF.items():
        assert name in {*QUANTITIES[asked].columns, *QUANTITIES[asked].curves}
    # A quantity's name, where it is that of a column or a curve too, is its own.
    assert all(QUANTITY_OF.get(name, name) == name for name in QUANTITIES)
    assert not set(names) & {"lineage", "step", "observed", "asymmetry", "method", "error", "products"}


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_says_what_it_is_and_what_it_takes(name: str) -> None:
    quantity = QUANTITIES[name]
    assert quantity.doc
    for part in (*quantity.columns.values(), *quantity.curves.values()):
        assert part.unit
        assert part.doc
        assert not part.doc.endswith(".")
    assert all(curve.x for curve in quantity.curves.values())
    assert quantity.columns or quantity.curves or name in ("spectrum", "loss_surface")
    measurable = set(terms(MeasureConfig)) - WHEN - {"probe"}
    assert set(quantity.terms) <= measurable
    assert len(set(quantity.terms)) == len(quantity.terms)
    assert quantity.updates is None or quantity.updates in quantity.terms
    if quantity.means in ("spectrum", "exact"):
        assert "exact" in quantity.terms
    if quantity.means == "products":
        assert "products" in quantity.terms
    assert quantity.curved == (quantity.means not in ("outputs", "gradient"))
    if not quantity.curved:
        assert not {"exact", "products", "vectors", "nodes", "top"} & set(quantity.terms)


def test_every_term_acts_on_something() -> None:
    acting = {term for quantity in QUANTITIES.values() for term in quantity.terms} | {"probe"}
    assert acting == set(terms(MeasureConfig)) - WHEN == set(OTHER)


def test_columns_of_matrices_name_all_kinds() -> None:
    for name in ("block_lambda_max", "gradient_alignment"):
        columns = set(QUANTITIES[name].columns) - {name}
        assert columns == {f"{name}_{kind}" for kind in MATRICES}


def test_thresholds_ascend_by_quarters_of_a_decade() -> None:
    assert len(THRESHOLDS) == 61
    assert (THRESHOLDS[0], THRESHOLDS[48], THRESHOLDS[-1]) == (1e-12, 1.0, 1e3)
    steps = [high / low for low, high in pairwise(THRESHOLDS)]
    assert steps == pytest.approx([10**0.25] * 60)


def test_an_exact_spectrum_is_taken_within_the_limit_where_something_needs_it() -> None:
    measure = MeasureConfig(exact=100)
    assert exact(measure, ["lambda_max", "entropy"], 100)
    assert exact(measure, ["null_count"], 100)
    assert not exact(measure, ["lambda_max", "entropy"], 101)
    assert not exact(measure, ["lambda_max", "sam_sharpness", "edge"], 100)
    assert not exact(measure, [], 100)


def test_quantities_are_known_without_torch() -> None:
    script = (
        "import sys, core.config, core.quantities, core.findings, core.flops, core.tasks, core.markov;"
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTITIES)
def test_settings_are_the_terms_that_act(name: str) -> None:
    measure = MeasureConfig(quantities=(name,))
    found = settings(measure, name)
    assert set(found) == {*(("probe",) if QUANTITIES[name].probed else ()), *QUANTITIES[name].terms}
    assert found == json.loads(canonical_json({term: getattr(measure, term) for term in found})), "as read back"
    assert settings(replace(measure, quantities=("lambda_max", name), every=7, at=(3,)), name) == found
    for term, value in OTHER.items():
        assert (settings(replace(measure, **{term: value}), name) != found) == (term in found)


def test_numbers_of_an_estimator_s_later_version_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first version found does not answer for the second; whatever else was measured does."""
    measure = MeasureConfig(quantities=("trace", "lambda_max"))
    first = {name: settings(measure, name) for name in measure.quantities}
    assert all("version" not in terms for terms in first.values())
    later = {**QUANTITIES, "trace": replace(QUANTITIES["trace"], version=2)}
    monkeypatch.setattr(core.quantities, "QUANTITIES", later)
    assert settings(measure, "trace") == first["trace"] | {"version": 2}
    assert settings(measure, "lambda_max") == first["lambda_max"]


def test_what_is_measured_of_the_loss_is_in_its_unit() -> None:
    """Eigenvalues, gradients and rises of the loss alike; the entropy of shares is not per token."""
    for name in ("lambda_max", "trace", "frobenius", "probe_grad_norm", "sam_sharpness", "hill", "same_loop_trace"):
        assert COLUMNS[name].unit == "nats/token"
    assert {CURVES[name].unit for name in ("top_eigenvalue", "bottom_eigenvalue")} == {"nats/token"}
    assert CURVES["cumulative_force"].unit == "token/nats"
    assert [COLUMNS[name].unit for name in ("entropy", "mutual_information")] == ["nats", "nats"]


# --- points of curves that are columns -----------------------------------------------------------------------------


def test_a_point_of_a_curve_is_a_column_for_each_x_that_is_asked() -> None:
    asked = MeasureConfig(quantities=("lambda_max", "test_loops"), test_loops=(2, 8))
    found = points([asked, MeasureConfig(test_loops=(1, 64)), replace(asked, test_loops=(1, 8))])
    curves = [name for name, curve in CURVES.items() if curve.listed == "test_loops"]
    assert list(found) == [f"{name}_{loops}" for name in curves for loops in (1, 2, 8)], (
        "and of whom none is asked, none"
    )
    for name, of_curve in found.items():
        assert point(name) == of_curve
        assert quantity_of(name) == "test_loops"
    assert points([MeasureConfig(quantities=("eigenvalues", "kappa_valley"))]) == {}


def test_what_a_point_is_follows_from_its_curve() -> None:
    found = point("val_exact_longer_loops_16")
    assert found == Point(curve="val_exact_longer_loops", x=16)
    assert (found.column.unit, found.column.better) == ("fraction", "higher")
    assert found.column.doc.endswith("at 16 loops")
    assert [point(f"{name}_4").column.better for name in ("val_loss_loops", "val_accuracy_loops")] == [
        "lower",
        "higher",
    ]


@pytest.mark.parametrize(
    "name",
    ["val_loss_loops", "val_loss_loops_", "val_loss_loops_0", "val_loss_loops_08", "val_loss_8", "edge_8", "", "8"],
)
def test_other_names_are_no_points(name: str) -> None:
    assert point(name) is None


def taken(row: Rows, name: str) -> Any:
    """Of a lane's rows what belongs to one quantity."""
    quantity, found = QUANTITIES[name], row.curvature
    columns = [column for column in quantity.columns or [name] if column in found["method"]]
    return (
        [
            (found.get(column), *(found[part].get(column) for part in ("method", "error", "products")))
            for column in columns
        ],
        [point for point in row.curves if point["quantity"] in quantity.curves],
        row.spectra if name == "spectrum" else None,
    )


def rows(exact_too: bool, **other: Any) -> Rows:
    """All that can be measured of one trial, from exact spectra or by sampling."""
    given = {**SETTINGS, "exact": 5000 if exact_too else 0, "loops": 3, **other}
    sampled = given["exact"] == 0
    names = [name for name in QUANTITIES if not (sampled and QUANTITIES[name].means == "exact")]
    base = config(TINIEST, quantities=names, **given)
    (row,) = measured([base], [after_updates(base)])
    return row


@pytest.fixture(scope="module")
def usual() -> tuple[Rows, Rows]:
    """With the usual settings: from exact spectra, and by sampling."""
    return rows(True), rows(False)


@pytest.mark.parametrize("term", OTHER)
def test_a_term_acts_on_the_quantities_that_name_it_and_on_no_other(term: str, usual: tuple[Rows, Rows]) -> None:
    """What `settings` says is what happens, in numbers, methods, errors and costs."""
    found = rows(True, **{term: OTHER[term]}), rows(False, **{term: OTHER[term]})
    for name in QUANTITIES:
        regimes = (0, 1) if QUANTITIES[name].means != "exact" else (0,)
        if term == "exact":
            if QUANTITIES[name].means == "exact":
                continue  # refused
            regimes = (0,)
        changed = any(taken(usual[regime], name) != taken(found[regime], name) for regime in regimes)
        assert changed == (term in settings(MeasureConfig(), name)), name
