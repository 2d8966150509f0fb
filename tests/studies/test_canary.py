"""Canaries: who sees the store that the driver sees, and who sees another."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.canary import DAY_NS
from studies.store import Store


def test_who_sees_the_same_store_sees_its_canary_and_no_other_does(place: str) -> None:
    driver = Store.open(place, create=True)
    token = driver.plant_canary()
    assert Store.open(place).sees_canary(token)
    assert not Store.open(f"{place}-elsewhere", create=True).sees_canary(token)
    assert not Store.open(f"{place}-missing").sees_canary(token)


def test_another_content_under_the_name_is_another_store(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    token = store.plant_canary()
    (store.root / "canaries" / token).write_bytes(b"another")
    assert not store.sees_canary(token)


def test_canaries_older_than_a_day_go_with_the_next_one(place: str) -> None:
    clock = [DAY_NS]
    Store.open(place, create=True)
    store = Store(place, now=lambda: clock[0])
    first = store.plant_canary()
    clock[0] += DAY_NS
    second = store.plant_canary()
    assert store.sees_canary(first)  # a day old, not older
    clock[0] += 1
    third = store.plant_canary()
    assert [store.sees_canary(token) for token in (first, second, third)] == [False, True, True]


@pytest.mark.parametrize("token", ["", "../format.json", "0" * 19 + "-" + "g" * 32])
def test_what_is_no_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Store.open(tmp_path, create=True).sees_canary(token)
