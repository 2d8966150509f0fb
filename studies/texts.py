"""The texts of a study: the files of its text tasks, read when it is read, so that a trial says what it reads.

Globs become absolute, and the digest of what they match and the size of the vocabulary are worked out, or compared with
what the study pins. Each set of files is read once a study, one file at a time, and nothing of it is kept; those who
train read it again and compare (`core.text`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import files
from core.config import TrialConfig
from core.errors import InputError, Problem
from core.task_terms import TextTask
from core.terms import build
from core.text import too_short
from core.tokenizer import tokenizer_of


@dataclass(frozen=True, kw_only=True)
class StudyText:
    """What is known of a text without holding it."""

    digest: str
    files: tuple[tuple[str, int], ...]
    """Name and bytes of each, by name."""
    tokens: int
    """Size of the vocabulary."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = [{"name": name, "bytes": size} for name, size in self.files]
        return {"digest": self.digest, "tokens": self.tokens, "bytes": self.size, "files": files}


class Texts:
    """The texts of one study, by what names them."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder at which relative globs and paths begin."""
        self._folder = folder
        self._found: dict[tuple[tuple[str, ...], str | None], StudyText | InputError] = {}

    def of(self, tasks: Iterable[Mapping[str, Any]]) -> tuple[StudyText, ...]:
        """The texts of some tasks as `resolved` gives them, each once, in their order."""
        known = {text.digest: text for text in self._found.values() if isinstance(text, StudyText)}
        digests = dict.fromkeys(task.get("digest") for task in tasks)
        return tuple(known[digest] for digest in digests if digest in known)

    def resolved(self, values: Mapping[str, Any], *, reads: bool = True) -> dict[str, Any]:
        """The terms of a text task with absolute globs, and what is worked out written out.

        Args:
            values: terms of a text task, as a study gives them.
            reads: False: what was not read before is not read now, and stays as it is.

        Returns:
            The terms; as they are where one of them is wrong by itself, which others say.

        Raises:
            InputError: at ``task.<term>``, where files cannot be read or are not those that are pinned.
        """
        if not values.get("files"):
            raise InputError([Problem("task.files", 'is required: globs of text files, as ["texts/*.txt"]')])
        try:
            task = build(TextTask, values, "task")
        except InputError:
            return dict(values)
        patterns = tuple(files.absolute(pattern, self._folder) for pattern in task.files)
        tokenizer = None if task.tokenizer is None else str(self._folder.absolute() / task.tokenizer)
        text = self._found.get((patterns, tokenizer))
        if text is None and not reads:
            return dict(values)
        if text is None:
            try:
                text = _read(patterns, tokenizer)
            except InputError as error:
                text = error
            self._found[patterns, tokenizer] = text
        if isinstance(text, InputError):
            raise text
        if task.digest not in (None, text.digest):
            message = f"pins {task.digest}, but the files have {text.digest}; restore the files, or pin that"
            raise InputError([Problem("task.digest", message)])
        if values.get("tokens", text.tokens) != text.tokens:
            message = f"pins {task.tokens}, but the tokenizer has {text.tokens}; restore it, or leave tokens out"
            raise InputError([Problem("task.tokens", message)])
        found = {"files": patterns, "digest": text.digest, "tokens": text.tokens}
        return {**values, **found} | ({} if tokenizer is None else {"tokenizer": tokenizer})


def _read(patterns: tuple[str, ...], tokenizer: str | None) -> StudyText:
    content = None if tokenizer is None else files.read(Path(tokenizer), "task.tokenizer")
    made = tokenizer_of(content, tokenizer)
    sizes: list[tuple[str, int]] = []

    def contents() -> Iterator[tuple[str, bytes]]:
        for file in files.listed(patterns):
            text = file.read()
            sizes.append((file.name, len(text)))
            yield file.name, text

    digest = files.digest(contents(), content)
    return StudyText(digest=digest, files=tuple(sizes), tokens=made.size)


def lacks(config: TrialConfig, texts: Mapping[str, StudyText]) -> list[Problem]:
    """What a trial's text lacks, as far as bytes tell: a token stands for one byte or more.

    Args:
        config: of the trial.
        texts: of the study, by digest.
    """
    task = config.task
    text = texts.get(task.digest or "") if isinstance(task, TextTask) else None
    if text is None or not isinstance(task, TextTask):
        return []
    held_out = sum(int(size * task.val_share) for _, size in text.files)
    return too_short(task, text.size - held_out, held_out)
