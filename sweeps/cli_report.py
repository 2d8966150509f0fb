"""The command `loopsweep report`: its options and its help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.errors import InputError, Problem
from sweeps.cli_app import command
from sweeps.options import RESULTS, JsonOption, StoreOption, new_folder, positive


@command(
    "report quickstart",
    "report quickstart my-study.toml --out reports-of-today",
    "report my-study.toml my-study.toml::other/results",
    "report my-study.toml --watch --every 30",
    "report my-study.toml --fail-if contradicted --fail-if 2=not-supported",
)
def report(
    study: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY[::STORE]...", help="Names in the catalogue, or TOML files; each may name a store of its own."
        ),
    ],
    *,
    store: StoreOption = RESULTS,
    out: Annotated[
        Any,
        typer.Option("--out", parser=new_folder, metavar="DIR", help="Folder of the report; silent: in the store."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write it again while a sweep runs, until complete.")] = False,
    every: Annotated[
        Any,
        typer.Option(
            "--every", parser=positive, metavar="S", help="With --watch: seconds between two looks; silent = 10."
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="[[STUDY:]NUMBER=]VERDICT",
            help="Exit with code 4 if a claim, or that one, is contradicted, undecided or not-supported; repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Write the report of a study, or of several.

    It holds verdicts of the claims, leaderboard, curves, cost and provenance. Several studies are compared, arm by
    arm, and so is one study in several stores.

    With --watch, a page that is open loads itself again; an empty study is waited for. Ctrl-C ends it at any time.
    """
    from sweeps import commands_report

    if every is not None and not watch:
        raise InputError([Problem("--every", "goes with --watch; add --watch, or leave it out")])
    every_s = (every or 10.0) if watch else None
    options = commands_report.ReportOptions(out=out, every_s=every_s, fail_if=fail_if or ())
    return commands_report.report(study, store, options, as_json=as_json)
