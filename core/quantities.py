"""The names of the curvature quantities: the columns of the table ``curvature``.

Apart from `core.curvature`, which measures them, so that planning can refuse an unknown name without torch. Each is a
property of the Hessian of the mean loss on the probe batch, at one state of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One column of the table ``curvature``."""

    unit: str
    doc: str
    measured: bool = True
    """False: the name is known and has its column, but nothing computes it yet; a study that asks for it is told so."""


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "lambda_max": Quantity(unit="nats", doc="largest eigenvalue of the Hessian (per unit of weight squared)"),
        "lambda_min": Quantity(unit="nats", doc="smallest eigenvalue of the Hessian (per unit of weight squared)"),
        "trace": Quantity(unit="nats", doc="sum of the eigenvalues (per unit of weight squared)", measured=False),
        "frobenius": Quantity(unit="nats", doc="root of the sum of their squares", measured=False),
        "entropy": Quantity(unit="nats", doc="entropy of the shares |λ| / Σ |λ|", measured=False),
        "effective_rank": Quantity(unit="1", doc="exponential of the entropy", measured=False),
        "mutual_information": Quantity(unit="nats", doc="what successive Hessians share", measured=False),
        "sam_sharpness": Quantity(unit="nats", doc="rise of the loss within a radius", measured=False),
    }
)
