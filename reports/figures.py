"""The figures of a report, all of them, drawn from ``report.json`` alone: seaborn on a fixed style, one panel a file.

An arm has one colour in all figures. Lines carry their name at their end instead of a legend, so nothing is hidden and
nobody needs to tell colours apart; bands are 95 % t intervals over seeds. One panel a file lets a page arrange them:
side by side on a desk, stacked on a phone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from reports.accuracy_figures import length_figures, loop_figures
from reports.across_figures import across_figures
from reports.axis_figures import axis_figure, criterion_figure
from reports.captions import task_prefix
from reports.claim_figures import claim_figures
from reports.colours import of_arms
from reports.cost_figures import cost_figures
from reports.curvature_figures import curvature_figures
from reports.curve_figures import curve_figures
from reports.factor_figures import factor_figures, importance_figures
from reports.labels import prefixes
from reports.map_figures import map_figures
from reports.panels import Drawing, finished, styled
from reports.spectrum_figures import spectrum_figures
from reports.surface_figures import surface_figures
from reports.switch_figures import switch_figures
from reports.tree_figure import tree_alt, tree_figure, tree_title
from reports.valley_figures import valley_figures


def draw(report: Mapping[str, Any]) -> list[Drawing]:
    """Every figure of a report, study by study, in the order of reading; then what compares studies."""
    return list(drawn(report))


def drawn(report: Mapping[str, Any]) -> Generator[Drawing]:
    """As `draw`, one after the other; the style of the figures holds until the iterator is closed."""
    names = prefixes([study["name"] for study in report["studies"]])
    for prefix, study, execution in zip(names, report["studies"], report["provenance"]["studies"], strict=True):
        colours = of_arms(study["arms"])
        claims = [c for c in report["claims"] if c["study"] == study["name"]]
        with styled():
            yield from claim_figures(prefix, study, claims, colours)
            yield from _tree(prefix, study)
            for curve in study["curves"]:
                yield from curve_figures(_of_task(prefix, study, curve), study, curve, colours)
            yield from length_figures(prefix, study, colours)
            yield from loop_figures(prefix, study, colours)
            yield from cost_figures(prefix, study, colours)
            for entry in study["along_axes"]:
                yield axis_figure(_of_task(prefix, study, entry), study, entry, colours)
            yield from factor_figures(prefix, study)
            yield from importance_figures(prefix, study, execution["importances"])
            yield from map_figures(prefix, study, colours)
            yield from switch_figures(prefix, study, colours)
            for entry in study["criterion_axes"]:
                yield criterion_figure(prefix, study, entry, colours)
            yield from curvature_figures(prefix, study, colours)
            yield from spectrum_figures(prefix, study, colours)
            yield from valley_figures(prefix, study, colours)
            yield from surface_figures(prefix, study, colours)
    with styled():
        yield from across_figures(report["across"], arm_colours(report))


def arm_colours(report: Mapping[str, Any]) -> dict[str, str]:
    """The colour of each arm by its name, over all studies of the report; of two that differ in it the first's."""
    found: dict[str, str] = {}
    for study in report["studies"]:
        found = of_arms(study["arms"]) | found
    return {arm: found[arm] for study in report["studies"] for arm in study["arms"]}


def _tree(prefix: str, study: Mapping[str, Any]) -> Iterator[Drawing]:
    """The stage tree, where trials share a past."""
    tree = study["tree"]
    if tree is None or tree["steps_alone"] == tree["steps_trained"]:
        return
    yield finished(
        tree_figure(tree), name=f"{prefix}-tree", study=study, kind="tree", title=tree_title(tree), alt=tree_alt(tree)
    )


def _of_task(prefix: str, study: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The prefix of figures of one task, where the study has several."""
    return task_prefix(prefix, entry["task"], [curve["task"] for curve in study["curves"]])
