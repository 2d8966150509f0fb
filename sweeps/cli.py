"""The command `loopsweep`: what may be asked on the command line, and what each ending means.

Here are names, options, help and exit codes only; what a command does is in the modules ``commands_…``,
imported when it is called, so that ``--help`` is quick and planning imports neither torch nor ray. A user's mistake is
one line per problem on stderr and never a traceback; a mistake of ours is one line that says where the traceback is.

Exit codes: 0 complete; 1 some trials failed, timed out or ran out of memory; 2 bad input; 3 the store cannot be
written or is damaged; 4 a claim fails `report --fail-if`; 130 and 143 interrupted; 70 a defect of loopsweep.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from core.errors import InputError, LoopsweepError, Problem
from sweeps import output
from sweeps.cli_app import app, command
from sweeps.options import (
    MAX_TRIALS,
    RESULTS,
    AddressOption,
    ArmOption,
    AuditOption,
    ByOption,
    CheckpointOption,
    DashboardOption,
    DeviceOption,
    EngineOption,
    ExplainOption,
    FileOption,
    FormatOption,
    FreshSeedsOption,
    JsonOption,
    MaxTrialsOption,
    OnOption,
    OptunaStorageOption,
    PackOption,
    PlannedArgument,
    RetryOption,
    StoreOption,
    StudyArgument,
    StudyFileOption,
    TimeoutOption,
    TopOption,
    TrialArgument,
    WorkersOption,
    positive,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.emit(f"loopsweep {version('loopsweep')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Plans, runs, records and reports large grids of looped-transformer experiments."""


@command("studies")
def studies(store: StoreOption = RESULTS, as_json: JsonOption = False) -> int:
    """List the catalogue: name, question, trials and cost."""
    from sweeps import commands_study

    return commands_study.studies(store, as_json=as_json)


@command("plan quickstart", "plan my-study.toml --json", "plan quickstart --explain 3f9a")
def plan(
    study: PlannedArgument = None,
    store: StoreOption = RESULTS,
    explain: ExplainOption = None,
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Say what a study would train and cost, before it runs.

    That is: trials by arm, the stage tree, what is recorded already, what sharing saves, time and disk. Writes nothing.

    With --explain, one trial: its chain link by link, what ends each, what is recorded and who shares it.
    """
    from sweeps import commands_study

    if explain is not None:
        return commands_study.explain(explain, study, store, max_trials=max_trials, as_json=as_json)
    if study is None:
        raise InputError("missing argument 'STUDY'; without one, --explain ID searches all studies")
    return commands_study.plan(study, store, max_trials=max_trials, as_json=as_json)


@command("run quickstart", "run my-study.toml --workers 8 --retry failed", "run my-study.toml --on ray --address auto")
def run(
    study: StudyArgument,
    *,
    store: StoreOption = RESULTS,
    on: OnOption = "local",
    address: AddressOption = None,
    dashboard: DashboardOption = False,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = "eager",
    pack: PackOption = "auto",
    checkpoint_minutes: CheckpointOption = "10",
    unit_timeout: TimeoutOption = None,
    retry: RetryOption = "",
    audit: AuditOption = None,
    optuna_storage: OptunaStorageOption = None,
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Run what is missing of a study.

    Ctrl-C ends cleanly (twice: at once); the same command goes on where it stopped.

    A trial that diverges is a result. Exit code 1 says that some trials failed, timed out or ran out of memory.
    """
    from sweeps import commands_run

    options = commands_run.RunOptions(
        on=on,
        address=address,
        dashboard=dashboard,
        workers=workers,
        device=device,
        engine=engine,
        pack=pack,
        checkpoint_minutes=checkpoint_minutes,
        unit_timeout_s=unit_timeout,
        retry=retry,
        audit=audit,
    )
    mirror = optuna_storage
    return commands_run.run(study, store, options, mirror=mirror, max_trials=max_trials, as_json=as_json)


@command("confirm my-study.toml --top 3 --seeds 10", "confirm my-study.toml --top 1 --arm shift --by best_val_accuracy")
def confirm(
    study: StudyArgument,
    *,
    top: TopOption = "3",
    seeds: FreshSeedsOption = "10",
    by: ByOption = None,
    arm: ArmOption = None,
    store: StoreOption = RESULTS,
    on: OnOption = "local",
    address: AddressOption = None,
    dashboard: DashboardOption = False,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = "eager",
    pack: PackOption = "auto",
    checkpoint_minutes: CheckpointOption = "10",
    unit_timeout: TimeoutOption = None,
    retry: RetryOption = "",
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Run the best settings again, on fresh seeds.

    The best of many looks better than it is on the seeds that chose it. Fresh seeds are derived by hash; the report
    puts the two estimates side by side. Claims of a search are decided on these seeds, once the best setting of each of
    their arms was run (--top 1 --arm NAME). The same command resumes; a larger --top or --seeds adds to what is there.
    """
    from sweeps import commands_confirm, commands_run

    options = commands_run.RunOptions(
        on=on,
        address=address,
        dashboard=dashboard,
        workers=workers,
        device=device,
        engine=engine,
        pack=pack,
        checkpoint_minutes=checkpoint_minutes,
        unit_timeout_s=unit_timeout,
        retry=retry,
    )
    choice = commands_confirm.Choice(top=top, seeds=seeds, by=by, arms=tuple(arm or ()))
    return commands_confirm.confirm(study, store, choice, options, max_trials=max_trials, as_json=as_json)


@command("measure my-study.toml", "measure my-study.toml --workers 4 --json")
def measure(
    study: StudyArgument,
    *,
    store: StoreOption = RESULTS,
    on: OnOption = "local",
    address: AddressOption = None,
    dashboard: DashboardOption = False,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    unit_timeout: TimeoutOption = None,
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Measure curvature at kept states, without training.

    For quantities or steps that were added to [measure] after a study was run: its final states are kept, or all with
    train.keep = "all". What has no state is said, and replayed by `loopsweep run`.
    """
    from sweeps import commands_run

    options = commands_run.RunOptions(
        on=on, address=address, dashboard=dashboard, workers=workers, device=device, unit_timeout_s=unit_timeout
    )
    return commands_run.measure(study, store, options, max_trials=max_trials, as_json=as_json)


@command("status quickstart")
def status(
    study: StudyArgument,
    store: StoreOption = RESULTS,
    max_trials: MaxTrialsOption = MAX_TRIALS,
    as_json: JsonOption = False,
) -> int:
    """Count trials by arm: done, running, failed, remaining."""
    from sweeps import commands_study

    return commands_study.status(study, store, max_trials=max_trials, as_json=as_json)


@command(
    'query quickstart "select arm, avg(final_val_loss) from trials group by arm"',
    'query quickstart "select * from metrics" --format parquet --out metrics.parquet',
    "query quickstart cost-to-reach --set loss=2.1",
)
def query(
    study: StudyArgument,
    sql: Annotated[
        str | None,
        typer.Argument(metavar="SQL", help="One SELECT in DuckDB's SQL, or a saved query; silent: lists them."),
    ] = None,
    *,
    given: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter $NAME of it; may be repeated.")
    ] = None,
    store: StoreOption = RESULTS,
    form: FormatOption = None,
    out: FileOption = None,
    timeout: Annotated[Any, typer.Option(parser=positive, metavar="S", help="Seconds a query may take.")] = "60",
    as_json: JsonOption = False,
) -> int:
    """Ask the results of a study in SQL.

    One SELECT over the views that `loopsweep tables` describes, or the name of a saved query; without either, the saved
    queries are listed. A terminal shows long texts cut to its width; piped, or in another format, they are whole.
    """
    from sweeps import commands_query

    if as_json and form not in (None, "json"):
        raise InputError([Problem("--format", f"{form} does not go with --json; leave one out")])
    form = "json" if as_json else form
    if sql is None:
        if given or out is not None or form not in (None, "table", "json"):
            raise InputError("missing argument 'SQL'; without one, the saved queries are listed, as a table or --json")
        return commands_query.saved(study, form)
    return commands_query.query(study, sql, store, given=given or [], form=form, out=out, timeout=timeout)


@command("tables", "tables quickstart --view trials")
def tables(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="With the columns of this study: its axes and strata.")
    ] = None,
    store: StoreOption = RESULTS,
    view: Annotated[str | None, typer.Option("--view", metavar="NAME", help="Only this view.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Describe what queries read: columns, types, units, meanings."""
    from sweeps import commands_query

    return commands_query.tables(study, store, view=view, as_json=as_json)


import sweeps.cli_report  # noqa: E402 - declares its command, here in the list


@command("show 3f9a", "show 3f9a --study my-study.toml --json")
def show(
    trial: TrialArgument, store: StoreOption = RESULTS, study: StudyFileOption = None, as_json: JsonOption = False
) -> int:
    """Show a trial: configuration, provenance, history, files."""
    from sweeps import commands_results

    return commands_results.show(trial, store, studies=study or [], as_json=as_json)


@command("diff 3f9a 77c0")
def diff(
    first: TrialArgument,
    second: TrialArgument,
    store: StoreOption = RESULTS,
    study: StudyFileOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show what differs between two trials.

    That is: the terms that act, the past that they share and the results.
    """
    from sweeps import commands_results

    return commands_results.diff(first, second, store, studies=study or [], as_json=as_json)


@command("verify")
def verify(store: StoreOption = RESULTS, as_json: JsonOption = False) -> int:
    """Check every part and record by digest.

    Exit code 3 if something is damaged or missing.
    """
    from sweeps import commands_results

    return commands_results.verify(store, as_json=as_json)


@command("compact")
def compact(store: StoreOption = RESULTS, as_json: JsonOption = False) -> int:
    """Merge small parts into large ones.

    What readers see stays the same.
    """
    from sweeps import commands_results

    return commands_results.compact(store, as_json=as_json)


import sweeps.cli_export  # noqa: E402 - declares its command
import sweeps.cli_launch  # noqa: E402, F401 - declares its command, last in the list


def execute(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; raises nothing but what the interpreter itself raises."""
    root = typer.main.get_command(app)
    try:
        with root.make_context("loopsweep", list(arguments)) as context:
            code = root.invoke(context)
        return int(code or 0)
    except typer.Exit as ending:
        return ending.exit_code
    except typer.TyperException as error:
        if not arguments:
            output.note(error.format_message())
        else:
            output.fail(_usage(error))
        return 2
    except LoopsweepError as error:
        output.fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        output.note("interrupted")
        return 130
    except BrokenPipeError:  # of a help text; what commands print has its own care in `sweeps.output`
        return 0
    except OSError as error:
        if os.environ.get("LOOPSWEEP_DEBUG"):
            output.note(traceback.format_exc())
        place = f" {error.filename}" if error.filename else ""
        output.fail(f"cannot read or write{place}: {error.strerror or error}")
        return 3
    except Exception as error:  # the last line of defence
        output.fail(_defect(error))
        return 70


def _usage(error: typer.TyperException) -> str:
    """A usage error as one line: what is wrong, what is near, where the help is."""
    context = getattr(error, "ctx", None)
    possible = getattr(error, "possibilities", None)
    text = error.message if possible else error.format_message()
    text = " ".join(text.split()).rstrip(".").replace("Value error, ", "").replace(". Did you", "; did you")
    if possible:
        text += f"; did you mean {' or '.join(possible)}?"
    place = context.command_path if context is not None else "loopsweep"
    return f"{text[:1].lower()}{text[1:]} (see `{place} --help`)"


def _defect(error: Exception) -> str:
    """Keeps the traceback of a defect and says where it is."""
    text = traceback.format_exc()
    name = f"{type(error).__name__}: {error}".splitlines()[0]
    if os.environ.get("LOOPSWEEP_DEBUG"):
        output.note(text)
        return f"a defect of loopsweep, not of your study: {name}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="loopsweep-", suffix=".txt", delete=False) as file:
            file.write(text)
    except OSError:
        output.note(text)
        return f"a defect of loopsweep, not of your study: {name}"
    return f"a defect of loopsweep, not of your study: {name} (traceback in {file.name})"


def main() -> int:
    """Entry point of the command."""
    output.open_streams()
    code = execute(sys.argv[1:])
    output.flush()
    return code
