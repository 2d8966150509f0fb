"""The command `loopsweep` as typer sees it, and how one is declared: in `cli`, `cli_export`, `cli_launch`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import TypeVar

import typer

F = TypeVar("F", bound=Callable[..., int])

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True)


def command(*examples: str) -> Callable[[F], F]:
    """Declares a command named for its function; its help is the docstring and the examples, unwrapped."""

    def declare(function: F) -> F:
        shown = "\n".join(f"  loopsweep {example}" for example in examples)
        app.command(help=f"{cleandoc(function.__doc__ or '')}\n\n\b\nExamples:\n{shown}")(function)
        return function

    return declare
