"""Eigenvalues by rank from the ends of a spectrum, multiple ones as often as they are, from matrix–vector products.

A Krylov space holds one vector of each eigenspace, so Lanczos sees a multiple eigenvalue once. `ranked` therefore looks
once more, from a fresh direction in the complement of what it has: a copy that was missed is an eigenvector there. That
chain goes on until it would have found one but for a probability of `MISSED`; if it finds one, another follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.hessian import Products
from core.krylov import Ritz, Space
from core.lanczos import MAX_PRODUCTS, TOLERANCE, USED_UP, Extreme, Single

MISSED = 1e-3
"""Probability with which the look for missed copies of eigenvalues may overlook one."""

Places = NDArray[np.intp]


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
    """The Ritz value after the last of `top` and its residual, converged or not. None: there is none."""
    products: int
    """Matrix–vector products in all, with the look for missed copies."""
    checked: bool
    """Whether that look was finished; without it a multiple eigenvalue may stand for fewer than it is."""
    failure: str | None = None
    """Why values are missing, in one line."""


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

    All are read together (Rayleigh–Ritz over the whole basis) once the residual of each is within the tolerance and no
    copy is missing, so that their ranks agree. Those nearer than the tolerance can't be told apart: a rank may be off
    by thrice as much where its neighbours are that close. Where the budget ends before, what has converged without a
    gap in the ranks is given.

    Args:
        start: `[P]`, float64, unit norm; the Krylov space grows from it.
        again: gives the n-th fresh random unit vector `[P]`, n = 1, 2 …; from there it looks for missed copies, and
            goes on where a Krylov space is used up. None: neither; a multiple eigenvalue counts once.
        top: eigenvalues from the top; at most P are given.
        bottom: eigenvalues from the bottom.
        magnitude: eigenvalues of largest |λ|.
        vectors: Ritz vectors of the first so many of `top` to return.
        tolerance: largest residual relative to the largest Ritz value in magnitude, in (0, 1); twice that where copies
            were found.
        max_products: products after which what has not converged is given up.
    """
    space, single = Space(start), Single(("max", "min"), tolerance)
    P = len(start)
    asked = _Asked(top=min(top, P), bottom=min(bottom, P), magnitude=min(magnitude, P), tolerance=tolerance)
    need = min(P, max(asked.top + asked.bottom, asked.magnitude, 1))
    look: _Look | None = None
    kept: Ritz | None = None
    read_at = need

    def found(ritz: Ritz | None, *, checked: bool) -> Ranked:
        return _ranked(space, ritz, asked, single, vectors=vectors, checked=checked)

    while True:
        space.take((yield space.last))
        if space.begin == 0:
            single.read(space)
        if not np.isfinite(space.beta) or space.count == P:
            return found(None, checked=True)
        # Before anything has converged, everything is missed. What a clean look confirms is what it began with: the
        # other chain only blurs it, since the first no longer grows.
        verdict = "missed" if look is None else look.verdict(space)
        if verdict == "clean":
            return found(kept, checked=True)
        if space.count >= max_products:
            return found(None if verdict == "missed" else kept, checked=False)
        used_up = space.beta <= USED_UP * max(single.radius, space.radius)
        anew = used_up
        if verdict == "missed" and space.count >= need and (used_up or space.count >= read_at):
            ritz = space.ritz()
            # A reading costs j³ beside a product's P: the more there is to read, the less often.
            read_at = space.count + max(1, space.count // 16)
            if asked.converged(ritz) and single.done:
                kept, look = ritz, _Look(asked.bounds(ritz), tolerance)
                verdict = look.verdict(space) if space.begin > 0 else "missed"
                if verdict == "clean":
                    return found(kept, checked=True)
                anew = used_up or verdict == "missed"
        if not anew:
            space.grow()
        elif again is None or not space.branch(again):
            return found(kept, checked=False)
        else:
            read_at = space.count


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

    def within(self, ritz: Ritz) -> NDArray[np.bool_]:
        """By Ritz value, whether its residual is within the tolerance."""
        radius = np.abs(ritz.values).max()
        # Chains that no longer grow leave a residual that stays, and moves a little as Ritz vectors turn.
        slack = 1.0 if ritz.chains == 1 else 2.0
        return np.asarray(ritz.residuals <= slack * self.tolerance * radius)

    def converged(self, ritz: Ritz) -> bool:
        """Whether all that is asked is."""
        return bool(self.within(ritz)[np.concatenate(self.places(ritz))].all())

    def bounds(self, ritz: Ritz) -> tuple[float | None, float | None]:
        """Below the first and above the second lies nothing that is asked: what is further out has been found."""
        top, bottom, magnitude = (ritz.values[places] for places in self.places(ritz))
        size = [float(np.abs(magnitude).min())] if len(magnitude) else []
        low = [float(value) for value in bottom[-1:]] + [-s for s in size]
        high = [float(value) for value in top[-1:]] + size
        return (max(low) if low else None), (min(high) if high else None)


class _Look:
    """Whether a chain from a random direction, in the complement of what converged, has brought what was missed.

    If the complement has an eigenvalue beyond a bound, m steps of Lanczos from a random direction leave its largest
    Ritz value short of it by the relative gap ε with a probability of at most 1.648 √P exp(−(2m − 1) √ε) (Kuczyński &
    Woźniakowski 1992, theorem 4.2; ε relative to the width of the spectrum).
    """

    def __init__(self, bounds: tuple[float | None, float | None], tolerance: float) -> None:
        self._low, self._high = bounds
        self._tolerance = tolerance

    def verdict(self, space: Space) -> str | None:
        """Missed: there is more than was found; clean: there is not; None: the chain must grow."""
        values, residuals = space.chain()
        slack = self._tolerance * space.radius
        low, high = float(values[0]), float(values[-1])
        said = []
        if self._high is not None:
            said.append(self._side(self._high - high, high - low, float(residuals[-1]), slack, space))
        if self._low is not None:
            said.append(self._side(low - self._low, high - low, float(residuals[0]), slack, space))
        if "missed" in said:
            return "missed"
        return None if None in said else "clean"

    def _side(self, gap: float, width: float, residual: float, slack: float, space: Space) -> str | None:
        if gap < -slack:
            return "missed"
        steps = space.count - space.begin
        if residual <= slack:
            return "clean"
        share = gap / (gap + width) if gap > 0.0 else 0.0
        sure = (2 * steps - 1) * np.sqrt(share) >= np.log(1.648 * np.sqrt(len(space.last)) / MISSED)
        return "clean" if sure else None


def _ranked(space: Space, ritz: Ritz | None, asked: _Asked, single: Single, *, vectors: int, checked: bool) -> Ranked:
    """What there is when the products end: of this reading, or of one that is taken now."""
    used = space.count
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
    within = asked.within(ritz) | (len(ritz.values) == len(space.last))

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
