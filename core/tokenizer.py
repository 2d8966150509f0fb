"""What makes tokens of text: bytes as they are, or a tokenizer file in the format of Hugging Face (``tokenizer.json``).

The one file that imports `tokenizers`, which is optional, and only where a study names a tokenizer. Text is encoded in
pieces that end with a line, of at most `PIECE` bytes: an encoding takes about a hundred bytes a token while it is made.
No special tokens are added.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InputError, Problem

PIECE = 1 << 20
"""Bytes of text that are encoded at once."""

Codes = npt.NDArray[np.unsignedinteger[Any]]


class Bytes:
    """Every byte is a token."""

    size = 256

    def encode(self, content: bytes, _name: str) -> Codes:
        """The tokens of a text, uint8."""
        return np.frombuffer(content, dtype=np.uint8)

    def restores(self, _content: bytes) -> bool:
        """Whether the tokens of a text give it back: always."""
        return True


class TokenizerFile:
    """A tokenizer from its file."""

    def __init__(self, content: bytes, path: str) -> None:
        """Reads it.

        Args:
            content: of the file.
            path: of the file, for messages.

        Raises:
            InputError: where the package `tokenizers` is missing, or the file is no tokenizer.
        """
        if importlib.util.find_spec("tokenizers") is None:
            message = "needs the package tokenizers; install it with: pip install 'loopsweep[text]'"
            raise InputError([Problem("task.tokenizer", message)])
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the package raises bare exceptions
            message = f"{path} must be a tokenizer.json of Hugging Face's tokenizers, got: {error}"
            raise InputError([Problem("task.tokenizer", message)]) from error
        self.size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        """Tokens that it may give: 0 … size − 1."""
        if self.size < 2:
            message = f"{path} must know at least 2 tokens, got {self.size}"
            raise InputError([Problem("task.tokenizer", message)])

    def encode(self, content: bytes, name: str) -> Codes:
        """The tokens of a text, in the smallest type that holds them.

        Raises:
            InputError: where the text is not UTF-8.
        """
        kind = np.uint16 if self.size <= 1 << 16 else np.uint32
        encoded = [np.array(self._ids(piece), dtype=kind) for piece in pieces(_decoded(content, name))]
        return np.concatenate([np.empty(0, dtype=kind), *encoded])

    def restores(self, content: bytes) -> bool:
        """Whether the tokens of a text give it back: not where unknown words become one token, or case is lost."""
        decode = self._tokenizer.decode
        return all(
            decode(self._ids(piece), skip_special_tokens=False) == piece for piece in pieces(_decoded(content, ""))
        )

    def _ids(self, piece: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(piece, add_special_tokens=False).ids
        return ids


def tokenizer_of(content: bytes | None, path: str | None) -> Bytes | TokenizerFile:
    """What makes tokens: the tokenizer in a file, or bytes where there is none."""
    return Bytes() if content is None else TokenizerFile(content, path or "")


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"{name} has byte {content[error.start]:#04x} at position {error.start}"
        message = f"must be UTF-8 where a tokenizer is named, but {place}; leave the file or the tokenizer out"
        raise InputError([Problem("task.files", message)]) from error


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """A text in pieces of at most `size` characters, each up to the end of its last line if it has one."""
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end
