"""axe finds no fault in the report, in the service's pages and in pages of the site, on a phone and
a desk, in both styles."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

import pytest

import kgtool
from kgtool.inference.predictor import Predictor
from tests.support.axe import AXE, violations
from tests.support.browser import BROWSER, Tab, browser_tab
from tests.support.pages import evaluated
from tests.support.places import ROOT
from tests.support.runs import all_paths_config, ring
from tests.support.services import served

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium on the path; install it"),
    pytest.mark.skipif(AXE is None, reason="no axe; pip install --no-deps axe-core-python"),
]
# A page of each kind: the start, outputs, a notebook, tables, formulas, generated parts, results.
SITE = [
    "index", "start/first-graph", "start/notebook", "guides/coming-from", "concepts/decoders",
    "reference/errors", "reference/files", "results/scale", "about/faq", "search",
]  # fmt: skip
looks = pytest.mark.parametrize(
    ("width", "dark"), [(375, False), (375, True), (1280, False), (1280, True)]
)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    run = evaluated(tmp_path_factory.mktemp("run"), ring(), all_paths_config(epochs=2))
    kgtool.evaluate_triples(run)
    predictor = kgtool.open_predictor(run)
    predictor.prepare()
    return predictor


@pytest.fixture(scope="module")
def report(predictor: Predictor) -> Path:
    return kgtool.report(predictor)


@pytest.fixture(scope="module")
def port(predictor: Predictor) -> Iterator[int]:
    with served(predictor) as port:
        yield port


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@looks
def test_the_report(report, tab, width, dark):
    tab.open(report.as_uri(), width, dark=dark)
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert violations(tab) == []


@looks
def test_the_service(port, tab, width, dark):
    asked = {"head": "e000", "relation": "r002"}
    for query, section in (
        ({}, "start"), (asked, "answers"), (asked | {"tail": "e005"}, "score"),
        ({"entity": "e000"}, "entity"), (asked | {"why": "e005"}, "why"),
    ):  # fmt: skip
        tab.open(f"http://127.0.0.1:{port}/?{urlencode(query)}", width, dark=dark)
        tab.until(f"!document.getElementById({section!r}).hidden")
        tab.until("document.getElementById('status').textContent === ''")
        assert violations(tab) == [], section
    tab.open(f"http://127.0.0.1:{port}/docs", width, dark=dark)
    assert violations(tab) == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("sphinx") is None:
        pytest.skip("no Sphinx: it needs Python 3.11")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", str(ROOT / "docs"), str(out)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    return out


@looks
def test_the_site(site, tab, width, dark):
    for page in SITE:
        tab.open((site / f"{page}.html").as_uri(), width, dark=dark)
        assert violations(tab) == [], page
        too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not tab.run(too_wide), page


def test_a_page_with_a_fault_is_found(tab, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<html><body><img src=''><p style='color: #eee'>pale</p></body></html>")
    tab.open(page.as_uri())
    rules = {each["rule"] for each in violations(tab)}
    assert {"image-alt", "color-contrast", "html-has-lang"} <= rules
