"""What a measurement found for one trial: numbers with their method, error and cost, curves, spectra, surfaces.

A number is a number or the reason why there is none, never a default.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.quantities import COLUMNS, QUANTITY_OF


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A number, how it was found and how far it can be off."""

    number: float | None = None
    """None for a curve or a spectrum, which has no one number, and where it could not be had."""
    method: str
    """``lanczos``, ``exact``, ``hutchinson`` …; with the settings that a reader needs."""
    error: float | None = None
    """In the number's unit: a bound for what Lanczos finds, one standard error for what is sampled. None: neither."""
    products: int = 0
    """Hessian products that it took, by itself."""
    failure: str | None = None
    """Why there is no number, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number that was sampled."""

    number: float
    error: float
    """One standard error, with what is known of a bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """The loss on a grid in a plane through the state."""

    kind: str
    """``top``: the plane of the two top eigenvectors."""
    x: Sequence[float]
    """Coordinates along the first axis, ascending; distances in weight space."""
    y: Sequence[float]
    """Along the second."""
    z: Sequence[float]
    """The loss at (x₀, y₀), (x₀, y₁) …, in nats per token; len(x) · len(y) of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found for one lane."""

    values: Mapping[str, Value] = field(default_factory=dict)
    """By column of the table curvature; a curve or a spectrum stands here by the name of its quantity."""
    curves: Sequence[tuple[str, float, float]] = ()
    """(quantity, x, y)."""
    spectra: Sequence[tuple[str, Sequence[float], Sequence[float]]] = ()
    """(kind, eigenvalues ascending, weights that sum to 1)."""
    surfaces: Sequence[Surface] = ()


def failed(names: Sequence[str], method: str, reason: str, *, products: int = 0) -> Finding:
    """Nothing was found: no number for any of these names."""
    return Finding(values={name: Value(method=method, failure=reason, products=products) for name in names})


@dataclass(kw_only=True)
class Rows:
    """What was found for one lane at one step, as rows of the tables without lineage and observation."""

    curvature: dict[str, Any]
    curves: list[dict[str, Any]]
    spectra: list[dict[str, Any]]
    surfaces: list[dict[str, Any]]


def rows(step: int, findings: Sequence[Finding], *, asymmetry: float | None) -> Rows:
    """The rows of one lane.

    Args:
        step: updates done.
        findings: one per quantity.
        asymmetry: of its Hessian products; None where none was taken.
    """
    found = {name: value for finding in findings for name, value in finding.values.items()}
    numbers = {name: v.number for name, v in found.items() if v.failure is None and v.number is not None}
    lost = {name for name, number in numbers.items() if not math.isfinite(number)}
    row: dict[str, Any] = {"step": step, "asymmetry": asymmetry}
    row |= {name: None if name in lost else v.number for name, v in found.items() if name in COLUMNS}
    row["method"] = {
        name: f"{v.method} failed: {'not finite' if name in lost else v.failure}"
        if name in lost or v.failure
        else v.method
        for name, v in found.items()
    }
    row["error"] = {name: v.error for name, v in found.items() if v.error is not None and math.isfinite(v.error)}
    row["products"] = {name: v.products for name, v in found.items()}
    for name, count in Counter(name for f in findings for name, _, y in f.curves if not math.isfinite(y)).items():
        row["method"][QUANTITY_OF[name]] += f"; {count} points of {name} are not finite and left out"
    curves: dict[tuple[str, float], float] = {}
    spectra: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for finding in findings:
        curves |= {(name, float(x)): float(y) for name, x, y in finding.curves if math.isfinite(y)}
        spectra |= {kind: (values, weights) for kind, values, weights in finding.spectra}
    return Rows(
        curvature=row,
        curves=[{"step": step, "quantity": name, "x": x, "y": y} for (name, x), y in curves.items()],
        spectra=[
            {"step": step, "kind": kind, "eigenvalues": list(values), "weights": list(weights)}
            for kind, (values, weights) in spectra.items()
        ],
        surfaces=[
            {"step": step, "kind": one.kind, "x": list(one.x), "y": list(one.y), "z": list(one.z)}
            for finding in findings
            for one in finding.surfaces
        ],
    )
