"""The engine of a pack's gradients: eager, or a program that torch compiled for the shape of the pack.

*Eager* runs `core.model.loss` operation by operation: its bits are the ones that are pinned, and those of a lane do not
depend on its pack. *Compiled* gives the same function to torch.compile, which traces both passes and fuses what lies
between the products: on a CPU into C++, for which it needs a compiler, on a GPU into Triton kernels, replayed as CUDA
graphs. There is one program for each shape (lanes, batch, length, architecture, loops) and precision. The process keeps
them, so that one compilation serves all units of a shape; torch keeps the generated code on disk for the next process.

Compiled losses differ from eager ones in the last bits, and may differ with the number of lanes: they are of another
numerics class (`core.numerics`). The optimiser, evaluation and measurements are eager under both engines.

Nothing falls back to eager: what cannot be traced as a whole, or would be too many programs, is an error; so are loops
that are drawn anew for each update, or that go by the lengths of its problems.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from core.model import loss
from core.numerics import Engine
from core.ragged import Parameters

PROGRAMS = 256
"""Programs that a process makes at most; each takes seconds to compile, and torch looks through them at each call."""


def losses_by(engine: Engine, device: torch.device) -> Callable[..., Tensor]:
    """`core.model.loss` as an engine computes it, with its backward pass, on a kind of device."""
    if engine == "eager":
        return loss
    program = _program(device.type)

    def compiled(
        params: Parameters,
        *given: Any,
        loops: int | Sequence[int],
        by_sequence: Sequence[int] | None = None,
        **terms: Any,
    ) -> Tensor:
        if not isinstance(loops, int) or by_sequence is not None:
            raise ValueError(
                f"the compiled engine needs one number of loops for all updates, got {by_sequence or loops}"
            )
        return program(params, *given, loops=loops, **terms)

    return compiled


@cache
def _program(kind: str) -> Callable[..., Tensor]:
    """`core.model.loss`, compiled for each shape that comes."""
    torch._inductor.config.compile_threads = 1  # a worker is one process; torch would start a pool of them beside it
    torch._dynamo.config.recompile_limit = PROGRAMS
    options: dict[str, Any] = {"triton.cudagraphs": True} if kind == "cuda" else {}
    # dynamic=False: after two sizes torch would make one program for any number of lanes, with other bits again.
    return torch.compile(loss, fullgraph=True, dynamic=False, options=options)


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would call here; None where there is none."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))
