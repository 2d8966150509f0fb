"""Every form of a report: the same bytes in any process, PDF at paper size, numbers that come back, dead payloads."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reports.build import build, to_text
from reports.latex import tables, tabular
from reports.pdf import paper_width
from reports.render import html_report, still
from reports.sheets import sheets, to_csv
from reports.tex_text import tex
from reports.write import write
from tests.reports.synthetic import ARMS, CLAIMS, GRID, Arm, claims, results, study
from tests.reports.tex_reader import read

PAYLOADS = (
    r"\input{/etc/passwd}\write18{id}%$&#_^~}{",
    '=HYPERLINK("http://evil.example","x")',
    "\t=1+1",
    "+1",
    "-2--3",
    "@SUM(A1)",
    "\r\n=cmd|' /C calc'!A0",
    "[2em] \\\\ \\end{tabular}",
    "\x1b]0;owned\x07 ≤ 中 é `` '' | \" <b>",
)
"""What means something to a spreadsheet, to TeX, to a terminal or to a page."""

DOCS = Path(__file__).parents[2] / "docs/reports.md"

PROGRAM = """
import sys
from pathlib import Path
from tests.reports.test_forms import every_kind
from reports.write import write
write(every_kind(), store="results", out=Path(sys.argv[1]))
"""


def every_kind():
    """Two studies with claims, grids, switches, divergences and failures."""
    small = results(ended={("shift", 4): "failed", ("depth-matched", 2): "diverged"})
    lower = {"metric": "final_val_loss", "arm": "looped", "against": "single", "expect": "lower"}
    grid = study(claims(lower, arms=GRID), arms=GRID, name="grid", seeds=(0, 1))
    return [(study(claims(*CLAIMS)), small), (grid, whole(results(GRID, seeds=range(2), curvature=False)))]


def whole(frames):
    """Without strata, which would have figures of their own."""
    cut = {name: getattr(frames, name).filter(regex="(?<!_ic)$") for name in ("trials_", "metrics_")}
    return replace(frames, **cut)


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """The files of one report, by name, as two processes of other hash seeds write them."""
    folder = tmp_path_factory.mktemp("twice")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(timeout=280) for process in processes] == [0, 0]
    return [
        {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (folder / "1", folder / "2")
    ]


@pytest.fixture(scope="module")
def made(twice):
    return twice[0]


@pytest.fixture(scope="module")
def text(made):
    return made["report.json"].decode()


def test_equal_rows_give_equal_bytes_in_two_processes(twice):
    first, second = twice
    assert {name.rpartition(".")[2] for name in first} == {"json", "html", "md", "svg", "pdf", "csv", "tex"}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_figures_are_pdf_at_the_width_of_columns_with_truetype_fonts_and_no_date(made):
    names = {name.removesuffix(".svg") for name in made if name.endswith(".svg")}
    assert names == {name.removesuffix(".pdf") for name in made if name.endswith(".pdf")}
    for name in names:
        document = made[f"{name}.pdf"]
        assert document.startswith(b"%PDF-1.")
        assert {b"CIDFontType2"} == set(re.findall(rb"/(CIDFontType\d|Type3|Type1)\b", document))
        assert document.count(b"/FontFile2 ") == len(
            set(re.findall(rb"/FontName /([A-Z]{6}\+DejaVuSans\S*)", document))
        )
        assert not re.search(rb"Date|/Producer|/Creator|/ID", document)
        (box,) = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", document)
        inches = float(re.search(r'width="([\d.]+)pt"', made[f"{name}.svg"].decode())[1]) / 72
        assert float(box[0]) == 72 * paper_width(inches)
        entries = re.findall(rb"(\d{10}) 00000 n ", document)
        for number, place in enumerate(entries, 1):
            assert document[int(place) :].startswith(b"%d 0 obj" % number)
    assert {paper_width(5.4), paper_width(8.0)} == {3.25, 6.75}


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is not installed")
def test_the_words_of_a_figure_are_those_of_its_pdf(made, tmp_path):
    path = tmp_path / "figure.pdf"
    path.write_bytes(made["figures/quickstart-curve-val-loss.pdf"])
    done = subprocess.run(["pdftotext", str(path), "-"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {"Bayes-optimal", "looped", "step (updates)"} <= set(done.stdout.splitlines())


def test_numbers_of_tables_come_back_as_they_were(text, made):
    report = json.loads(text)
    board = pd.read_csv(io.BytesIO(made["tables/leaderboard.csv"]))
    assert len(board) == len(report["leaderboard"])
    for row, wanted in zip(board.to_dict("records"), report["leaderboard"], strict=True):
        assert row["final_val_loss_mean"] == wanted["metrics"]["final_val_loss"]["mean"]
        assert (row["study"], row["arm"], row["seeds"]) == (wanted["study"], wanted["arm"], wanted["seeds"])
    curves = pd.read_csv(io.BytesIO(made["tables/curves.csv"]))
    series = report["studies"][0]["curves"][0]["series"][1]
    own = curves.query("study == 'quickstart' and metric == 'val_loss' and arm == @series['arm']")
    assert own["mean"].tolist() == [point["mean"] for point in series["points"]]
    verdicts = pd.read_csv(io.BytesIO(made["tables/claims.csv"]))
    assert verdicts[verdicts["part"].isna()]["verdict"].tolist() == [c["verdict"] for c in report["claims"]]
    assert verdicts["part"].max() == 2
    names = {name.removesuffix(".csv") for name in made if name.endswith(".csv")}
    wanted = {"leaderboard", "claims", "differences", "curves", "paired", "axes", "maps", "factors", "levels"}
    assert names == {f"tables/{name}" for name in wanted | {"switches", "costs", "failures", "across"}}


def test_latex_tables_have_rows_for_claims_parts_and_settings_and_a_leaderboard_a_metric(text, made):
    report = json.loads(text)
    rows = read(made["tables/claims.tex"].decode())
    parts = sum(len(claim["parts"]) for claim in report["claims"])
    assert len(rows) == 1 + 2 + 2 * (len(report["claims"]) + parts)  # head, names of studies, text and numbers
    first = [place for place, row in enumerate(rows) if row[0].strip() == "1"]
    assert [rows[place + 1][1].strip() for place in first] == ["supported", "supported"]
    names = {name for name in made if "leaderboard-" in name}
    assert names == {f"tables/leaderboard-{metric}.tex" for metric in ("val_loss", "val_accuracy")}
    loss = read(made["tables/leaderboard-val_loss.tex"].decode())
    assert any("mean of 9 settings" in cell for row in loss for cell in row)
    assert r" ($10^{9}$)" in loss[1]
    assert re.fullmatch(r" 0\.\d+\$_\{\\pm 0\.\d+\}\$ ", loss[3][2])
    factors = read(made["tables/factors.tex"].decode())
    assert any(r"loops $\times$ schedule." in row[0] for row in factors)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex (texlive-latex-base) is not installed")
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_latex_tables_fit_a_page_as_the_docs_include_them(text, made, tmp_path, columns):
    documented = re.search(r"```latex\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    preamble, table = documented.split("\n", 1)
    if columns == "twocolumn":
        table = table.replace("{table}", "{table*}")
    names = [name for name in made if name.endswith(".tex")]
    for name in names:
        path = tmp_path / "report" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[name])
    included = [table.replace("tables/claims", name.removesuffix(".tex")) for name in names]
    log = pdflatex(tmp_path, f"[{columns}]{{article}}\n{preamble}", included)
    assert [line for line in log.splitlines() if re.match("!|(Over|Under)full|.*Warning", line)] == []
    assert all(f"(./report/{name}" in log for name in names)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex (texlive-latex-base) is not installed")
def test_payloads_and_letters_are_set_by_a_real_tex(tmp_path):
    texts = [tex(payload) for payload in PAYLOADS] + [tex(chr(c)) for c in range(0x20, 0x250)]
    floats = [table for payload in PAYLOADS for table in tables(evil(payload)).values()]
    pdflatex(tmp_path, "{article}\n\\usepackage{booktabs}", [*texts, *floats])


def pdflatex(folder, head, paragraphs):
    """What pdfLaTeX says of an article; it stops at the first error, and may run nothing."""
    body = "\n\n".join(paragraphs)
    (folder / "paper.tex").write_text(f"\\documentclass{head}\n\\begin{{document}}\n{body}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log


@functools.cache
def evil(payload):
    """The report of a study with a payload wherever a study or a machine can put text."""
    arms = (*ARMS[:1], replace(ARMS[1], name=payload), Arm(name="axis", axes={"task.path": [payload, "b"]}))
    lower = {"metric": "final_val_loss", "arm": payload, "against": "single", "expect": "lower"}
    marked = [replace(claim, text=payload) for claim in claims(lower, arms=arms)]
    frames = results(arms, seeds=range(2), ended={("single", 1): "failed"}, curvature=False)
    frames = frames.with_trials(error=[payload if s == "failed" else None for s in frames.trials_["status"]])
    asked = study(marked, arms=arms, question=payload, file=payload, name=payload)
    return json.loads(to_text(build([(asked, frames)], command=payload)))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_are_no_formula_no_command_and_no_escape(payload):
    report = evil(payload)
    cells = 0
    for rows in sheets(report).values():
        for row in csv.reader(io.StringIO(to_csv(rows).decode(), newline="")):
            for cell in row:
                cells += payload in cell
                assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n"))
                assert not cell.startswith("-") or float(cell) < 0
    assert cells > 10
    for table in tables(report).values():
        read(table)  # raises for whatever TeX would read as more than text


def test_texts_in_latex_keep_their_characters():
    assert tex("50 % of a_b & c") == r"50 \% of a\_b \& c"
    # What plain pdfLaTeX stops at, of the letters of Latin-1 and Latin Extended-A (docs/log.md, 2026-11-30).
    stops = "ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ"
    assert {chr(c) for c in range(0xC0, 0x180) if "U+" in tex(chr(c))} == {*stops, "÷"}
    assert tex("≤ ω² −1 é 中\n--") == r"$\leq$ $\omega$$^2$ $-$1 é \texttt{U+4E2D} -{}-"
    assert tex(r"\input{x}") == r"\textbackslash{}input\{x\}"
    with pytest.raises(ValueError, match="command"):
        read(tabular(["l"], [r"x \\"], [("", [r"\input{x} \\"])]))


def test_a_page_loads_itself_again_only_when_asked_to(text, made):
    page = made["report.html"].decode()
    again = html_report(json.loads(text), [], refresh=30)
    assert 'http-equiv="refresh"' not in page
    assert again.count('<meta http-equiv="refresh" content="30">') == 1
    assert still(again) == html_report(json.loads(text), [])


def test_files_of_an_earlier_report_go_and_no_half_file_stays(tmp_path):
    small = [(study(claims(*CLAIMS[:1])), results(seeds=range(2), curvature=False))]
    for name in ("figures/old.pdf", "tables/old.csv", "tables/old.tex", "figures/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    write(small, store="results", out=tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if "old" in path.name or "tmp" in path.name}
    assert left == set()
    assert (tmp_path / "figures/notes.txt").exists()
