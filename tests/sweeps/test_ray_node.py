"""A node is refused, in one line that says what to do, for each thing that it lacks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core import files
from core.task_terms import MarkovTask, TextTask
from studies.store import Store
from sweeps.ray_node import Needs, distinct_texts


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    store = Store.open(tmp_path / "store", create=True)
    return Needs(root=str(store.root), canary=store.plant_canary())


def text(folder: Path) -> TextTask:
    """The task of a text of one file."""
    folder.mkdir()
    (folder / "a.txt").write_text("abc" * 100)
    digest = files.digest([("a.txt", b"abc" * 100)], None)
    return TextTask(files=(str(folder / "*.txt"),), digest=digest)


def test_a_node_that_has_everything_lacks_nothing(needs: Needs, tmp_path: Path) -> None:
    assert replace(needs, texts=(text(tmp_path / "texts"),)).missing() is None


def test_a_folder_of_the_same_name_that_is_not_shared_is_not_the_store(needs: Needs, tmp_path: Path) -> None:
    for make in (lambda root: None, lambda root: Store.open(root, create=True)):
        shutil.rmtree(needs.root)
        make(needs.root)
        found = needs.missing()
        assert found is not None
        assert found.startswith(f"does not see the store {needs.root}; keep it on a file system that every node mounts")
        Path(needs.root).mkdir(exist_ok=True)
    (Path(needs.root) / "format.json").write_text("{}")
    assert "cannot read the store: " in str(needs.missing())


def test_a_compiler_is_needed_only_to_compile(needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert needs.missing() is None
    found = replace(needs, engine="compiled").missing()
    assert (
        found == "has no C++ compiler for --engine compiled; install g++ there, name one in CXX, or leave --engine out"
    )


def test_text_files_that_are_not_there_or_differ_are_said_once(needs: Needs, tmp_path: Path) -> None:
    task = text(tmp_path / "texts")
    here = replace(needs, texts=(task,))
    (tmp_path / "texts" / "a.txt").write_text("abd" * 100)
    assert f"digest {task.digest} was planned" in str(here.missing())
    (tmp_path / "texts" / "a.txt").unlink()
    found = str(here.missing())
    assert "matches no file" in found
    assert found.endswith("text files must be readable at the same path on every node")
    assert len(found.splitlines()) == 1


def test_each_text_is_looked_at_once(tmp_path: Path) -> None:
    task = text(tmp_path / "texts")
    assert distinct_texts([MarkovTask(), task, replace(task, length=64), task]) == (task,)
