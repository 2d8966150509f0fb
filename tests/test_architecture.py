"""The map of the code cannot drift: docs/architecture.md names every module, and what texts name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("core", "studies", "reports", "sweeps")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py")) if path.stem != "__init__"]
TEXTS = [*MODULES, ROOT / "README.md", *(p for p in sorted((ROOT / "docs").glob("*.md")) if p.name != "log.md")]
"""Of docs, the log alone tells of what was."""


def test_the_architecture_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name for path in re.findall(r"`([\w.]+)", text) for name in path.split(".")}
    assert [str(path.relative_to(ROOT)) for path in MODULES if path.stem not in named] == []


def is_there(room: str, name: str, inner: str) -> bool:
    """Whether a room has a module, a folder or an export of this name, and the module what is named in it."""
    module = ROOT / room / f"{name}.py"
    if not module.exists():
        return (ROOT / room / name).is_dir() or name in (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    defined = rf"^ *(def|class) {inner}\b|^( {{4}})?{inner}( =|:)"
    return not inner or re.search(defined, module.read_text(encoding="utf-8"), re.M) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_what_texts_name_of_a_room_is_there(room):
    lost = [
        f"{text.relative_to(ROOT)}: {room}.{name}.{inner}"
        for text in TEXTS
        for name, inner in re.findall(rf"`{room}\.(\w+)(?:\.(\w+))?", text.read_text(encoding="utf-8"))
        if not is_there(room, name, inner)
    ]
    assert lost == []
