"""What measuring curvature costs: products, seconds and memory of one trial at one step, estimated before it is run.

A product is worth so many training steps of the same tokens (`PRODUCT_STEPS`), whose time is known from calibrations.
How many products Lanczos takes is known when it has converged; what is assumed here is what small transformers took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.config import MeasureConfig, TrialConfig
from core.flops import looped_parameters, parameters, step_flops
from core.lineage import Link
from core.observation import Asked, with_measure
from core.quantities import MATRICES, QUANTITIES, exact
from studies.coverage import Coverage
from studies.tree import Node, shape_key
from sweeps.packs import Pace

PRODUCT_STEPS = 1.0
"""Time of a Hessian product in float64 over that of an update on as many tokens."""
GRADIENT_STEPS = 1.0
"""Time of a quantity of first derivatives over that: one or two gradients in float64."""
LOSS_STEPS = 0.5
"""Time of a loss in float64 over that: about a third of a gradient."""
END_PRODUCTS = 40
"""Products until both ends of a spectrum have converged; so many more for every five eigenvalues from each end."""
EIGEN_RATE = 5e10
"""FLOP per second of the symmetric eigensolver on one core, which takes 4/3 P³ for values and 5 P³ with vectors."""
DEFAULT_RATE = 1e10
"""FLOP per second and worker where a shape was never timed.

Packs of small attention-only models did 2e10 to 5e10 on one quiet core (batch 8, width 16 to batch 32, width 32);
half of the lesser, since evaluation and data take time too.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureCost:
    """Of one trial at one step."""

    products: int
    """Hessian products, about."""
    seconds: float
    """On one core."""
    memory_bytes: int
    """What an exact spectrum holds at once; 0 without one."""
    exact: bool
    """Whether it takes an exact spectrum."""
    numbers: int
    """Numbers that it records beside those of the row itself: points of curves, eigenvalues."""


def measure_cost(config: TrialConfig, link: Link, step_s: float | None) -> MeasureCost:
    """The cost of what `config.measure` asks, at one step on a link.

    Args:
        config: the trial.
        link: whose loops are measured.
        step_s: seconds of one update of the trial by itself; None = not known: a stated rate.
    """
    measure, names = config.measure, frozenset(config.measure.quantities)
    size = parameters(config)
    spectrum = exact(measure, names, size)
    matrices = 0
    products = 2 if any(QUANTITIES[name].means != "gradient" for name in names) else 0
    if names & {"lambda_max", "lambda_min"}:
        products += END_PRODUCTS
    if names & {"eigenvalues", "gradient_curvature", "valley_hopping"}:
        products += END_PRODUCTS * measure.top // 5
    if "edge" in names:
        products += END_PRODUCTS
    surface = (2 * measure.points + 1) ** 2 if "loss_surface" in names else 0
    if surface:
        products += END_PRODUCTS
    if "block_lambda_max" in names:
        products += END_PRODUCTS // 2 * len(MATRICES)
    if "loop_parts" in names:
        unrolled = looped_parameters(config) * link.loops
        dense = max(size, unrolled) <= measure.exact
        products += unrolled if dense else link.loops * (measure.vectors + END_PRODUCTS) + 2
    if spectrum:
        products, matrices = products + size, 1
    else:
        products += measure.vectors if names & {"trace", "frobenius"} else 0
        sampled = {"spectrum", "entropy", "normalised_entropy", "effective_rank", "negative_mass"}
        products += measure.vectors * measure.nodes if names & sampled else 0
    updates = sum(
        getattr(measure, QUANTITIES[name].updates or "") for name in names if QUANTITIES[name].updates is not None
    )
    gradients = sum(QUANTITIES[name].means == "gradient" for name in names)
    vectors = bool(names & {"river_share", "mutual_information"})
    if "mutual_information" in names:
        products, matrices = products + size, 2
    one = step_s
    if one is None:
        one = step_flops(config, loops=link.loops, loss_on=link.loss_on) / DEFAULT_RATE
    probe_s = one * measure.probe / config.train.batch
    eigen_s = matrices * (5 if vectors else 4 / 3) * size**3 / EIGEN_RATE
    return MeasureCost(
        products=products,
        seconds=(products * PRODUCT_STEPS + gradients * GRADIENT_STEPS + surface * LOSS_STEPS) * probe_s
        + updates * one
        + eigen_s,
        memory_bytes=(8 * size**2) * (3 if vectors else 2) if spectrum else 0,
        exact=spectrum,
        numbers=(2 * size if spectrum else measure.vectors * measure.nodes if "spectrum" in names else 0)
        + 2 * sum(61 if QUANTITIES[name].curves else 0 for name in names)
        + surface,
    )


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What measuring curvature takes of what is to be run."""

    measurements: int
    """Trials × steps."""
    exact: int
    """Of these, with an exact spectrum."""
    products: int
    """Hessian products, about."""
    seconds: float
    """On `workers` workers; part of `estimate_s`."""
    memory_bytes: int
    """The most that one measurement holds for an exact spectrum."""


def to_measure(node: Node, asked: Asked, coverage: Coverage) -> tuple[TrialConfig, Asked]:
    """What of the measurements asked on a node is still to be taken: a replay passes by what is recorded.

    Args:
        node: what is run.
        asked: the part of what it asks that is looked at.
        coverage: what is recorded. What is retried with a new generation is measured anew, whatever it says.

    Returns:
        The node's configuration with the quantities that are missing somewhere, and `asked` with the steps where.
    """
    observation = node.config.measure
    if not asked.measure or node.generation:
        return node.config, asked
    missing = coverage.unmeasured(node.where, asked.measure, observation)
    names = {name for quantities in missing.values() for name in quantities}
    left = tuple(name for name in observation.quantities if name in names)
    return with_measure(node.config, replace(observation, quantities=left)), replace(asked, measure=tuple(missing))


def measuring(todo: Sequence[Node], known: Mapping[str, Pace], workers: int, coverage: Coverage) -> Measuring | None:
    """What the measurements of some nodes take; None where there are none. Replays measure nothing.

    Args:
        todo: the nodes that are to be run.
        known: step times by shape.
        workers: among whom they are shared.
        coverage: what is recorded.
    """
    counts: Counter[tuple[str, MeasureConfig]] = Counter()
    example: dict[tuple[str, MeasureConfig], tuple[TrialConfig, Link]] = {}
    for node in todo:
        if not node.record:
            continue
        first = 0 if node.begin == 0 else node.begin + 1
        config, asked = to_measure(node, node.asked.within(first, node.until), coverage)
        if asked.measure:
            key = shape_key(config, node.where), config.measure
            counts[key] += len(asked.measure)
            example.setdefault(key, (config, node.where))
    if not counts:
        return None
    pace = {shape: known[shape].seconds(1) if shape in known else None for shape, _ in counts}
    costs = {key: measure_cost(*example[key], pace[key[0]]) for key in counts}
    return Measuring(
        measurements=counts.total(),
        exact=sum(number for key, number in counts.items() if costs[key].exact),
        products=sum(costs[key].products * number for key, number in counts.items()),
        seconds=sum(costs[key].seconds * number for key, number in counts.items()) / workers,
        memory_bytes=max(cost.memory_bytes for cost in costs.values()),
    )
