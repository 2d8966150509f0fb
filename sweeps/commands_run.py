"""What the command `run` does: runs what is missing of a study, shows progress, says how it ended.

A study is loaded and expanded before the store is made, so bad input leaves no trace. What trains is imported here and
not before: the other commands do without torch and ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.errors import InputError, Problem
from core.numerics import Engine
from core.schedule import declared
from studies.coverage import Coverage
from studies.expand import Trial
from studies.schemas import FAILURES
from studies.spec import study_text
from studies.store import Store
from studies.study import Study
from studies.wanted import wanted
from sweeps import output
from sweeps.audit import AuditResult, audit
from sweeps.commands_study import load
from sweeps.executor import Executor
from sweeps.interrupts import Interrupts
from sweeps.local_executor import LocalExecutor
from sweeps.measuring import MeasureResult, measure_kept, missing
from sweeps.options import OPTUNA_STORAGE, as_typed
from sweeps.progress import Display
from sweeps.promote import follows
from sweeps.round import Limits
from sweeps.run import RunResult
from sweeps.run import run as run_trials
from sweeps.search import proceed
from sweeps.standing import counts, endings, standing_table
from sweeps.storage_url import StorageUrl, parse_storage_url
from sweeps.tables import duration, plural

if TYPE_CHECKING:
    from sweeps.mirror import Mirror

SHOWN_ENDINGS = 10
"""Trials that are named one by one where they diverged or failed; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the command `run` runs."""

    on: Literal["local", "ray"]
    address: str | None
    workers: int | None
    device: Literal["cpu", "cuda"]
    dashboard: bool = False
    engine: Engine = "eager"
    pack: int | Literal["auto"] = "auto"
    checkpoint_minutes: float = 10.0
    unit_timeout_s: float | None
    retry: tuple[str, ...] = ()
    audit: float | None = None
    """Share of the recorded trials to run again and compare; None = no audit."""


def run(name: str, root: str, options: RunOptions, *, mirror: str | None = None, max_trials: int, as_json: bool) -> int:
    """Runs what is missing, and says how it ended; `mirror` is the URL of an Optuna storage that shows a search."""
    study = load(name, max_trials=max_trials)
    url = None if mirror is None else _mirror_url(study, mirror)
    trials = wanted(study, Store.open(root))  # what is wrong with the study is said before the store is made
    check(options, trials)
    store = Store.open(root, create=True)
    store.keep_study(*study_text(name))
    propose = None if study.search is None else lambda: proceed(study, store)
    return complete(
        study,
        store,
        options,
        ask=lambda: wanted(study, store),
        propose=propose,
        mirror=None if url is None else _begun(study, store, url),
        of=as_typed(name, root),
        as_json=as_json,
    )


def _mirror_url(study: Study, text: str) -> StorageUrl | None:
    """The storage that is to show a search; None where the environment names one, and the study has no search."""
    if study.search is None:
        message = "shows a search, and the study has none; write it afterwards with loopsweep export optuna"
        if text == os.environ.get(OPTUNA_STORAGE):
            output.note(f"{OPTUNA_STORAGE} {message}")
            return None
        raise InputError([Problem("--optuna-storage", message)])
    return parse_storage_url(text, "--optuna-storage")


def _begun(study: Study, store: Store, url: StorageUrl) -> Mirror:
    from sweeps.mirror import Mirror

    mirror = Mirror(study, store, url)
    mirror.begin(output.note)
    return mirror


def complete(
    study: Study,
    store: Store,
    options: RunOptions,
    *,
    ask: Callable[[], list[Trial]],
    propose: Callable[[], bool] | None = None,
    mirror: Mirror | None = None,
    of: str,
    facts: Mapping[str, Any] | None = None,
    as_json: bool,
) -> int:
    """Runs what is missing of some trials of a study, and says how it ended.

    Args:
        study: the study.
        store: open, to be written.
        options: how it is run, checked.
        ask: the trials that are wanted now.
        propose: of a search, as `sweeps.run.run` takes it.
        mirror: of a search, to be kept up.
        of: the study and its store, as further commands take them.
        facts: what ``--json`` says beside the end of the run.
        as_json: whether it does.
    """
    limits = Limits(
        device=options.device,
        engine=options.engine,
        checkpoint_seconds=60 * options.checkpoint_minutes,
        unit_timeout_s=options.unit_timeout_s,
    )
    with _executor(store, options, ask) as executor, Display(study.name) as display:
        result = run_trials(
            ask,
            store,
            executor,
            limits=limits,
            pack=options.pack,
            retry=options.retry,
            propose=propose if mirror is None else mirror.after(propose, display.said),
            follows=propose is not None and follows(study),
            observer=display if mirror is None else mirror.watching(display),
        )
        if mirror is not None:
            mirror.sync(display.said)
        trials, audited = ask(), None
        if options.audit is not None and not result.interrupted:
            display.said("running a sample of the recorded trials again")
            audited = audit(trials, store, executor, share=options.audit, device=options.device)
    coverage = Coverage(store.read("segments"))
    if as_json:
        output.emit_json(_summary(study, result, trials, coverage) | dict(facts or {}) | _audit_facts(audited))
    else:
        _tell(of, result, trials, coverage)
        _tell_audit(audited)
    return audited.exit_code if audited is not None and audited.mismatches else result.exit_code


def measure(name: str, root: str, options: RunOptions, *, max_trials: int, as_json: bool) -> int:
    """Measures what the study asks at states that are kept, without training."""
    study = load(name, max_trials=max_trials)
    if not study.measure.quantities:
        message = 'is missing; say what is measured, as quantities = ["lambda_max"]'
        raise InputError([Problem(f"{study.file}: measure", message)])
    _check(options)
    store = Store.open(root)
    trials = wanted(study, store)
    found = missing(trials, store)
    limits = Limits(device=options.device, unit_timeout_s=options.unit_timeout_s)
    result, code = MeasureResult(measured=0, lost=(), gone=found.gone, seconds=0.0), 0
    if found.kept:
        store.keep_study(*study_text(name))
        with (
            Interrupts() as interrupts,
            _executor(store, options, lambda: trials) as executor,
            Display(study.name) as display,
        ):
            draining = lambda: interrupts.draining  # noqa: E731 - asked while it runs
            result = measure_kept(
                found, executor, limits=limits, observer=display, draining=draining, at_once=lambda: interrupts.at_once
            )
            code = interrupts.exit_code if interrupts.draining else 0
    left = len(found.kept) - result.measured - len(result.lost)
    # A signal that came when the last state was being measured has interrupted nothing.
    code = (code if left else 0) or (1 if result.lost else 0)
    untrained = _untrained(trials, Coverage(store.read("segments")))
    if as_json:
        facts = {"asked": len(found.kept), **asdict(result), "left": left, "untrained": untrained, "exit_code": code}
        output.emit_json({"study": study.name, **facts})
    else:
        _tell_measured(as_typed(name, root), result, left=left, untrained=untrained, trials=len(trials))
    return code


def _untrained(trials: Sequence[Trial], coverage: Coverage) -> int:
    """Trials that have not been trained to their end: what they ask beyond is in no count of measurements."""
    chains = ((trial, coverage.chain(trial, measured=False)) for trial in trials)
    return sum(
        chain.status is None and (trial.watch is not None or chain.links[-1].reached < trial.links[-1].end)
        for trial, chain in chains
    )


def _tell_measured(of: str, result: MeasureResult, *, left: int, untrained: int, trials: int) -> None:
    """The end of measuring for people: what was measured, what is left, and where no state is kept."""
    for line in result.lost:
        output.fail(line)
    took = duration(result.seconds)
    if left:
        whole = plural(left + result.measured + len(result.lost), "kept state")
        output.emit(f"interrupted after {took}, {left:,} of {whole} left; the same command goes on")
    elif result.measured or result.lost:
        output.emit(f"{plural(result.measured, 'kept state')} measured, {took}")
    elif result.gone or untrained:
        output.emit("nothing to measure at kept states")
    else:
        output.emit("nothing to measure: all that the study asks is recorded")
    if result.gone:
        steps = plural(result.gone, "measurement")
        output.emit(f"{steps} asked for where no state is kept: loopsweep run {of} replays them")
    if untrained:
        are = "is" if untrained == 1 else "are"
        whole = plural(trials, "trial")
        output.emit(
            f"{untrained:,} of {whole} {are} not trained to the end: loopsweep run {of} trains and measures them"
        )


def check(options: RunOptions, trials: Sequence[Trial]) -> None:
    """Refuses what cannot be run in this way, before anything is written.

    Raises:
        InputError: with the option.
    """
    _check(options)
    if options.engine == "compiled":
        _check_compiled(options, trials)


def _check(options: RunOptions) -> None:
    """Refuses what cannot be run, before anything is written; which GPUs a Ray cluster has, its nodes decide."""
    if options.on == "ray":
        if options.address is not None:
            if options.dashboard:
                message = "is of an instance that is started here; a cluster has its own, or none: leave it out"
                raise InputError([Problem("--dashboard", message)])
            from sweeps.ray_address import reach

            if not reach(options.address):
                open_to_all = "asks for no token, so whoever reaches its ports can run code there"
                output.note(f"the cluster at {options.address} {open_to_all}; start it with RAY_AUTH_MODE=token")
        return
    if options.address is not None:
        raise InputError([Problem("--address", "names the cluster of --on ray; add --on ray, or leave it out")])
    if options.dashboard:
        raise InputError([Problem("--dashboard", "is Ray's; add --on ray, or leave it out")])
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError([Problem("--device", "torch sees no CUDA GPU on this machine; leave --device out")])


def _check_compiled(options: RunOptions, trials: Sequence[Trial]) -> None:
    """Refuses what the compiled engine cannot do; which compilers a Ray cluster has, its nodes decide."""
    problems = []
    if options.audit is not None:
        problems.append(Problem("--audit", "compares bits with eager training; leave it, or --engine compiled, out"))
    for arm in dict.fromkeys(trial.arm for trial in trials if _varies(trial)):
        message = f"compiled takes no loops that are drawn or go by length, as in the arm {arm}; leave --engine out"
        problems.append(Problem("--engine", message))
    if options.on == "local":
        from core.engines import cpp_compiler

        if cpp_compiler() is None:
            message = "compiled needs a C++ compiler; install g++, name yours in CXX, or leave --engine out"
            problems.append(Problem("--engine", message))
    if problems:
        raise InputError(problems)


def _varies(trial: Trial) -> bool:
    """Whether updates of one stage are looped differently."""
    config = trial.config
    acting = [stage.acting for stage in declared(config.model, config.train, config.schedule)]
    return any(one.draw is not None or one.offset is not None for one in acting)


def _executor(store: Store, options: RunOptions, ask: Callable[[], Sequence[Trial]]) -> Executor:
    if options.on == "local":
        return LocalExecutor(store.name, workers=options.workers)
    from sweeps.ray_executor import RayExecutor
    from sweeps.ray_node import distinct_texts

    output.note("starting Ray" if options.address is None else f"connecting to Ray at {options.address}")
    return RayExecutor(
        store.name,
        workers=options.workers,
        address=options.address,
        device=options.device,
        engine=options.engine,
        texts=distinct_texts([trial.config.task for trial in ask()]),
        dashboard=options.dashboard,
        say=output.note,
    )


def _summary(study: Study, result: RunResult, trials: Sequence[Trial], coverage: Coverage) -> dict[str, Any]:
    return {
        "study": study.name,
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 3),
        "rounds": result.rounds,
        **counts(trials, coverage),
        "endings": endings(trials, coverage),
    }


def _tell(of: str, result: RunResult, trials: Sequence[Trial], coverage: Coverage) -> None:
    """The end of a run for people: counts by arm, what diverged or failed, what to do next.

    Args:
        of: the study and its store, as further commands take them.
        result: how the run ended.
        trials: of the study.
        coverage: what is recorded now.
    """
    found, ended = counts(trials, coverage), endings(trials, coverage)
    output.emit(f"{standing_table(found)}\n\n")
    for ending in ended[:SHOWN_ENDINGS]:
        which = f"{ending['trial_id']} ({ending['arm']}, seed {ending['seed']})"
        output.emit(output.clean(f"{ending['status']}: {which}" + (f": {ending['error']}" if ending["error"] else "")))
    if len(ended) > SHOWN_ENDINGS:
        output.emit(f"… and {len(ended) - SHOWN_ENDINGS:,} more: loopsweep status {of}")
    took, whole = duration(result.seconds), plural(found["trials"], "trial")
    if result.interrupted:
        left = found["running"] + found["remaining"]
        output.emit(f"interrupted after {took}, {left:,} of {whole} left; the same command goes on")
        return
    output.emit(f"{found['done']:,} of {whole} complete, {took}")
    if again := sorted(FAILURES & found["status"].keys()):
        output.emit(f"run the others again: loopsweep run {of} --retry {','.join(again)}")
    if found["done"]:
        output.emit(f"next: loopsweep report {of}")


def _audit_facts(audited: AuditResult | None) -> dict[str, Any]:
    return {} if audited is None else {"audit": asdict(audited)}


def _tell_audit(audited: AuditResult | None) -> None:
    if audited is None:
        return
    for line in audited.mismatches:
        output.fail(line)
    what = f"audit of {plural(audited.trials, 'trial')}: {plural(audited.rows, 'row')} compared"
    if audited.skipped:
        what += f", {audited.skipped:,} of another numerics class left out"
    differ = plural(len(audited.mismatches), "row differs", "rows differ") if audited.mismatches else "every bit agrees"
    output.emit(f"{what}, {differ}")
