"""The text task: windows of local files, byte by byte or token by token; predict what comes next.

The last `val_share` of every file is held out, so training and validation text have the same kinds of files in them and
share no byte. Each part is the files' texts in the order of their names, one after the other without a mark between
them, and one array of the smallest type that holds its tokens; lanes, trials and seeds share it.

Training window i is a pure function of (text, data seed, i): it begins anywhere with equal chance (stream
``text/train``), so it may run from one file into the next. Online, the entries of the walk are windows 0, 1, 2 …; with
a fixed set, the first `train_size` of them are walked in epochs, (`core.epochs`). The validation windows do not
overlap, are spread evenly over the held-out text and are the same for all seeds.

A task carries the digest of its files, found when the study was planned; who loads them here compares. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from core import files
from core.epochs import Epochs
from core.errors import InputError, Problem
from core.streams import stream
from core.task_terms import TextTask
from core.tasks import Tokens, Validation
from core.tokenizer import Codes, tokenizer_of

# --- the text ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Text:
    """The two parts of a text, as tokens."""

    train: Codes
    held_out: Codes
    bytes_per_token: float | None
    """Bytes of the held-out text over its tokens; None where its tokens do not give it back."""


def cut(content: bytes, share: float, *, characters: bool) -> int:
    """Where the held-out end of a file begins.

    Args:
        content: of the file.
        share: held out, rounded down to whole bytes.
        characters: moves the cut to the next character of UTF-8, so that both sides can be decoded.
    """
    place = len(content) - int(len(content) * share)
    while characters and place < len(content) and content[place] & 0xC0 == 0x80:
        place += 1
    return place


@lru_cache(maxsize=4)
def load(patterns: tuple[str, ...], tokenizer: str | None, digest: str, tokens: int, val_share: float) -> Text:
    """A text from its files, which must be what they were when the study was planned.

    Args:
        patterns: `TextTask.files`.
        tokenizer: path of the tokenizer's file; None for bytes.
        digest: of the files and the tokenizer.
        tokens: size of the vocabulary.
        val_share: share of each file that is held out.

    Raises:
        InputError: where a file cannot be read, or anything has changed.
    """
    content = None if tokenizer is None else files.read(Path(tokenizer), "task.tokenizer")
    made = tokenizer_of(content, tokenizer)
    train: list[Codes] = []
    held_out: list[Codes] = []
    size, restored = 0, True

    def contents() -> Iterator[tuple[str, bytes]]:  # one file at a time: a text is held once, as tokens
        nonlocal size, restored
        for file in files.listed(patterns):
            text = file.read()
            yield file.name, text
            place = cut(text, val_share, characters=tokenizer is not None)
            train.append(made.encode(text[:place], file.name))
            held_out.append(made.encode(text[place:], file.name))
            size += len(text) - place
            restored = restored and made.restores(text[place:])

    if (there := files.digest(contents(), content)) != digest:
        what = f"digest {digest} was planned, {there} is there"
        message = f"the files of task.files have changed since the study was planned: {what}; run plan again"
        raise InputError(message)
    if made.size != tokens:
        raise InputError([Problem("task.tokens", f"must be what the tokenizer has, {made.size}, got {tokens}")])
    count = sum(map(len, held_out))
    return Text(
        train=np.concatenate(train),
        held_out=np.concatenate(held_out),
        bytes_per_token=size / count if count and restored else None,
    )


def too_short(task: TextTask, train: int, held_out: int) -> list[Problem]:
    """What a text lacks for a task: sequences of `length` predictions read `length` + 1 tokens.

    Args:
        task: the task.
        train: tokens of the training text, or at most so many.
        held_out: tokens of the held-out text, likewise.
    """
    of = f"task.length = {task.length} predictions"
    if train <= task.length:
        message = f"one sequence of {of} takes {task.length + 1} tokens, got {train} to train on; name more text"
        return [Problem("task.files", message)]
    if (most := (held_out - 1) // task.length) < task.val_size:
        share = f"task.val_share = {task.val_share:g} holds {held_out} tokens out"
        message = f"must be at most {max(0, most)} sequences of {of}, since {share}, got {task.val_size}"
        return [Problem("task.val_size", f"{message}; lower it or task.length, or raise val_share")]
    return []


# --- windows -------------------------------------------------------------------------------------------------------


def window_starts(data_seed: int, places: int, start: int, count: int) -> Tokens:
    """Where training windows `start` … `start + count − 1` begin, each in 0 … `places` − 1, `[count]`."""
    block, skipped = divmod(start, 4)  # a counter block holds four numbers
    uniform = stream(data_seed, "text", "train", position=block).random(skipped + count)[skipped:]
    return (uniform * places).astype(np.int64)


def windows(text: Codes, starts: Tokens, length: int) -> Tokens:
    """Windows of `length` + 1 tokens, int64 `[len(starts), length + 1]`."""
    found: Tokens = text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    return found


def validation_starts(places: int, length: int, count: int) -> Tokens:
    """Where `count` windows begin that do not overlap, spread evenly over a text of `places` tokens, `[count]`."""
    most = (places - 1) // length
    return np.arange(count) * most // count * length


# --- the task's data -----------------------------------------------------------------------------------------------


class TextData:
    """The data of one trial on a text; see `core.tasks.TaskData`."""

    def __init__(self, task: TextTask, *, data_seed: int, batch: int) -> None:
        """Reads the text, or finds it in the cache.

        Raises:
            InputError: where it cannot be read, has changed, or is too short.
        """
        if task.digest is None:
            raise InputError([Problem("task.digest", "is not worked out; plan the study, or see studies.texts")])
        self._text = load(task.files, task.tokenizer, task.digest, task.tokens, task.val_share)
        if problems := too_short(task, len(self._text.train), len(self._text.held_out)):
            raise InputError(problems)
        self._task, self._seed, self._batch = task, data_seed, batch
        self._places = len(self._text.train) - task.length
        self._fixed = window_starts(data_seed, self._places, 0, task.train_size) if task.train_size else None
        self._walk = Epochs(data_seed, "text", task.train_size)

    def batches(self, start: int, count: int) -> tuple[Tokens, Tokens]:
        """Inputs and targets `[count, B, T]` of the updates numbered `start`, `start` + 1, … (the first is 0)."""
        first, total = start * self._batch, count * self._batch
        if self._fixed is None:
            starts = window_starts(self._seed, self._places, first, total)
        else:
            starts = self._fixed[self._walk.entries(first, total)]
        drawn = windows(self._text.train, starts, self._task.length).reshape(count, self._batch, -1)
        return drawn[..., :-1].copy(), drawn[..., 1:].copy()

    def validation(self) -> Validation:
        """The validation set."""
        task, text = self._task, self._text
        starts = validation_starts(len(text.held_out), task.length, task.val_size)
        drawn = windows(text.held_out, starts, task.length)
        return Validation(
            inputs=drawn[:, :-1].copy(),
            targets=drawn[:, 1:].copy(),
            strata={},
            floors={},
            bytes_per_token=text.bytes_per_token,
        )
