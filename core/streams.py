"""Named random streams: every random number is a function of (seed, name, position), never of what ran before.

Philox is counter based: the numbers at position n are had without drawing those before it, so batches are a function
of (data seed, step) and resuming needs no generator state. Bits do not depend on machine, thread count or order.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection

import numpy as np

__all__ = ["derived_seed", "fresh_seeds", "stream"]


def _key(seed: int, names: tuple[str | int, ...]) -> bytes:
    text = "\x1f".join(["loopsweep", str(seed), *map(str, names)])
    return hashlib.sha256(text.encode()).digest()


def derived_seed(seed: int, *names: str | int) -> int:
    """A seed in 0 … 2^62 − 1 derived from another by name (for instance the tuning seeds of an arm)."""
    return int.from_bytes(_key(seed, names)[:8], "little") >> 2


def fresh_seeds(purpose: str, count: int, taken: Collection[int]) -> tuple[int, ...]:
    """Seeds for a purpose: derived by hash, the same for every study (so studies share trials), none of `taken`."""
    derived = (derived_seed(0, purpose, number) for number in itertools.count())
    return tuple(itertools.islice((seed for seed in derived if seed not in taken), count))


def stream(seed: int, *names: str | int, position: int = 0) -> np.random.Generator:
    """The generator of a named stream.

    Args:
        seed: of the trial or of its data.
        names: what the numbers are for, e.g. ``("data", "batch")``.
        position: counter blocks to skip; one block holds 4 numbers of 64 bits (so 4 doubles).
    """
    bits = np.random.Philox(key=np.frombuffer(_key(seed, names)[:16], dtype=np.uint64))
    if position:
        bits.advance(position)
    return np.random.Generator(bits)
