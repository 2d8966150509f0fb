"""Matplotlib figures as SVG text: the same bytes from the same data, readable in light and dark, safe to inline.

Text stays text (selectable, small, searchable); ids carry the figure's name, so many figures share one page; colours
are written as they are in light and overridden by a style sheet in dark, so viewers without CSS show the light form.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.colours import DARK_FAINT, DARK_INK, DARK_PALETTE, DARK_PAPER, FAINT, INK, PALETTE, PAPER

_DARK = dict(zip((INK, FAINT, PAPER, *PALETTE), (DARK_INK, DARK_FAINT, DARK_PAPER, *DARK_PALETTE), strict=True))
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def dark_rules(root: str = "svg.figure") -> str:
    """The style rules that turn a figure dark."""
    rules = []
    for light, dark in _DARK.items():
        rules.append(f'{root} [style*="stroke: {light}"]{{stroke:{dark}!important}}')
        rules.append(f'{root} [style*="fill: {light}"]{{fill:{dark}!important}}')
    rules.append(f"{root} text:not([style*=fill]){{fill:{_DARK[INK]}}}")
    return "@media screen and (prefers-color-scheme:dark){" + "".join(rules) + "}"


def to_svg(figure: Figure, *, name: str, alt: str, parts: Mapping[str, str] | None = None) -> str:
    """A figure as an SVG document.

    Args:
        figure: drawn with the settings of `reports.panels.STYLE`.
        name: prefix of its ids; lower-case letters, digits, ``-`` and ``_``.
        alt: what it shows, for those who do not see it.
        parts: by id of an artist (`set_gid`), what that part shows; a pointer on it brings it up.
    """
    text = _saved(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(<\w+ )id="([^"]+)"', rf'\1id="{name}-\2"', text)  # in tags: a name may hold what looks like an id
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', text)
    text = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", rf"\1{FONT}", text)
    for gid, said in (parts or {}).items():
        text = text.replace(f'<g id="{name}-{gid}">', f'<g id="{name}-{gid}"><title>{html.escape(said)}</title>', 1)
    label = f'role="img" aria-labelledby="{name}-alt"'
    head = f'<title id="{name}-alt">{html.escape(alt)}</title>\n<style>{dark_rules()}</style>\n'
    text = re.sub(r"<svg ([^>]*)>", rf'<svg class="figure" {label} \1>', text, count=1)
    start = text.index(">") + 1
    return text[:start] + "\n" + head + text[start:].lstrip("\n")


def place(figure: Figure) -> None:
    """Gives the axes the places that they will have, so that data turn into points of the page."""
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)


def _saved(figure: Figure) -> str:
    """A figure as matplotlib writes it, its axes placed beforehand: left to `savefig`, that costs a second drawing."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    layout, canvas, dpi = figure.get_layout_engine(), figure.canvas, figure.dpi
    figure.set_canvas(FigureCanvasSVG(figure))  # which says how large texts are, in points
    figure.dpi = 72
    place(figure)
    figure.dpi = dpi
    figure.set_layout_engine(None)
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    figure.set_layout_engine(layout)
    figure.set_canvas(canvas)
    return buffer.getvalue()
