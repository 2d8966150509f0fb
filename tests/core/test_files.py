"""Files of a text: which they are, and a digest that depends on names and contents alone."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from core import files
from core.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    (root / "more").mkdir(parents=True)
    (root / "b.txt").write_bytes(b"second")
    (root / "a.txt").write_bytes(b"first")
    (root / "more" / "c.txt").write_bytes(b"third")
    (root / ".hidden.txt").write_bytes(b"not this")
    (root / "folder.txt").mkdir()
    return root


def listed(root: Path, *patterns: str) -> tuple[files.TextFile, ...]:
    return files.listed([files.absolute(pattern, root) for pattern in patterns])


def digest(root: Path, *patterns: str, tokenizer: bytes | None = None) -> str:
    return files.digest(((file.name, file.read()) for file in listed(root, *patterns)), tokenizer)


def test_files_are_sorted_by_name_once_each_without_folders_and_hidden_files(folder: Path) -> None:
    found = listed(folder, "more/*", "*.txt", "a.txt")
    assert [(file.name, file.size) for file in found] == [("a.txt", 5), ("b.txt", 6), ("more/c.txt", 5)]
    assert [file.read() for file in found] == [b"first", b"second", b"third"]


def test_any_folders_are_walked_with_two_stars(folder: Path) -> None:
    assert [file.name for file in listed(folder, "**/*.txt")] == ["a.txt", "b.txt", "more/c.txt"]


def test_a_folder_whose_name_looks_like_a_glob_is_taken_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "run [1]*"
    root.mkdir()
    (root / "a.txt").write_bytes(b"x")
    assert [file.path for file in listed(root, "*.txt")] == [root / "a.txt"]


def test_an_absolute_pattern_means_itself(folder: Path, tmp_path: Path) -> None:
    found = listed(tmp_path / "elsewhere", str(folder / "*.txt"))
    assert [file.name for file in found] == ["a.txt", "b.txt"]


def test_the_digest_does_not_depend_on_the_patterns_nor_on_the_place(folder: Path, tmp_path: Path) -> None:
    want = digest(folder, "a.txt", "b.txt", "more/c.txt")
    assert digest(folder, "more/*", "*.txt") == want
    assert digest(tmp_path, "texts/**/*.txt") == want
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert digest(tmp_path / "elsewhere" / "copy", "**/*.txt") == want
    assert digest(tmp_path, str(folder / "**" / "*.txt")) == want


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer", "border", "tokenizer"])
def test_the_digest_depends_on_contents_names_and_tokenizer(change: str, folder: Path) -> None:
    before, tokenizer = digest(folder, "*.txt"), None
    match change:
        case "content":
            (folder / "a.txt").write_bytes(b"First")
        case "name":
            (folder / "a.txt").rename(folder / "aa.txt")
        case "more":
            (folder / "empty.txt").write_bytes(b"")
        case "fewer":
            (folder / "a.txt").unlink()
        case "border":  # the same bytes in a row
            (folder / "a.txt").write_bytes(b"firsts")
            (folder / "b.txt").write_bytes(b"econd")
        case "tokenizer":
            tokenizer = b"{}"
    assert digest(folder, "*.txt", tokenizer=tokenizer) != before
    assert len(before) == 16


def test_tokenizers_differ_by_their_content(folder: Path) -> None:
    assert digest(folder, "*.txt", tokenizer=b"{}") != digest(folder, "*.txt", tokenizer=b"{ }")


def test_the_standard_library_is_named_as_such(folder: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    found = listed(folder, "python:json/*.py", "*.txt")
    assert [file.name for file in found][:3] == ["a.txt", "b.txt", "python:json/__init__.py"]
    assert found[2].path == library / "json" / "__init__.py"


def test_what_is_installed_is_no_part_of_the_standard_library(folder: Path) -> None:
    names = [file.name for file in listed(folder, "python:**/*.py")]
    assert "python:json/decoder.py" in names
    assert not [name for name in names if "-packages/" in name]


def test_a_file_named_by_its_place_in_the_standard_library_too_counts_once(folder: Path) -> None:
    place = Path(sysconfig.get_path("stdlib")) / "json" / "decoder.py"
    assert [file.name for file in listed(folder, str(place), "python:json/d*.py")] == ["python:json/decoder.py"]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*.md", "matches no file"),
        ("folder.txt", "matches no file"),
        ("python:no_such_module/*.py", f"(in {sysconfig.get_path('stdlib')}) matches no file"),
        ("python:../*", "must stay below the standard library"),
        ("python:/etc/*", "must stay below the standard library"),
    ],
)
def test_a_pattern_without_files_is_refused(pattern: str, says: str, folder: Path) -> None:
    with pytest.raises(InputError, match=r"task\.files") as caught:
        listed(folder, "a.txt", pattern)
    (problem,) = caught.value.problems
    assert says in problem.message
    assert pattern in problem.message


@pytest.mark.parametrize(("name", "limit"), [("MAX_BYTES", 10), ("MAX_FILES", 1)])
def test_reading_is_bounded(name: str, limit: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, name, limit)
    with pytest.raises(InputError, match=r"task\.files: must .* at most .* narrow the patterns"):
        listed(folder, "*.txt")


def test_a_file_that_grew_past_the_limit_is_refused_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = listed(folder, "a.txt")
    monkeypatch.setattr(files, "MAX_BYTES", 4)
    with pytest.raises(InputError, match=r"a\.txt must hold at most"):
        file.read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "a.txt").chmod(0)
    with pytest.raises(InputError, match=r"task\.files: .*a\.txt cannot be read: Permission denied"):
        digest(folder, "*.txt")


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    (file,) = listed(folder, "a.txt")
    file.path.unlink()
    with pytest.raises(InputError, match=r"task\.files: .*a\.txt cannot be read: No such file"):
        file.read()
