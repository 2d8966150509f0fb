"""What the command `export` does: writes the trials of a study where another program shows them."""

from __future__ import annotations

from typing import Literal

from core.errors import InputError, LoopsweepError, Problem
from studies.store import Store
from sweeps import output
from sweeps.commands_study import load
from sweeps.options import as_typed
from sweeps.storage_url import parse_storage_url


def export(form: Literal["optuna"], name: str, text: str, root: str, *, max_trials: int, as_json: bool) -> int:
    """Writes a study into an Optuna storage."""
    url = parse_storage_url(text, "URL")
    study = load(name, max_trials=max_trials)
    store = Store.open(root)

    from sweeps.export import exported
    from sweeps.mirror import reason, write_storage

    if not any(one.entries for one in exported(study, store)):
        message = f"nothing is recorded in {root}; first do: loopsweep run {as_typed(name, root)}"
        raise InputError([Problem(study.name, message)])
    try:
        found = write_storage(url, lambda: exported(study, store))
    except LoopsweepError:
        raise
    except Exception as error:  # of Optuna, of the database, of the file
        raise InputError([Problem("URL", f"{url.shown} cannot be written: {reason(url, error)}")]) from None
    for line in found.said:
        output.note(line)
    if as_json:
        output.emit_json({"form": form, "storage": url.shown, "studies": found.counts})
        return 0
    for count in found.counts:
        output.emit(f"{count['name']}: {count['trials']:,} trials, {count['added']:,} added")
    output.emit(f"look at them: optuna-dashboard {url.path if url.kind == 'journal' else url.shown}")
    return 0
