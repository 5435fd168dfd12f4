"""The service's page in headless Chromium: query, read, go back; strange labels stay text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kgtool
from kgtool.inference.predictor import Predictor
from tests.support.browser import BROWSER, Tab, browser_tab
from tests.support.pages import NASTY, nasty_ring
from tests.support.runs import all_paths_config, write_folder
from tests.support.services import found, served

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on the path; install it to look at pages"
)
QUIET = "document.getElementById('status').textContent === ''"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("served")
    data = write_folder(nasty_ring(), folder / "data")
    config = all_paths_config(epochs=2).model_copy(update={"data": str(data)})
    kgtool.train(config, kgtool.load_dataset(data), folder / "run", progress=False)
    (folder / "names.tsv").write_text("e012\t<b>The twelfth</b>\ne013\tThe thirteenth\n")
    predictor = kgtool.open_predictor(folder / "run", labels=folder / "names.tsv")
    predictor.prepare()
    return predictor


@pytest.fixture(scope="module")
def port(predictor: Predictor) -> Iterator[int]:
    with served(predictor) as port:
        yield port


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser_tab(tmp_path / "profile") as tab:
        tab.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.alerts = 0; window.alert = () => { window.alerts += 1; };",
        )
        yield tab


def rows(tab: Tab) -> list[str]:
    return tab.run(
        "[...document.querySelectorAll('#rows th')].map((cell) => cell.firstChild.textContent)"
    )


def address(tab: Tab) -> dict[str, str]:
    return tab.run("Object.fromEntries(new URLSearchParams(location.search))")


def asked(tab: Tab, fields: dict[str, str]) -> None:
    """Wait for the answers to the query in the address."""
    says = "new URLSearchParams(location.search).get(k) === v"
    tab.until(f"Object.entries({fields}).every(([k, v]) => {says})")
    tab.until(f"{QUIET} && !document.getElementById('answers').hidden")


def test_ask_and_go_back_by_keyboard(port, tab):
    """From a search to the graph of an answer, to the next query, and all the way back."""
    tab.open(f"http://127.0.0.1:{port}/")
    tab.until("document.getElementById('about').textContent.includes('24 entities')")
    tab.run("document.getElementById('head').focus()")
    tab.type("TWELF")
    tab.until("document.querySelectorAll('#head-list li').length === 1")
    assert tab.run("document.getElementById('head').getAttribute('aria-expanded')") == "true"
    tab.press("Enter")
    assert tab.run("document.getElementById('head').value") == "<b>The twelfth</b>"
    tab.press("Tab")
    tab.type("$R")
    tab.until("document.querySelectorAll('#relation-list li').length === 2")  # and its inverse
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "tail"
    tab.press("Enter")
    asked(tab, {"head": "e012", "relation": "$r^2$"})
    truth = found(port, "/api/answers", head="e012", relation="$r^2$", top=20)["answers"]
    assert rows(tab) == [each["name"] for each in truth]
    tab.run("document.querySelector('#rows tr:nth-child(2) td .link').click()")
    asked(tab, {"why": truth[1]["label"]})
    tab.until("!document.getElementById('why').hidden")
    nodes = "[...document.querySelectorAll('#graph g title')].map((each) => each.textContent)"
    shown = tab.run(nodes)
    assert shown[0] == "<b>The twelfth</b> (e012)"
    paths = found(port, "/api/explanation", **truth[1]["why"], top=8)["paths"]
    on_paths = {each["name"] for path in paths for each in path["entities"]}
    assert {title.removesuffix(" (e012)").removesuffix(" (e013)") for title in shown} == on_paths
    assert tab.run("document.querySelectorAll('#graph path').length") >= len(paths[0]["steps"])
    assert tab.run("document.querySelectorAll('#paths li').length") == len(paths)
    # An entity of the graph asks the next question, by keyboard too.
    tab.run("[...document.querySelectorAll('#graph g')].at(-1).focus()")
    tab.press("Enter")
    asked(tab, {"tail": truth[1]["label"]})
    assert "head" not in address(tab)
    assert tab.run("document.getElementById('why').hidden")
    other = found(port, "/api/answers", **address(tab), top=20)["answers"]
    assert rows(tab) == [each["name"] for each in other]
    tab.run("history.back()")
    asked(tab, {"why": truth[1]["label"]})
    tab.until("!document.getElementById('why').hidden")
    assert tab.run(nodes) == shown
    tab.run("history.back()")
    tab.until(f"document.getElementById('why').hidden && {QUIET}")
    assert rows(tab) == [each["name"] for each in truth]
    tab.run("history.back()")
    tab.until("document.getElementById('answers').hidden")
    boxes = "[...document.querySelectorAll('.field input')].map((box) => box.value)"
    assert tab.run(boxes) == ["", "", ""]
    assert tab.complaints == []
    assert {url.split("/")[2] for url in tab.requested if not url.startswith("data:")} == {
        f"127.0.0.1:{port}"
    }


def test_known_facts_are_told_apart(port, tab):
    tab.open(f"http://127.0.0.1:{port}/?head=e012&relation=$r^2$")
    asked(tab, {"head": "e012"})
    tags = "[...document.querySelectorAll('#rows .tag')].map((tag) => tag.textContent)"
    assert set(tab.run(tags)) == {"new"}
    tab.run("document.getElementById('known').click()")
    asked(tab, {"new": "false"})
    truth = found(port, "/api/answers", head="e012", relation="$r^2$", new=False, top=20)["answers"]
    assert tab.run(tags) == [each["known"] or "new" for each in truth]
    assert set(tab.run(tags)) > {"new"}


@pytest.mark.parametrize("width", [375, 1280])
def test_strange_labels_are_text_and_fit(port, tab, width):
    question = "relation=%3Ci%3Er%3C/i%3E&new=false"
    for label in NASTY[:7]:
        head = tab.run(f"encodeURIComponent({label!r})")
        tab.open(f"http://127.0.0.1:{port}/?head={head}&{question}", width)
        asked(tab, {"head": label})
        tab.run("document.querySelector('#rows td .link').click()")
        tab.until(f"!document.getElementById('why').hidden && {QUIET}")
        assert tab.run("document.querySelector('#asked').firstChild.textContent") == label
        assert tab.run("innerWidth") == width
        assert tab.run("document.documentElement.scrollWidth") <= width
        inside = "document.querySelectorAll('main script, main img, main i, main td b').length"
        assert tab.run(f"[window.alerts, {inside}]") == [0, 0]
    assert tab.complaints == []
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    tab.until("document.images.length === 1")
    assert tab.run("window.alerts") == 0  # what the policy would still forbid
    assert any("Content Security Policy" in text for text in tab.complaints)  # the check can fail


def test_errors_are_read_out(port, tab):
    tab.open(f"http://127.0.0.1:{port}/?head=nobody&relation=$r^2$")
    told = tab.until("document.querySelector('#status.error')?.textContent")
    assert told.startswith("unknown entity 'nobody'")
    assert tab.run("document.getElementById('status').getAttribute('role')") == "status"
    assert tab.run("document.getElementById('answers').hidden")
    unnamed = """[...document.querySelectorAll('input, button, [role]')].filter((each) =>
        !(each.labels?.length || each.getAttribute('aria-label') || each.textContent.trim()
          || each.id === 'status')).map((each) => each.outerHTML)"""
    assert tab.run(unnamed) == []
