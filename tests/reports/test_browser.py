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


def opened(page, tmp_path, *flags):
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    log = tmp_path / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={tmp_path / 'user'}"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return done.stdout, done.stderr, json.loads(log.read_text())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write([(study(claims(*CLAIMS)), results())], store=folder / "store", out=folder / "out")


def test_no_request_and_no_console_error(page, tmp_path):
    dom, log, network = opened(page, tmp_path, "--dump-dom")
    assert dom.count('<svg class="figure"') == 6
    assert "Supported: looped has lower" in dom
    assert "CONSOLE" not in log
    urls = {event["params"]["url"] for event in network["events"] if "url" in event.get("params", {})}
    from_page = {url for url in urls if page.parent.name in url or re.search(r"\bsvg|w3\.org|font", url)}
    assert from_page <= {page.as_uri()}
