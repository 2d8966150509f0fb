"""Problems as a user sees them: the file before the key, short, printable, and not too many."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import Problem

MAX_PROBLEMS = 50
"""Lines of errors that are printed; a slip in [base] can break every setting."""


def located(problems: Sequence[Problem], file: str) -> list[Problem]:
    """Problems as a user sees them: the file before the key, short, printable, not too many."""
    shown = [
        Problem(f"{file}: {printable(p.where)}" if p.where else file, _short(printable(p.message)))
        for p in dict.fromkeys(problems)
    ]
    if len(shown) > MAX_PROBLEMS:
        rest = len(shown) - MAX_PROBLEMS
        return [*shown[:MAX_PROBLEMS], Problem(file, f"has {rest} more problems; mend these first")]
    return shown


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _short(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:280]} … {text[-110:]}"
