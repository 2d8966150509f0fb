"""An audit: a sample of recorded trials is run again, each alone and from its first step, and the bits are compared.

Packs, checkpoints, replays and shared pasts must not show in the numbers; this is how a store proves that they do not.
Bits are promised within a numerics class only, so rows that were made in another one are counted, not compared. An
audit writes nothing. A mismatch makes the exit code 3: what the store holds is not what the configuration gives.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from core.errors import LoopsweepError, StoreError
from core.lineage import canonical_json
from core.quantities import QUANTITY_OF
from studies.expand import Trial
from studies.keys import probe_observed
from studies.store import Store
from sweeps.executor import Committed, Executor, Finished, LaneOutcome, Lost
from sweeps.look import look
from sweeps.round import POLL_SECONDS
from sweeps.units import Bundle, Lane, Unit, unit
from sweeps.worker import Context, Done

WORK = "sweeps.audit:recompute"
MISMATCH_EXIT_CODE = 3
_SAME, _OTHER_CLASS = "same", "other class"


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What an audit found."""

    trials: int
    """Trials that were run again."""
    rows: int
    """Rows whose every column was compared."""
    skipped: int
    """Rows of another numerics class, which were not."""
    mismatches: tuple[str, ...]
    """One line per row that differs: trial, table, step, column, recorded and recomputed value."""

    @property
    def exit_code(self) -> int:
        """0 where all bits agree, else 3."""
        return MISMATCH_EXIT_CODE if self.mismatches else 0


def sample(trials: Sequence[Trial], share: float) -> list[Trial]:
    """The trials that an audit of this share takes: at least one, the same ones every time.

    Args:
        trials: to choose from; trials that several arms share are one.
        share: in (0, 1].
    """
    by_id = {trial.trial_id: trial for trial in trials}
    order = sorted(by_id, key=lambda key: hashlib.sha256(f"audit {key}".encode()).digest())
    return [by_id[key] for key in order[: math.ceil(share * len(order))]]


def audit(
    trials: Sequence[Trial], store: Store, executor: Executor, *, share: float, device: str = "cpu"
) -> AuditResult:
    """Runs a sample of the recorded trials again, on the executor's workers, and compares.

    Args:
        trials: of a study; those without results are left out.
        store: what is recorded.
        executor: what runs them; it is not closed.
        share: of the recorded trials, in (0, 1].
        device: where they run.

    Raises:
        LoopsweepError: a trial could not be run again.
        StoreError: the store cannot be read.
    """
    statuses = look(trials, store).statuses
    recorded = [trial for trial, status in zip(trials, statuses, strict=True) if status in ("ok", "diverged")]
    chosen = sample(recorded, share)
    for number, trial in enumerate(chosen):
        whole = unit([_whole(trial)])
        executor.submit(Bundle(id=f"a{number}", units=(whole,), device=device, work=WORK))
    rows, skipped, mismatches = 0, 0, []
    open_ = {f"a{number}": trial for number, trial in enumerate(chosen)}
    while open_:
        for event in executor.poll(POLL_SECONDS):
            if isinstance(event, Lost):
                error = StoreError if event.kind == "store" else LoopsweepError
                raise error(f"trial {open_[event.bundle].trial_id} could not be audited: {event.reason}")
            if isinstance(event, Finished):
                open_.pop(event.bundle)
            elif isinstance(event, Committed):
                for note in (note for outcome in event.outcomes for note in outcome.notes):
                    rows += note != _OTHER_CLASS
                    skipped += note == _OTHER_CLASS
                    if note not in (_SAME, _OTHER_CLASS):
                        mismatches.append(f"{open_[event.bundle].trial_id} {note}")
    return AuditResult(trials=len(chosen), rows=rows, skipped=skipped, mismatches=tuple(sorted(mismatches)))


def _whole(trial: Trial) -> Lane:
    """A lane that stands for a whole trial, through all its links."""
    return Lane(config=trial.config, chain=trial.links, start=0, end=trial.config.train.steps)


# --- in a worker ---------------------------------------------------------------------------------------------------


def recompute(unit: Unit, context: Context) -> Done:
    """Trains the whole trial of the unit's one lane, and says for each recorded row whether its bits are the same."""
    from core.alone import train_alone
    from core.numerics import numerics_class

    lane = unit.lanes[0]
    alone, observed = train_alone(lane.config, device=context.device), probe_observed(lane.config.measure)
    fresh = {
        "metrics": alone.metrics,
        "curvature": [{"observed": observed, **row} for row in alone.curvature],
        "curves": [{"observed": observed, **row} for row in alone.curves],
        "spectra": [{"observed": observed, **row} for row in alone.spectra],
        "surfaces": [{"observed": observed, **row} for row in alone.surfaces],
        "checks": alone.checks,
    }
    lineages = [link.lineage for link in alone.chain]
    here = numerics_class(context.device)
    elsewhere = {
        (row["lineage"], step)
        for row in _rows(context.store, "segments", lineages)
        if row["numerics_class"] not in (None, here)
        for step in range(row["start"], row["end"] + 1)
    }
    notes = []
    for table, rows in fresh.items():
        known = {key: row for one in _rows(context.store, table, lineages) for key, row in _parts(table, one)}
        for key, row in (part for one in rows for part in _parts(table, one)):
            recorded = known.pop(key, None)
            if recorded is not None and (row["lineage"], row["step"]) in elsewhere:
                notes.append(_OTHER_CLASS)
            else:
                notes.append(_difference(table, row, recorded))
    return Done(lanes=(LaneOutcome(status="ok", reached=lane.end),), rows={}, notes=tuple(notes))


def _rows(store: Store, table: str, lineages: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.dataset(table).to_table(filter=pc.field("lineage").isin(lineages)).to_pylist()
    return found


def _parts(table: str, row: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """What of a row is compared as one, by its key: of curvature each number, whatever was measured beside it."""
    where = row["lineage"], row["step"]
    if table not in ("curvature", "curves", "spectra", "surfaces"):
        yield where, row
        return
    settings = json.loads(row["observed"])
    if table == "curves":
        how = canonical_json(settings[QUANTITY_OF[row["quantity"]]])
        yield (*where, row["quantity"], row["x"], how), {name: row[name] for name in ("lineage", "step", "y")}
    elif table == "spectra":
        acting = ("probe", "vectors", "nodes") if row["kind"] == "slq" else ("probe",)
        how = next(found for found in settings.values() if found.keys() >= set(acting))
        key = (*where, row["kind"], *(how[name] for name in acting))
        yield key, {name: row[name] for name in ("lineage", "step", "eigenvalues", "weights")}
    elif table == "surfaces":
        how = canonical_json(settings["loss_surface"])
        yield (*where, row["kind"], how), {name: row[name] for name in ("lineage", "step", "x", "y", "z")}
    else:
        notes = {field: dict(row[field]) for field in ("method", "error", "products")}
        for name in notes["method"]:
            number = {name: row.get(name)} | {f"{field} of {name}": found.get(name) for field, found in notes.items()}
            yield (
                (*where, name, canonical_json(settings[QUANTITY_OF.get(name, name)])),
                {"lineage": where[0], "step": where[1], **number},
            )


def _difference(table: str, fresh: Mapping[str, Any], recorded: Mapping[str, Any] | None) -> str:
    """What differs between two rows, the first column of it; `_SAME` where every bit agrees."""
    where = f"{table} at step {fresh['step']}"
    if recorded is None:
        return f"{where}: recomputed, not recorded"
    for column in sorted(fresh):
        mine, theirs = _plain(fresh[column]), _plain(recorded.get(column))
        if mine != theirs:
            return f"{where}: {column} is recorded as {theirs}, recomputed {mine}"
    return _SAME


def _plain(value: Any) -> Any:
    """A value that compares by its bits: floats as hexadecimal text, maps (also as pairs) as sorted pairs."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        value = dict(value)  # how Arrow gives a map
    if isinstance(value, Mapping):
        return sorted((key, _plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
