"""Which states lie on disk: kept and passing ones, by name alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.checkpoint import TrialState
from core.errors import StoreError
from studies.states import States
from studies.store import Store
from tests.studies.rows import A, B


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def put(store: Store, lineage: str, step: int, *, passing: bool = False) -> Path:
    path = store.checkpoint(lineage, step, passing=passing)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@given(
    steps=st.lists(st.integers(0, 30)),
    after=st.integers(0, 30),
    last=st.integers(0, 30),
)
def test_the_nearest_state_is_the_latest_in_its_stretch(steps: list[int], after: int, last: int) -> None:
    states = States([(A, step) for step in steps] + [(B, 7)])
    assert states.nearest(A, after, last) == max((s for s in steps if after < s <= last), default=None)
    assert all(states.has(A, step) == (step in steps) for step in range(31))
    assert States().nearest(A, after, last) is None


def test_kept_and_passing_states_of_one_address_are_two_files_and_the_kept_one_is_taken(store: Store) -> None:
    def weights() -> float | None:
        state = store.load_state(A, 10)
        return None if state is None else float(state.parameters["w"])

    assert weights() is None
    assert not store.has_state(A, 10)
    for number, passing in ((1.0, True), (2.0, False)):
        parameters = {"w": torch.tensor(number)}
        store.save_state(TrialState(lineage=A, step=10, parameters=parameters, optimizer={}), passing=passing)
        assert store.has_state(A, 10)
        assert weights() == number
    assert store.states().has(A, 10)
    assert not store.states().has(A, 11)
    assert store.remove_passing({A}) == 1
    assert weights() == 2.0


def test_one_look_sees_both_kinds_and_no_other_file(store: Store) -> None:
    put(store, A, 10)
    put(store, A, 20, passing=True)
    folder = put(store, B, 5).parent
    for name in (f".{A}-30.safetensors.x", f"{A}-30.safetensors.tmp", f"{A}-x.safetensors", "README"):
        (folder / name).touch()
    states = store.states()
    assert [states.nearest(A, 0, last) for last in (9, 10, 19, 20, 99)] == [None, 10, 10, 20, 20]
    assert states.has(B, 5)
    assert not states.has(A, 30)


def test_passing_states_go_and_kept_ones_stay(store: Store) -> None:
    kept = put(store, A, 10)
    mine, needed, theirs = (put(store, *each, passing=True) for each in ((A, 10), (A, 20), (B, 10)))
    assert store.remove_passing({A}, needed={(A, 20), (B, 99)}) == 1
    assert [path.exists() for path in (kept, mine, needed, theirs)] == [True, False, True, True]
    assert store.remove_passing({A, B}) == 2
    assert store.remove_passing({A, B}) == 0
    assert kept.exists()


def test_what_a_killed_writer_left_goes_once_it_is_old(store: Store) -> None:
    old, young, other = (
        put(store, lineage, 10).with_name(f".{lineage}-{step}.passing.safetensors.x1")
        for lineage, step in ((A, 10), (A, 20), (B, 10))
    )
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    store.remove_passing({A})
    assert (old.exists(), young.exists(), other.exists()) == (False, True, True)


def test_a_store_without_states_has_none_and_makes_no_folder(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "none")
    assert store.states().nearest(A, 0, 100) is None
    assert store.remove_passing({A}) == 0
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_read_is_a_store_error(store: Store) -> None:
    (store.root / "checkpoints").write_text("in the way")
    with pytest.raises(StoreError, match="checkpoints"):
        store.states()
