"""States on disk: the same bits back, damage is known as damage, no reader sees half a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.checkpoint import TrialState, load, save
from core.errors import StoreError
from core.pack import initial_state
from tests.core.reference import case


def state(name: str = "gpt2", precision: str = "float32") -> TrialState:
    first = initial_state(case(name, precision=precision))
    moved = {key: torch.randn_like(tensor) for key, tensor in first.optimizer.items()}
    return replace(first, step=7, optimizer=moved)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["toy", "gpt2", "sgd"])
def test_a_state_comes_back_bit_for_bit(tmp_path: Path, name: str, precision: str) -> None:
    written = state(name, precision)
    save(written, tmp_path / "deep" / "state.safetensors")
    read = load(tmp_path / "deep" / "state.safetensors")
    assert (read.lineage, read.step) == (written.lineage, 7)
    for kind in ("parameters", "optimizer"):
        first, second = getattr(written, kind), getattr(read, kind)
        assert first.keys() == second.keys()
        assert all(first[n].dtype == second[n].dtype and torch.equal(first[n], second[n]) for n in first)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.safetensors"]


def test_a_later_state_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save(state(), path)
    save(replace(state(), step=9), path)
    assert load(path).step == 9


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path, broken = tmp_path / "state.safetensors", tmp_path / "broken.safetensors"
    save(state("toy"), path)
    whole = path.read_bytes()
    for cut in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match=r"broken\.safetensors is missing or damaged"):
            load(broken)
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in (*range(header, len(whole), 997), len(whole) - 1):
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match="digest"):
            load(broken)


def test_a_missing_file_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing or damaged"):
        load(tmp_path / "none.safetensors")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(StoreError, match="missing or damaged"):
        load(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save(state(), path)
    with safe_open(path, framework="pt") as file:
        meta = file.metadata()["loopsweep"]
    save_file(load_file(path), path, metadata={"loopsweep": meta.replace('"format": 1', '"format": 2')})
    with pytest.raises(StoreError, match="format 2"):
        load(path)


def test_what_cannot_be_written_is_a_store_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        save(state(), tmp_path / "file" / "state.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    (tmp_path / "taken.safetensors" / "x").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        save(state(), tmp_path / "taken.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.safetensors"]
