"""Batches ahead of the updates that train on them: a thread draws the next block's while a GPU trains on this one's.

A CPU's cores each have a worker that trains, and a thread beside it takes from one what it gives to the other (measured
on two busy cores: updates took 1.0 to 1.5 times as long). There a block is drawn when its turn comes, whole.

What comes next is a guess: a criterion may end a stage, or the caller the pack. A guess that was wrong is drawn anew,
and since batches are a pure function of their steps, nothing depends on who drew them or when.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Draws for stretches of steps, the next one beforehand.

    Args:
        draw: (start, count) → what the updates start + 1 … start + count train on; a pure function.
        beside: whether a thread draws; else nothing is drawn before it is taken.
    """

    def __init__(self, draw: Callable[[int, int], T], *, beside: bool) -> None:
        """Draws nothing yet."""
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches") if beside else None
        self._guess: tuple[int, int] | None = None
        self._drawn: Future[T] | None = None

    def take(self, start: int, count: int) -> T:
        """What these updates train on: as foretold, or drawn now."""
        guess, drawn = self._guess, self._drawn
        self._guess = self._drawn = None
        if drawn is not None and guess == (start, count):
            return drawn.result()
        return self._draw(start, count)

    def foretell(self, start: int, count: int) -> None:
        """Begins to draw what will be taken next."""
        if self._thread is not None:
            self._guess, self._drawn = (start, count), self._thread.submit(self._draw, start, count)

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go of the thread; what it draws is thrown away."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
