"""What measuring costs: products, seconds and memory of one trial at one step, estimated before it is run.

A product is worth so many updates on the same tokens (`PRODUCT_WORK`), whose time is known from calibrations, or stated
as in `sweeps.packs`. What a step takes whatever its size counts once for each turn: products of many vectors are taken
together, those of an iteration one after the other. How many products Lanczos takes is known when it has converged;
what is assumed here is what small transformers took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.config import MeasureConfig, TrialConfig
from core.flops import link_flops, looped_parameters, parameters, step_flops
from core.lineage import Link
from core.observation import Asked, with_measure
from core.quantities import MATRICES, QUANTITIES, THRESHOLDS, Curve, exact
from studies.coverage import Coverage
from studies.keys import shape_key
from studies.tree import Node
from sweeps.packs import Pace, stated_pace

PRODUCT_WORK = 2.5
"""Work of a Hessian product in float64 over that of an update on as many tokens."""
GRADIENT_WORK = 2.5
"""Work of a quantity of first derivatives over that: one or two gradients in float64."""
LOSS_WORK = 1.0
"""Work of a loss in float64 over that."""
OUTPUT_WORK = 0.4
"""Work of outputs, in the precision of training, over that of an update of as many FLOPs; 0.29 to 0.43 measured."""
END_PRODUCTS = 40
"""Products until both ends of a spectrum have converged; so many more for every five eigenvalues from each end."""
EIGEN_RATE = 5e10
"""FLOP per second of the symmetric eigensolver on one core, which takes 4/3 P³ for values and 5 P³ with vectors."""


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


def measure_cost(config: TrialConfig, link: Link, pace: Pace | None) -> MeasureCost:
    """The cost of what `config.measure` asks, at one step on a link.

    Args:
        config: the trial.
        link: whose loops are measured.
        pace: of its shape; None = it was never timed: a stated one.
    """
    measure, names = config.measure, frozenset(config.measure.quantities)
    size = parameters(config)
    spectrum = exact(measure, names, size)
    matrices = 0
    turns = 2 if any(QUANTITIES[name].curved for name in names) else 0  # products one after the other
    together = rounds = 0  # products of many vectors at once, and in how many turns they are taken
    if names & {"lambda_max", "lambda_min"}:
        turns += END_PRODUCTS
    if names & {"eigenvalues", "gradient_curvature", "valley_hopping"}:
        turns += END_PRODUCTS * measure.top // 5
    if "edge" in names:
        turns += END_PRODUCTS
    surface = (2 * measure.points + 1) ** 2 if "loss_surface" in names else 0
    if surface:
        turns += END_PRODUCTS
    if "block_lambda_max" in names:
        turns += END_PRODUCTS // 2 * len(MATRICES)
    if "loop_parts" in names:
        unrolled = looped_parameters(config) * link.loops
        if max(size, unrolled) <= measure.exact:
            together += unrolled
        else:
            turns += link.loops * END_PRODUCTS + 2
            together += link.loops * measure.vectors
            rounds += link.loops
    if spectrum:
        together, matrices = together + size, 1
    else:
        if names & {"trace", "frobenius"}:
            together, rounds = together + measure.vectors, rounds + 1
        sampled = {"spectrum", "entropy", "normalised_entropy", "effective_rank", "negative_mass"}
        if names & sampled:
            together, rounds = together + measure.vectors * measure.nodes, rounds + measure.nodes
    updates = sum(
        getattr(measure, QUANTITIES[name].updates or "") for name in names if QUANTITIES[name].updates is not None
    )
    gradients = sum(QUANTITIES[name].means == "gradient" for name in names)
    vectors = bool(names & {"river_share", "mutual_information"})
    if "mutual_information" in names:
        together, matrices = together + size, 2
    updated = link_flops(config, replace(link, draw=None), link.start, link.end)
    flops = updated / (link.end - link.start)  # of an update, whose time the pace is
    pace = stated_pace(flops) if pace is None else pace
    one, work = pace.seconds(1), pace.work(flops)
    # The least of all sizes: a pack holds what every step takes once, and one bad reading says nothing.
    outputs = _outputs(config) / flops if "test_loops" in names else 0.0
    calls = (turns + rounds + gradients + bool(outputs)) * max(0.0, min(pace.step_s.values()) - work)
    lifted = (turns + together) * PRODUCT_WORK + gradients * GRADIENT_WORK + surface * LOSS_WORK
    probe_s = lifted * work * measure.probe / config.train.batch
    eigen_s = matrices * (5 if vectors else 4 / 3) * size**3 / EIGEN_RATE
    return MeasureCost(
        products=turns + together,
        seconds=calls + probe_s + outputs * OUTPUT_WORK * work + updates * one + eigen_s,
        memory_bytes=(8 * size**2) * (3 if vectors else 2) if spectrum else 0,
        exact=spectrum,
        numbers=(2 * size if spectrum else measure.vectors * measure.nodes if "spectrum" in names else 0)
        + sum(_points(measure, curve) for name in names for curve in QUANTITIES[name].curves.values())
        + surface,
    )


def _outputs(config: TrialConfig) -> float:
    """FLOPs of an update on as many tokens as the validation set has, with the outputs after each of `test_loops`."""
    loops, task = config.measure.test_loops, config.task
    each = step_flops(config, loops=2, loss_on="all") - step_flops(config, loops=2)
    tokens = task.val_size * task.longest / (config.train.batch * task.context)
    return (step_flops(config, loops=loops[-1]) + (len(loops) - 1) * each) * tokens


def _points(measure: MeasureConfig, curve: Curve) -> int:
    """Numbers that a curve records, x and y of each point; at most one for each threshold, or eigenvalue."""
    return 2 * (len(THRESHOLDS) if curve.listed is None else len(getattr(measure, curve.listed)))


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
    costs = {key: measure_cost(*example[key], known.get(key[0])) for key in counts}
    return Measuring(
        measurements=counts.total(),
        exact=sum(number for key, number in counts.items() if costs[key].exact),
        products=sum(costs[key].products * number for key, number in counts.items()),
        seconds=sum(costs[key].seconds * number for key, number in counts.items()) / workers,
        memory_bytes=max(cost.memory_bytes for cost in costs.values()),
    )
