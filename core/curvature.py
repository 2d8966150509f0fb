"""Curvature of a pack at one step: every quantity that is asked for, lane by lane, as rows of the store's tables.

What a quantity is and which module finds it stand here side by side; how, in those modules. Lanes are taken in groups
that bound memory. A lane whose Hessian products are not symmetric or not finite has no number for anything that takes
them, with the reason, and its neighbours do not notice. Training is not disturbed: with and without measurements it has
the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from core import (
    alignment,
    blocks,
    branches,
    densities,
    ends,
    halting,
    information,
    motion,
    sharpness,
    stability,
    surfaces,
    traces,
    unrolled,
    valleys,
)
from core.checkpoint import TrialState
from core.config import TrialConfig
from core.errors import InputError
from core.evaluate import finite
from core.findings import Finding, Rows, failed, rows
from core.lineage import Link
from core.probes import Probe, Train, longest_first
from core.quantities import MATRICES, QUANTITIES, exact
from core.terms import nearest

EXACT_BYTES = 2**30
"""Exact spectra of a group of lanes at once: the Hessian, its eigenvectors and the eigensolver's work, 24 P² a lane."""

Estimator = Callable[[Probe], list[Finding]]
"""Finds one quantity for every lane of a probe."""

ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "lambda_max": ends.lambda_max,
        "lambda_min": ends.lambda_min,
        "eigenvalues": ends.eigenvalues,
        "gradient_curvature": ends.gradient_curvature,
        "trace": traces.trace,
        "frobenius": traces.frobenius,
        "spectrum": densities.spectrum,
        "entropy": densities.entropy,
        "normalised_entropy": densities.normalised_entropy,
        "effective_rank": densities.effective_rank,
        "negative_mass": densities.negative_mass,
        "null_count": valleys.null_count,
        "kappa_valley": valleys.kappa_valley,
        "cumulative_force": valleys.cumulative_force,
        "eigenvalues_below": valleys.eigenvalues_below,
        "mutual_information": information.mutual_information,
        "sam_sharpness": sharpness.sam_sharpness,
        "adaptive_sharpness": sharpness.adaptive_sharpness,
        "probe_grad_norm": sharpness.probe_grad_norm,
        "gradient_alignment": alignment.gradient_alignment,
        "edge": stability.edge,
        "block_lambda_max": blocks.block_lambda_max,
        "loop_parts": unrolled.loop_parts,
        "loss_surface": surfaces.loss_surface,
        "river_share": motion.river_share,
        "valley_hopping": motion.valley_hopping,
        "hill": branches.hill,
        "test_loops": halting.test_loops,
    }
)
"""By quantity."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One lane of a measurement."""

    config: TrialConfig
    """Its `measure` says what is measured."""
    chain: Sequence[Link]
    """Its links up to the one that it is in."""
    state: TrialState


def measure(lanes: Sequence[Measured], inputs: Tensor, targets: Tensor, *, train: Train) -> list[Rows]:
    """The curvature of every lane of a pack at its weights.

    The loss is that of the link (its loops, its injection, last or all outputs), averaged over the first
    `measure.probe` sequences of the validation set.

    Args:
        lanes: the trials, of one `core.lineage.pack_shape`, one step and one `measure`.
        inputs: their validation sets `[K, N, T]`, on the device to measure on.
        targets: what they are followed by `[K, N, T]`.
        train: trains branches, for quantities that follow one; on the same device.

    Returns:
        By lane, its rows: a number per column (None where it failed, never a guess), and by column ``method`` (with the
        reason of a failure, as where a model exceeds the limit of exact spectra), ``error`` and ``products``.

    Raises:
        InputError: for a probe larger than the validation set, an unknown quantity, or lanes that measure differently.
    """
    observed = lanes[0].config.measure
    if any(lane.config.measure.how != observed.how for lane in lanes):
        raise InputError("measure: the trials of one pack must measure the same quantities on probes of one size")
    for name in observed.quantities:
        if name not in QUANTITIES:
            raise InputError(f"measure.quantities: unknown quantity {name!r}; {nearest(name, QUANTITIES)}")
    if observed.probe > inputs.shape[1]:
        raise InputError(
            f"measure.probe: must be at most task.val_size = {inputs.shape[1]} sequences, got {observed.probe}"
        )
    order = longest_first(lanes[0].config, lanes[0].chain[-1], observed.probe)
    probed = slice(observed.probe) if order is None else order[0]
    whole = Probe(
        configs=[lane.config for lane in lanes],
        chains=[lane.chain for lane in lanes],
        states=[lane.state for lane in lanes],
        inputs=inputs[:, probed],
        targets=targets[:, probed],
        train=train,
    )
    size = whole.group
    if exact(observed, observed.quantities, whole.size):
        size = min(size, max(1, EXACT_BYTES // (24 * whole.size**2)))
    found: list[Rows] = []
    for low in range(0, whole.lanes, size):
        found += _group(whole.pick(range(low, min(low + size, whole.lanes))))
    return found


def _group(probe: Probe) -> list[Rows]:
    """The rows of the lanes of one group.

    First derivatives are found for every lane: what one quantity gets does not depend on which are asked beside it.
    """
    names = probe.measure.quantities
    curved = {name for name in names if QUANTITIES[name].curved}
    symmetry = probe.symmetry if curved else [(None, None)] * probe.lanes
    sound = [lane for lane, (_, wrong) in enumerate(symmetry) if wrong is None]
    fit = probe if len(sound) == probe.lanes else probe.pick(sound)
    whole, dense = sound, fit
    if sound and exact(probe.measure, names, probe.size) and not all(fit.finite):
        whole = [lane for lane, is_finite in zip(sound, fit.finite, strict=True) if is_finite]
        dense = probe.pick(whole)
    findings: list[list[Finding]] = [[] for _ in symmetry]
    for name in names:
        lanes, of = (sound, fit) if name in curved else (range(probe.lanes), probe)
        if exact(probe.measure, (name,), probe.size):
            lanes, of = whole, dense
        found = dict(zip(lanes, ESTIMATORS[name](of), strict=True)) if lanes else {}
        for lane, (_, wrong) in enumerate(symmetry):
            findings[lane].append(found[lane] if lane in found else _lost(probe, name, wrong))
    return [
        rows(probe.step, findings[lane], asymmetry=None if asymmetry is None else finite(asymmetry))
        for lane, (asymmetry, _) in enumerate(symmetry)
    ]


def _lost(probe: Probe, name: str, wrong: str | None) -> Finding:
    """What a lane has whose products are wrong, or, where they seemed sound, whose exact Hessian is not finite."""
    absent = {kind for kind in MATRICES if kind not in probe.kinds}
    columns = [column for column in QUANTITIES[name].columns if column.rpartition("_")[2] not in absent] or [name]
    if wrong is None:
        return failed(columns, "exact", "the Hessian is not finite", products=probe.size)
    return failed(columns, "products", wrong, products=2)
