"""How training moves in the river valley of a state: along its flat directions, and from wall to wall across the rest.

Both watch the next `measure.window` updates as the trial would make them (`core.branches`), against the Hessian of the
probe batch at the state itself, which stays while they go on.

*River share*: the share of Σ_t ‖Δw_t‖² that lies along eigenvectors with |λ| ≤ ε, for every ε. The null space is river
at every ε: nothing rises there. (Force, counts and κ of the same spectrum leave it out.) Eigenvalues that are zero
within rounding therefore count as zero; on which side of a small ε rounding has put them says nothing.

*Valley hopping*: along each of the sharpest directions, the share of the updates across which the gradient changes its
sign, that is, which jump over the bottom of the valley. The gradient is that of the probe batch at every weight that
is visited, one function throughout; that of the training batches changes its sign from one batch to the next by their
noise alone. 0 = the bottom is approached or left on one side, 1 = every update goes to the other wall. Eigenvalues that
agree have no directions of their own: what stands at their ranks is of some basis of their plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from core.branches import Branch, onward
from core.checkpoint import TrialState
from core.densities import exact_spectrum
from core.ends import by_rank
from core.findings import Finding, Value
from core.probes import Probe
from core.quantities import THRESHOLDS
from core.ranks import Ranked
from core.segments import LaneResult
from core.spectrum import null
from core.valleys import refused


def river_share(probe: Probe) -> list[Finding]:
    """The share of the next updates (squared) along |λ| ≤ ε, by ε; exact or not at all."""
    name, window = "river_share", probe.measure.window
    method = f"exact, {window} updates"
    if not probe.is_exact:
        return refused(probe, name)
    findings = []
    for lane, branch in enumerate(_window(probe)):
        failure, points = None, list[tuple[str, float, float]]()
        if isinstance(branch, str):
            failure = branch
        else:
            exact, steps = probe.exact[lane], _visited(probe, lane, branch).diff(dim=0)
            along = (steps @ exact.vectors).square().sum(0)
            if float(along.sum()) == 0.0:
                # The learning rate is not: `core.branches.onward` refuses such branches.
                failure = "the next updates are zero: the gradients are, or smaller than the weights' precision shows"
            else:
                shares = river_shares(exact.values, along, THRESHOLDS)
                points = [(name, e, share) for e, share in zip(THRESHOLDS, shares, strict=True)]
        findings.append(
            Finding(
                values={name: Value(method=method, products=probe.size, failure=failure)},
                curves=points,
                spectra=[exact_spectrum(probe, lane)],
            )
        )
    return findings


def river_shares(values: Tensor, along: Tensor, thresholds: Sequence[float]) -> list[float]:
    """The share of a motion that lies along eigenvectors with |λ| ≤ ε.

    Args:
        values: eigenvalues `[P]`; the null space (`core.spectrum.null`) lies below every ε.
        along: by eigenvector `[P]`, the squared length of the motion along it; not all zero.
        thresholds: the ε.

    Returns:
        By ε, in [0, 1]; 1 from the largest |λ| on.
    """
    magnitudes = values.abs()
    magnitudes, order = magnitudes.where(magnitudes > null(values.cpu().numpy()), 0.0).sort()
    gathered = along[order].cumsum(0)
    gathered = torch.cat((gathered.new_zeros(1), gathered / gathered[-1]))
    counts = torch.searchsorted(magnitudes, magnitudes.new_tensor(thresholds), right=True)
    shares: list[float] = gathered[counts].tolist()
    return shares


def valley_hopping(probe: Probe) -> list[Finding]:
    """How often the gradient changes its sign along the sharpest directions, by rank from the top.

    Where the budget of products ends before all directions have converged, those are given that have, without a gap in
    the ranks, and the failure says how many have not.
    """
    branches = _window(probe)
    there = {lane: branch for lane, branch in enumerate(branches) if not isinstance(branch, str)}
    gradients: dict[int, Tensor | str] = dict(zip(there, _gradients(probe, there), strict=True))
    gradients |= {lane: branch for lane, branch in enumerate(branches) if isinstance(branch, str)}
    return [_hopping(probe, run, gradients[lane]) for lane, run in enumerate(by_rank(probe))]


def _hopping(probe: Probe, run: Ranked, gradients: Tensor | str) -> Finding:
    """What was found for one lane, from the gradients at the weights visited, or why there are none."""
    name, window, asked = "valley_hopping", probe.measure.window, min(probe.measure.top, probe.size)
    method = f"lanczos{'' if run.checked else ', copies not looked for'}, {window} updates"
    points, failure = list[float](), gradients if isinstance(gradients, str) else None
    if not isinstance(gradients, str):
        points = hops(gradients @ run.vectors[: len(run.top)].mT)
        if len(points) < asked:
            failure = f"{asked - len(points)} of {asked} eigenvectors not found: {run.failure}"
    return Finding(
        values={name: Value(method=method, products=run.products, failure=failure)},
        curves=[(name, float(rank), share) for rank, share in enumerate(points, start=1)],
    )


def hops(projections: Tensor) -> list[float]:
    """The share of the updates across which a projection changes its sign.

    Args:
        projections: of the gradient on k directions, at n + 1 weights in a row `[n + 1, k]`; one that is zero has no
            sign, and changes none.

    Returns:
        By direction, in multiples of 1 / n.
    """
    changed = projections[1:] * projections[:-1] < 0
    shares: list[float] = changed.double().mean(0).tolist()
    return shares


def _window(probe: Probe) -> list[Branch]:
    """The branches that both quantities watch."""
    window = probe.measure.window
    return probe.once(f"{window} updates onward", lambda start: onward(start, window, each=True))


def _visited(probe: Probe, lane: int, result: LaneResult) -> Tensor:
    """The weights at the start of a branch and after each update, as vectors `[window + 1, P]` in float64."""
    states: Sequence[TrialState] = (probe.states[lane], *result.states)
    rows = [torch.cat([state.parameters[name].double().flatten() for name in probe.params]) for state in states]
    return torch.stack(rows).to(probe.inputs.device)


def _gradients(probe: Probe, branches: Mapping[int, LaneResult]) -> list[Tensor]:
    """By lane, the gradients on the probe batch at the weights that its branch visited `[window + 1, P]`."""
    if not branches:
        return []
    found: list[list[Tensor]] = [[probe.gradient[lane].clone()] for lane in branches]
    for number in range(probe.measure.window):
        there = probe.pick(list(branches), [branch.states[number] for branch in branches.values()])
        for rows, row in zip(found, there.gradient, strict=True):
            rows.append(row.clone())
    return [torch.stack(rows) for rows in found]
