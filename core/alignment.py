"""How the gradients of Single- and Looped-Attn lie to each other at shared weights (Theorem 3 of arXiv 2510.10089).

The cosine of ∇L at one loop and ∇L at `measure.loops` loops, at the same weights and on the same probe batch, whole and
per kind of matrix. Both numbers of loops are fixed by the measurement, whatever the link trains with: a trial with one
loop, with others or with drawn ones is compared at the same two. Injection and which outputs the loss is taken on are
the link's, and the method names them where they are not the usual ones; a link of one loop has neither, so there the
looped gradient is that without injection, of the last output.
"""

from __future__ import annotations

from torch import Tensor

from core.findings import Finding, Value
from core.probes import Probe


def gradient_alignment(probe: Probe) -> list[Finding]:
    """The cosine of both gradients, and of their parts in each kind of matrix that the model has."""
    loops = (1, probe.measure.loops)
    single, looped = (probe.gradients(loops=number) for number in loops)
    method = f"gradients at {loops[0]} and {loops[1]} loops"
    method += f", injection {probe.link.injection}" if probe.link.injection != "none" else ""
    method += f", loss on {probe.link.loss_on}" if probe.link.loss_on != "last" else ""
    # By lane on memory of its own: where a row of [K, P] begins may act on the bits of a sum over it.
    return [
        Finding(
            values={
                "gradient_alignment": _cosine(single[lane].clone(), looped[lane].clone(), loops, method),
                **{
                    f"gradient_alignment_{kind}": _cosine(single[lane][places], looped[lane][places], loops, method)
                    for kind, places in probe.kinds.items()
                },
            }
        )
        for lane in range(probe.lanes)
    ]


def _cosine(single: Tensor, looped: Tensor, loops: tuple[int, int], method: str) -> Value:
    """The cosine of two gradients `[n]`, taken at these two numbers of loops."""
    norms = float(single.norm()), float(looped.norm())
    for number, norm in zip(loops, norms, strict=True):
        if norm == 0.0:
            return Value(method=method, failure=f"the gradient at {number} loop{'s' * (number > 1)} is zero")
    return Value(number=float((single / norms[0]) @ (looped / norms[1])), method=method)
