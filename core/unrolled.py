"""The Hessian of the looped blocks in two parts: within loops, and across loops.

Unrolled, every loop has weights of its own. With S the map that copies the weights w of the looped blocks ("blocks.*",
all of them, norms included: P_b numbers) into each of R loops, the loss is L(w) = L_unrolled(S w), so by the chain rule

    H = Sᵀ H_unrolled S = Σ_r H_rr + Σ_{r≠s} H_rs

on the looped blocks' own block of the Hessian, with H_rs the block of loop r's copy against loop s's. The first sum is
the same-loop part: what each loop's use of the weights adds by itself. The second is the cross-loop part: how a change
in one loop turns the gradient in another. Both are symmetric and live on the tied weights `[P_b]`; all other weights
stand still. A model of one loop is all same-loop.

A product of a part takes R Hessian products: the vector is put into one copy after the other. Exact where the unrolled
looped blocks have at most `measure.exact` weights, so that both parts are had from as many products as the exact
spectrum of a model of that size; elsewhere traces by Hutchinson's estimator with random signs (Hutchinson 1990), ends
by Lanczos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from core.architecture import Architecture
from core.ends import as_value
from core.findings import Finding, Value, failed
from core.hessian import Products, drive
from core.hutchinson import Sample, trace
from core.lanczos import Extreme, extremes
from core.probes import ASYMMETRY, Probe
from core.quantities import QUANTITIES
from core.tangents import TangentHessian

T = TypeVar("T")

LOOPED = "blocks."
"""How the names of the looped blocks' weights begin."""
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (("same", ("max",)), ("cross", ("max", "min")))
"""The parts, by the beginning of their columns, and which ends of each are columns."""
SAME, CROSS = 0, 1
"""Their places in `PARTS` and wherever both are given."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """H_unrolled of some lanes on the copies' weights alone: the last block of the whole model's Hessian."""

    whole: TangentHessian
    """Of all weights, those of the copies last."""
    size: int
    """R · P_b, weights of the copies of one lane."""

    def product(self, vectors: Tensor) -> Tensor:
        """H_k v_k of every lane, `[K, R·P_b]` from `[K, R·P_b]`."""
        still = vectors.new_zeros(len(vectors), self.whole.size - self.size)
        return self.whole.product(torch.cat((still, vectors), 1))[:, -self.size :].contiguous()


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """The lanes of a probe with a copy of the looped blocks' weights for each loop."""

    probe: Probe

    @property
    def loops(self) -> int:
        """R."""
        return self.probe.link.loops

    @cached_property
    def arch(self) -> Architecture:
        """The architecture with blocks of each loop's own."""
        arch = self.probe.arch
        return replace(arch, depth=arch.depth * self.loops, copies=self.loops)

    @cached_property
    def looped(self) -> dict[str, Tensor]:
        """The weights of the looped blocks `{name: [K, …]}`."""
        return {name: p for name, p in self.probe.params.items() if name.startswith(LOOPED)}

    @property
    def size(self) -> int:
        """P_b, weights of the looped blocks of one lane."""
        return sum(p[0].numel() for p in self.looped.values())

    @cached_property
    def places(self) -> Tensor:
        """Where they lie in a vector of all weights: indices `[P_b]` into `[P]`, ascending."""
        places, start = [], 0
        for name, p in self.probe.params.items():
            if name in self.looped:
                places.append(torch.arange(start, start + p[0].numel()))
            start += p[0].numel()
        return torch.cat(places).to(self.probe.inputs.device)

    def copies(self, lanes: Sequence[int]) -> dict[str, Tensor]:
        """The copies `{name: [k, …]}` of some lanes: all of the first loop, all of the second …, as vectors hold them.

        Loop r's copy of block i is block r · depth + i of the unrolled architecture.
        """
        depth, named = self.probe.arch.depth, {}
        for loop in range(self.loops):
            for name, p in self.looped.items():
                block, _, matrix = name.removeprefix(LOOPED).partition(".")
                named[f"{LOOPED}{loop * depth + int(block)}.{matrix}"] = p[list(lanes)]
        return named

    def hessian(self, lanes: Sequence[int]) -> Copies:
        """H_unrolled `[R·P_b, R·P_b]` of some lanes; one may come several times."""
        probe, pick = self.probe, list(lanes)
        fixed = {name: p[pick] for name, p in probe.params.items() if name not in self.looped}
        whole = TangentHessian(
            {**fixed, **self.copies(lanes)},
            probe.inputs[pick],
            probe.targets[pick],
            self.arch,
            loops=self.loops,
            injection=probe.link.injection,
            loss_on=probe.link.loss_on,
        )
        return Copies(whole=whole, size=self.loops * self.size)

    def drive(self, runs: Sequence[tuple[int, Products[T]]]) -> list[T]:
        """Runs algorithms over H_unrolled of their lanes, (lane, algorithm) each, as `Probe.drive` over H."""
        found: list[T] = []
        for low in range(0, len(runs), self.probe.group):
            some = runs[low : low + self.probe.group]
            found += drive(self.hessian([lane for lane, _ in some]).product, [run for _, run in some])
        return found

    def dense(self, lane: int) -> Tensor:
        """The same-loop and the cross-loop part of one lane `[2, P_b, P_b]`, as they come; R · P_b products."""
        R, P = self.loops, self.size
        group = min(self.probe.group, P)
        hessian = self.hessian([lane] * group)
        found = torch.zeros(2, P, P, dtype=torch.float64, device=self.probe.inputs.device)
        for loop in range(R):
            for low in range(0, P, group):
                count = min(group, P - low)
                units = torch.zeros(group, R, P, dtype=torch.float64, device=found.device)
                units[torch.arange(count), loop, torch.arange(low, low + count)] = 1.0
                rows = hessian.product(units.view(group, -1)).view(group, R, P)[:count]
                for other in range(R):
                    found[SAME if other == loop else CROSS, low : low + count] += rows[:, other]
        return found

    def direction(self, lane: int, *names: str | int) -> Tensor:
        """A random unit vector `[P_b]` of a lane, uniform on the sphere."""
        normal = self.probe.direction(lane, "loop_parts", *names)[self.places]
        normal /= torch.linalg.vector_norm(normal)
        return normal


def parts(vector: Tensor, loops: int) -> Products[tuple[Tensor, Tensor]]:
    """The products of both parts with a vector `[P_b]`, each `[P_b]`; takes R products of H_unrolled."""
    same, cross = torch.zeros_like(vector), torch.zeros_like(vector)
    for loop in range(loops):
        copies = vector.new_zeros(loops, len(vector))
        copies[loop] = vector
        rows = (yield copies.view(-1)).view(loops, -1)
        for other, row in enumerate(rows):
            if other == loop:
                same += row
            else:
                cross += row
    return same, cross


def of_part(run: Products[T], loops: int, part: int) -> Products[T]:
    """An algorithm over one part `[P_b]`, as one over H_unrolled `[R·P_b]`: R products for each of its own."""
    vector = next(run)
    while True:
        products = yield from parts(vector, loops)
        try:
            vector = run.send(products[part])
        except StopIteration as finished:
            found: T = finished.value
            return found


def loop_parts(probe: Probe) -> list[Finding]:
    """Traces and ends of the same-loop and the cross-loop part of the looped blocks' Hessian."""
    if probe.by_sequence is not None:
        reason = "sequences are looped by length: no loop is one of all of them"
        return [failed(_columns(SAME, CROSS), "products", reason)] * probe.lanes
    unrolled = Unrolled(probe=probe)
    exact = probe.is_exact and unrolled.loops * unrolled.size <= probe.measure.exact
    found = _exact(unrolled) if exact else _sampled(unrolled)
    if unrolled.loops > 1:
        return found
    absent = failed(_columns(CROSS), "exact", "one loop").values
    return [replace(one, values={**one.values, **absent}) for one in found]


def _exact(unrolled: Unrolled) -> list[Finding]:
    """By lane, from the dense parts."""
    products = unrolled.loops * unrolled.size
    found = []
    for lane in range(unrolled.probe.lanes):
        dense = unrolled.dense(lane)
        wrong = _wrong(float((dense - dense.mT).norm()), float(dense.norm()))
        if wrong:
            found.append(failed(_columns(SAME, CROSS), "exact", wrong, products=products))
            continue
        numbers = {}
        for part, (name, ends) in enumerate(PARTS):
            values = torch.linalg.eigvalsh((dense[part] + dense[part].mT) / 2)
            numbers[f"{name}_loop_trace"] = float(torch.trace(dense[part]))
            numbers |= {f"{name}_loop_lambda_{end}": float(values[-1 if end == "max" else 0]) for end in ends}
        found.append(
            Finding(values={c: Value(number=x, method="exact", products=products) for c, x in numbers.items()})
        )
    return found


def _sampled(unrolled: Unrolled) -> list[Finding]:
    """By lane, traces from random vectors and ends by Lanczos, all in step."""
    lanes = range(unrolled.probe.lanes)
    checked = unrolled.drive([(lane, _symmetry(unrolled, lane)) for lane in lanes])
    found = {
        lane: failed(_columns(SAME, CROSS), "products", wrong, products=2)
        for lane, wrong in zip(lanes, checked, strict=True)
        if wrong
    }
    runs: list[tuple[int, Products[dict[str, Value]]]] = []
    for lane in lanes:
        if lane not in found:
            runs.append((lane, _traces(unrolled, lane)))
            runs += [(lane, _ends(unrolled, lane, part)) for part in (SAME, CROSS)[: unrolled.loops]]
    for (lane, _), values in zip(runs, unrolled.drive(runs), strict=True):
        found[lane] = Finding(values={**found[lane].values, **values} if lane in found else values)
    return [found[lane] for lane in lanes]


def _symmetry(unrolled: Unrolled, lane: int) -> Products[str | None]:
    """What is wrong with H_unrolled, from its products with two random vectors."""
    u, v = (torch.cat([unrolled.direction(lane, name, loop) for loop in range(unrolled.loops)]) for name in "uv")
    first, second = (yield u), (yield v)
    return _wrong(abs(float(v @ first) - float(u @ second)), float(first.norm() + second.norm()))


def _wrong(skew: float, size: float) -> str | None:
    if not math.isfinite(skew + size):
        return "a product is not finite"
    if skew > ASYMMETRY * size:
        return f"the unrolled product is not symmetric: by {skew / size:.1e} of its size"
    return None


def _traces(unrolled: Unrolled, lane: int) -> Products[dict[str, Value]]:
    """Both traces by Hutchinson's estimator: the mean of zᵀ A z over vectors z of random signs."""
    vectors, loops = unrolled.probe.measure.vectors, unrolled.loops
    samples: tuple[list[Sample], list[Sample]] = ([], [])
    for index in range(vectors):
        z = torch.where(unrolled.direction(lane, "signs", index) < 0, -1.0, 1.0).double()
        products = yield from parts(z, loops)
        for own, product in zip(samples, products, strict=True):
            own.append(Sample(trace=float(z @ product), product=product))
    method, spent, found = f"hutchinson, {vectors} vectors", vectors * loops, {}
    for (name, _), own in zip(PARTS, samples, strict=True):
        mean = trace(own)
        found[f"{name}_loop_trace"] = Value(number=mean.number, method=method, error=mean.error, products=spent)
    return found


def _ends(unrolled: Unrolled, lane: int, part: int) -> Products[dict[str, Value]]:
    """The ends of one part by Lanczos, within the measurement's Hessian products (but for one product of the part)."""
    (name, ends), loops = PARTS[part], unrolled.loops
    budget = max(1, unrolled.probe.measure.products // loops)
    run = extremes(unrolled.direction(lane, "start"), ends=ends, max_products=budget)
    found = yield from of_part(run, loops, part)
    return {f"{name}_loop_lambda_{end}": _value(extreme, loops) for end, extreme in zip(ends, found, strict=True)}


def _value(extreme: Extreme, loops: int) -> Value:
    failure = f"{extreme.failure}; each takes {loops} Hessian products" if extreme.failure else None
    return replace(as_value(extreme), products=extreme.products * loops, failure=failure)


def _columns(*of: int) -> list[str]:
    names = tuple(PARTS[part][0] for part in of)
    return [column for column in QUANTITIES["loop_parts"].columns if column.startswith(names)]
