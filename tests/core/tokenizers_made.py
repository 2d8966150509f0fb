"""Tiny tokenizer files, made by the package `tokenizers` itself; tests that need them are skipped without it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def byte_pairs(text: str, *, special: Sequence[str] = ()) -> bytes:
    """A tokenizer of byte pairs trained on a text; it gives every text back."""
    package = pytest.importorskip("tokenizers")
    made = package.Tokenizer(package.models.BPE())
    made.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = package.decoders.ByteLevel()
    alphabet = package.pre_tokenizers.ByteLevel.alphabet()
    trainer = package.trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text], trainer)
    made.add_special_tokens(list(special))
    return made.to_str().encode()


def words(known: Sequence[str] | dict[str, int]) -> bytes:
    """A tokenizer of whole words; what it does not know becomes the token ``[UNK]``."""
    package = pytest.importorskip("tokenizers")
    numbers = known if isinstance(known, dict) else {word: number for number, word in enumerate(known)}
    made = package.Tokenizer(package.models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = package.pre_tokenizers.WhitespaceSplit()
    return made.to_str().encode()
