"""HTML and Markdown: all of the report, self-contained, and dead to whatever texts hold."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reports.build import build, to_text
from reports.figures import draw
from reports.render import html_report, markdown_report, markdown_text
from reports.write import write
from tests.reports.synthetic import CLAIMS, Arm, claims, results, study

EVIL = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "a | b `c` | [x](javascript:alert(1)) ![y](http://evil.example/z.png)",
    "{{ 7 * 7 }} {% raw %}",
    "# heading\n\n* list & <b>bold</b>",
)


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def made(frames, asked, tmp_path):
    page = write([(asked, frames)], store=str(tmp_path / "store"), out=tmp_path / "out")
    return (
        page.read_text(),
        page.with_name("report.md").read_text(),
        json.loads(page.with_name("report.json").read_text()),
    )


@pytest.fixture(scope="module")
def forms():
    frames = results(ended={("shift", 4): "failed", ("depth-matched", 2): "diverged"})
    report = json.loads(to_text(build([(study(claims(*CLAIMS)), frames)], command="loopsweep report quickstart")))
    drawings = draw(report)
    return report, html_report(report, drawings), markdown_report(report, drawings), drawings


def test_verdicts_come_first_with_their_sentences(forms):
    report, html, markdown, _ = forms
    text = " ".join("".join(Page(html).text).split())
    for claim in report["claims"]:
        sentences = [part["sentence"] for part in claim["parts"]] or [claim["sentence"]]
        for sentence in sentences:
            assert sentence in text
            assert str(markdown_text(sentence)) in markdown
    text = " ".join("".join(Page(html[html.index("<main") :]).text).split())
    assert text.index("Supported: looped has lower") < text.index("Leaderboard") < text.index("Learning curves")
    assert text.index("Learning curves") < text.index("Cost") < text.index("Failures") < text.index("Provenance")


def test_both_forms_hold_every_section_and_number(forms):
    report, html, markdown, drawings = forms
    for form in (html, markdown):
        for word in ("Verdicts", "Leaderboard", "Learning curves", "Curvature", "Switches", "Cost", "Failures"):
            assert word in form
        assert (
            "switches at step 1\u202f500: 4 trials, 4 seeds. With the same weights the validation loss rises by 0.5"
            in form
        )
        assert "worker died: killed by signal 9" in form
        assert "step 742: loss is not finite" in form
        assert "cpu AVX2 torch 2.13.0 eager" in form.replace("\\_", "_")
        assert "5\u202f120" in form
        for row in report["leaderboard"]:
            assert f"{row['metrics']['final_val_loss']['mean']:.3f}" in form
    for drawing in drawings:
        assert f"(figures/{drawing.name}.svg)" in markdown
        assert drawing.svg in html


MANY = (
    Arm(name="single", loops=1),
    Arm(name="shift", axes={"model.loops": [2, 3, 4, 6, 8], "schedule.switch": [i / 20 for i in range(1, 20)]}),
    Arm(name="scp", criterion=True, axes={"schedule.delta1": [0.002, 0.004, 0.008], "schedule.patience": [1, 2, 3]}),
)


def test_arms_of_dozens_of_settings_take_few_rows_lines_and_bytes(tmp_path):
    frames = results(MANY, seeds=range(2), curvature=False)
    html, markdown, report = made(frames, study(arms=MANY), tmp_path)
    assert len(report["leaderboard"]) == 1 + 95 + 9
    rest = "… and 92 more settings of shift, … and 6 more settings of scp, in"
    assert html.count(rest) == markdown.count(rest) == 2
    assert len(re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)) < 1_000_000
    (section,) = report["studies"]
    assert [(row["arm"], row["settings"]) for row in section["arm_means"]] == [("shift", 95), ("scp", 9)]
    page = html[html.index("<main") :]
    board = page[page.index('<table class="board">') : page.index("Learning curves")]
    ranks = re.findall(r'<tr><td class="n">(\d*)</td>', board)
    shown = [row for row in report["leaderboard"] if row["arm"] == "shift"][:3]
    assert len(ranks) == 1 + 3 + 1 + 3 + 1
    assert ranks.count("") == 2
    for row in shown:  # ranks are those among all settings
        assert str(report["leaderboard"].index(row) + 1) in ranks
    for curve in section["curves"]:
        lines = [(s["arm"], s["settings"], s["best"]) for s in curve["series"]]
        assert lines == [
            ("single", 1, False),
            *((a, n, b) for a, n in (("shift", 95), ("scp", 9)) for b in (False, True)),
        ]
        best = next(s for s in curve["series"] if s["arm"] == "shift" and s["best"])
        assert best["setting"] == shown[0]["setting"]
    assert "mean over 95 settings" in html
    assert "shift (mean over 95 settings)" in markdown
    assert '<td class="n">6<small>on to 2\u202f700</small></td>' in html


def test_the_page_requests_nothing_and_runs_nothing(forms):
    page = Page(forms[1])
    scripts = re.findall(r"<script>(.*?)</script>", forms[1], flags=re.DOTALL)
    assert len(scripts) == page.tags.count("script") == 2  # the library and the explorer, each allowed by its digest
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in forms[1].partition("<title>")[0]
    assert "unsafe-eval" not in forms[1].partition("<title>")[0]
    assert not {"iframe", "object", "embed", "base"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith(("#", "data:,"))
    without = re.sub(r"<script>.*?</script>", "", forms[1], flags=re.DOTALL)
    assert not re.search(r"@import|url\((?!#)", without)
    assert "default-src 'none'" in forms[1]


def test_headings_are_in_order_and_tables_have_heads(forms):
    levels = [int(tag[1]) for tag in Page(forms[1]).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert ("scope", "col") in Page(forms[1]).attributes
    assert ("lang", "en") in Page(forms[1]).attributes


def shown(text, drawings):
    """Both forms of a report that has `text` wherever a study or a machine can put one."""
    marked = [replace(claim, text=text) for claim in claims(*CLAIMS)]
    frames = results(ended={("shift", 4): "failed", ("depth-matched", 2): "diverged"})
    frames.events_.loc[frames.events_["kind"] == "divergence", "detail"] = text
    errors = [text if status == "failed" else None for status in frames.trials_["status"]]
    frames = frames.with_trials(error=errors, provenance=json.dumps({"host": text}), numerics_class=text)
    asked = study(marked, question=text, file=text)
    report = json.loads(to_text(build([(asked, frames)], command=f"loopsweep report {text}")))
    return html_report(report, drawings), markdown_report(report, drawings), report


@pytest.fixture(scope="module")
def clean(forms):
    """The page that has a harmless text there."""
    return Page(shown("harmless", forms[3])[0])


@pytest.mark.parametrize("evil", EVIL)
def test_payloads_in_texts_do_nothing(evil, forms, clean):
    html, markdown, report = shown(evil, forms[3])
    page = Page(html)
    assert page.tags == clean.tags
    assert [a for a, _ in page.attributes] == [a for a, _ in clean.attributes]
    assert " ".join(evil.split()) in " ".join("".join(page.text).split())
    assert report["studies"][0]["question"] == evil
    fence = markdown.index("```sh\n")
    assert markdown[fence:].split("\n")[2] == "```"
    markdown = markdown[:fence] + markdown[fence:].split("```", 2)[2]
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "<b>" not in markdown
    assert all(target.startswith("figures/") for target in re.findall(r"(?<!\\)\]\(([^)]*)", markdown))
    for line in markdown.splitlines():
        assert not line.startswith(("# heading", "* list"))
    table = [line for line in markdown.splitlines() if line.startswith("| failed")]
    assert len(table) == 1
    assert len(re.findall(r"(?<!\\)\|", table[0])) == 6


def test_markdown_text_loses_its_meaning():
    assert markdown_text("a|b\n`c` *d* <e>") == r"a\|b \`c\` \*d\* &lt;e&gt;"


def test_a_report_is_written_whole_and_again_with_the_same_bytes(tmp_path):
    asked, frames = study(claims(*CLAIMS)), results()
    out = tmp_path / "report"
    page = write([(asked, frames)], store=str(tmp_path / "my store"), out=out)
    first = {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert page == out / "report.html"
    assert {"report.html", "report.md", "report.json"} <= {str(path) for path in first}
    (out / "figures" / "stale.svg").write_text("<svg/>")
    write([(asked, frames)], store=str(tmp_path / "my store"), out=out)
    second = {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert second == first
    linked = re.findall(r"\((figures/[^)]+)\)", (out / "report.md").read_text())
    assert sorted(linked) == sorted(str(path) for path in first if path.suffix == ".svg")
    assert (
        f"--store '{tmp_path}/my store'"
        in json.loads(first[page.with_name("report.json").relative_to(out)])["provenance"]["command"]
    )


def test_a_study_without_claims_or_rows_is_written_too(tmp_path):
    frames = results()
    html, markdown, _ = made(frames.without(frames.trials_["seed"] > 99), study(), tmp_path)
    assert "No claims are made." in html
    assert "lacks 5 of 5 seeds" in markdown


def test_importing_the_package_costs_nothing():
    import subprocess
    import sys

    code = "import sys, reports; print([m for m in ('pandas', 'seaborn', 'scipy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
