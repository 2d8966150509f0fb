"""What travels to the nodes is the four packages, as they are, and nothing beside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import InputError
from core.numerics import CODE_VARIABLE, code_facts
from sweeps import ray_code

ROOT = Path(__file__).parents[2]


def test_the_packages_travel_whole_and_alone(tmp_path: Path) -> None:
    ray_code.stage(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ray_code.PACKAGES)
    sent = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    there = subprocess.run(
        ["git", "ls-files", *ray_code.PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {Path(name) for name in there.stdout.splitlines()} <= sent
    assert not [path for path in sent if path.suffix == ".pyc" or path.name.startswith(".")]


def test_a_large_file_among_them_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_code, "MOST_BYTES", 10_000)
    with pytest.raises(InputError, match=r"to each node, at most 0 MiB, got 2 MiB; move \w+/.* \(\d MiB\) elsewhere"):
        ray_code.stage(tmp_path)


def test_a_copy_says_what_it_was_copied_from(tmp_path: Path) -> None:
    ray_code.stage(tmp_path)
    environ = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    program = "from core.numerics import code_facts; import core, json; print(core.__file__, json.dumps(code_facts()))"
    for more, facts in ((ray_code.environment(), code_facts()), ({}, {**code_facts(), "commit": None})):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environ | more,
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        file, _, said = done.stdout.partition(" ")
        assert file == str(tmp_path / "core" / "__init__.py")
        assert json.loads(said) == facts


def test_nothing_else_is_in_the_environment_that_ray_shows() -> None:
    found = ray_code.environment()
    assert {name: value for name, value in found.items() if value != "1"}.keys() == {CODE_VARIABLE}
    assert json.loads(found[CODE_VARIABLE]).keys() == {"loopsweep", "commit"}
