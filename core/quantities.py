"""The names of the curvature quantities that can be measured: the columns of the table ``curvature``.

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


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "lambda_max": Quantity(unit="nats", doc="largest eigenvalue of the Hessian (per unit of weight squared)"),
        "lambda_min": Quantity(unit="nats", doc="smallest eigenvalue of the Hessian (per unit of weight squared)"),
    }
)
