"""What keeps a node of a cluster from working: it is looked at once, before the first unit begins there.

A node must see the driver's store (it reads the canary that the driver has planted), the files of text tasks as they
were when the study was planned, and a C++ compiler where training is compiled. Each of these would otherwise come out
much later, as trials that fail, or as results that nobody ever sees. No ray here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from core import files
from core.errors import InputError, StoreError
from core.numerics import Engine
from core.task_terms import TextTask
from studies.store import Store


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What every node of a run must have; pickles."""

    root: str
    """The store, as every node names it."""
    canary: str
    """Its token; see `studies.store.Store.plant_canary`."""
    engine: Engine = "eager"
    texts: tuple[TextTask, ...] = ()
    """One task of each text."""

    def missing(self) -> str | None:
        """What this process lacks, in one line that says what to do; None where it lacks nothing."""
        return self._store() or self._compiler() or next(filter(None, map(unread, self.texts)), None)

    def _store(self) -> str | None:
        try:
            if Store.open(self.root).sees_canary(self.canary):
                return None
            seen = f"does not see the store {self.root}"
        except StoreError as error:
            seen = f"cannot read the store: {' '.join(str(error).split())}"
        return f"{seen}; keep it on a file system that every node mounts at this path, or on s3://"

    def _compiler(self) -> str | None:
        if self.engine != "compiled":
            return None
        from core.engines import cpp_compiler

        if cpp_compiler() is not None:
            return None
        return "has no C++ compiler for --engine compiled; install g++ there, name one in CXX, or leave --engine out"


def unread(task: TextTask) -> str | None:
    """What is wrong with a text's files as they are seen from here; None where they are those that were planned."""
    try:
        content = None if task.tokenizer is None else files.read(Path(task.tokenizer), "task.tokenizer")
        found = files.digest(((file.name, file.read()) for file in files.listed(task.files)), content)
    except InputError as error:
        seen = " ".join(str(error).split())
    else:
        if found == task.digest:
            return None
        seen = f"task.files: digest {task.digest} was planned, {found} is there"
    return f"lacks the text of the study ({seen}); text files must be readable at the same path on every node"


def distinct_texts(tasks: Collection[object]) -> tuple[TextTask, ...]:
    """One task of each text among some tasks."""
    return tuple({task.digest: task for task in tasks if isinstance(task, TextTask)}.values())
