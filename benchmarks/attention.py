"""Does torch's fused attention or ours by explicit products take less time, forward and backward, on one core?

Both in one run, in turns; the ratio is the median over rounds. `core.layers.EXPLICIT_LENGTH` rests on it; see
docs/decisions/0001-attention-of-short-sequences.md.

    python benchmarks/attention.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

from core.numerics import pin_threads

pin_threads()

import torch  # noqa: E402 - after threads are pinned
import torch.nn.functional as F  # noqa: E402, N812 - torch's own name for it

from core.mixing import heads  # noqa: E402

CASES = ((16, 128), (32, 512))
"""Width of the head and sequences: the two toys of `benchmarks/packs.py` at K = 16."""
LENGTHS = (16, 32, 48, 64, 128)


def seconds(work: Callable[[], object], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which both take turns")
    rounds = parser.parse_args().rounds
    for width, sequences in CASES:
        for length in LENGTHS:
            qkv = [torch.randn(sequences, length, width, requires_grad=True) for _ in range(3)]
            grad = torch.randn(sequences, length, width)

            def fused(qkv: list[torch.Tensor] = qkv, grad: torch.Tensor = grad) -> object:
                q, k, v = (part.unsqueeze(1) for part in qkv)
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0).squeeze(1)
                return torch.autograd.grad(y, qkv, grad)

            def explicit(qkv: list[torch.Tensor] = qkv, grad: torch.Tensor = grad) -> object:
                return torch.autograd.grad(heads(*qkv, softmax=True, math=False), qkv, grad)

            for warm in (fused, explicit):
                warm()
            turns = [(seconds(fused), seconds(explicit)) for _ in range(rounds)]
            ratio = median(a / b for a, b in turns)
            ours = median(b for _, b in turns) * 1e3
            print(
                f"width {width:3d}  {sequences} sequences of {length:3d}: ours {ours:6.2f} ms, fused / ours {ratio:.2f}"
            )


if __name__ == "__main__":
    main()
