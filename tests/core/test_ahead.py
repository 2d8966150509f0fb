"""Batches drawn ahead: the same as drawn when their turn comes, whatever was foretold."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from core import train
from core.ahead import Ahead
from tests.core.packs import bits, run
from tests.core.reference import case


class Draws:
    """Says what it was asked, and by which thread."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, bool]] = []

    def __call__(self, start: int, count: int) -> list[int]:
        self.asked.append((start, count, threading.current_thread() is threading.main_thread()))
        return list(range(start, start + count))


@pytest.fixture
def draws() -> Iterator[Draws]:
    before = threading.active_count()
    yield Draws()
    assert threading.active_count() == before, "a thread was left behind"


def test_what_was_foretold_is_drawn_by_a_thread_and_once(draws: Draws) -> None:
    with Ahead(draws, beside=True) as ahead:
        assert ahead.take(0, 3) == [0, 1, 2]
        ahead.foretell(3, 2)
        assert ahead.take(3, 2) == [3, 4]
    assert draws.asked == [(0, 3, True), (3, 2, False)]


def test_a_wrong_guess_is_drawn_anew(draws: Draws) -> None:
    with Ahead(draws, beside=True) as ahead:
        ahead.foretell(3, 64)
        assert ahead.take(3, 2) == [3, 4]
        assert ahead.take(5, 1) == [5]
        ahead.foretell(6, 1)  # never taken


def test_without_a_thread_nothing_is_drawn_before_it_is_taken(draws: Draws) -> None:
    with Ahead(draws, beside=False) as ahead:
        ahead.foretell(0, 3)
        assert draws.asked == []
        assert ahead.take(0, 3) == [0, 1, 2]
    assert draws.asked == [(0, 3, True)]


def test_an_error_of_the_thread_is_raised_where_its_batches_are_taken() -> None:
    def broken(start: int, count: int) -> None:
        raise OSError(f"no batches {start} + {count}")

    with Ahead(broken, beside=True) as ahead:
        ahead.foretell(0, 1)
        with pytest.raises(OSError, match=r"no batches 0 \+ 1"):
            ahead.take(0, 1)


@pytest.mark.parametrize("name", ["toy", "shift", "by_length_shift"])
def test_training_is_the_same_with_a_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU would train: on a CPU there is no thread, so it is asked for here."""
    config = case(name)
    expected = bits(run([config])[0])
    monkeypatch.setattr(train, "BLOCK_STEPS", 4)
    monkeypatch.setattr(train, "Ahead", lambda draw, beside: Ahead(draw, beside=True))
    assert bits(run([config])[0]) == expected
