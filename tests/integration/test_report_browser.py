"""The report in headless Chromium: no errors, no requests, and narrow enough for a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

import kgtool
from tests.support.browser import BROWSER
from tests.support.pages import evaluated, nasty_ring
from tests.support.runs import all_paths_config

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on the path; install it to look at reports"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--log-level=0",
)  # fmt: skip
# What the page's own policy forbids: it is taken out of a copy, and this put in. The copy stands in
# a frame, since a window is never as narrow as a phone.
MEASURE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(
    (e) => !e.closest(".scroll, svg, pre") && e.getBoundingClientRect().right > innerWidth + 0.5);
  parent.document.documentElement.dataset.found = JSON.stringify({
    inner: innerWidth, scroll: document.documentElement.scrollWidth,
    wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    loaded: performance.getEntriesByType("resource").map((e) => e.name),
    alerts: window.alerts || 0,
  });
});
window.alert = () => { window.alerts = (window.alerts || 0) + 1; };
</script>"""


def browse(tmp_path: Path, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    return subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments, page.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = evaluated(tmp_path_factory.mktemp("run"), nasty_ring(), all_paths_config(epochs=2))
    table = (
        "probability\tobserved\tcount\tlow\thigh\n0.1\t0.2\t30\t0.1\t0.3\n0.8\t0.7\t9\t0.5\t0.9\n"
    )
    (run.path / "calibration.test.tsv").write_text(table)
    return kgtool.report(run)


def test_the_console_stays_empty(page, tmp_path):
    done = browse(tmp_path, page, "--dump-dom")
    assert 'id="map"' in done.stdout
    assert "CONSOLE" not in done.stderr
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text(encoding="utf-8") + "<script>1</script>", encoding="utf-8")
    assert "CONSOLE" in browse(tmp_path, bad, "--dump-dom").stderr  # the check can fail


@pytest.mark.parametrize("width", [375, 1280])
def test_it_fits_a_phone_and_loads_nothing(page, tmp_path, width):
    text, policies = re.subn(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>',
        lambda _: MEASURE,
        page.read_text(encoding="utf-8"),
    )
    assert policies == 1
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{escape(text)}"></iframe>',
        encoding="utf-8",
    )
    done = browse(tmp_path, frame, "--dump-dom")
    (told,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    found = json.loads(unescape(told))
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["loaded"] == []
    assert found["alerts"] == 0


def test_print_opens_what_is_folded(page, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on the path; poppler-utils has it")
    pdf = tmp_path / "page.pdf"
    browse(tmp_path, page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    text = subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "[training]" in text  # of the configuration
    assert re.search(r"strongest paths? in words\s+1\.", text)
