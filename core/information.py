"""What successive Hessians share: the matrix-based mutual information, from exact spectra.

With Â = |A| / tr |A| (|A| has the eigenvectors of A and the magnitudes of its eigenvalues), S the von Neumann entropy
and ∘ the entrywise product (Zhang et al. 2023, arXiv 2305.17326, with |A| for their Gram matrices):

    S(Â) = −Σ p ln p over the eigenvalues p of Â
    I(A, B) = S(Â) + S(B̂) − S(Â∘B̂ / tr(Â∘B̂))

The entrywise product of two positive semidefinite matrices is one too (Schur). It depends on the basis: here that of
the weights, so I is no property of the two spectra, and a rotation of the weights changes it. For Gram matrices of unit
diagonal, for which the formula was made, I is never negative; a Hessian's diagonal is not constant, and I may be: two
equal diagonal matrices with shares p have I = 2 S(p) − S(p² / Σ p²), and one direction alone has I = 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.branches import onward
from core.densities import exact_spectrum
from core.findings import Finding, Value
from core.probes import Exact, Probe, eigen
from core.spectrum import entropy
from core.valleys import refused


def mutual_information(probe: Probe) -> list[Finding]:
    """What the Hessian shares with that `measure.lag` updates later on the same probe batch; exact or not at all."""
    name, lag = "mutual_information", probe.measure.lag
    method = f"exact, {lag} updates later"
    if not probe.is_exact:
        return refused(probe, name)
    branches = onward(probe, lag)
    there = {lane: branch.state for lane, branch in enumerate(branches) if not isinstance(branch, str)}
    later = probe.pick(list(there), list(there.values()))
    values: dict[int, Value] = {}
    for place, lane in enumerate(there):
        values[lane] = _value(probe.exact[lane], later, place, method)
    return [
        Finding(
            values={name: values[lane] if lane in values else Value(method=method, failure=str(branches[lane]))},
            spectra=[exact_spectrum(probe, lane)],
        )
        for lane in range(probe.lanes)
    ]


def _value(now: Exact, later: Probe, lane: int, method: str) -> Value:
    """The mutual information of one lane; `lane` counts those of `later`."""
    products = 2 * len(now.values)
    _, wrong = later.symmetry[lane]
    if wrong is not None:
        return Value(method=method, failure=f"{later.measure.lag} updates later {wrong}", products=products)
    hessian = later.dense(lane)
    if not bool(hessian.isfinite().all()):
        return Value(
            method=method, failure=f"{later.measure.lag} updates later the Hessian is not finite", products=products
        )
    number = mutual_information_of(now, eigen(hessian))
    failure = "a Hessian is zero, or the entrywise product of both" if number is None else None
    return Value(number=number, method=method, products=products, failure=failure)


def entropy_of(matrix: Tensor) -> float | None:
    """The von Neumann entropy of |A| / tr |A| for a symmetric matrix `[P, P]`: 0 … ln P nats; None for zeros."""
    return _entropy(torch.linalg.eigvalsh(matrix))


def mutual_information_of(a: Exact, b: Exact) -> float | None:
    """I(A, B) of two symmetric matrices `[P, P]` in one basis, in nats.

    Symmetric in both, and no factor on either acts on it. None where one of them, or their entrywise product, is zero.
    """
    first, second = _entropy(a.values), _entropy(b.values)
    if first is None or second is None:
        return None
    joint = entropy_of(_density(a) * _density(b))
    return None if joint is None else first + second - joint


def _density(exact: Exact) -> Tensor:
    """|A| / tr |A|, `[P, P]`."""
    magnitudes = exact.values.abs()
    found: Tensor = (exact.vectors * (magnitudes / magnitudes.sum())) @ exact.vectors.mT
    return (found + found.mT) / 2


def _entropy(values: Tensor) -> float | None:
    size = len(values)
    return entropy(values.cpu().numpy(), np.full(size, 1.0 / size), size=size)
