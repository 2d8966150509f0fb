"""Who is looped how often where not all are alike, and moves of lanes that keep every bit.

Lanes of a pack may be looped different numbers of times (drawn loops), and so may the sequences of a batch (loops by
length). They are put in the order of falling loops once; those of fewer loops join later, so that all end together: the
rows of a pass are the first ones, and only they are computed. Ending together, they share their last b loops, which is
what truncated back-propagation needs. Nothing is masked: no row is computed beyond its loops, to overflow there and
bring 0 · inf = NaN back.

    loops of the lanes  2 1 4 2      order  2 0 3 1      rows at pass 1 … 4:  1 1 3 4

Moves of lanes are autograd functions of our own, because torch's fill the gradient with +0 where a lane had no part,
and −0 + 0 = +0: the sign of a lane's zeros would depend on its neighbours. −0 is the zero that changes nothing. For
sequences torch's own will do: their loops are the same in all lanes, whatever the pack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]


class Rows(Protocol):
    """What is looped by itself: lanes, or sequences."""

    @property
    def loops(self) -> tuple[int, ...]:
        """Of each row, falling."""
        ...

    @property
    def active(self) -> tuple[int, ...]:
        """Number of rows at each pass: rising, all of them at the last."""
        ...

    def sort(self, x: Tensor) -> Tensor:
        """`[K, …]` with the lanes in the order of the rows."""
        ...

    def restore(self, x: Tensor) -> Tensor:
        """`[K, …]` with the lanes as they stood before `sort`."""
        ...

    def take(self, x: Tensor, low: int, high: int) -> Tensor:
        """Rows low … high − 1 of a residual stream of all rows `[K, M, D]`."""
        ...

    def join(self, x: Tensor, more: Tensor) -> Tensor:
        """Some rows, and those that join them, as one residual stream."""
        ...

    def weights(self, x: Tensor, count: int) -> Tensor:
        """The weights `[K, …]` that act on the first `count` rows."""
        ...

    def spread(self, values: Tensor) -> Tensor:
        """A vector for each of the first rows `[rows, D]`, as it broadcasts over their residual stream."""
        ...


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """The lanes of a pack as rows."""

    loops: tuple[int, ...]
    active: tuple[int, ...]
    order: tuple[int, ...] | None
    """Lanes by falling loops, equal ones as they stood; None where all stand so already."""

    def sort(self, x: Tensor) -> Tensor:
        """`[K, …]` with the lanes by falling loops."""
        return x if self.order is None else cast(Tensor, _move(x, torch.tensor(self.order, device=x.device)))

    def restore(self, x: Tensor) -> Tensor:
        """`[K, …]` with the lanes as they stood, from those by falling loops."""
        if self.order is None:
            return x
        places = sorted(range(len(self.order)), key=self.order.__getitem__)
        return cast(Tensor, _move(x, torch.tensor(places, device=x.device)))

    def take(self, x: Tensor, low: int, high: int) -> Tensor:
        """Lanes low … high − 1 of `[K, …]`: a view, with a first derivative only."""
        return part(x, low, high)

    def join(self, x: Tensor, more: Tensor) -> Tensor:
        """Some lanes, and those that join them."""
        return torch.cat((x, more))

    def weights(self, x: Tensor, count: int) -> Tensor:
        """Those of the first lanes."""
        return part(x, 0, count)

    def spread(self, values: Tensor) -> Tensor:
        """`[lanes, D]` → `[lanes, 1, D]`."""
        return values.unsqueeze(1)


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The sequences of a batch as rows, longest first: the same loops in every lane."""

    loops: tuple[int, ...]
    active: tuple[int, ...]
    length: int
    """T."""

    def sort(self, x: Tensor) -> Tensor:
        """Lanes stay where they are."""
        return x

    def restore(self, x: Tensor) -> Tensor:
        """Lanes stay where they are."""
        return x

    def take(self, x: Tensor, low: int, high: int) -> Tensor:
        """Sequences low … high − 1 of `[K, B·T, D]`."""
        return x[:, low * self.length : high * self.length].contiguous()

    def join(self, x: Tensor, more: Tensor) -> Tensor:
        """Some sequences, and those that join them."""
        return torch.cat((x, more), 1)

    def weights(self, x: Tensor, count: int) -> Tensor:  # noqa: ARG002 - every lane has sequences in every pass
        """All of them."""
        return x

    def spread(self, values: Tensor) -> Tensor:
        """`[sequences, D]` → `[1, sequences · T, D]`."""
        return values.repeat_interleave(self.length, 0).unsqueeze(0)


def alike(K: int, loops: int) -> Lanes:
    """K lanes that are looped alike."""
    return Lanes(loops=(loops,) * K, active=(K,) * loops, order=None)


def by_falling_loops(loops: Sequence[int]) -> Lanes:
    """The lanes of a pack with the given loops, each at least 1."""
    order = tuple(sorted(range(len(loops)), key=lambda lane: -loops[lane]))
    falling = tuple(loops[lane] for lane in order)
    return Lanes(loops=falling, active=_rising(falling), order=None if falling == tuple(loops) else order)


def of_sequences(loops: Sequence[int], *, length: int) -> Sequences:
    """The sequences of a batch with the given loops.

    Raises:
        ValueError: they do not fall, or one is below 1.
    """
    if list(loops) != sorted(loops, reverse=True) or loops[-1] < 1:
        raise ValueError(f"loops of sequences must fall and be at least 1, got {list(loops)}")
    return Sequences(loops=tuple(loops), active=_rising(loops), length=length)


def _rising(loops: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(count >= left for count in loops) for left in range(max(loops), 0, -1))


def part(x: Tensor, low: int, high: int) -> Tensor:
    """Lanes low … high − 1 of `[K, …]`: a view, with a first derivative only."""
    return x if (low, high) == (0, x.shape[0]) else cast(Tensor, _some(x, low, high))


def compute(
    function: Callable[[Parameters, tuple[Tensor, ...], Rows], Tensor],
    params: Parameters,
    tokens: tuple[Tensor, ...],
    loops: int | Sequence[int],
    *,
    one_by_one: bool,
    never_alone: bool,
) -> Tensor:
    """A function of a pack, in the way that gives each lane the bits that it gets alone.

    Args:
        function: of parameters, tokens and who is looped how often, to `[K, …]`.
        params: by name, each `[K, …]`.
        tokens: each `[K, …]`.
        loops: of all lanes (such a pack is computed as it is, whatever the flags), or of each lane.
        one_by_one: compute lanes of different loops each by itself: moves of lanes have no second derivative.
        never_alone: give the lane of most loops a copy of itself as company, where a lone lane would get other bits.

    Raises:
        ValueError: there is not one number of loops ≥ 1 for each lane.
    """
    K = tokens[0].shape[0]
    if isinstance(loops, int):
        return function(params, tokens, alike(K, loops))
    if len(loops) != K or min(loops) < 1:
        raise ValueError(f"a pack of {K} lanes needs one number of loops ≥ 1 for each, got {list(loops)}")
    if len(set(loops)) == 1 and (K > 1 or not never_alone):
        return function(params, tokens, alike(K, loops[0]))
    again = partial(compute, function, one_by_one=one_by_one)
    if one_by_one and K > 1:
        lanes = zip(*(x.split_with_sizes([1] * K) for x in (*params.values(), *tokens)), loops, strict=True)
        parts = []
        for *tensors, own in lanes:
            weights = dict(zip(params, tensors[: len(params)], strict=True))
            parts.append(again(weights, tuple(tensors[len(params) :]), [own], never_alone=never_alone))
        return torch.cat(parts)
    if never_alone:
        longest = loops.index(max(loops))
        company = {name: torch.cat((p, p[longest : longest + 1].detach())) for name, p in params.items()}
        tokens = tuple(torch.cat((t, t[longest : longest + 1])) for t in tokens)
        return again(company, tokens, [*loops, loops[longest]], never_alone=False)[:K]
    return function(params, tokens, by_falling_loops(loops))


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lanes: Tensor) -> Tensor:
        ctx.save_for_backward(lanes)
        return x.index_select(0, lanes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (lanes,) = ctx.saved_tensors
        return torch.empty_like(grad, memory_format=torch.contiguous_format).index_copy_(0, lanes, grad), None


class _Some(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: int, high: int) -> Tensor:
        ctx.before, ctx.after = low, x.shape[0] - high
        return x[low:high]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        beside = (0, 0) * (grad.dim() - 1) + (ctx.before, ctx.after)
        return torch.constant_pad_nd(grad, beside, -0.0), None, None


# torch leaves `apply` untyped.
_move: Callable[..., Any] = _Move.apply
_some: Callable[..., Any] = _Some.apply
