"""The command `loopsweep export`: its arguments and its help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sweeps.cli_app import command
from sweeps.options import MAX_TRIALS, OPTUNA_STORAGE, RESULTS, JsonOption, MaxTrialsOption, StoreOption, StudyArgument

OptunaUrlArgument = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        envvar=OPTUNA_STORAGE,
        help="The storage: journal:///path, sqlite:///path or postgresql://user@host/database.",
    ),
]


@command("export optuna my-study.toml sqlite:///my-study.db", "export optuna quickstart journal:///tmp/optuna.log")
def export(
    form: Annotated[Literal["optuna"], typer.Argument(metavar="optuna", help="An Optuna storage.")],
    study: StudyArgument,
    url: OptunaUrlArgument,
    *,
    store: StoreOption = RESULTS,
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Write the trials of a study for optuna-dashboard.

    One Optuna study for each arm, in a storage that may have others. Again, it adds what is new.
    """
    from sweeps import commands_export

    return commands_export.export(form, study, url, store, max_trials=max_trials, as_json=as_json)
