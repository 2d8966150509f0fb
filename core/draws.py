"""Loop counts drawn per update: Poisson-lognormal, a pure function of (seed, step).

As in Geiping et al. 2025 (arXiv 2502.05171) and McLeish et al. 2025 (arXiv 2511.07384):

    τ ~ Normal(log m − σ²/2, σ),    r = 1 + Poisson(e^τ)

Here m = mean − 1, so that r is `mean` on average exactly; theirs is m + 1 on average when m is the number they name.
Its variance is m + m² (e^σ² − 1); σ = 0 is 1 + Poisson(m), and mean = 1 is always one loop.

Updates are numbered from 1 and drawn in blocks of `BLOCK`, each from a stream of its own, (seed, "loops", block): numpy
draws a Poisson number from as many uniform ones as it rejects, which ends with the block. So any window of steps has
the same numbers, and none depends on what ran before or on the length of the training.

No torch here: planning imports this file.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from core.streams import stream

Loops = npt.NDArray[np.int64]

BLOCK = 256
"""Updates that are drawn together."""
CHUNK = 16 * BLOCK
"""Updates whose running sums are kept together: 32 KiB."""


def loop_draws(seed: int, *, mean: int, sigma: float, start: int, count: int) -> Loops:
    """Loops of the updates start + 1 … start + count.

    Args:
        seed: of the trial.
        mean: expected loops of an update, at least 1.
        sigma: spread of the logarithm of the Poisson rate, finite and at least 0; 0.5 in Geiping et al.
        start: updates made before, at least 0.
        count: updates to draw, at least 0.

    Returns:
        `[count]`, each at least 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(mean, sigma, start, start + count)
    first, last = start // BLOCK, -(-(start + count) // BLOCK)
    if first >= last:
        return np.empty(0, dtype=np.int64)
    blocks = np.concatenate([_block(seed, mean, sigma, block) for block in range(first, last)])
    return blocks[start - first * BLOCK :][:count].copy()


def drawn_total(seed: int, *, mean: int, sigma: float, start: int, end: int, most: int = 0) -> int:
    """Sum of the loops of the updates start + 1 … end; quick however many stretches of one trial are asked.

    Args:
        seed: of the trial.
        mean: see `loop_draws`.
        sigma: see `loop_draws`.
        start: updates made before, at least 0.
        end: last update, at least `start`.
        most: count at most so many loops of an update; 0 = all.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(mean, sigma, start, end)
    if mean == 1:
        return end - start
    return _before(seed, mean, sigma, end, most) - _before(seed, mean, sigma, start, most)


def _check(mean: int, sigma: float, start: int, end: int) -> None:
    if mean < 1:
        raise ValueError(f"the mean of drawn loops must be at least 1, got {mean}")
    if not 0 <= sigma < math.inf:
        raise ValueError(f"the sigma of drawn loops must be finite and at least 0, got {sigma}")
    if not 0 <= start <= end:
        raise ValueError(f"loops are drawn from a step ≥ 0 to one not before it, got {start} to {end}")


def _before(seed: int, mean: int, sigma: float, step: int, most: int) -> int:
    """Sum of the loops of the first `step` updates, of each at most `most`."""
    full, rest = divmod(step, CHUNK)
    total = sum(int(_sums(seed, mean, sigma, chunk, most)[-1]) for chunk in range(full))
    return total + int(_sums(seed, mean, sigma, full, most)[rest - 1]) if rest else total


# Bounded: 32 MiB and 1 MiB at most. Trials of a plan that differ in anything but their draws share the sums; the lanes
# of a pack read on in their blocks.
@lru_cache(maxsize=1024)
def _sums(seed: int, mean: int, sigma: float, chunk: int, most: int) -> Loops:
    """Running sums of the draws of one chunk, `[CHUNK]`; not to be written to."""
    blocks = range(chunk * CHUNK // BLOCK, (chunk + 1) * CHUNK // BLOCK)
    drawn = np.concatenate([_block(seed, mean, sigma, block) for block in blocks])
    return np.cumsum(np.minimum(drawn, most) if most else drawn)


@lru_cache(maxsize=512)
def _block(seed: int, mean: int, sigma: float, block: int) -> Loops:
    """Loops of the updates BLOCK · block + 1 … BLOCK · (block + 1), `[BLOCK]`; not to be written to."""
    if mean == 1:
        return np.ones(BLOCK, dtype=np.int64)
    generator = stream(seed, "loops", block)
    rates = np.exp(math.log(mean - 1) - sigma**2 / 2 + sigma * generator.standard_normal(BLOCK))
    return 1 + generator.poisson(rates)
