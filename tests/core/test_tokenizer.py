"""Tokens of text: bytes, and tokenizer files that are made here by the package itself."""

from __future__ import annotations

import builtins
import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.tokenizer import Bytes, TokenizerFile, pieces
from tests.core.tokenizers_made import byte_pairs, words

TEXT = "the cat sat on the mat\nthe bat sat on the cat\nand naïve 猫 sat too\n"


def test_every_byte_is_a_token() -> None:
    content = bytes(range(256))
    made = Bytes()
    np.testing.assert_array_equal(made.encode(content, "a"), np.arange(256))
    assert made.encode(content, "a").dtype == np.uint8
    assert made.size == 256
    assert made.restores(b"\xff\x00")


@given(text=st.text(alphabet="ab\n猫", max_size=60), size=st.integers(1, 9))
def test_pieces_make_the_text_and_end_with_a_line_where_they_can(text: str, size: int) -> None:
    found = list(pieces(text, size))
    assert "".join(found) == text
    assert all(0 < len(piece) <= size for piece in found)
    for piece in found[:-1]:
        assert piece.endswith("\n") or "\n" not in piece


def test_byte_pairs_give_the_text_back() -> None:
    made = TokenizerFile(byte_pairs(TEXT), "t.json")
    tokens = made.encode(TEXT.encode(), "a.txt")
    assert tokens.dtype == np.uint16
    assert len(tokens) < len(TEXT.encode())
    assert tokens.max() < made.size
    assert made.restores(TEXT.encode())
    assert made.restores("words that it never saw: žluť\n".encode())


def test_a_word_that_a_tokenizer_does_not_know_is_not_given_back() -> None:
    made = TokenizerFile(words(["[UNK]", "the", "cat", "sat"]), "t.json")
    np.testing.assert_array_equal(made.encode(b"the dog sat", "a.txt"), [1, 0, 3])
    assert made.restores(b"the cat sat")
    assert not made.restores(b"the dog sat")


def test_no_special_tokens_are_added_and_those_of_the_file_count() -> None:
    made = TokenizerFile(byte_pairs(TEXT, special=["<s>", "</s>"]), "t.json")
    plain = TokenizerFile(byte_pairs(TEXT), "t.json")
    assert made.size == plain.size + 2
    assert len(made.encode(TEXT.encode(), "a")) == len(plain.encode(TEXT.encode(), "a"))


def test_an_empty_text_has_no_tokens() -> None:
    assert len(TokenizerFile(byte_pairs(TEXT), "t.json").encode(b"", "a.txt")) == 0
    assert len(Bytes().encode(b"", "a.txt")) == 0


def test_the_vocabulary_reaches_to_the_largest_token() -> None:
    made = TokenizerFile(words({"[UNK]": 0, "the": 70_000}), "t.json")
    assert made.size == 70_001
    assert made.encode(b"the", "a.txt").dtype == np.uint32


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_refused(content: bytes) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(InputError, match=r"task\.tokenizer: some/t\.json must be a tokenizer\.json"):
        TokenizerFile(content, "some/t.json")


def test_a_tokenizer_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match=r"task\.tokenizer: t\.json must know at least 2 tokens, got 1"):
        TokenizerFile(words(["[UNK]"]), "t.json")


def test_text_must_be_utf8_where_it_is_decoded() -> None:
    made = TokenizerFile(byte_pairs(TEXT), "t.json")
    with pytest.raises(InputError, match=r"task\.files: .*UTF-8.*a\.txt has byte 0xff at position 3"):
        made.encode(b"abc\xff", "a.txt")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(builtins, "__import__", _no_tokenizers)
    with pytest.raises(InputError, match=r"task\.tokenizer: needs the package tokenizers; .*'loopsweep\[text\]'"):
        TokenizerFile(b"{}", "t.json")


_import = builtins.__import__


def _no_tokenizers(name: str, *arguments: object, **named: object) -> object:
    if name == "tokenizers":
        raise ModuleNotFoundError(name)
    return _import(name, *arguments, **named)  # type: ignore[arg-type]
