"""The data dictionary: what each view and each of its columns holds, with units; from the declarations alone.

Columns of a view come from a table (`studies.schemas`), from the registry of metrics, or follow from what a trial is;
the last are declared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from core.config import SECTIONS
from core.errors import InputError
from core.quantities import point
from studies.drops import SWITCH_COLUMNS
from studies.metrics import metric
from studies.schemas import table

VIEW_DOCS: Mapping[str, str] = {
    "trials": "one row per trial of an arm: what it is, how it ended, its last and best values, what it cost",
    "metrics": "evaluations: one row per trial and step",
    "curvature": "what was measured: one row per trial and step",
    "curves": "what depends on a threshold, a rank or a number of loops: one row per trial, step, quantity and x",
    "spectra": "eigenvalues: one row per trial, step and kind",
    "surfaces": "losses on a grid in a plane: one row per trial, step and kind",
    "events": "what happened: one row per trial, step, kind and detail",
    "checks": "what criteria saw: one row per trial and step",
    "importances": "how much searched keys matter: one row per arm, objective, evaluator, batch and key",
}
"""The views, and what a row of each is."""

_RESULT = {"unit": "", "class": "result"}
_EXECUTION = {"unit": "", "class": "execution"}
_OF_TRIALS: Mapping[str, Mapping[str, str]] = {
    "trial_id": {**_RESULT, "doc": "names the configuration with its seed: 16 hex digits of its hash"},
    "study": {**_RESULT, "doc": "name of the study"},
    "arm": {**_RESULT, "doc": "name of the arm"},
    "role": {**_RESULT, "doc": "compare, tune (of a nuisance axis, on seeds of its own) or confirm (on fresh seeds)"},
    "seed": {**_RESULT, "doc": "seed of initial weights and data"},
    "status": {**_RESULT, "doc": "ok, diverged, failed, timeout or oom; null while it is not recorded"},
    "setting": {**_RESULT, "doc": "all that is varied and acts on the trial, as one text"},
    "config": {**_RESULT, "doc": "the whole configuration as canonical JSON, every default written out"},
    "steps": {**_RESULT, "unit": "updates", "doc": "updates of the whole trial"},
    "switch_step": {**_RESULT, "unit": "updates", "doc": "updates before the first switch; null without one"},
    "switches": {**_RESULT, "unit": "switches", "doc": "how often loops change; null while a criterion is open"},
    "parameters": {**_RESULT, "unit": "parameters", "doc": "trained parameters"},
    "attempts": {**_EXECUTION, "unit": "attempts", "doc": "tries until it was recorded; more than 1: workers died"},
    "numerics_class": {**_EXECUTION, "doc": "device, instruction set, torch build and engine: bits agree within one"},
    "pack_size": {**_EXECUTION, "unit": "trials", "doc": "trials that trained in one step with it"},
    "error": {**_EXECUTION, "doc": "reason of a failure, one line"},
    "started_at": {**_EXECUTION, "doc": "when its first unit began, UTC"},
    "finished_at": {**_EXECUTION, "doc": "when its last unit ended, UTC"},
    "provenance": {**_EXECUTION, "doc": "versions, commit and host facts as JSON"},
}
_EXECUTION_METRICS = frozenset({"flops_spent", "alone_s", "spent_s"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One column of a view."""

    view: str
    column: str
    type: str
    unit: str
    meaning: str
    kind: str
    """``result``: the same however the trial was run; ``execution``: how it was."""


def described(view: str, field: pa.Field) -> pa.Field:
    """A column of a view with unit, class and meaning in its metadata; as it is where nothing declares it."""
    found = _metadata(view, field.name)
    return field if found is None else field.with_metadata(found)


def entries(view: str, schema: pa.Schema) -> list[Entry]:
    """The columns of a view, in order."""
    return [_entry(view, described(view, field)) for field in schema]


def _entry(view: str, field: pa.Field) -> Entry:
    metadata = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
    return Entry(
        view=view,
        column=field.name,
        type=str(field.type),
        unit=metadata.get("unit", ""),
        meaning=metadata.get("doc", ""),
        kind=metadata.get("class", "result"),
    )


def _metadata(view: str, name: str) -> Mapping[str, Any] | None:
    if name == "trial_id":
        return _OF_TRIALS[name]
    if view != "trials" and not (view == "curvature" and point(name)):
        try:
            return dict(table(view).column(name).field.metadata)
        except InputError:
            return None
    if name in _OF_TRIALS:
        return _OF_TRIALS[name]
    if name in SWITCH_COLUMNS:
        _, unit, doc = SWITCH_COLUMNS[name]
        return {**_RESULT, "unit": unit, "doc": doc}
    if name.partition(".")[0] in {"task", *SECTIONS}:
        return {**_RESULT, "doc": f"the term {name} of this trial; null where it does not act"}
    try:
        found = metric(name)
    except InputError:
        return None
    prefix = next((p for p in ("final_", "best_") if name.startswith(p)), "")
    when = {"final_": "at the last step: ", "best_": "best over the evaluations: ", "": ""}[prefix]
    kind = _EXECUTION if found.name in _EXECUTION_METRICS else _RESULT
    return {**kind, "unit": found.unit, "doc": when + found.doc}
