"""The page in a real browser: it lays out at the width of a phone, asks the network for nothing and logs no error."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from reports.write import write
from tests.reports.synthetic import CLAIMS, claims, results, study

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")


def opened(page, folder):
    """The page's document, its console lines and the addresses that were asked for."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    log = folder / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder / 'user'}"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    urls = {e["params"]["url"] for e in json.loads(log.read_text())["events"] if "url" in (e.get("params") or {})}
    # What the browser asks for on its own account, whatever the page.
    asked = {url for url in urls if not re.match(r"https?://[^/]*\.(google|googleapis|gstatic)\.com/", url)}
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], asked


def test_the_page_asks_for_nothing_and_logs_nothing(tmp_path):
    page = write([(study(claims(*CLAIMS)), results())], store=str(tmp_path / "store"), out=tmp_path / "out")
    document, console, asked = opened(page, tmp_path)
    assert document.count('<svg class="figure"') == 9
    assert "Supported: looped has lower" in document
    assert console == []
    assert asked <= {page.as_uri()}


def test_a_page_that_asks_and_logs_is_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<img src="http://example.invalid/x.png"><script>console.error("boom")</script>')
    _, console, asked = opened(page, tmp_path)
    assert len(console) == 1
    assert "http://example.invalid/x.png" in asked
