"""Eigenvalues by rank from the ends of a spectrum, multiple ones as often as they are, from matrix–vector products.

A Krylov space holds one vector of each eigenspace, so Lanczos sees a multiple eigenvalue once; one in which its start
has almost no part it sees late, and what converges meanwhile passes for the outermost. Residuals tell neither. So
`ranked` looks again once all that is asked has converged: it locks the converged Ritz vectors and runs Lanczos from a
fresh random direction in their complement, until a missed eigenvalue would have shown but for a probability of
`MISSED`. If one shows, it is taken in, and another look follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from core.hessian import Products
from core.krylov import Places, Ritz, Space
from core.lanczos import MAX_PRODUCTS, TOLERANCE, USED_UP, Extreme, Single

MISSED = 1e-3
"""Probability with which the look may overlook a missed eigenvalue, at either end."""
SOONER = 0.5
"""Share of the products to the next reading of those that the last two readings foretell: convergence speeds up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """Several eigenvalues from the ends of a spectrum: those that converged, multiple ones as often as they are."""

    highest: Extreme
    """What `extremes` finds from the same start as "max", bit for bit."""
    lowest: Extreme
    """The same for "min"."""
    top: Sequence[Extreme]
    """The largest, descending."""
    bottom: Sequence[Extreme]
    """The smallest, ascending."""
    magnitude: Sequence[Extreme]
    """Those of largest |λ|, descending in |λ|."""
    vectors: Tensor
    """Ritz vectors of the first of `top`, orthonormal rows `[vectors, P]`."""
    next: Extreme | None
    """The Ritz value after the last of `top`, or of the look's chain where that is larger, and its residual, converged
    or not. None: there is none."""
    products: int
    """Matrix–vector products in all, with the look for missed ones."""
    checked: bool
    """Whether the last look was clean; otherwise eigenvalues may be missing, which shifts the ranks behind them."""
    failure: str | None = None
    """Why values are missing, in one line."""

    @property
    def method(self) -> str:
        """As it is recorded: with what is not known of the lists."""
        return "lanczos" if self.checked else "lanczos, missed eigenvalues not excluded"


def ranked(
    start: Tensor,
    again: Callable[[int], Tensor] | None = None,
    *,
    top: int = 0,
    bottom: int = 0,
    magnitude: int = 0,
    vectors: int = 0,
    tolerance: float = TOLERANCE,
    max_products: int = MAX_PRODUCTS,
) -> Products[Ranked]:
    """The k largest and l smallest eigenvalues of a symmetric matrix, with multiplicities, by Lanczos.

    All are read together (Rayleigh–Ritz over the whole basis), so that their ranks agree. What is promised where
    `checked` is true: but for a probability of `MISSED` at each end, over the random directions, every rank is within
    thrice the tolerance of its true eigenvalue. For the residuals of all locked vectors together, R, are within twice
    the tolerance, the complement has no eigenvalue beyond the last rank by more than the tolerance, and eigenvalues of
    the whole are within ‖R‖ of those of the two parts (Weyl). Where the budget ends before, what has converged without
    a gap in the ranks is given, and nothing is promised but that an eigenvalue is within each error.

    Args:
        start: `[P]`, float64, unit norm; the Krylov space grows from it.
        again: gives the n-th fresh random unit vector `[P]`, n = 1, 2 …; from there it looks for missed ones, and
            goes on where a Krylov space is used up. None: neither; a multiple eigenvalue counts once.
        top: eigenvalues from the top; at most P are given.
        bottom: eigenvalues from the bottom.
        magnitude: eigenvalues of largest |λ|.
        vectors: Ritz vectors of the first so many of `top` to return.
        tolerance: largest root of the sum of squares of the residuals, relative to the largest Ritz value in
            magnitude, in (0, 1); up to twice that where missed ones were found.
        max_products: products after which what has not converged is given up.
    """
    space, single = Space(start, max_products), Single(("max", "min"), tolerance)
    P = len(start)
    asked = _Asked(top=min(top, P), bottom=min(bottom, P), magnitude=min(magnitude, P), tolerance=tolerance)
    need = min(P, max(asked.top + asked.bottom, asked.magnitude, 1))
    look: _Look | None = None
    kept: Ranked | None = None
    readings = _Readings()

    def found(ritz: Ritz | None = None, *, checked: bool) -> Ranked:
        return _ranked(space, ritz, asked, single, vectors=vectors, checked=checked)

    while True:
        space.take((yield space.last))
        if space.begin == 0:
            single.read(space)
        if not np.isfinite(space.beta) or space.count == P:
            return found(checked=True)
        used_up = space.beta <= USED_UP * max(single.radius, space.radius)
        if look is not None and kept is not None:
            verdict = look.verdict(space, used_up=used_up)
            # What a clean look confirms is what it began with: its own chain would only blur it.
            if verdict == "clean":
                return replace(kept, next=_next(kept, space), products=space.products, checked=True)
            if verdict == "missed":
                look = kept = None
                readings = _Readings()
        if space.products >= max_products:
            return found(checked=False) if kept is None else replace(kept, products=space.products)
        anew = used_up
        if kept is None and single.done and space.count >= need and (used_up or space.count >= readings.next):
            ritz = space.ritz()
            locked, excess = asked.locked(ritz)
            readings.add(space.count, excess)
            if locked is not None:
                kept = found(ritz, checked=False)
                if again is None:
                    return kept
                look = _Look(asked.bounds(ritz), asked.tolerance * space.radius)
                space.lock(ritz, locked)
                anew = True
        if not anew:
            space.grow()
        elif again is None or not space.branch(again):
            return found(checked=False) if kept is None else kept


def _next(kept: Ranked, space: Space) -> Extreme | None:
    """What follows the last of the top: a copy of it that a clean look leaves out is seen by its chain alone."""
    ritz = space.chain()
    value, error = float(ritz.values[-1]), float(ritz.residuals[-1])
    if kept.next is not None and (kept.next.value or 0.0) >= value:
        return kept.next
    return Extreme(value=value, error=error, products=space.products)


class _Readings:
    """When to read next: a reading costs j³ beside a product's P."""

    def __init__(self) -> None:
        self.next = 0
        """Directions to have first."""
        self._last: tuple[int, float] | None = None

    def add(self, count: int, excess: float) -> None:
        """Takes what was read with so many directions: the residuals over what they may be."""
        over = float(np.log(max(excess, 1.0)))
        # At most an eighth more, without two readings a sixteenth.
        wait = count // 16
        if self._last is not None and self._last[1] > over and count > self._last[0]:
            slope = (self._last[1] - over) / (count - self._last[0])
            wait = min(int(SOONER * over / slope), count // 8)
        self.next = count + max(1, wait)
        self._last = count, over


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """How many eigenvalues from where, and how well."""

    top: int
    bottom: int
    magnitude: int
    tolerance: float

    def places(self, ritz: Ritz) -> tuple[Places, Places, Places]:
        """Indices of the Ritz values that stand for the top, the bottom and the largest |λ|, in their order."""
        j = len(ritz.values)
        upward = np.arange(j)
        by_size = np.argsort(-np.abs(ritz.values), kind="stable")
        return upward[::-1][: self.top], upward[: self.bottom], by_size[: self.magnitude]

    def allowed(self, ritz: Ritz) -> float:
        """What the residuals may come to: locked ones stay as they are, so each further chain has half the room."""
        return (2.0 - 0.5 ** (ritz.chains - 1)) * self.tolerance * float(np.abs(ritz.values).max())

    def locked(self, ritz: Ritz) -> tuple[Places | None, float]:
        """The Ritz values to lock, and by how much the residuals of those asked are too large.

        They are those asked and, from the smallest residual on, what else fits in: the fewer are left, the shorter is
        the look. None: those asked have not converged.
        """
        asked = np.unique(np.concatenate(self.places(ritz)))
        squares, most = ritz.residuals**2, self.allowed(ritz) ** 2
        sum_ = float(squares[asked].sum())
        if not sum_ <= most:
            return None, float(np.sqrt(sum_ / most))
        others = np.setdiff1d(np.argsort(ritz.residuals, kind="stable"), asked, assume_unique=True)
        more = others[sum_ + np.cumsum(squares[others]) <= most]
        return np.sort(np.concatenate([asked, more])), 0.0

    def bounds(self, ritz: Ritz) -> tuple[float | None, float | None]:
        """Below the first and above the second lies nothing that is asked: what is further out has been found."""
        top, bottom, magnitude = (ritz.values[places] for places in self.places(ritz))
        size = [float(np.abs(magnitude).min())] if len(magnitude) else []
        low = [float(value) for value in bottom[-1:]] + [-s for s in size]
        high = [float(value) for value in top[-1:]] + size
        return (max(low) if low else None), (min(high) if high else None)


class _Look:
    """Whether a chain from a random direction, in the complement of what is locked, shows that something was missed.

    After m products with Ritz values θ_i and couplings β_i, the vector Π (H − θ_i) q has the norm Π β_i (q the chain's
    start). If there is an eigenvalue x, its eigenvector's share w of q is scaled by Π (x − θ_i) in it, so that
    |w| ≤ Π β_i / Π |x − θ_i|: the less, the further x is beyond all θ. In n dimensions a random direction has |w| ≤ a
    with a probability of at most a √(2 n / π). So an eigenvalue beyond x is excluded, but for that probability, from
    what the chain itself has seen, whatever the spectrum is and why it was missed.
    """

    def __init__(self, bounds: tuple[float | None, float | None], slack: float) -> None:
        low, high = bounds
        self._low = None if low is None else low - slack
        self._high = None if high is None else high + slack

    def verdict(self, space: Space, *, used_up: bool) -> str | None:
        """Missed: there is more than was found; clean: there is not; None: the chain must grow."""
        values = space.chain_values()
        above = [] if self._high is None else [self._high - values]
        below = [] if self._low is None else [values - self._low]
        beyond = above + below
        nearest = min(float(gaps.min()) for gaps in beyond)
        if nearest < 0.0:
            return "missed"
        if used_up:
            return "clean"
        if nearest == 0.0:
            return None
        norm = float(np.log(space.couplings).sum())
        left = len(space.last) - space.begin
        enough = np.log(np.sqrt(2 * left / np.pi) / MISSED)
        return "clean" if all(float(np.log(gaps).sum()) - norm >= enough for gaps in beyond) else None


def _ranked(space: Space, ritz: Ritz | None, asked: _Asked, single: Single, *, vectors: int, checked: bool) -> Ranked:
    """What there is when the products end: of this reading, or of one that is taken now."""
    used = space.products
    highest, lowest = single.answer("max"), single.answer("min")
    if not np.isfinite(space.beta):
        none = space.last.new_empty(0, len(space.last))
        return Ranked(
            highest=highest,
            lowest=lowest,
            top=(),
            bottom=(),
            magnitude=(),
            vectors=none,
            next=None,
            products=used,
            checked=False,
            failure="a product is not finite",
        )
    ritz = ritz or space.ritz()
    within = (ritz.residuals <= asked.allowed(ritz)) | (len(ritz.values) == len(space.last))

    def extreme(index: int) -> Extreme:
        return Extreme(value=float(ritz.values[index]), error=float(ritz.residuals[index]), products=used)

    places = asked.places(ritz)
    # Without a gap: behind one that has not converged, ranks are not known.
    top, bottom, magnitude = (some[: int(np.cumprod(within[some]).sum())] for some in places)
    missing = asked.top + asked.bottom + asked.magnitude - len(top) - len(bottom) - len(magnitude)
    failure: str | None = None
    if missing:
        of = asked.top + asked.bottom + asked.magnitude
        open_ = np.concatenate(places)
        worst = float(ritz.residuals[open_].max())
        failure = f"{missing} of {of} eigenvalues not converged after {used} products: residual {worst:.1e}"
    after = len(ritz.values) - 1 - len(top)
    return Ranked(
        highest=highest,
        lowest=lowest,
        products=used,
        top=tuple(extreme(i) for i in top),
        bottom=tuple(extreme(i) for i in bottom),
        magnitude=tuple(extreme(i) for i in magnitude),
        vectors=space.vectors(ritz.coefficients[:, top[:vectors]]),
        next=extreme(after) if after >= 0 else None,
        checked=checked,
        failure=failure,
    )
