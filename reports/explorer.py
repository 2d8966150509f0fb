"""The section ``explorer`` of ``report.json``, and the parts of a page that make it a picture one can ask.

The section is built from result columns alone. The page holds it as JSON beside Vega-Embed with all that it needs, as
vl-convert bundles it, so that nothing is fetched; Vega-Lite charts, which Altair makes and checks; and our own scripts
(``templates/explorer*.js``), which fill a chart with the rows of what is chosen. Fields of the charts are named here,
once: no text of a study becomes the name of a field or a part of an expression, and expressions are interpreted, so
that the page runs under a policy that forbids evaluating text.

A report of more than `MOST_TRIALS` trials has no explorer: there ``loopsweep query`` is the tool.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from reports import explorer_curves, explorer_trials
from reports.explorer_trials import Source

__all__ = ["Source", "policy", "scripts", "section"]

MOST_TRIALS = 10_000
_SCRIPTS = ("explorer_rows.js", "explorer_chart.js", "explorer.js")


def section(sources: Sequence[Source]) -> dict[str, Any] | None:
    """What the explorer draws; None where there is no trial, or too many.

    Args:
        sources: the studies of the report.
    """
    count = sum(len(source.tables.trials) for source in sources)
    if not 0 < count <= MOST_TRIALS:
        return None
    trials = explorer_trials.trials_of(sources)
    return explorer_trials.of_trials(sources, trials) | {"curves": explorer_curves.of_steps(sources, trials)}


def scripts(found: Mapping[str, Any] | None, colours: Sequence[int]) -> list[str]:
    """The scripts of a page, in their order, safe between ``<script>`` and ``</script>``.

    Args:
        found: the section; without one there are none.
        colours: of the section's arms, their places in `reports.colours.PALETTE`.
    """
    if found is None:
        return []
    folder = resources.files("reports").joinpath("templates")
    own = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    given = {"data": found, "charts": charts(), "colours": colours}
    return [_bundle(), f'"use strict";\n{{\nconst GIVEN = {_json(given)};\n{own}}}\n']


@cache
def _bundle() -> str:
    """Vega-Embed and all that it needs; the same text from the same vl-convert."""
    import vl_convert

    return inert(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def policy(texts: Sequence[str]) -> str:
    """The Content-Security-Policy of a page: its own styles, these scripts and nothing else, from nowhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    sources = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {sources}"
    )


def inert(script: str) -> str:
    """A script in which no text ends the element that holds it."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("\r", "")


def _json(value: Any) -> str:
    """JSON inside a script: without the characters that HTML looks for."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\r", "")


def charts() -> dict[str, Any]:
    """The charts: trials over an axis with numbers (``quantitative``) or without (``ordinal``), and ``curves``.

    Rows have x, y, low, high, c (colour), f (facet), i (what it is, for a pointer) and k: t a trial, m a mean over
    seeds. ``explorer.js`` sets the titles and the scales.
    """
    import altair as alt

    def encode(kind: str) -> dict[str, Any]:
        x = alt.X("x", type=kind, sort=None, title="") if kind == "ordinal" else alt.X("x", type=kind, title="")
        return {"x": x, "color": alt.Color("c", type="nominal", sort=None, legend=None)}

    def only(chart: alt.Chart, kind: str) -> alt.Chart:
        return chart.transform_filter(alt.FieldEqualPredicate(field="k", equal=kind))

    def layers(kind: str) -> alt.LayerChart:
        base = alt.Chart(alt.NamedData("rows")).encode(**encode(kind))
        y = alt.Y("y", type="quantitative", title="")
        offset = {"xOffset": alt.XOffset("c", type="nominal", sort=None)} if kind == "ordinal" else {}
        points = base.mark_circle(size=42, opacity=0.5).encode(y=y, tooltip=alt.value("trial"), **offset)
        lines = base.mark_line(strokeWidth=1.6).encode(y=y, detail="p:N", order="x:Q")
        rules = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low", type="quantitative"), y2="high", **offset)
        means = base.mark_point(shape="diamond", size=90, filled=True, opacity=1).encode(
            y=y, tooltip=alt.value("mean"), **offset
        )
        joined = [only(lines, "m")] if kind == "quantitative" else []
        return alt.layer(only(points, "t"), *joined, only(rules, "m"), only(means, "m"))

    def curves() -> alt.LayerChart:
        base = alt.Chart(alt.NamedData("rows")).encode(**encode("quantitative"))
        y = alt.Y("y", type="quantitative", title="")
        each = base.mark_line(strokeWidth=1, opacity=0.45).encode(y=y, detail="i:N")
        hits = base.mark_circle(size=60, opacity=0.01).encode(y=y, tooltip=alt.value("trial"))
        bands = base.mark_area(opacity=0.16).encode(y=alt.Y("low", type="quantitative"), y2="high")
        means = base.mark_line(strokeWidth=2.6).encode(y=y)
        dots = base.mark_circle(size=60, opacity=0.01).encode(y=y, tooltip=alt.value("mean"))
        return alt.layer(only(bands, "m"), only(each, "t"), only(means, "m"), only(hits, "t"), only(dots, "m"))

    made = {"quantitative": layers("quantitative"), "ordinal": layers("ordinal"), "curves": curves()}
    return {name: _bare(chart.to_dict()) for name, chart in made.items()}


def _bare(chart: dict[str, Any]) -> dict[str, Any]:
    """A chart without what `explorer.js` gives: the configuration of Altair's theme, and the data's place."""
    return {key: value for key, value in chart.items() if key not in ("config", "data")}
