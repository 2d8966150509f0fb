"""Every file of a report, made of what ``report.json`` says; equal reports give equal bytes in any process.

``report.json``; ``report.html`` and ``report.md``; ``figures/*.svg`` for screens and ``figures/*.pdf`` for papers;
``tables/*.csv`` for programs and ``tables/*.tex`` for papers. Nothing here touches a disk: `reports.write` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from reports import latex, sheets
from reports.figures import draw
from reports.pdf import to_pdf
from reports.render import html_report, markdown_report


def forms(text: str, *, refresh: float | None = None) -> Iterator[tuple[str, bytes]]:
    """The files of a report: names with ``/``, and contents; the page last, as it is what readers wait for.

    Args:
        text: of ``report.json``.
        refresh: seconds after which the page loads itself again; None: never.
    """
    report = json.loads(text)
    drawings = draw(report)
    yield "report.json", text.encode()
    for drawing in drawings:
        yield f"figures/{drawing.name}.svg", drawing.svg.encode()
        yield f"figures/{drawing.name}.pdf", to_pdf(drawing.svg)
    for name, rows in sheets.sheets(report).items():
        yield f"tables/{name}.csv", sheets.to_csv(rows)
    for name, table in latex.tables(report).items():
        yield f"tables/{name}.tex", table.encode()
    yield "report.md", markdown_report(report, drawings).encode()
    yield "report.html", html_report(report, drawings, refresh=refresh).encode()
