"""What may be measured at a state of training: the names in `measure.quantities`, and the columns and curves they give.

Apart from `core.curvature`, which measures them, so that planning knows names, costs and limits without torch. All are
properties of the mean loss on the probe batch (the first `measure.probe` sequences of the validation set, at the loops
of the stage), and of nothing that training goes through later, but for those that follow a short branch of it, and for
what the whole validation set says of the outputs at other loops.

Each quantity says which terms of ``[measure]`` act on its value, and which version of its estimator found it: a
recorded value answers for another study exactly where these agree (`settings`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from core.config import MeasureConfig

MATRICES = ("embedding", "position", "timestep", "query", "key", "value", "out", "mlp", "head", "norm")
"""Kinds of parameters: each is all weights of a trial that play one part, over all blocks. A model has some of them."""

THRESHOLDS = tuple(10 ** (quarter / 4) for quarter in range(-48, 13))
"""The x of curves over ε or τ: 1e-12 … 1e3, four to a decade; absolute, so that arms compare at equal thresholds."""

NULL = 1e-12
"""Eigenvalues below this share of the largest |λ| are zero within the rounding of an exact spectrum: the null space."""

Means = Literal["outputs", "gradient", "products", "spectrum", "exact"]
"""What it takes: the model's outputs; first derivatives; Hessian products; an exact spectrum or, for larger models,
stochastic quadrature; the exact spectrum and nothing less (what happens near zero, which no sampling settles)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A number of the table ``curvature``."""

    unit: str
    doc: str
    better: Literal["lower", "higher"] = "lower"
    log: bool = False
    """Lives on orders of magnitude and is positive: differences are taken as ratios."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A quantity of the table ``curves``: a function of x."""

    x: str
    """What x is."""
    unit: str
    doc: str
    listed: str | None = None
    """The term of ``[measure]`` that lists its x, whole numbers. The view `curvature` then has its points as columns
    too, ``<curve>_<x>`` (`points`), so that a claim may name one."""
    better: Literal["lower", "higher"] = "lower"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """What a study may ask for by name."""

    doc: str
    means: Means
    columns: Mapping[str, Column] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    terms: tuple[str, ...] = ()
    """Terms of ``[measure]`` beside `probe` that act on its value."""
    updates: str | None = None
    """Term that says for how many updates it follows a branch of the training; None: it needs none."""
    probed: bool = True
    """On the probe batch; False: on the whole validation set."""
    version: int = 1
    """Of its estimator: raised when its numbers change, other than by rounding, so that none found before answers."""

    @property
    def curved(self) -> bool:
        """Whether it takes Hessian products."""
        return self.means not in ("outputs", "gradient")


def _one(
    name: str,
    *,
    unit: str,
    doc: str,
    means: Means,
    better: Literal["lower", "higher"] = "lower",
    log: bool = False,
    terms: tuple[str, ...] = (),
    updates: str | None = None,
    probed: bool = True,
) -> dict[str, Quantity]:
    column = Column(unit=unit, doc=doc, better=better, log=log)
    columns = {name: column}
    return {name: Quantity(doc=doc, means=means, columns=columns, terms=terms, updates=updates, probed=probed)}


def _curve(
    name: str,
    *,
    x: str,
    unit: str,
    doc: str,
    means: Means = "exact",
    terms: tuple[str, ...] = ("exact",),
    updates: str | None = None,
) -> dict[str, Quantity]:
    curve = Curve(x=x, unit=unit, doc=doc)
    return {name: Quantity(doc=doc, means=means, curves={name: curve}, terms=terms, updates=updates)}


def _over_loops(unit: str, doc: str, better: Literal["lower", "higher"]) -> Curve:
    return Curve(x="loops", unit=unit, doc=doc, listed="test_loops", better=better)


_SAMPLED = ("exact", "vectors", "nodes")
_NATS = "nats/token"
"""Of the loss and its derivatives: a gradient's per unit of weight, an eigenvalue's per unit of weight squared, weights
being pure numbers. The entropy of a spectrum and what two share are in nats."""


def _by_matrix(
    name: str, *, unit: str, doc: str, whole: str | None = None, better: Literal["lower", "higher"] = "lower"
) -> dict[str, Column]:
    columns = {} if whole is None else {name: Column(unit=unit, doc=whole, better=better)}
    return columns | {f"{name}_{kind}": Column(unit=unit, doc=doc.format(kind), better=better) for kind in MATRICES}


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        **_one("lambda_max", unit=_NATS, doc="largest eigenvalue", means="products", log=True, terms=("products",)),
        **_one(
            "lambda_min", unit=_NATS, doc="smallest eigenvalue", means="products", better="higher", terms=("products",)
        ),
        "eigenvalues": Quantity(
            doc="largest and smallest eigenvalues",
            means="products",
            curves={
                "top_eigenvalue": Curve(x="rank from the top, 1 …", unit=_NATS, doc="eigenvalue of that rank"),
                "bottom_eigenvalue": Curve(x="rank from the bottom, 1 …", unit=_NATS, doc="eigenvalue of that rank"),
            },
            terms=("products", "top"),
        ),
        **_one(
            "trace", unit=_NATS, doc="sum of the eigenvalues", means="spectrum", log=True, terms=("exact", "vectors")
        ),
        **_one(
            "frobenius",
            unit=_NATS,
            doc="root of the sum of their squares",
            means="spectrum",
            log=True,
            terms=("exact", "vectors"),
        ),
        "spectrum": Quantity(doc="the eigenvalues, or their density (table spectra)", means="spectrum", terms=_SAMPLED),
        **_one(
            "entropy",
            unit="nats",
            doc="matrix entropy S: of the shares |λ| / Σ |λ|",
            means="spectrum",
            better="higher",
            terms=_SAMPLED,
        ),
        **_one(
            "normalised_entropy",
            unit="1",
            doc="S / ln P with P parameters",
            means="spectrum",
            better="higher",
            terms=_SAMPLED,
        ),
        **_one("effective_rank", unit="1", doc="exp S", means="spectrum", better="higher", terms=_SAMPLED),
        **_one(
            "negative_mass",
            unit="fraction",
            doc="share of Σ |λ| that is of negative eigenvalues",
            means="spectrum",
            terms=_SAMPLED,
        ),
        **_one(
            "null_count",
            unit="1",
            doc="eigenvalues that are zero within rounding: symmetries, saturated or unused directions",
            means="exact",
            terms=("exact",),
        ),
        **_curve(
            "kappa_valley", x="ε", unit="1", doc="largest over smallest |λ| among |λ| > ε: condition of the valley"
        ),
        **_curve("cumulative_force", x="τ", unit="token/nats", doc="Σ 1/|λ| over |λ| ≤ τ, without the null space"),
        **_curve("eigenvalues_below", x="τ", unit="1", doc="eigenvalues with |λ| ≤ τ, without the null space"),
        **_one(
            "mutual_information",
            unit="nats",
            doc="what the Hessian shares with that `lag` updates later",
            means="exact",
            better="higher",
            terms=("exact", "lag"),
            updates="lag",
        ),
        **_one(
            "sam_sharpness",
            unit=_NATS,
            doc="rise of the loss by a step of length rho along the gradient",
            means="gradient",
            log=True,
            terms=("rho",),
        ),
        **_one(
            "adaptive_sharpness",
            unit=_NATS,
            doc="the same with each weight's step scaled by its size",
            means="gradient",
            terms=("adaptive_rho",),
        ),
        **_one("probe_grad_norm", unit=_NATS, doc="norm of the gradient on the probe batch", means="gradient"),
        "loss_surface": Quantity(
            doc="the loss on a grid in the plane of the two top eigenvectors (table surfaces)",
            means="products",
            terms=("products", "points", "radius"),
        ),
        "gradient_curvature": Quantity(
            doc="how the gradient lies to the sharpest directions",
            means="products",
            columns={
                "top_cosine": Column(unit="1", doc="|cosine| of the gradient and the top eigenvector"),
                "top_share": Column(unit="fraction", doc="share of its squared norm in the top eigenvectors"),
            },
            terms=("products", "top"),
        ),
        **_one(
            "edge",
            unit="1",
            doc="(preconditioned) λ_max over the optimiser's limit of stability: 1 = at the edge",
            means="products",
            terms=("products",),
        ),
        "block_lambda_max": Quantity(
            doc="largest eigenvalue of each kind of matrices' own block of the Hessian",
            means="products",
            columns=_by_matrix("block_lambda_max", unit=_NATS, doc="largest eigenvalue of the block of {}"),
            terms=("products",),
        ),
        "gradient_alignment": Quantity(
            doc="cosine of the gradients at one loop and at `loops` loops, at the same weights",
            means="gradient",
            columns=_by_matrix(
                "gradient_alignment",
                unit="1",
                doc="the same for {}",
                whole="cosine of both gradients",
                better="higher",
            ),
            terms=("loops",),
        ),
        "loop_parts": Quantity(
            doc="the Hessian of the looped blocks as a part within loops and a part across loops",
            means="products",
            columns={
                "same_loop_trace": Column(unit=_NATS, doc="trace of the same-loop part"),
                "cross_loop_trace": Column(unit=_NATS, doc="trace of the cross-loop part"),
                "same_loop_lambda_max": Column(unit=_NATS, doc="largest eigenvalue of the same-loop part"),
                "cross_loop_lambda_max": Column(unit=_NATS, doc="largest eigenvalue of the cross-loop part"),
                "cross_loop_lambda_min": Column(unit=_NATS, doc="smallest eigenvalue of the cross-loop part"),
            },
            terms=("exact", "products", "vectors"),
        ),
        **_curve(
            "river_share",
            x="ε",
            unit="fraction",
            doc="share of the next updates (squared) along |λ| ≤ ε, the null space included",
            terms=("exact", "window"),
            updates="window",
        ),
        **_curve(
            "valley_hopping",
            x="rank from the top, 1 …",
            unit="fraction",
            doc="how often the gradient along that eigenvector changes sign from update to update",
            means="products",
            terms=("products", "top", "window"),
            updates="window",
        ),
        **_one(
            "hill",
            unit=_NATS,
            doc="fall of the validation loss in a short decay of the learning rate from here",
            means="gradient",
            terms=("decay",),
            updates="decay",
            probed=False,
        ),
        "test_loops": Quantity(
            doc="the outputs after each of `test_loops` loops, and rules that choose among them for each sequence",
            means="outputs",
            columns={
                "val_accuracy_confident": Column(
                    unit="fraction",
                    better="higher",
                    doc="accuracy where sequences halt at their most confident output",
                ),
                "val_exact_confident": Column(
                    unit="fraction", better="higher", doc="share of sequences that are all right there"
                ),
                "confident_loops": Column(unit="loops", doc="loops at which they halt, on average"),
                "val_exact_oracle": Column(
                    unit="fraction", better="higher", doc="share of sequences that are all right at some of these loops"
                ),
                "oracle_loops": Column(unit="loops", doc="the fewest of these loops at which they are, on average"),
            },
            curves={
                "val_loss_loops": _over_loops(_NATS, "validation loss", "lower"),
                "val_accuracy_loops": _over_loops("fraction", "share of tokens predicted right", "higher"),
                "val_exact_loops": _over_loops("fraction", "share of sequences that are all right", "higher"),
                "val_exact_trained_loops": _over_loops("fraction", "the same of lengths trained on", "higher"),
                "val_exact_longer_loops": _over_loops("fraction", "the same of longer ones", "higher"),
            },
            terms=("test_loops",),
            probed=False,
        ),
    }
)
"""By the name under which a study asks for it."""

COLUMNS: Mapping[str, Column] = MappingProxyType(
    {name: column for quantity in QUANTITIES.values() for name, column in quantity.columns.items()}
)
"""The columns of the table ``curvature``."""

CURVES: Mapping[str, Curve] = MappingProxyType(
    {name: curve for quantity in QUANTITIES.values() for name, curve in quantity.curves.items()}
)
"""The column ``quantity`` of the table ``curves``."""

QUANTITY_OF: Mapping[str, str] = MappingProxyType(
    {name: asked for asked, q in QUANTITIES.items() for name in (*q.columns, *q.curves)}
)
"""By column or curve: the quantity that gives it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A point of a curve whose x are listed: a column of the view `curvature`."""

    curve: str
    x: int

    @property
    def column(self) -> Column:
        """What the number is."""
        curve = CURVES[self.curve]
        return Column(unit=curve.unit, better=curve.better, doc=f"{curve.doc}, at {self.x} {curve.x}")


_LISTED = {name: curve.listed for name, curve in CURVES.items() if curve.listed is not None}
_POINT = re.compile(rf"({'|'.join(_LISTED)})_([1-9][0-9]{{0,8}})")


def point(name: str) -> Point | None:
    """The point of a curve that a column of the view `curvature` holds; None for any other name."""
    found = _POINT.fullmatch(name)
    return None if found is None else Point(curve=found[1], x=int(found[2]))


def points(measures: Iterable[MeasureConfig]) -> dict[str, Point]:
    """The points that some trials ask for, by column of the view `curvature`: curve by curve, x ascending."""
    known = list(measures)
    return {
        f"{name}_{x}": Point(curve=name, x=x)
        for name, listed in _LISTED.items()
        for x in sorted({x for m in known if QUANTITY_OF[name] in m.quantities for x in getattr(m, listed)})
    }


def quantity_of(name: str) -> str:
    """The quantity that gives a column or curve of the view `curvature`, points of curves included.

    Raises:
        KeyError: no quantity does.
    """
    found = point(name)
    return QUANTITY_OF[name if found is None else found.curve]


def settings(measure: MeasureConfig, quantity: str) -> dict[str, Any]:
    """What acts on a quantity's value: two measurements with equal settings at one state are equal.

    Its terms, as JSON gives them back, and ``version`` where its estimator is not the first.
    """
    found = QUANTITIES[quantity]
    terms = {name: _json(getattr(measure, name)) for name in (*(("probe",) if found.probed else ()), *found.terms)}
    return terms | ({"version": found.version} if found.version > 1 else {})


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def exact(measure: MeasureConfig, quantities: Collection[str], parameters: int) -> bool:
    """Whether some of these quantities are taken from an exact spectrum, for a model of so many parameters."""
    asked = any(QUANTITIES[name].means in ("spectrum", "exact") for name in quantities)
    return asked and parameters <= measure.exact
