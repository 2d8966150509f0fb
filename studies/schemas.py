"""The tables of the store and the metrics in them: names, types, units, and which column is a result.

What a table holds is declared once, here: its key, its columns with type, unit, meaning and class. A column is of class
*result* (the same numbers whenever, wherever and in whatever packs the trial ran) or *execution* (how it was run: time,
attempts, host). "Equal tables" means equal result columns. Two families of columns are open: the values of a stratum
(``val_loss_low_ic``) and the quantities of the curvature; both are float64, whatever a file may say, so a reader never
infers a type.

Each metric also has a direction (which of two values is better) and a scale. The scale is log only where values live on
orders of magnitude and are positive: a margin between two arms is then a ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from core.config import MeasureConfig
from core.errors import InputError, Problem
from core.lineage import canonical_json
from core.quantities import COLUMNS, point, settings
from core.quantities import Column as Measured
from core.terms import nearest

ColumnClass = Literal["result", "execution"]

STATUSES = ("ok", "diverged", "failed", "timeout", "oom")
"""How a segment ended; the last three are failures, which another attempt may mend."""
FAILURES = frozenset({"failed", "timeout", "oom"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A declared column."""

    name: str
    type: Any
    """A pyarrow data type."""
    doc: str
    unit: str = ""
    kind: ColumnClass = "result"

    @property
    def field(self) -> Any:
        """The pyarrow field, with unit, class and meaning in its metadata."""
        metadata = {"class": self.kind, "doc": self.doc} | ({"unit": self.unit} if self.unit else {})
        return pa.field(self.name, self.type, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A declared table."""

    name: str
    doc: str
    key: tuple[str, ...]
    """Columns that name a row; at most one row of a key is visible."""
    columns: tuple[Column, ...]
    prefixes: tuple[Column, ...] = ()
    """Open families: a column ``<name>_<stratum>`` is typed by the family's declaration."""
    extent: tuple[str, str] | None = None
    """Columns that say on which steps of a lineage a row lies (first excluded, last included); None: on no lineage."""

    def column(self, name: str) -> Column:
        """The declaration of a column.

        Raises:
            InputError: for a name that the table does not have.
        """
        for column in self.columns:
            if column.name == name:
                return column
        for family in self.prefixes:
            if name.startswith(f"{family.name}_"):
                stratum = name[len(family.name) + 1 :]
                return replace(family, name=name, doc=f"{family.doc}, on the stratum {stratum}")
        message = f"the table {self.name} has no such column; {nearest(name, [c.name for c in self.columns])}"
        raise InputError([Problem(name, message)])

    def schema(self, names: Iterable[str] | None = None) -> Any:
        """The pyarrow schema of these columns (default: all that are always there), in declared order."""
        wanted = {c.name for c in self.columns} if names is None else set(names)
        fixed = [c.field for c in self.columns if c.name in wanted]
        open_ = sorted(wanted - {c.name for c in self.columns})
        return pa.schema([*fixed, *(self.column(name).field for name in open_)])


# --- metrics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number means: its unit, which direction is better and on which scale differences are taken."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    scale: Literal["linear", "log"] = "linear"
    doc: str = ""
    exact: bool = False
    """Computed from the configuration alone: it has no sampling error, and one seed says all."""


STRATIFIED = (
    Metric(name="val_loss", unit="nats/token", better="lower", doc="mean loss on the validation set"),
    Metric(name="val_accuracy", unit="fraction", better="higher", doc="share of predicted tokens that are right"),
    Metric(
        name="val_exact",
        unit="fraction",
        better="higher",
        doc="share of problems whose whole answer is right; of tasks with an answer",
    ),
    Metric(
        name="excess_loss",
        unit="nats/token",
        better="lower",
        scale="log",
        doc="validation loss above the Bayes-optimal loss",
    ),
    Metric(name="bayes_loss", unit="nats/token", better="lower", doc="loss of the Bayes-optimal predictor"),
    Metric(
        name="bayes_accuracy", unit="fraction", better="higher", doc="share that the Bayes-optimal predictor gets right"
    ),
)
"""Metrics that exist for the whole validation set and, with a suffix, for each of its strata."""

TRAINING = (
    Metric(name="train_loss", unit="nats/token", better="lower", doc="loss of the last batch; null at step 0"),
    Metric(name="grad_norm", unit="1", better="lower", doc="norm of its gradient before clipping; null at step 0"),
)

TEXT = (
    Metric(
        name="val_bits_per_byte",
        unit="bits/byte",
        better="lower",
        doc="validation loss by the byte of held-out text; null where a task is no text, or tokens do not give it back",
    ),
)
"""Metrics of text tasks alone."""

COST = (
    Metric(
        name="flops_alone",
        unit="FLOP",
        better="lower",
        scale="log",
        doc="what the trial costs by itself",
        exact=True,
    ),
    Metric(name="flops_spent", unit="FLOP", better="lower", scale="log", doc="its share of what was run"),
    Metric(name="alone_s", unit="s", better="lower", scale="log", doc="time of the trial by itself, from calibrations"),
    Metric(name="spent_s", unit="s", better="lower", scale="log", doc="its share of the wall time of its units"),
    Metric(name="switch_step", unit="updates", better="lower", doc="updates before the first switch"),
    Metric(name="switch_drop", unit="nats/token", better="lower", doc="rise of val_loss at the first switch"),
    Metric(
        name="switch_recovery_steps",
        unit="updates",
        better="lower",
        doc="from the first switch to the first evaluation with val_loss at most that before it",
    ),
)
"""What a trial costs, and what its first switch costs it: columns of the view trials alone."""


def _measured(name: str, column: Measured) -> Metric:
    scale: Literal["linear", "log"] = "log" if column.log else "linear"
    return Metric(name=name, unit=column.unit, better=column.better, scale=scale, doc=column.doc)


METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*TRAINING, *STRATIFIED, *TEXT, *COST)} | {
    name: _measured(name, column) for name, column in COLUMNS.items()
}
"""The registry: every metric that a claim or a figure may name, without `final_`, `best_`, stratum and points of curves
(`core.quantities.point`)."""

HISTORY = tuple(m.name for m in (*TRAINING, *STRATIFIED, *TEXT))
"""Metrics of the table metrics that have a `final_` and a `best_` value per trial (as have their strata)."""


def metric(name: str) -> Metric:
    """The registered metric of a column name, whatever its `final_` / `best_` prefix and stratum suffix.

    Raises:
        InputError: for a name that no table has.
    """
    bare = name.removeprefix("final_").removeprefix("best_")
    if bare in METRICS:
        return replace(METRICS[bare], name=name)
    if (of_curve := point(bare)) is not None:  # before the strata, none of which is `loops_…`
        return _measured(name, of_curve.column)
    for base in STRATIFIED:
        if bare.startswith(f"{base.name}_"):
            stratum = bare[len(base.name) + 1 :]
            return replace(base, name=name, doc=f"{base.doc}, on the stratum {stratum}")
    raise InputError([Problem(name, f"unknown metric; {nearest(bare, METRICS)}")])


# --- tables ----------------------------------------------------------------------------------------------------------

_TIME = pa.timestamp("us", tz="UTC")


def _text(name: str, doc: str, kind: ColumnClass = "result") -> Column:
    return Column(name=name, type=pa.string(), doc=doc, kind=kind)


def _whole(name: str, doc: str, unit: str = "", kind: ColumnClass = "result", bits: int = 64) -> Column:
    return Column(name=name, type=pa.int64() if bits == 64 else pa.int32(), doc=doc, unit=unit, kind=kind)


def _number(name: str, doc: str, unit: str = "", kind: ColumnClass = "result") -> Column:
    return Column(name=name, type=pa.float64(), doc=doc, unit=unit, kind=kind)


def _metric(m: Metric) -> Column:
    return _number(m.name, m.doc, m.unit)


_LINEAGE = _text("lineage", "hash of everything that acted up to here; 16 hex digits")
_STEP = _whole("step", "updates done", "updates")
_OBSERVED = _text("observed", "canonical JSON of what was measured: by quantity, the settings that act on it")

RANK = Column(
    name="rank",
    type=pa.int32(),
    kind="execution",
    doc="2 × generation + (0 for a failure, 1 else) of the segment that wrote the row; of equal keys the highest shows",
)
"""Written beside the rows of every table; settles which of several rows of one key is visible."""

SEGMENTS = Table(
    name="segments",
    doc="stretches of lineages that were run, and how they ended",
    key=("lineage", "start", "end", "observed"),
    extent=("start", "end"),
    columns=(
        _LINEAGE,
        _whole("start", "step of the state it began from", "updates"),
        _whole("end", "step it was to reach", "updates"),
        _text("observed", "canonical JSON of what was observed on it: `studies.tree.observed`"),
        _whole("reached", "last finite step", "updates"),
        _text("status", "ok, diverged, failed, timeout or oom"),
        Column(name="evaluated", type=pa.list_(pa.int64()), doc="steps with a row of metrics", unit="updates"),
        Column(name="measured", type=pa.list_(pa.int64()), doc="steps with a row of curvature", unit="updates"),
        Column(name="checked", type=pa.list_(pa.int64()), doc="steps with a row of checks", unit="updates"),
        _whole("generation", "raised by --retry; the highest counts", kind="execution", bits=32),
        _whole("attempts", "tries until it was recorded", kind="execution", bits=32),
        _text("error", "reason of a failure, one line", "execution"),
        _whole("pack_size", "trials in its pack", kind="execution", bits=32),
        _text("numerics_class", "device, instruction set, torch build and engine", "execution"),
        _number("spent_s", "its share of its unit's wall time", "s", "execution"),
        _number("measured_s", "of that, its share of what measuring curvature took", "s", "execution"),
        Column(name="started_at", type=_TIME, doc="when its unit began", kind="execution"),
        Column(name="finished_at", type=_TIME, doc="when its unit ended", kind="execution"),
        _text("provenance", "versions, commit and host facts as JSON", "execution"),
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
        _whole("stage", "index of the stage that the step ends or lies in", bits=32),
        _whole("loops", "loops of that stage", bits=32),
        _number("lr", "learning rate of the last update", "1"),
        *(_metric(m) for m in (*TRAINING, *STRATIFIED, *TEXT)),
        _whole("tokens", "tokens trained on so far", "tokens"),
        _whole("flops_alone", "cost of the trial by itself so far", "FLOP"),
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
        *(_number(name, column.doc, column.unit) for name, column in COLUMNS.items()),
        _number("asymmetry", "|uᵀHv − vᵀHu| / (‖Hu‖ + ‖Hv‖) of the Hessian products; sound ones have 1e-16", "1"),
        Column(name="method", type=pa.map_(pa.string(), pa.string()), doc="method by column or quantity"),
        Column(
            name="error",
            type=pa.map_(pa.string(), pa.float64()),
            doc="by column, in its unit: a bound where Lanczos found it, one standard error where it was sampled",
        ),
        Column(name="products", type=pa.map_(pa.string(), pa.int64()), doc="Hessian products by column or quantity"),
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
        _text("kind", "exact or slq"),
        _OBSERVED,
        Column(name="eigenvalues", type=pa.list_(pa.float64()), doc="ascending", unit="1"),
        Column(name="weights", type=pa.list_(pa.float64()), doc="share of the spectrum by eigenvalue", unit="fraction"),
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
        _text("kind", "top: the plane of the two top eigenvectors of the Hessian"),
        _OBSERVED,
        Column(name="x", type=pa.list_(pa.float64()), doc="distances along the top eigenvector, ascending", unit="1"),
        Column(name="y", type=pa.list_(pa.float64()), doc="distances along the second, ascending", unit="1"),
        Column(
            name="z",
            type=pa.list_(pa.float64()),
            doc="loss at (x₀, y₀), (x₀, y₁) …: len(x) · len(y) of them",
            unit="nats/token",
        ),
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
        _text("quantity", "kappa_valley, cumulative_force, top_eigenvalue, …"),
        _number("x", "the threshold ε or τ, the rank, or the number of loops", "1"),
        _OBSERVED,
        _number("y", "the value", "1"),
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
        _text("kind", "switch or divergence; the view has more, which follow from rows: watcher, recovery"),
        _text("detail", "switch: JSON of loops before and after, and what the same weights give right after it"),
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
        _number("val_loss", "mean loss on the validation set", "nats/token"),
        _number("train_loss", "training loss of the fixed training batch, that of the first update", "nats/token"),
        _number("grad_norm", "norm of its gradient", "1"),
    ),
)

CALIBRATIONS = Table(
    name="calibrations",
    doc="measured step times, by shape; the first one recorded counts",
    key=("shape", "loops", "numerics_class", "pack"),
    columns=(
        _text("shape", "what shapes a step, as JSON: `studies.tree.shape_key`"),
        _whole("loops", "loops of the stage"),
        _text("numerics_class", "device, instruction set, torch build and engine"),
        _whole("pack", "trials in the pack"),
        _number("step_s", "wall time of one step of the pack", "s", "execution"),
        _whole("memory_bytes", "peak memory of the pack", "B", "execution"),
    ),
)

PROPOSALS = Table(
    name="proposals",
    doc="settings that an adaptive search asked for",
    key=("study", "search", "arm", "number"),
    columns=(
        _text("study", "name of the study"),
        _text("search", "digest of the search's settings"),
        _text("arm", "name of the arm"),
        _whole("number", "of the proposal"),
        _text("params", "dotted keys and values as JSON"),
        _whole("batch", "of proposals asked for at once", bits=32),
    ),
)

CONFIRMATIONS = Table(
    name="confirmations",
    doc="settings that are run again on fresh seeds, chosen by `loopsweep confirm`",
    key=("study", "metric", "arm", "setting", "seed"),
    columns=(
        _text("study", "name of the study"),
        _text("metric", "column of the view trials by which the setting was among the best"),
        _text("arm", "name of the arm"),
        _text("setting", "trial_id that the setting has under seed 0"),
        _whole("seed", "a fresh one: derived by hash, none that the setting was chosen or tuned on"),
    ),
)

PROMOTIONS = Table(
    name="promotions",
    doc="settings of a search that went on from a rung as soon as they were among the best there",
    key=("study", "search", "arm", "number", "rung"),
    columns=(
        _text("study", "name of the study"),
        _text("search", "digest of the search's settings"),
        _text("arm", "name of the arm"),
        _whole("number", "of the proposal"),
        _whole("rung", "that it went on to; the first is 0", bits=32),
    ),
)

IMPORTANCES = Table(
    name="importances",
    doc="how much each searched key matters, as two evaluators say at the end of a batch",
    key=("study", "search", "arm", "metric", "evaluator", "batch", "key"),
    columns=(
        _text("study", "name of the study"),
        _text("search", "digest of the search's settings"),
        _text("arm", "name of the arm"),
        _text("metric", "objective"),
        _text("evaluator", "ped-anova or fanova"),
        _whole("batch", "the last one whose settings are looked at", bits=32),
        _text("key", "dotted key"),
        # Of another version of the evaluator's library it may be another number.
        _number("value", "share; those of one evaluator sum to 1", "fraction", "execution"),
        _whole("n", "settings with a value", "settings"),
    ),
)

TABLES: Mapping[str, Table] = {
    t.name: t
    for t in (
        *(SEGMENTS, METRICS_TABLE, CURVATURE, SPECTRA, SURFACES, CURVES, EVENTS, CHECKS),
        *(CALIBRATIONS, PROPOSALS, PROMOTIONS, CONFIRMATIONS, IMPORTANCES),
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


# --- keys that several rooms agree on --------------------------------------------------------------------------------


def probe_observed(measure: MeasureConfig) -> str:
    """The column `observed` of curvature, spectra, surfaces, curves: by quantity, the settings that act on its value.

    Rows of other quantities or with other settings do not collide, and both can be read back from it.
    """
    return canonical_json({name: settings(measure, name) for name in measure.quantities})
