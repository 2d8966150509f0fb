"""The tables of the store: names, keys, and columns with types, units and meanings, each declared once.

First those whose rows lie on lineages, then those of calibrations and of what studies record of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from core.errors import InputError, Problem
from core.quantities import COLUMNS
from core.terms import nearest
from studies.columns import Column, Table, by_name, moment, number, numbers, steps, text, whole
from studies.metrics import STRATIFIED, TEXT, TRAINING, Metric

STATUSES = ("ok", "diverged", "failed", "timeout", "oom")
"""How a segment ended; the last three are failures, which another attempt may mend."""
FAILURES = frozenset({"failed", "timeout", "oom"})

RANK = whole(
    "rank",
    "2 × generation + (0 for a failure, 1 else) of the segment that wrote the row; of equal keys the highest shows",
    kind="execution",
    bits=32,
)
"""Written beside the rows of every table; settles which of several rows of one key is visible."""

# --- on lineages -----------------------------------------------------------------------------------------------------

_LINEAGE = text("lineage", "hash of everything that acted up to here; 16 hex digits")
_STEP = whole("step", "updates done", "updates")
_OBSERVED = text("observed", "canonical JSON of what was measured: by quantity, the settings that act on it")


def _metric(m: Metric) -> Column:
    return number(m.name, m.doc, m.unit)


SEGMENTS = Table(
    name="segments",
    doc="stretches of lineages that were run, and how they ended",
    key=("lineage", "start", "end", "observed"),
    extent=("start", "end"),
    columns=(
        _LINEAGE,
        whole("start", "step of the state it began from", "updates"),
        whole("end", "step it was to reach", "updates"),
        text("observed", "canonical JSON of what was observed on it: `studies.keys.observed`"),
        whole("reached", "last finite step", "updates"),
        text("status", "ok, diverged, failed, timeout or oom"),
        steps("evaluated", "steps with a row of metrics"),
        steps("measured", "steps with a row of curvature"),
        steps("checked", "steps with a row of checks"),
        whole("generation", "raised by --retry; the highest counts", kind="execution", bits=32),
        whole("attempts", "tries until it was recorded", kind="execution", bits=32),
        text("error", "reason of a failure, one line", kind="execution"),
        whole("pack_size", "trials in its pack", kind="execution", bits=32),
        text("numerics_class", "device, instruction set, torch build and engine", kind="execution"),
        number("spent_s", "its share of its unit's wall time", "s", kind="execution"),
        number("measured_s", "of that, its share of what measuring curvature took", "s", kind="execution"),
        moment("started_at", "when its unit began"),
        moment("finished_at", "when its unit ended"),
        text("provenance", "versions, commit and host facts as JSON", kind="execution"),
    ),
)

METRICS_TABLE = Table(
    name="metrics",
    doc="evaluations",
    key=("lineage", "step"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        whole("stage", "index of the stage that the step ends or lies in", bits=32),
        whole("loops", "loops of that stage", bits=32),
        number("lr", "learning rate of the last update", "1"),
        *(_metric(m) for m in (*TRAINING, *STRATIFIED, *TEXT)),
        whole("tokens", "tokens trained on so far", "tokens"),
        whole("flops_alone", "cost of the trial by itself so far", "FLOP"),
    ),
    prefixes=tuple(_metric(m) for m in STRATIFIED),
)

CURVATURE = Table(
    name="curvature",
    doc="quantities of the Hessian on the probe batch, and what else is measured at a state",
    key=("lineage", "step", "observed"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        _OBSERVED,
        *(number(name, column.doc, column.unit) for name, column in COLUMNS.items()),
        number("asymmetry", "|uᵀHv − vᵀHu| / (‖Hu‖ + ‖Hv‖) of the Hessian products; sound ones have 1e-16", "1"),
        by_name("method", pa.string(), "method by column or quantity"),
        by_name(
            "error",
            pa.float64(),
            "by column, in its unit: a bound where Lanczos found it, one standard error where it was sampled",
        ),
        by_name("products", pa.int64(), "Hessian products by column or quantity"),
    ),
)

SPECTRA = Table(
    name="spectra",
    doc="eigenvalues of the Hessian on the probe batch, exact or by quadrature",
    key=("lineage", "step", "kind", "observed"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        text("kind", "exact or slq"),
        _OBSERVED,
        numbers("eigenvalues", "ascending", "nats/token"),
        numbers("weights", "share of the spectrum by eigenvalue", "fraction"),
    ),
)

SURFACES = Table(
    name="surfaces",
    doc="the loss on the probe batch on a grid in a plane through the state",
    key=("lineage", "step", "kind", "observed"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        text("kind", "top: the plane of the two top eigenvectors of the Hessian"),
        _OBSERVED,
        numbers("x", "distances along the top eigenvector, ascending", "1"),
        numbers("y", "distances along the second, ascending", "1"),
        numbers("z", "loss at (x₀, y₀), (x₀, y₁) …: len(x) · len(y) of them", "nats/token"),
    ),
)

CURVES = Table(
    name="curves",
    doc="quantities that depend on a threshold, a rank or a number of loops",
    key=("lineage", "step", "quantity", "x", "observed"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        text("quantity", "kappa_valley, cumulative_force, top_eigenvalue, …"),
        number("x", "the threshold ε or τ, the rank, or the number of loops", "1"),
        _OBSERVED,
        number("y", "the value", "1"),
    ),
)

EVENTS = Table(
    name="events",
    doc="what happened at a step",
    key=("lineage", "step", "kind"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        text("kind", "switch or divergence; the view has more, which follow from rows: watcher, recovery"),
        text("detail", "switch: JSON of loops before and after, and what the same weights give right after it"),
    ),
)

CHECKS = Table(
    name="checks",
    doc="what the criteria of schedules see",
    key=("lineage", "step"),
    extent=("step", "step"),
    columns=(
        _LINEAGE,
        _STEP,
        number("val_loss", "mean loss on the validation set", "nats/token"),
        number("train_loss", "training loss of the fixed training batch, that of the first update", "nats/token"),
        number("grad_norm", "norm of its gradient", "1"),
    ),
)

# --- on no lineage ---------------------------------------------------------------------------------------------------

CALIBRATIONS = Table(
    name="calibrations",
    doc="measured step times, by shape; the first one recorded counts",
    key=("shape", "loops", "numerics_class", "pack"),
    columns=(
        text("shape", "what shapes a step, as JSON: `studies.keys.shape_key`"),
        whole("loops", "loops of the stage"),
        text("numerics_class", "device, instruction set, torch build and engine"),
        whole("pack", "trials in the pack"),
        number("step_s", "wall time of one step of the pack", "s", kind="execution"),
        whole("memory_bytes", "peak memory of the pack", "B", kind="execution"),
    ),
)

_STUDY = text("study", "name of the study")
_ARM = text("arm", "name of the arm")
_SEARCHED = (_STUDY, text("search", "digest of the search's settings"), _ARM)
_PROPOSAL = (*_SEARCHED, whole("number", "of the proposal"))

PROPOSALS = Table(
    name="proposals",
    doc="settings that an adaptive search asked for",
    key=("study", "search", "arm", "number"),
    columns=(
        *_PROPOSAL,
        text("params", "dotted keys and values as JSON"),
        whole("batch", "of proposals asked for at once", bits=32),
    ),
)

CONFIRMATIONS = Table(
    name="confirmations",
    doc="settings that are run again on fresh seeds, chosen by `loopsweep confirm`",
    key=("study", "metric", "arm", "setting", "seed"),
    columns=(
        _STUDY,
        text("metric", "column of the view trials by which the setting was among the best"),
        _ARM,
        text("setting", "trial_id that the setting has under seed 0"),
        whole("seed", "a fresh one: derived by hash, none that the setting was chosen or tuned on"),
    ),
)

PROMOTIONS = Table(
    name="promotions",
    doc="settings of a search that went on from a rung as soon as they were among the best there",
    key=("study", "search", "arm", "number", "rung"),
    columns=(
        *_PROPOSAL,
        whole("rung", "that it went on to; the first is 0", bits=32),
    ),
)

IMPORTANCES = Table(
    name="importances",
    doc="how much each searched key matters, as two evaluators say at the end of a batch",
    key=("study", "search", "arm", "metric", "evaluator", "batch", "key"),
    columns=(
        *_SEARCHED,
        text("metric", "objective"),
        text("evaluator", "ped-anova or fanova"),
        whole("batch", "the last one whose settings are looked at", bits=32),
        text("key", "dotted key"),
        # Of another version of the evaluator's library it may be another number.
        number("value", "share; those of one evaluator sum to 1", "fraction", kind="execution"),
        whole("n", "settings with a value", "settings"),
    ),
)

TABLES: Mapping[str, Table] = {
    declared.name: declared
    for declared in (
        SEGMENTS,
        METRICS_TABLE,
        CURVATURE,
        SPECTRA,
        SURFACES,
        CURVES,
        EVENTS,
        CHECKS,
        CALIBRATIONS,
        PROPOSALS,
        PROMOTIONS,
        CONFIRMATIONS,
        IMPORTANCES,
    )
}


def table(name: str) -> Table:
    """The declaration of a table.

    Raises:
        InputError: for a name that no table has.
    """
    if name not in TABLES:
        raise InputError([Problem(name, f"unknown table; {nearest(name, TABLES)}")])
    return TABLES[name]
