"""Figures as PDF at the size of a printed column: the SVG of a report, scaled as a whole, with its fonts inside.

A page has one figure. It is as wide as a column where its text then has at least `LEAST_POINTS`, else as two, and all
in it keeps its proportions: what was looked at on the screen is what is printed. Text stays text, set in DejaVu Sans
that comes with matplotlib and is embedded as TrueType outlines (what matplotlib calls type 42; no journal takes type
3), so no machine's fonts matter. There is no date inside, and equal figures give equal bytes.

Matplotlib's own backend takes many times as long, most of it on tables of the font that no page needs, and has no way
to scale what is drawn.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import matplotlib as mpl
import vl_convert as vlc

from reports.panels import STYLE
from reports.svg import FONT, dark_rules

COLUMN, PAGE = 3.25, 6.75
"""Inches: the width of one column and of two, as in the templates of ICML and most journals."""
LEAST_POINTS = 6.0

_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')
_REFERENCE = re.compile(rb"\b(\d+) 0 R\b")
_NAMED = re.compile(rb"(?:^ *+/[a-z]+\d+ \d+ 0 R\n)+", re.MULTILINE)
"""Entries of a dictionary of resources, a line each."""


def to_pdf(svg: str) -> bytes:
    """A figure of a report as a PDF document of one page.

    Args:
        svg: as `reports.svg.to_svg` makes it.
    """
    _fonts()
    found = _SIZE.search(svg)
    if found is None:
        raise ValueError("the SVG has no size in points")
    inches = float(found[1]) / 72
    width = paper_width(inches)
    height = float(found[2]) / 72 * width / inches
    text = svg.replace(found[0], f'width="{72 * width:.6g}" height="{72 * height:.6g}"', 1)
    text = text.replace(f"<style>{dark_rules()}</style>", "", 1).replace(FONT, "'DejaVu Sans'")
    return _canonical(vlc.svg_to_pdf(text))


def paper_width(inches: float) -> float:
    """How wide a figure is printed that was drawn so wide, in inches."""
    return COLUMN if STYLE["font.size"] * COLUMN / inches >= LEAST_POINTS else PAGE


def _canonical(document: bytes) -> bytes:
    """The same document with its objects in the order in which they are first named, and named entries sorted.

    The converter's own order is that of hash tables, another in each process.
    """
    trailer = document[document.rindex(b"trailer") :]
    found = re.search(rb"/Root (\d+) 0 R", trailer)
    objects = _objects(document)
    if found is None or not objects:
        raise ValueError("the document has no root")
    order: dict[int, int] = {}
    waiting = [int(found[1])]
    while waiting:
        number = waiting.pop()
        if number not in order:
            order[number] = len(order) + 1
            waiting += [int(name) for name in reversed(_REFERENCE.findall(objects[number][0]))]
    written = bytearray(b"%PDF-1.7\n%\x80\x80\x80\x80\n")
    places = []
    for old, new in order.items():
        head, stream = objects[old]
        places.append(len(written))
        body = _REFERENCE.sub(lambda name: b"%d 0 R" % order[int(name[1])], head)
        written += b"%d 0 obj\n%s%s\n" % (new, body, stream)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(order) + 1
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return bytes(written) + end % (size, table, size, len(written))


def _objects(document: bytes) -> dict[int, tuple[bytes, bytes]]:
    """By number, the objects of a document: what stands before the stream, named entries sorted, and the stream."""
    start = int(document[document.rindex(b"startxref") :].split()[1])
    entries = re.findall(rb"(\d{10}) \d{5} ([nf])", document[start : document.rindex(b"trailer")])
    found = {}
    for number, (place, kind) in enumerate(entries):
        if kind == b"f":
            continue
        # The end is looked for behind the stream, whose bytes may hold anything.
        head = document[int(place) : document.index(b"endobj", int(place)) + 6]
        begin = head.find(b"\nstream\n")
        if begin >= 0:
            length = int(re.findall(rb"/Length (\d+)", head[:begin])[0])
            end = document.index(b"endobj", int(place) + begin + len(b"\nstream\n") + length) + 6
            head, stream = head[:begin], document[int(place) + begin : end]
        else:
            stream = b""
        head = head.partition(b" obj\n")[2]
        found[number] = _NAMED.sub(lambda run: b"".join(sorted(run[0].splitlines(keepends=True))), head), stream
    return found


@cache
def _fonts() -> None:
    """Makes the fonts that come with matplotlib known to the converter."""
    vlc.register_font_directory(str(Path(mpl.get_data_path(), "fonts", "ttf")))
