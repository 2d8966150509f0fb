"""What the command `report` does: once, or again and again while a sweep runs; and whether it fails for a claim."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError, Problem
from sweeps import output
from sweeps.tables import plural

if TYPE_CHECKING:
    from sweeps.report_sources import Source


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report is asked for, beside studies and store."""

    out: Path | None = None
    """Its folder; None: in the store."""
    every_s: float | None = None
    """With a number, it is written again until nothing is missing, with a look at the store after so many seconds."""
    fail_if: Sequence[str] = ()
    """`sweeps.fail_if`."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How much of a study is there."""

    trials: int
    missing: int
    begun: int
    """Of the missing, those of which something is recorded."""
    lacking: str | None
    """In words, which measurements are missing and what brings them."""

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to report."""
        return self.missing == self.trials


def report(names: Sequence[str], root: str, options: ReportOptions, *, as_json: bool) -> int:
    """The report of one study or several, and where it is."""
    from sweeps.fail_if import EXIT_CODE, conditions, failing
    from sweeps.report_sources import sources

    found = sources(names, root)
    asked = conditions(options.fail_if, [source.labelled for source in found])
    out = options.out if options.out is not None else _folder(found)
    page = _once(found, out) if options.every_s is None else _again(found, out, every_s=options.every_s)
    claims: list[dict[str, Any]] = json.loads(page.with_name("report.json").read_text(encoding="utf-8"))["claims"]
    failed = failing(claims, asked)
    if as_json:
        output.emit_json({"report": str(page)} | ({"failing": failed} if asked else {}))
    else:
        output.emit(f"report: {output.clean(page)}")
    for one in failed:
        output.fail(f"claim {one['claim']} of {one['study']} is {one['verdict']}: {output.clean(one['text'])}")
    return EXIT_CODE if failed else 0


def _folder(sources: Sequence[Source]) -> Path:
    """Where a report goes that nobody has named a folder for: into the store of its first study."""
    from studies.place import in_bucket

    folder, root = Path("reports", "+".join(source.study.name for source in sources)), sources[0].root
    if not in_bucket(root):
        return root / folder
    output.note(f"{root} has no folder for a report; it goes to {output.clean(folder)} here, or to --out DIR")
    return folder


def _once(sources: Sequence[Source], out: Path) -> Path:
    """One report, of studies each of which has something to report."""
    from sweeps.options import as_typed

    for source, standing in zip(sources, map(_standing, sources), strict=True):
        if standing.nothing:
            what = "no trial is complete" if standing.begun else "nothing is recorded"
            first = "go on with" if standing.begun else "first do"
            next_step = standing.lacking or f"{first}: loopsweep run {as_typed(source.name, source.root)}"
            raise InputError([Problem(source.name, f"{what} in {source.root}; {next_step}")])
        if standing.missing:
            of = plural(standing.trials, "trial")
            output.note(f"{output.clean(source.label)}: {standing.missing:,} of {of} are missing from this report")
            if standing.lacking:
                output.note(standing.lacking)
    return _write(sources, out)


def _write(sources: Sequence[Source], out: Path, *, refresh: float | None = None) -> Path:
    from reports import write_report

    return write_report([one.study for one in sources], [one.store for one in sources], out, refresh=refresh)


def _again(sources: Sequence[Source], out: Path, *, every_s: float) -> Path:
    """A report whenever there is something new, until nothing is missing; its page loads itself again as long."""
    from sweeps.refresh import more_to_come, refreshed

    page: Path | None = None
    said = ""

    def write() -> bool:
        nonlocal page, said
        standings = [_standing(source) for source in sources]
        missing = sum(standing.missing for standing in standings)
        trials = sum(standing.trials for standing in standings)
        complete = not missing and not any(more_to_come(source.study, source.store) for source in sources)
        empty = [source for source, standing in zip(sources, standings, strict=True) if standing.nothing]
        if empty:
            names = ", ".join(f"{source.study.name} in {source.root}" for source in empty)
            waiting = f"waiting: no trial is complete of {output.clean(names)}"
            if waiting != said:
                output.note(waiting)
            said = waiting
            return False
        began = time.monotonic()
        page = _write(sources, out, refresh=None if complete else every_s)
        left = f"{trials - missing:,} of {plural(trials, 'trial')}, " + ("complete" if complete else "more to come")
        output.note(f"{output.clean(page)}: {left} ({time.monotonic() - began:.1f} s)")
        return complete

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        refreshed([source.store for source in sources], write, every_s=every_s)
    finally:
        signal.signal(signal.SIGTERM, before)
        if page is not None:
            from reports import hold_still

            hold_still(page)
    if page is None:
        raise RuntimeError("a report is complete that was never written")
    return page


def _terminated(*_: object) -> None:
    """SIGTERM ends a watch as Ctrl-C does, so that its page is held still."""
    raise SystemExit(143)


def _standing(source: Source) -> Standing:
    from studies.coverage import Coverage
    from studies.wanted import wanted
    from sweeps.options import as_typed
    from sweeps.standing import counts, lacking

    coverage = Coverage(source.store.read("segments"))
    trials = wanted(source.study, source.store)
    of = counts(trials, coverage)
    return Standing(
        trials=of["trials"],
        missing=of["trials"] - of["done"] - of["failed"],
        begun=of["begun"] + of["unmeasured"],
        lacking=lacking(as_typed(source.name, source.root), trials, source.store, coverage),
    )
